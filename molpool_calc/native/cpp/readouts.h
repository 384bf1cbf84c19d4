// From atom features to energies, charges and atomic dipoles.
#pragma once

#include "network.h"

namespace molpool {

// Dense layers with an activation between them, from features to one number an atom.
template <class real>
class AtomicNumbers {
 public:
  // ``layers``: names of the layers below ``name``; without any the one feature is it.
  AtomicNumbers(const Archive& archive, const std::string& name, int width,
                const std::vector<std::string>& layers, Activation activation)
      : activation_(activation), inputs_(padded(width)) {
    row_ = padded(width);
    last_ = Numbers<real>(row_);
    if (layers.empty()) {
      last_.data()[0] = real(1);
      return;
    }
    int inputs = width;
    for (std::size_t k = 0; k + 1 < layers.size(); ++k) {
      const std::string path = name + "." + layers[k];
      const int outputs = static_cast<int>(archive.array(path + ".weight").size()) / inputs;
      layers_.emplace_back(archive, path, Parts{inputs}, Parts{outputs});
      inputs = outputs;
    }
    const auto& weight = archive.array(name + "." + layers.back() + ".weight", inputs);
    last_ = Numbers<real>(padded(inputs));
    for (int k = 0; k < inputs; ++k) last_.data()[k] = static_cast<real>(weight[k]);
    bias_ = static_cast<real>(archive.number(name + "." + layers.back() + ".bias"));
    row_ = padded(inputs);
  }

  int inputs() const { return inputs_; }

  // Slopes of the activations stay in the arena for ``backward``.
  std::vector<const real*> forward(int n, const real* features, real* values,
                                   Arena& arena) const {
    std::vector<const real*> slopes;
    for (const auto& layer : layers_) {
      const std::size_t count = std::size_t(n) * layer.outputs();
      real* out = arena.take<real>(count);
      real* slope = arena.take<real>(count);
      layer.forward(n, features, out);
      activate(activation_, out, slope, count);
      slopes.push_back(slope);
      features = out;
    }
    for (int a = 0; a < n; ++a) {
      vec<real> total{};
      for (int f = 0; f < row_; f += Vector<real>::width) {
        total += load(features + std::size_t(a) * row_ + f) * load(last_.data() + f);
      }
      values[a] = bias_ + sum<real>(total);
    }
    return slopes;
  }

  // ∂/∂features of Σ_a factor_a value_a.
  real* backward(int n, const real* factors, const std::vector<const real*>& slopes,
                 Arena& arena) const {
    real* gradient = arena.take<real>(std::size_t(n) * row_);
    for (int a = 0; a < n; ++a) {
      for (int f = 0; f < row_; f += Vector<real>::width) {
        store<real>(gradient + std::size_t(a) * row_ + f, factors[a] * load(last_.data() + f));
      }
    }
    for (std::size_t k = layers_.size(); k-- > 0;) {
      multiply(gradient, slopes[k], std::size_t(n) * layers_[k].outputs());
      real* before = arena.take<real>(std::size_t(n) * layers_[k].inputs());
      layers_[k].backward(n, gradient, before);
      gradient = before;
    }
    return gradient;
  }

 private:
  Activation activation_;
  int inputs_;
  std::vector<Linear<real>> layers_;
  Numbers<real> last_;
  real bias_ = 0;
  int row_;
};

// Gated equivariant block (Schütt et al. 2021, Fig. 3), forward only.
template <class real>
class GatedBlock {
 public:
  GatedBlock(const Archive& archive, const std::string& name, int in, int out,
             bool activates, double epsilon)
      : row_(padded(in)), out_(padded(out)), activates_(activates), epsilon_(epsilon),
        mix_(archive, name + ".mix", {in}, {out, out}),
        first_(archive, name + ".context.first", {in, out}, {in}),
        second_(archive, name + ".context.second", {in}, {out, out}) {}

  Features<real> forward(int n, Features<real> in, Arena& arena) const {
    const std::size_t atoms = n, both = row_ + out_;
    real* mixed = arena.take<real>(3 * atoms * 2 * out_);
    real* joined = arena.take<real>(atoms * both);
    real* hidden = arena.take<real>(atoms * row_);
    real* slope = arena.take<real>(atoms * row_);
    real* gates = arena.take<real>(atoms * 2 * out_);
    mix_.forward(3 * n, in.vectors, mixed);
    for (std::size_t a = 0; a < atoms; ++a) {
      std::memcpy(joined + a * both, in.scalars + a * row_, row_ * sizeof(real));
      for (int f = 0; f < out_; f += W) {
        vec<real> squared = broadcast<real>(real(epsilon_));
        for (int x = 0; x < 3; ++x) {
          const vec<real> v = load(mixed + (3 * a + x) * 2 * out_ + f);
          squared += v * v;
        }
        store<real>(joined + a * both + row_ + f, root<real>(squared));
      }
    }
    first_.forward(n, joined, hidden);
    silu(hidden, slope, atoms * row_);
    second_.forward(n, hidden, gates);
    return gated(atoms, mixed, gates, arena);
  }

 private:
  static constexpr int W = Vector<real>::width;

  Features<real> gated(std::size_t atoms, const real* mixed, const real* gates,
                       Arena& arena) const {
    Features<real> out = {arena.take<real>(atoms * out_), arena.take<real>(3 * atoms * out_)};
    for (std::size_t a = 0; a < atoms; ++a) {
      std::memcpy(out.scalars + a * out_, gates + a * 2 * out_, out_ * sizeof(real));
      for (int f = 0; f < out_; f += W) {
        const vec<real> gate = load(gates + a * 2 * out_ + out_ + f);
        for (int x = 0; x < 3; ++x) {
          const real* from = mixed + (3 * a + x) * 2 * out_ + out_ + f;
          store<real>(out.vectors + (3 * a + x) * out_ + f, gate * load(from));
        }
      }
    }
    if (activates_) silu(out.scalars, arena.take<real>(atoms * out_), atoms * out_);
    return out;
  }

  int row_, out_;
  bool activates_;
  double epsilon_;
  Linear<real> mix_, first_, second_;
};

// Two gated blocks F → F/2 → 1: one scalar and one vector for each atom.
template <class real>
class GatedReadout {
 public:
  GatedReadout(const Archive& archive, const std::string& name, int width, double epsilon)
      : first_(archive, name + ".first", width, width / 2, true, epsilon),
        second_(archive, name + ".second", width / 2, 1, false, epsilon) {}

  void forward(int n, Features<real> features, real* scalars, real* vectors,
               Arena& arena) const {
    const Features<real> out = second_.forward(n, first_.forward(n, features, arena), arena);
    for (int a = 0; a < n; ++a) {
      scalars[a] = out.scalars[std::size_t(a) * LANES];
      for (int x = 0; x < 3; ++x) {
        vectors[3 * a + x] = out.vectors[(std::size_t(3) * a + x) * LANES];
      }
    }
  }

 private:
  GatedBlock<real> first_, second_;
};

}  // namespace molpool
