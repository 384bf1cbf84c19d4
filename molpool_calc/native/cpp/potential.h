// Network and heads together: a batch in, energies, forces and the like out.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <system_error>
#include <thread>

#include "hirshfeld.h"
#include "pair_terms.h"

namespace molpool {

template <class real>
class Potential {
 public:
  explicit Potential(const Archive& archive)
      : network_(std::make_unique<MOLPOOL_NETWORK<real>>(archive)), terms_(archive) {
    const int width = network_->n_features();
    if (archive.has("energy.scale")) {
      energy_ = std::make_unique<EnergyHead<real>>(archive, width);
    }
    if (archive.has("dipole.vectors")) {
      dipole_ = std::make_unique<DipoleHead<real>>(archive, width);
    }
    if (archive.has("polarizability.scale")) {
      polarizability_ = std::make_unique<PolarizabilityHead<real>>(archive, width);
    }
    if (archive.has("hirshfeld.activation")) {
      hirshfeld_ = std::make_unique<HirshfeldHead<real>>(archive, width);
    }
    for (int k = 0; archive.has("scalars." + std::to_string(k) + ".scale"); ++k) {
      scalars_.emplace_back(archive, "scalars." + std::to_string(k), width);
    }
  }

  // Systems are split evenly over threads, each of which has memory of its own, and
  // what a system gets does not depend on the others. Fewer but large systems are worked
  // on by all threads together; sums may then be rounded in another way.
  void evaluate(const Batch<real>& batch, const Results<real>& results, int n_threads) {
    const bool together = batch.n_systems < n_threads &&
                          batch.n_atoms >= batch.n_systems * LARGE_SYSTEM;
    const auto ranges = split(batch, together ? 1 : n_threads);
    std::vector<std::thread> others;
    std::vector<char> failed(ranges.size(), 0);
    const auto work = [&](std::size_t k) {
      try {
        evaluate_range(batch, ranges[k], results, together ? n_threads : 1);
      } catch (const std::bad_alloc&) {
        failed[k] = 1;
      }
    };
    std::size_t n_begun = 1;
    try {
      for (; n_begun < ranges.size(); ++n_begun) others.emplace_back(work, n_begun);
    } catch (const std::system_error&) {
      // the system gives no more threads, so that the caller does their part
    }
    work(0);
    for (std::size_t k = n_begun; k < ranges.size(); ++k) work(k);
    for (auto& thread : others) thread.join();
    for (char one : failed) {
      if (one) throw std::bad_alloc();
    }
  }

 private:
  // Atoms from which on phases are long beside what it takes to begin them.
  static constexpr int LARGE_SYSTEM = 500;

  typedef typename DipoleHead<real>::Kept Charges;
  typedef typename HirshfeldHead<real>::Kept Ratios;

  void evaluate_range(const Batch<real>& batch, const Range& range,
                      const Results<real>& results, int n_threads) {
    std::vector<std::unique_ptr<Arena>> arenas;
    std::vector<Arena*> places;
    for (int k = 0; k < n_threads; ++k) {
      arenas.push_back(borrow());
      arenas.back()->reset();
      places.push_back(arenas.back().get());
    }
    {
      Team team(places);
      evaluate_range(batch, range, results, team);
    }
    mark_lost(batch, range, results);
    // the last first, so that each member gets the same memory again
    while (!arenas.empty()) {
      give_back(std::move(arenas.back()));
      arenas.pop_back();
    }
  }

