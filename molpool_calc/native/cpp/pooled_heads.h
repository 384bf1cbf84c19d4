// Numbers of a system pooled from its atoms: ``heads.readout``, ``.energy``, ``.scalar``.
#pragma once

#include "attention_pooling.h"

namespace molpool {

// Where results go; null where nobody asks.
template <class real>
struct Results {
  double* energy;    // [systems] eV
  double* energies;  // [atoms] eV
  real* forces;      // [atoms 3] eV/Å
  real* stress;      // [systems 3 3] eV/Å³
  real* dipole;      // [systems 3] e·Å
  real* charges;     // [atoms] e
  real* polarizability;  // [systems 3 3] e²Å²/eV
  real* hirshfeld_ratios;  // [atoms]
  real* features;        // [atoms features] of the network, for other heads
  real* const* weights;    // of the energy and of each scalar head: [atoms], or null
  double* const* scalars;  // of each scalar head: [systems], or null
};

inline std::vector<std::string> layer_names(int count) {
  const char* const names[] = {"first", "second", "third", "fourth", "fifth", "sixth"};
  if (count < 0 || count > 6) throw std::invalid_argument("0 to 6 layers are possible");
  return {names, names + count};
}

// Atoms of each system, which stand one after another.
template <class real, class Act>
inline void for_systems(const Batch<real>& batch, const Range& range, const Act& act) {
  int first = 0;
  const int n = range.last_atom - range.first_atom;
  for (int system = range.first_system; system < range.last_system; ++system) {
    int last = first;
    while (last < n && batch.system[range.first_atom + last] == system) ++last;
    act(system, first, last - first);
    first = last;
  }
}

// Where the weights of a system's atoms go, of which the first is given.
template <class real>
inline real* of_system(real* weights, const Range& range, int first) {
  return weights == nullptr ? nullptr : weights + range.first_atom + first;
}

inline PlainPooling plain_pooling(const Archive& archive, const std::string& settings) {
  return {static_cast<Kind>(archive.integer(settings + "pooling")),
          archive.number(settings + "sharpness")};
}

// y of one system: features pooled and then a network, or a learned pooling to one
// number, or numbers of the atoms pooled.
template <class real>
class Readout {
 public:
  // ``settings`` and ``weights``: what their names begin with.
  Readout(const Archive& archive, const std::string& settings, const std::string& weights,
          int width)
      : row_(padded(width)), plain_(plain_pooling(archive, settings)) {
    const bool pools_features = archive.integer(settings + "embedding") != 0;
    const auto activation = static_cast<Activation>(archive.integer(settings + "activation"));
    const auto within =
        static_cast<Activation>(archive.integer(settings + "pooling_activation"));
    const std::string name = weights + ".pooling";
    if (plain_.kind == Kind::weighted_average) {
      const int layers = archive.integer(settings + "pooling_layers");
      pooling_ = std::make_unique<WeightedAverage<real>>(archive, name, width, layers, within);
    } else if (plain_.kind == Kind::attention) {
      pooling_ = std::make_unique<AttentionPooling<real>>(
          archive, name, width, archive.integer(settings + "heads"),
          archive.integer(settings + "blocks"), within);
    } else if (pools_features) {
      pooling_ = std::make_unique<FeaturePooling<real>>(plain_, width);
    }
    if (pooling_ != nullptr && !pools_features) return;
    network_ = std::make_unique<AtomicNumbers<real>>(
        archive, weights + (pools_features ? ".after" : ".before"), width,
        layer_names(archive.integer(settings + "layers")), activation);
  }

  // Returns y; adds ``factor`` ∂y/∂features to ``gradient`` and writes ``weights`` of the
  // atoms unless they are null.
  double apply(int n, const real* features, real factor, real* gradient, real* weights,
               Arena& arena) const {
    Arena::Scope scope(arena);
    if (pooling_ == nullptr) return of_numbers(n, features, factor, gradient, arena);
    real* pooled = arena.take<real>(pooling_->outputs());
    real* by_pooled = arena.zeros<real>(pooling_->outputs());
    const auto back = pooling_->apply(n, features, pooled, weights, arena);
    real value = pooled[0];
    by_pooled[0] = factor;
    if (network_ != nullptr) {
      const auto slopes = network_->forward(1, pooled, &value, arena);
      if (gradient != nullptr) by_pooled = network_->backward(1, &factor, slopes, arena);
    }
    if (gradient != nullptr) back(by_pooled, gradient);
    return value;
  }

 private:
  double of_numbers(int n, const real* features, real factor, real* gradient,
                    Arena& arena) const {
    real* values = arena.take<real>(n);
    const auto slopes = network_->forward(n, features, values, arena);
    std::vector<double> x(values, values + n), by_x(n);
    const double y = plain_.apply(n, x.data(), by_x.data());
    if (gradient == nullptr) return y;
    for (int a = 0; a < n; ++a) values[a] = static_cast<real>(factor * by_x[a]);
    const real* found = network_->backward(n, values, slopes, arena);
    for (std::size_t f = 0; f < std::size_t(n) * row_; f += Vector<real>::width) {
      add_to<real>(gradient + f, load(found + f));
    }
    return y;
  }

