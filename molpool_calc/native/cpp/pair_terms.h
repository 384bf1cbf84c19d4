// Energies of pairs beside the network (``pair_terms``), in float64, with gradients by
// distances, charges and Hirshfeld ratios. Pairs are passed once and kept nowhere.
#pragma once

#include <memory>

#include "pair_functions.h"

namespace molpool {

// What the terms add to; systems and atoms are counted from the first of the range.
struct PairSums {
  double* energies;   // [atoms] eV
  double* by_charge;  // [atoms]
  double* by_ratio;   // [atoms]
  double* forces;     // [atoms 3], minus those, as ∂E/∂(r_j − r_i) is added to atom i
  double* virial;     // [systems 3 3]
};

// Some pairs, and what comes out of them; E for a pair once.
struct PairLanes {
  static constexpr int VECTORS = ErrorFunction::AT_ONCE;
  static constexpr int SIZE = VECTORS * Vector<double>::width;

  int count = 0;
  int i[SIZE], j[SIZE];
  double between[3][SIZE];
  alignas(64) double distance[SIZE];
  alignas(64) double charge_i[SIZE], charge_j[SIZE];
  alignas(64) double ratio_i[SIZE], ratio_j[SIZE], soft_i[SIZE], soft_j[SIZE], c6[SIZE];
  alignas(64) double energy[SIZE], by_distance[SIZE];
  alignas(64) double by_charge_i[SIZE], by_charge_j[SIZE], by_ratio_i[SIZE], by_ratio_j[SIZE];
};

// Σ_m c_m exp(−a_m t) · Z_i Z_j/(4πε₀ d), t = d (k_i + k_j), near atoms only.
class ZBL {
 public:
  explicit ZBL(const Archive& archive)
      : reach(archive.number("zbl.reach")), cutoff_(archive.number("zbl.cutoff")),
        envelope_(static_cast<Envelope>(archive.integer("zbl.envelope"))),
        weights_(archive.array("zbl.weights")),
        exponents_(archive.array("zbl.exponents", weights_.size())),
        inverse_lengths_(archive.array("zbl.inverse_lengths")) {}

  void add(std::int64_t z_i, std::int64_t z_j, double d, double& energy,
           double& by_distance) const {
    if (d >= reach) return;
    const double k = inverse_lengths_[z_i] + inverse_lengths_[z_j];
    double screening = 0.0, by_d = 0.0;
    for (std::size_t m = 0; m < weights_.size(); ++m) {
      const double part = weights_[m] * std::exp(-exponents_[m] * k * d);
      screening += part;
      by_d -= exponents_[m] * k * part;
    }
    double fc, dfc, near, d_near;
    cutoff_function(envelope_, cutoff_, d, fc, dfc);
    smooth_switch(d, 0.0, reach, near, d_near);
    const double nuclei = double(z_i) * double(z_j) / d, ends = fc * near;
    energy += nuclei * screening * ends;
    by_distance += nuclei * (by_d * ends + screening * (dfc * near + fc * d_near - ends / d));
  }

  const double reach;

 private:
  double cutoff_;
  Envelope envelope_;
  std::vector<double> weights_, exponents_, inverse_lengths_;
};

// q_i q_j g(d)/(4πε₀), g = erf(d/s)/d; shifted at a cutoff as the Python class says.
class Electrostatics {
 public:
  explicit Electrostatics(const Archive& archive)
      : cutoff(archive.number("electrostatics.cutoff")),
        coulomb_(archive.number("electrostatics.coulomb")),
        start_(archive.number("electrostatics.start")),
        inverse_(1.0 / archive.number("electrostatics.damping")),
        erf_(cutoff * inverse_) {
    if (!std::isfinite(cutoff)) return;
    const double x = cutoff * inverse_;
    value_ = std::erf(x) / cutoff;
    slope_ = (2.0 * std::exp(-x * x) / std::sqrt(M_PI) * inverse_ - value_) / cutoff;
  }

  void add(PairLanes& pairs) const {
    doubles x[PairLanes::VECTORS], value[PairLanes::VECTORS], gaussian[PairLanes::VECTORS];
    constexpr int W = Vector<double>::width;
    for (int k = 0; k < PairLanes::VECTORS; ++k) {
      x[k] = load(pairs.distance + k * W) * inverse_;
    }
    erf_(x, value, gaussian);
    for (int k = 0; k < PairLanes::VECTORS; ++k) {
      const int at = k * W;
      const doubles d = load(pairs.distance + at), inverse_d = 1.0 / d;
      doubles g = value[k] * inverse_d;
      doubles by_d = (2.0 / std::sqrt(M_PI) * inverse_ * gaussian[k] - g) * inverse_d;
      if (std::isfinite(cutoff)) shift(d, g, by_d);
      g *= coulomb_;
      const doubles qi = load(pairs.charge_i + at), qj = load(pairs.charge_j + at);
      add_to<double>(pairs.energy + at, qi * qj * g);
      add_to<double>(pairs.by_distance + at, qi * qj * by_d * coulomb_);
      store<double>(pairs.by_charge_i + at, qj * g);
      store<double>(pairs.by_charge_j + at, qi * g);
    }
  }

