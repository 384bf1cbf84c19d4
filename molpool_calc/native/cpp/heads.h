// Dipoles and polarizabilities: what ``heads.tensors`` computes.
#pragma once

#include "pooled_heads.h"

namespace molpool {

// r_i − r_COM of the atoms of a range.
template <class real>
inline double* from_centers(const Batch<real>& batch, const Range& range,
                            const std::vector<double>& masses, Arena& arena) {
  const int n = range.last_atom - range.first_atom;
  double* sums = arena.zeros<double>(4 * (range.last_system - range.first_system));
  double* centered = arena.take<double>(3 * n);
  for (int pass = 0; pass < 2; ++pass) {
    for (int a = 0; a < n; ++a) {
      const std::int64_t atom = range.first_atom + a;
      double* of = sums + 4 * (batch.system[atom] - range.first_system);
      const double mass = masses[batch.numbers[atom]];
      if (pass == 0) of[3] += mass;
      for (int x = 0; x < 3; ++x) {
        const double r = batch.positions[3 * atom + x];
        if (pass == 0) of[x] += mass * r;
        if (pass == 1) centered[3 * a + x] = r - of[x] / of[3];
      }
    }
  }
  return centered;
}

// μ = Σ_i q_i (r_i − r_COM) + ν_i (Schütt et al. 2021, Eq. 11), with charges shifted so
// that they sum to the total charge.
template <class real>
class DipoleHead {
 public:
  DipoleHead(const Archive& archive, int width) : masses_(archive.array("masses")) {
    const std::string name = "heads.dipole.readout";
    if (archive.integer("dipole.vectors") != 0) {
      gated_ = std::make_unique<GatedReadout<real>>(archive, name, width,
                                                    archive.number("dipole.epsilon"));
    } else {
      plain_ = std::make_unique<AtomicNumbers<real>>(
          archive, name, width, layer_names(2),
          static_cast<Activation>(archive.integer("dipole.activation")));
    }
    if (archive.has("heads.dipole.element_charge")) {
      element_charge_ = archive.array("heads.dipole.element_charge");
    }
  }

  bool needs_vectors() const { return gated_ != nullptr; }

  struct Kept {
    double* charges;
    std::vector<const real*> slopes;
  };

  // Fills dipoles and charges where they are asked for.
  Kept apply(const Batch<real>& batch, const Range& range, Features<real> features,
             const Results<real>& results, Arena& arena) const {
    const int n = range.last_atom - range.first_atom;
    Kept kept = {arena.take<double>(n), {}};
    real* latent = arena.take<real>(n);
    real* vectors = arena.zeros<real>(3 * n);
    if (gated_ != nullptr) {
      gated_->forward(n, features, latent, vectors, arena);
    } else {
      kept.slopes = plain_->forward(n, features.scalars, latent, arena);
    }
    for (int a = 0; a < n; ++a) {
      kept.charges[a] = latent[a];
      if (element_charge_.empty()) continue;
      kept.charges[a] += element_charge_[batch.numbers[range.first_atom + a]];
    }
    balance(batch, range, batch.total_charge, kept.charges, arena);
    if (results.charges != nullptr) {
      for (int a = 0; a < n; ++a) {
        results.charges[range.first_atom + a] = static_cast<real>(kept.charges[a]);
      }
    }
    if (results.dipole != nullptr) {
      add_up(batch, range, kept.charges, vectors, results, arena);
    }
    return kept;
  }

  // Adds to ∂E/∂scalars what comes by the charges; ``by_charge`` is overwritten.
  void backward(const Batch<real>& batch, const Range& range, const Kept& kept,
                double* by_charge, real* gradient, Arena& arena) const {
    const int n = range.last_atom - range.first_atom;
    balance(batch, range, static_cast<const real*>(nullptr), by_charge, arena);
    real* factors = arena.take<real>(n);
    for (int a = 0; a < n; ++a) factors[a] = static_cast<real>(by_charge[a]);
    const real* more = plain_->backward(n, factors, kept.slopes, arena);
    const std::size_t count = std::size_t(n) * plain_->inputs();
    for (std::size_t k = 0; k < count; ++k) gradient[k] += more[k];
  }

 private:
  // Shifts the numbers of each system alike, so that they sum to its total, or to 0.
  static void balance(const Batch<real>& batch, const Range& range, const real* totals,
                      double* values, Arena& arena) {
    const int n = range.last_atom - range.first_atom;
    double* sums = arena.zeros<double>(2 * (range.last_system - range.first_system));
    for (int pass = 0; pass < 2; ++pass) {
      for (int a = 0; a < n; ++a) {
        const std::int64_t system = batch.system[range.first_atom + a];
        double* of = sums + 2 * (system - range.first_system);
        if (pass == 0) {
          of[0] += values[a];
          of[1] += 1.0;
        } else {
          values[a] += ((totals == nullptr ? 0.0 : double(totals[system])) - of[0]) / of[1];
        }
      }
    }
  }

  void add_up(const Batch<real>& batch, const Range& range, const double* charges,
              const real* vectors, const Results<real>& results, Arena& arena) const {
    const int n_systems = range.last_system - range.first_system;
    const double* centered = from_centers(batch, range, masses_, arena);
    double* moments = arena.zeros<double>(3 * n_systems);
    for (int a = 0; a < range.last_atom - range.first_atom; ++a) {
      double* of = moments + 3 * (batch.system[range.first_atom + a] - range.first_system);
      for (int x = 0; x < 3; ++x) {
        of[x] += charges[a] * centered[3 * a + x] + vectors[3 * a + x];
      }
    }
    real* to = results.dipole + 3 * range.first_system;
    for (int k = 0; k < 3 * n_systems; ++k) to[k] = static_cast<real>(moments[k]);
  }

  std::vector<double> masses_, element_charge_;
  std::unique_ptr<GatedReadout<real>> gated_;
  std::unique_ptr<AtomicNumbers<real>> plain_;
};

// α = Σ_i a_i 1 + ν_i ⊗ r_i + r_i ⊗ ν_i (Schütt et al. 2021, Eq. 12), r_i from r_COM.
template <class real>
class PolarizabilityHead {
 public:
  PolarizabilityHead(const Archive& archive, int width)
      : masses_(archive.array("masses")), scale_(archive.number("polarizability.scale")),
        readout_(archive, "heads.polarizability.readout", width,
                 archive.number("polarizability.epsilon")) {}

  void apply(const Batch<real>& batch, const Range& range, Features<real> features,
             const Results<real>& results, Arena& arena) const {
    const int n = range.last_atom - range.first_atom;
    real* isotropic = arena.take<real>(n);
    real* vectors = arena.take<real>(3 * n);
    readout_.forward(n, features, isotropic, vectors, arena);
    const double* centered = from_centers(batch, range, masses_, arena);
    double* total = arena.zeros<double>(9 * (range.last_system - range.first_system));
    for (int a = 0; a < n; ++a) {
      double* of = total + 9 * (batch.system[range.first_atom + a] - range.first_system);
      for (int x = 0; x < 3; ++x) {
        for (int y = 0; y < 3; ++y) {
          of[3 * x + y] += vectors[3 * a + x] * centered[3 * a + y] +
                           centered[3 * a + x] * vectors[3 * a + y];
        }
        of[4 * x] += isotropic[a];
      }
    }
    real* to = results.polarizability + 9 * range.first_system;
    for (int k = 0; k < 9 * (range.last_system - range.first_system); ++k) {
      to[k] = static_cast<real>(total[k] * scale_);
    }
  }

 private:
  std::vector<double> masses_;
  double scale_;
  GatedReadout<real> readout_;
};

}  // namespace molpool