  int row_;
  PlainPooling plain_;
  std::unique_ptr<Pooling<real>> pooling_;
  std::unique_ptr<AtomicNumbers<real>> network_;
};

// E = scale · (y + y_c) + Σ_i E⁰(Z_i), y pooled from energies of the atoms in float64 or
// by a ``Readout``, y_c the correction, if any.
template <class real>
class EnergyHead {
 public:
  EnergyHead(const Archive& archive, int width)
      : scale_(archive.number("energy.scale")), row_(padded(width)),
        plain_(plain_pooling(archive, "energy.")),
        reference_(archive.array("energy.reference")), factor_(reference_.size(), 1.0),
        offset_(reference_.size(), 0.0) {
    if (plain_.kind > Kind::softmax || archive.integer("energy.embedding") != 0) {
      pooled_ = std::make_unique<Readout<real>>(archive, "energy.", "heads.energy", width);
    } else {
      layers_ = std::make_unique<AtomicNumbers<real>>(
          archive, "heads.energy.before", width,
          layer_names(archive.integer("energy.layers")),
          static_cast<Activation>(archive.integer("energy.activation")));
    }
    if (archive.has("energy.correction.pooling")) {
      correction_ = std::make_unique<Readout<real>>(archive, "energy.correction.",
                                                    "heads.energy.correction", width);
    }
    if (!archive.has("heads.energy.element_factor")) return;
    factor_ = archive.array("heads.energy.element_factor", reference_.size());
    offset_ = archive.array("heads.energy.element_offset", reference_.size());
  }

  // Fills energies and returns ∂(Σ energies)/∂scalars, null if no forces are wanted.
  real* apply(const Batch<real>& batch, const Range& range, const real* scalars,
              const Results<real>& results, Arena& arena) const {
    const int n = range.last_atom - range.first_atom;
    real* gradient = nullptr;
    if (layers_ != nullptr) {
      gradient = of_atoms(batch, range, scalars, results, arena);
    } else if (results.forces != nullptr) {
      gradient = arena.zeros<real>(std::size_t(n) * row_);
    }
    for_systems(batch, range, [&](int system, int first, int count) {
      double energy = layers_ != nullptr ? results.energy[system] : 0.0;
      for (int a = first; a < first + count; ++a) {
        energy += reference_[batch.numbers[range.first_atom + a]];
      }
      const std::size_t at = std::size_t(first) * row_;
      for (const auto* readout : {pooled_.get(), correction_.get()}) {
        if (readout == nullptr) continue;
        // the weights of the correction, which comes last, are those of the energy
        energy += scale_ * readout->apply(count, scalars + at, static_cast<real>(scale_),
                                          gradient ? gradient + at : nullptr,
                                          of_system(results.weights[0], range, first), arena);
      }
      results.energy[system] = energy;
    });
    return gradient;
  }

 private:
  // Pooled energies of the atoms, without E⁰.
  real* of_atoms(const Batch<real>& batch, const Range& range, const real* scalars,
                 const Results<real>& results, Arena& arena) const {
    const int n = range.last_atom - range.first_atom;
    const std::int64_t* numbers = batch.numbers + range.first_atom;
    real* atomic = arena.take<real>(n);
    const auto slopes = layers_->forward(n, scalars, atomic, arena);
    double *energies = arena.take<double>(n), *shares = arena.take<double>(n);
    for (int a = 0; a < n; ++a) {
      energies[a] = atomic[a] * factor_[numbers[a]] + offset_[numbers[a]] / scale_;
      if (results.energies == nullptr) continue;
      results.energies[range.first_atom + a] = scale_ * energies[a] + reference_[numbers[a]];
    }
    for_systems(batch, range, [&](int system, int first, int count) {
      results.energy[system] = scale_ * plain_.apply(count, energies + first, shares + first);
    });
    if (results.forces == nullptr) return nullptr;
    for (int a = 0; a < n; ++a) {
      atomic[a] = static_cast<real>(scale_ * shares[a] * factor_[numbers[a]]);
    }
    return layers_->backward(n, atomic, slopes, arena);
  }

  double scale_;
  int row_;
  PlainPooling plain_;
  std::vector<double> reference_, factor_, offset_;
  std::unique_ptr<AtomicNumbers<real>> layers_;
  std::unique_ptr<Readout<real>> pooled_, correction_;
};

// p = scale · y + shift + Σ_i p⁰(Z_i).
template <class real>
class ScalarHead {
 public:
  // ``name``: what settings and weights begin with.
  ScalarHead(const Archive& archive, const std::string& name, int width)
      : row_(padded(width)), scale_(archive.number(name + ".scale")),
        shift_(archive.number(name + ".shift")), reference_(archive.array(name + ".reference")),
        readout_(archive, name + ".", name, width) {}

  void apply(const Batch<real>& batch, const Range& range, const real* scalars, double* to,
             real* weights, Arena& arena) const {
    for_systems(batch, range, [&](int system, int first, int count) {
      const real* rows = scalars + std::size_t(first) * row_;
      double value = scale_ * readout_.apply(count, rows, real(1), nullptr,
                                            of_system(weights, range, first), arena) +
                     shift_;
      for (int a = first; a < first + count; ++a) {
        value += reference_[batch.numbers[range.first_atom + a]];
      }
      to[system] = value;
    });
  }

 private:
  int row_;
  double scale_, shift_;
  std::vector<double> reference_;
  Readout<real> readout_;
};

}  // namespace molpool
