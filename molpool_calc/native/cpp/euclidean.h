// The Euclidean transformer So3krates (Frank, Unke, Müller, Chmiela, Nat. Commun. 15,
// 6539 (2024)), the network of SO3LR, and its gradient.
//
// Names as in ``networks.so3krates_euclidean``: x_i scalars, χ_i Euclidean variables,
// c_l invariants, q k v queries, keys and values of the heads of the features (0) and of
// the degrees (1), N the norm of the messages, û from i to j.
//
//   w_ij   = MLP_r(φ(d)) + MLP_s(c(χ_j − χ_i))           both filters of a layer
//   α_ij   = fc(d) ⟨q_i, w_ij, k_j⟩ / N                   of each head
//   Δx_i   = Σ_j α_ij v_j
//   Δχ_i   = Σ_j β_ij,l Y_lm(û_ij)                        β as α, of each degree
//   x      ← norm(x + Δx), then a residual network
//   a, b   = exchange([x, c(χ + Δχ)]),  x ← x + a,  χ_l ← (1 + b_l)(χ_l + Δχ_l)
//
// Filters are the same for (i, j) and (j, i), and Y_lm has the sign (−1)^l there, so
// that both directions are computed together.
#pragma once

#include "distance_filters.h"
#include "electrons.h"
#include "network.h"
#include "spherical.h"

namespace molpool {

// A matrix that acts from the right, and its transpose; the outputs are padded.
template <class real>
struct RightMatrix {
  RightMatrix() = default;
  template <class Entry>
  RightMatrix(int inputs, int outputs, const Entry& entry)
      : forward(inputs, padded(outputs), [&](int k, int n) {
          return n < outputs ? entry(k, n) : 0.0;
        }),
        backward(padded(outputs), padded(inputs), [&](int n, int k) {
          return n < outputs && k < inputs ? entry(k, n) : 0.0;
        }) {}
  Packed<real> forward, backward;
};

// y = γ (x − ⟨x⟩)/√(⟨(x − ⟨x⟩)²⟩ + ε) + β, in place; nothing where there is none.
template <class real>
class LayerNorm {
 public:
  LayerNorm(const Archive& archive, const std::string& name, int width)
      : exists(archive.has(name + ".weight")), width_(width), row_(padded(width)) {
    if (!exists) return;
    const auto& weight = archive.array(name + ".weight", width);
    const auto& bias = archive.array(name + ".bias", width);
    weight_ = Numbers<real>(row_);
    bias_ = Numbers<real>(row_);
    for (int f = 0; f < width; ++f) {
      weight_.data()[f] = static_cast<real>(weight[f]);
      bias_.data()[f] = static_cast<real>(bias[f]);
    }
  }

  // Keeps (x − ⟨x⟩)/σ and 1/σ.
  void forward(int n, real* x, real* normal, real* inverse) const {
    for (int a = 0; a < n; ++a, x += row_, normal += row_) {
      vec<real> sums{}, squares{};
      for (int f = 0; f < row_; f += W) sums += load(x + f);
      const real mean = sum<real>(sums) / width_;
      for (int f = 0; f < row_; f += W) {
        const vec<real> off = load(x + f) - mean;
        squares += off * off;
      }
      const real variance = (sum<real>(squares) - (row_ - width_) * mean * mean) / width_;
      inverse[a] = real(1) / std::sqrt(variance + real(EPSILON));
      for (int f = 0; f < row_; f += W) {
        const vec<real> scaled = (load(x + f) - mean) * inverse[a];
        store<real>(normal + f, scaled);
        store<real>(x + f, scaled * load(weight_.data() + f) + load(bias_.data() + f));
      }
    }
  }

  // The gradient by x from that by y, in place.
  void backward(int n, real* gradient, const real* normal, const real* inverse) const {
    for (int a = 0; a < n; ++a, gradient += row_, normal += row_) {
      vec<real> sums{}, along{};
      for (int f = 0; f < row_; f += W) {
        const vec<real> by = load(gradient + f) * load(weight_.data() + f);
        sums += by;
        along += by * load(normal + f);
      }
      const real mean = sum<real>(sums) / width_, slope = sum<real>(along) / width_;
      for (int f = 0; f < row_; f += W) {
        const vec<real> by = load(gradient + f) * load(weight_.data() + f);
        store<real>(gradient + f, (by - mean - load(normal + f) * slope) * inverse[a]);
      }
      for (int f = width_; f < row_; ++f) gradient[f] = 0;
    }
  }

  const bool exists;