  void evaluate_range(const Batch<real>& batch, const Range& range,
                      const Results<real>& results, Team& team) {
    Arena& arena = team.arena(0);
    Geometry<real> geometry(batch, range, network_->cutoff(), team);
    const bool needs_vectors =
        (results.dipole != nullptr && dipole_->needs_vectors()) ||
        results.polarizability != nullptr;
    auto pass = network_->begin(geometry, arena, needs_vectors);
    const Features<real> features = pass->forward();
    if (results.features != nullptr) give_features(range, features.scalars, results.features);
    const bool with_terms = terms_.exist() && results.energy != nullptr;
    Charges charges{};
    Ratios ratios{};
    if (results.charges != nullptr || (with_terms && terms_.need_charges())) {
      charges = dipole_->apply(batch, range, features, results, arena);
    }
    if (results.hirshfeld_ratios != nullptr || (with_terms && terms_.need_ratios())) {
      ratios = hirshfeld_->apply(batch, range, features.scalars, results, arena);
    }
    if (results.polarizability != nullptr) {
      polarizability_->apply(batch, range, features, results, arena);
    }
    for (std::size_t k = 0; k < scalars_.size(); ++k) {
      if (results.scalars[k] == nullptr) continue;
      scalars_[k].apply(batch, range, features.scalars, results.scalars[k],
                        results.weights[1 + k], arena);
    }
    if (results.energy != nullptr) {
      real* gradient = energy_->apply(batch, range, features.scalars, results, arena);
      const PairSums sums = begin_sums(range, arena);
      if (with_terms) {
        terms_.add(batch, range, charges.charges, ratios.ratios, sums);
        add_terms(batch, range, results, sums, charges, ratios, gradient, arena);
      }
      if (gradient != nullptr) {
        pass->backward(gradient);
        differentiate(batch, range, geometry, results, sums);
      }
    }
  }

  // A pair without a distance is out of reach of everything, but what a system gets
  // with an atom that is nowhere is not a number.
  static void mark_lost(const Batch<real>& batch, const Range& range,
                              const Results<real>& results) {
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    for (int a = range.first_atom; a < range.last_atom; ++a) {
      real sum = 0;
      for (int x = 0; x < 3; ++x) sum += batch.positions[3 * a + x];
      if (std::isfinite(sum)) continue;
      if (results.energy != nullptr) results.energy[batch.system[a]] = nan;
      if (results.energies != nullptr) results.energies[a] = nan;
      if (results.charges != nullptr) results.charges[a] = static_cast<real>(nan);
      for (int x = 0; x < 3; ++x) {
        if (results.forces != nullptr) results.forces[3 * a + x] = static_cast<real>(nan);
        if (results.dipole == nullptr) continue;
        results.dipole[3 * batch.system[a] + x] = static_cast<real>(nan);
      }
    }
  }

  static PairSums begin_sums(const Range& range, Arena& arena) {
    const int n = range.last_atom - range.first_atom;
    return {arena.zeros<double>(n), arena.zeros<double>(n), arena.zeros<double>(n),
            arena.zeros<double>(std::size_t(3) * n),
            arena.zeros<double>(9 * (range.last_system - range.first_system))};
  }

  // Energies of the terms, and the gradient that comes by what they read of the heads.
  void add_terms(const Batch<real>& batch, const Range& range, const Results<real>& results,
                 const PairSums& sums, const Charges& charges, const Ratios& ratios,
                 real* gradient, Arena& arena) const {
    for (int a = range.first_atom; a < range.last_atom; ++a) {
      const double energy = sums.energies[a - range.first_atom];
      results.energy[batch.system[a]] += energy;
      if (results.energies != nullptr) results.energies[a] += energy;
    }
    if (gradient == nullptr) return;
    if (terms_.need_charges()) {
      dipole_->backward(batch, range, charges, sums.by_charge, gradient, arena);
    }
    if (terms_.need_ratios()) {
      hirshfeld_->backward(batch, range, ratios, sums.by_ratio, gradient, arena);
    }
  }

  void give_features(const Range& range, const real* scalars, real* to) const {
    const std::size_t width = network_->n_features(), row = padded(network_->n_features());
    for (int atom = range.first_atom; atom < range.last_atom; ++atom, scalars += row) {
      std::memcpy(to + atom * width, scalars, width * sizeof(real));
    }
  }