  const double cutoff;

 private:
  void shift(doubles d, doubles& g, doubles& by_d) const {
    doubles on, d_on;
    smooth_switch(d, start_, cutoff, on, d_on);
    const doubles off = d - cutoff;
    g -= value_ + slope_ * (1.0 - on) * off;
    by_d -= slope_ * (1.0 - on - d_on * off);
    g = d < cutoff ? g : doubles{};
    by_d = d < cutoff ? by_d : doubles{};
  }

  double coulomb_, start_, inverse_, value_ = 0.0, slope_ = 0.0;
  ErrorFunction erf_;
};

// −Σ_n C_n/(dⁿ + pⁿ), n = 6, 8, 10, with α_ij, ς and p of ``pair_terms.dispersion``.
class Dispersion {
 public:
  explicit Dispersion(const Archive& archive)
      : cutoff(archive.number("dispersion.cutoff")),
        width_(archive.number("dispersion.switching_width")),
        inverse_bohr_(1.0 / archive.number("dispersion.bohr")),
        length_(archive.number("dispersion.length")),
        w_(archive.array("dispersion.width", 4)),
        half_polarizability_(archive.array("dispersion.half_polarizability")),
        c6_(archive.array("dispersion.c6", half_polarizability_.size() *
                                               half_polarizability_.size())) {}

  double softness(std::int64_t z) const { return half_polarizability_[z]; }
  double c6(std::int64_t z_i, std::int64_t z_j) const {
    return c6_[z_i * half_polarizability_.size() + z_j];
  }

  void add(PairLanes& pairs) const {
    for (int at = 0; at < PairLanes::SIZE; at += Vector<double>::width) {
      const doubles distance = load(pairs.distance + at);
      const doubles hi = load(pairs.ratio_i + at), hj = load(pairs.ratio_j + at);
      const doubles si = load(pairs.soft_i + at), sj = load(pairs.soft_j + at);
      const doubles alpha = si * hi + sj * hj, root = seventh_root(alpha);
      doubles series, by_d, by_root;
      expand(distance * inverse_bohr_, root, series, by_d, by_root);
      by_d *= inverse_bohr_;
      doubles c6 = load(pairs.c6 + at);
      doubles on = broadcast<double>(1.0), d_on{};
      if (std::isfinite(cutoff)) smooth_switch(distance, cutoff - width_, cutoff, on, d_on);
      const doubles own = c6 * hi * hj * on;
      add_to<double>(pairs.energy + at, own * series);
      add_to<double>(pairs.by_distance + at, own * by_d + c6 * hi * hj * d_on * series);
      const doubles by_alpha = own * by_root * root / (7.0 * alpha);
      store<double>(pairs.by_ratio_i + at, c6 * hj * on * series + by_alpha * si);
      store<double>(pairs.by_ratio_j + at, c6 * hi * on * series + by_alpha * sj);
    }
  }

  const double cutoff;

 private:
  // Σ_n C_n/C6/(dⁿ + pⁿ) and its derivatives by d and α^(1/7), atomic units.
  void expand(doubles d, doubles root, doubles& series, doubles& by_d,
              doubles& by_root) const {
    const doubles width = w_[0] + root * (w_[1] + root * (w_[2] + root * w_[3]));
    const doubles by_width = w_[1] + root * (2.0 * w_[2] + root * (3.0 * w_[3]));
    const doubles p = root * length_, d2 = d * d, p2 = p * p, d4 = d2 * d2, p4 = p2 * p2;
    const doubles sixth = 1.0 / (d2 * d4 + p2 * p4), eighth = 1.0 / (d4 * d4 + p4 * p4);
    const doubles tenth = 1.0 / (d2 * d4 * d4 + p2 * p4 * p4);
    const doubles c8 = 10.0 * width * width, c10 = 122.5 * width * width * width * width;
    series = sixth + c8 * eighth + c10 * tenth;
    const doubles a = -6.0 * sixth * sixth, b = -8.0 * c8 * eighth * eighth,
                  c = -10.0 * c10 * tenth * tenth;
    by_d = d * d4 * (a + d2 * (b + d2 * c));
    by_root = p * p4 * (a + p2 * (b + p2 * c)) * length_ +
              by_width * width * (20.0 * eighth + 490.0 * width * width * tenth);
  }