 private:
  static constexpr int W = Vector<real>::width;
  static constexpr double EPSILON = 1e-6;
  int width_, row_;
  Numbers<real> weight_, bias_;
};

// x + Lin₂(silu(Lin₁(silu x))), in place; nothing where there is none.
template <class real>
struct ResidualMLP {
  ResidualMLP(const Archive& archive, const std::string& name, int width)
      : exists(archive.has(name + ".mlp.first.weight")) {
    if (!exists) return;
    first = Linear<real>(archive, name + ".mlp.first", {width}, {width});
    second = Linear<real>(archive, name + ".mlp.second", {width}, {width});
  }
  const bool exists;
  Linear<real> first, second;
};

template <class real>
class Euclidean final : public Network<real> {
 public:
  explicit Euclidean(const Archive& archive)
      : harmonics(archive),
        split(archive.integer("n_features"), archive.integer("n_heads"),
              harmonics.n_degrees()),
        inverse_norms{1.0 / archive.number("norm.0"), 1.0 / archive.number("norm.1")},
        composition(archive, split.features), radial(archive, "basis") {
    const int rounds = archive.integer("n_interactions");
    for (int k = 0; k < rounds; ++k) layers.emplace_back(archive, k, split);
  }

  double cutoff() const override { return radial.cutoff(); }
  int n_features() const override { return split.features; }
  std::unique_ptr<Pass<real>> begin(Geometry<real>& geometry, Arena& arena,
                                    bool wants_vectors) const override;

  // Numbers of an atom: [q k v] of each head, then [q k] of each degree.
  int map_row() const { return 3 * split.columns(0) + 2 * split.columns(1); }

  struct Layer {
    Layer(const Archive& archive, int k, const Split& split)
        : name("layers." + std::to_string(k) + "."),
          spherical_first(archive, name + "spherical.first", {split.count[1]},
                          {split.features / 4, split.features / 4}),
          filters(archive, k, split, shift(archive, split, k == 0).data()),
          norm_1(archive, name + "norm_1", split.features),
          norm_2(archive, name + "norm_2", split.features),
          residual_1(archive, name + "residual_1", split.features),
          residual_2(archive, name + "residual_2", split.features),
          exchange(archive, name + "exchange", {split.features, split.count[1]},
                   {split.features, split.count[1]}) {
      const auto& second = archive.array(name + "spherical.second");
      for (int which = 0; which < 2; ++which) {
        spherical_second[which] = RightMatrix<real>(
            split.features / 4, split.columns(which), [&](int from, int to) {
              const int f = split.feature(which, to);
              const std::size_t row = which * (split.features / 4) + from;
              return f < 0 ? 0.0 : second[row * split.features + f];
            });
        const std::string path = name + (which ? "attention.degree_" : "attention.");
        std::vector<std::string> names = {"queries", "keys"};
        if (which == 0) names.push_back("values");
        for (int h = 0; h < split.count[which]; ++h) {
          maps[which].push_back(map(archive, path, names, h, split, which));
        }
      }
    }

    const std::string name;
    Linear<real> spherical_first;
    RightMatrix<real> spherical_second[2];
    DistanceFilters<real> filters;
    std::vector<RightMatrix<real>> maps[2];  // [q k v] of a head, [q k] of a degree
    LayerNorm<real> norm_1, norm_2;
    ResidualMLP<real> residual_1, residual_2;
    Linear<real> exchange;

   private:
    static RightMatrix<real> map(const Archive& archive, const std::string& path,
                            const std::vector<std::string>& names, int h,
                            const Split& split, int which) {
      const int width = split.width[which], row = split.padded_[which];
      const int outputs = static_cast<int>(names.size()) * row;
      std::vector<const std::vector<double>*> weights;
      for (const auto& one : names) weights.push_back(&archive.array(path + one));
      return RightMatrix<real>(width, outputs, [&](int from, int to) {
        const std::size_t within = to % row, at = std::size_t(h) * width + from;
        if (within >= std::size_t(width)) return 0.0;
        return weights[to / row]->at(at * width + within);
      });
    }

    // What both filters have beside MLP_r for χ_j = χ_i; at first that is everywhere.
    std::vector<double> shift(const Archive& archive, const Split& split,
                              bool is_first) const {
      const std::size_t width = split.features, narrow = width / 4;
      const auto& bias = archive.array(name + "spherical.bias", 2 * width);
      const auto& second = archive.array(name + "spherical.second", 2 * narrow * width);
      const auto& first = archive.array(name + "spherical.first.bias", 2 * narrow);
      std::vector<double> shift(split.filter_row(), 0.0);
      for (int at = 0; at < split.filter_row(); ++at) {
        const int which = at >= split.columns(0);
        const int f = split.feature(which, at - which * split.columns(0));
        if (f < 0) continue;
        shift[at] = bias[which * width + f];
        for (std::size_t h = 0; is_first && h < narrow; ++h) {
          const double x = first[which * narrow + h];
          shift[at] += x / (1.0 + std::exp(-x)) * second[(which * narrow + h) * width + f];
        }
      }
      return shift;
    }
  };

  const Harmonics<real> harmonics;
  const Split split;
  const double inverse_norms[2];
  const Elements<real> composition;
  const Radial<real> radial;
  std::vector<Layer> layers;
};

}  // namespace molpool