  // Forces and stress from the gradients by pair vectors, beside those of the terms.
  static void differentiate(const Batch<real>& batch, const Range& range,
                            const Geometry<real>& pairs, const Results<real>& results,
                            const PairSums& sums) {
    double *forces = sums.forces, *virial = sums.virial;
    for (int p = 0; p < pairs.n_pairs; ++p) {
      double gradient[3];
      pairs.gradient(p, gradient);
      const std::int64_t system = batch.system[range.first_atom + pairs.i[p]];
      double* of = virial + 9 * (system - range.first_system);
      for (int x = 0; x < 3; ++x) {
        forces[3 * pairs.i[p] + x] += gradient[x];
        forces[3 * pairs.j[p] + x] -= gradient[x];
        for (int y = 0; y < 3; ++y) {
          const double turned = gradient[x] * pairs.unit[3 * p + y] +
                                gradient[y] * pairs.unit[3 * p + x];
          of[3 * x + y] += 0.5 * pairs.distance[p] * turned;
        }
      }
    }
    real* to = results.forces + std::size_t(3) * range.first_atom;
    for (int k = 0; k < 3 * pairs.n_atoms; ++k) to[k] = static_cast<real>(forces[k]);
    if (results.stress == nullptr) return;
    for (int s = range.first_system; s < range.last_system; ++s) {
      const double volume = std::abs(determinant(batch.cell + 9 * s));
      for (int k = 0; k < 9; ++k) {
        results.stress[9 * s + k] =
            static_cast<real>(virial[9 * (s - range.first_system) + k] / volume);
      }
    }
  }

  static double determinant(const real* m) {
    const auto minor = [m](int a, int b) { return double(m[3 + a]) * m[6 + b]; };
    return m[0] * (minor(1, 2) - minor(2, 1)) - m[1] * (minor(0, 2) - minor(2, 0)) +
           m[2] * (minor(0, 1) - minor(1, 0));
  }

  // Systems stand one after another; where their pairs do too, they can be split.
  static std::vector<Range> split(const Batch<real>& batch, int n_threads) {
    const int n_systems = static_cast<int>(batch.n_systems);
    int parts = std::max(1, std::min(n_threads, n_systems));
    if (parts > 1 && !std::is_sorted(batch.center, batch.center + batch.n_pairs)) parts = 1;
    std::vector<Range> ranges;
    for (int k = 0; k < parts; ++k) {
      Range range;
      range.first_system = n_systems * k / parts;
      range.last_system = n_systems * (k + 1) / parts;
      range.first_atom = bound(batch.system, batch.n_atoms, range.first_system);
      range.last_atom = bound(batch.system, batch.n_atoms, range.last_system);
      range.first_pair = 0;
      range.last_pair = batch.n_pairs;
      if (parts > 1) {
        range.first_pair = bound(batch.center, batch.n_pairs, range.first_atom);
        range.last_pair = bound(batch.center, batch.n_pairs, range.last_atom);
      }
      ranges.push_back(range);
    }
    return ranges;
  }

  static int bound(const std::int64_t* sorted, std::int64_t count, int value) {
    return static_cast<int>(std::lower_bound(sorted, sorted + count, value) - sorted);
  }

  std::unique_ptr<Arena> borrow() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (arenas_.empty()) return std::make_unique<Arena>();
    auto arena = std::move(arenas_.back());
    arenas_.pop_back();
    return arena;
  }

  void give_back(std::unique_ptr<Arena> arena) {
    std::lock_guard<std::mutex> lock(mutex_);
    arenas_.push_back(std::move(arena));
  }

  std::unique_ptr<Network<real>> network_;
  std::unique_ptr<EnergyHead<real>> energy_;
  std::unique_ptr<DipoleHead<real>> dipole_;
  std::unique_ptr<PolarizabilityHead<real>> polarizability_;
  std::unique_ptr<HirshfeldHead<real>> hirshfeld_;
  std::vector<ScalarHead<real>> scalars_;
  PairTerms terms_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Arena>> arenas_;
};

}  // namespace molpool