  double width_, inverse_bohr_, length_;
  std::vector<double> w_, half_polarizability_, c6_;
};

class PairTerms {
 public:
  explicit PairTerms(const Archive& archive) {
    if (archive.has("zbl.reach")) zbl_ = std::make_unique<ZBL>(archive);
    if (archive.has("electrostatics.cutoff")) {
      electrostatics_ = std::make_unique<Electrostatics>(archive);
      reach_ = std::max(reach_, electrostatics_->cutoff);
    }
    if (archive.has("dispersion.cutoff")) {
      dispersion_ = std::make_unique<Dispersion>(archive);
      reach_ = std::max(reach_, dispersion_->cutoff);
    }
    if (zbl_ != nullptr) reach_ = std::max(reach_, zbl_->reach);
  }

  bool exist() const { return zbl_ || electrostatics_ || dispersion_; }
  bool need_charges() const { return electrostatics_ != nullptr; }
  bool need_ratios() const { return dispersion_ != nullptr; }

  template <class real>
  void add(const Batch<real>& batch, const Range& range, const double* charges,
           const double* ratios, const PairSums& sums) const {
    PairLanes lanes;
    const std::int64_t* numbers = batch.numbers + range.first_atom;
    const std::int64_t* system = batch.system + range.first_atom;
    const auto flush = [&] {
      evaluate(lanes);
      spread(lanes, system, range.first_system, sums);
      lanes.count = 0;
    };
    for_each_pair(batch, range, [&](int a, int b, const real* between) {
      double squared = 0.0;
      for (int x = 0; x < 3; ++x) squared += double(between[x]) * between[x];
      if (!(squared < reach_ * reach_)) return;
      put(lanes, a, b, std::sqrt(squared), numbers, charges, ratios);
      for (int x = 0; x < 3; ++x) lanes.between[x][lanes.count] = between[x];
      if (++lanes.count == PairLanes::SIZE) flush();
    });
    if (lanes.count > 0) flush();
  }

 private:
  void put(PairLanes& lanes, int a, int b, double distance, const std::int64_t* numbers,
           const double* charges, const double* ratios) const {
    const int at = lanes.count;
    const std::int64_t z_a = numbers[a], z_b = numbers[b];
    lanes.i[at] = a;
    lanes.j[at] = b;
    lanes.distance[at] = distance;
    lanes.energy[at] = lanes.by_distance[at] = 0.0;
    if (zbl_ != nullptr) {
      zbl_->add(z_a, z_b, distance, lanes.energy[at], lanes.by_distance[at]);
    }
    if (electrostatics_ != nullptr) {
      lanes.charge_i[at] = charges[a];
      lanes.charge_j[at] = charges[b];
    }
    if (dispersion_ == nullptr) return;
    lanes.ratio_i[at] = ratios[a];
    lanes.ratio_j[at] = ratios[b];
    lanes.soft_i[at] = dispersion_->softness(z_a);
    lanes.soft_j[at] = dispersion_->softness(z_b);
    lanes.c6[at] = dispersion_->c6(z_a, z_b);
  }

  void evaluate(PairLanes& lanes) const {
    // what is left of earlier pairs is computed too and read by nobody; at first there
    // are none, and any numbers will do
    for (int at = lanes.count; at < PairLanes::SIZE; ++at) {
      lanes.distance[at] = lanes.charge_i[at] = lanes.charge_j[at] = 1.0;
      lanes.ratio_i[at] = lanes.ratio_j[at] = lanes.soft_i[at] = lanes.soft_j[at] = 1.0;
      lanes.c6[at] = lanes.energy[at] = lanes.by_distance[at] = 0.0;
    }
    if (electrostatics_ != nullptr) electrostatics_->add(lanes);
    if (dispersion_ != nullptr) dispersion_->add(lanes);
  }

  void spread(const PairLanes& lanes, const std::int64_t* system, int first_system,
              const PairSums& sums) const {
    for (int p = 0; p < lanes.count; ++p) {
      const int a = lanes.i[p], b = lanes.j[p];
      sums.energies[a] += 0.5 * lanes.energy[p];
      sums.energies[b] += 0.5 * lanes.energy[p];
      if (electrostatics_ != nullptr) {
        sums.by_charge[a] += lanes.by_charge_i[p];
        sums.by_charge[b] += lanes.by_charge_j[p];
      }
      if (dispersion_ != nullptr) {
        sums.by_ratio[a] += lanes.by_ratio_i[p];
        sums.by_ratio[b] += lanes.by_ratio_j[p];
      }
      double* virial = sums.virial + 9 * (system[a] - first_system);
      const double pull = lanes.by_distance[p] / lanes.distance[p];
      for (int x = 0; x < 3; ++x) {
        const double gradient = pull * lanes.between[x][p];
        sums.forces[3 * a + x] += gradient;
        sums.forces[3 * b + x] -= gradient;
        for (int y = 0; y < 3; ++y) virial[3 * x + y] += gradient * lanes.between[y][p];
      }
    }
  }

  std::unique_ptr<ZBL> zbl_;
  std::unique_ptr<Electrostatics> electrostatics_;
  std::unique_ptr<Dispersion> dispersion_;
  double reach_ = 0.0;
};

}  // namespace molpool
