// The gradient of the Euclidean transformer (``euclidean.h``).
#pragma once

#include "euclidean_forward.h"

namespace molpool {

template <class real>
class EuclideanPass final : public EuclideanForward<real> {
 public:
  using EuclideanForward<real>::EuclideanForward;

  void backward(real* dx) override {
    real* d_euclidean = nullptr;  // of the last layer nobody reads χ
    for (std::size_t k = kept_.size(); k-- > 0;) {
      d_euclidean = back_update(k, dx, d_euclidean);
      d_euclidean = back_receive(k, dx, d_euclidean);
    }
  }

 private:
  using Base = EuclideanForward<real>;
  using typename Base::Gates;
  using typename Base::Kept;
  using typename Base::Norm;
  using Base::W;
  using Base::take, Base::zeros, Base::rows, Base::degree_row, Base::view,
      Base::for_blocks;
  using Base::net_, Base::split_, Base::harmonics_, Base::pairs_, Base::arena_, Base::n_,
      Base::row_, Base::components_, Base::kept_, Base::envelope_slope_;
  using Base::d_filters_, Base::hidden_, Base::d_invariants_;

  // Gradients by what came before the exchange: ``dx`` in place, that by χ returned.
  real* back_update(std::size_t k, real* dx, const real* d_after) {
    const Kept& kept = kept_[k];
    const auto& layer = net_.layers[k];
    back_normalize(layer.norm_2, kept.norm_2, dx);
    back_refine(layer.residual_2, kept.residual_2, dx);
    real* before = take(rows(components_));
    const Arena::Scope scope(arena_);
    const int joined_row = row_ + degree_row();
    real* by_out = zeros(rows(joined_row));
    real* by_in = take(rows(joined_row));
    for (int a = 0; a < n_; ++a) {
      real* to = by_out + std::size_t(a) * joined_row;
      std::memcpy(to, dx + std::size_t(a) * row_, row_ * sizeof(real));
      if (d_after != nullptr) by_gain(kept, a, d_after, to + row_);
    }
    layer.exchange.backward(n_, by_out, by_in);
    for (int a = 0; a < n_; ++a) {
      const real* by = by_in + std::size_t(a) * joined_row;
      for (int f = 0; f < row_; f += W) {
        add_to<real>(dx + std::size_t(a) * row_ + f, load(by + f));
      }
      const real* gain = kept.gain + std::size_t(a) * joined_row + row_;
      for (int c = 0; c < components_; c += W) {
        const std::size_t at = std::size_t(a) * components_ + c;
        const vec<real> by_square = harmonics_.spread(by + row_, harmonics_.weights(), c);
        vec<real> by_chi = real(2) * by_square * load(kept.euclidean + at);
        if (d_after != nullptr) {
          const vec<real> of = harmonics_.spread(gain, harmonics_.members(), c);
          by_chi += (real(1) + of) * load(d_after + at);
        }
        store<real>(before + at, by_chi);
      }
    }
    back_refine(layer.residual_1, kept.residual_1, dx);
    back_normalize(layer.norm_1, kept.norm_1, dx);
    return before;
  }

  // ∂/∂b_l = Σ_m χ_lm ∂/∂χ_lm of an atom.
  void by_gain(const Kept& kept, int a, const real* d_after, real* to) const {
    const std::size_t at = std::size_t(a) * components_;
    for (int d = 0; d < harmonics_.n_degrees(); ++d) {
      vec<real> sums{};
      for (int c = 0; c < components_; c += W) {
        sums += load(harmonics_.members(d) + c) * load(d_after + at + c) *
                load(kept.euclidean + at + c);
      }
      to[d] = sum<real>(sums);
    }
  }

  // Gradients by what came before the attention, in the same way. Nothing before the
  // first layer depends on the positions.
  real* back_receive(std::size_t k, real* dx, real* d_euclidean) {
    const bool is_first = k == 0;
    const int width = split_.width[0], padded_width = split_.padded_[0];
    real* before = is_first ? nullptr : take(rows(components_));
    const Arena::Scope scope(arena_);
    real* change = zeros(rows(split_.columns(0)));
    for (int a = 0; a < n_; ++a) {
      for (int h = 0; h < split_.count[0]; ++h) {
        const real* from = dx + std::size_t(a) * row_ + h * width;
        real* to = change + (std::size_t(a) * split_.count[0] + h) * padded_width;
        for (int f = 0; f < width; ++f) to[f] = from[f];
      }
    }
    if (!is_first) std::memcpy(before, d_euclidean, rows(components_) * sizeof(real));
    real* by_maps = is_first ? nullptr : zeros(rows(net_.map_row()));
    const Attention<real> attention(net_, kept_[k].maps);
    for_blocks(k, true, [&](int first, int count) {
      for (int p = 0; p < count; ++p) {
        back_pair(attention, k, first, p,
                  {change, d_euclidean, by_maps, nullptr, nullptr, 0});
      }
      if (!is_first) back_spherical(k, first, count, before);
    });
    if (!is_first) back_project(k, by_maps, dx);
    return before;
  }

  void back_pair(const Attention<real>& attention, std::size_t k, int first, int p,
                 typename Attention<real>::Gradients by) {
    const std::size_t at = std::size_t(p) * split_.filter_row();
    by.filters = d_filters_ + at;
    by.unit = pairs_.d_unit + 3 * (first + p);
    attention.give_back(view(k, first, p), by);
    vec<real> along{};
    for (int f = 0; f < split_.filter_row(); f += W) {
      along += load(by.filters + f) * load(kept_[k].block.slopes + at + f);
    }
    pairs_.d_distance[first + p] +=
        sum<real>(along) + by.envelope * envelope_slope_[first + p];
  }

  // From the gradient by the filters of a block to that by χ, through MLP_s.
  void back_spherical(std::size_t k, int first, int count, real* d_euclidean) {
    const auto& layer = net_.layers[k];
    const int width = layer.spherical_first.outputs(), half = width / 2;
    for (int which = 0; which < 2; ++which) {
      layer.spherical_second[which].backward.product(
          count, d_filters_ + which * split_.columns(0), split_.filter_row(),
          hidden_ + which * half, width);
    }
    multiply(hidden_, kept_[k].block.gate, std::size_t(count) * width);
    layer.spherical_first.backward(count, hidden_, d_invariants_);
    const real* euclidean = kept_[k].before;
    for (int p = 0; p < count; ++p) {
      const std::size_t i = std::size_t(pairs_.i[first + p]) * components_;
      const std::size_t j = std::size_t(pairs_.j[first + p]) * components_;
      const real* by = d_invariants_ + p * degree_row();
      for (int c = 0; c < components_; c += W) {
        const vec<real> between = load(euclidean + j + c) - load(euclidean + i + c);
        const vec<real> pull =
            real(2) * harmonics_.spread(by, harmonics_.weights(), c) * between;
        add_to<real>(d_euclidean + j + c, pull);
        add_to<real>(d_euclidean + i + c, -pull);
      }
    }
  }

  // From queries, keys and values to the features they were made of.
  void back_project(std::size_t k, const real* by_maps, real* dx) {
    real* part = take(rows(std::max(padded(split_.padded_[0]), split_.padded_[1])));
    for (int which = 0; which < 2; ++which) {
      int at = which == 0 ? 0 : 3 * split_.columns(0);
      const int width = split_.width[which], wide = split_.padded_[which];
      for (int h = 0; h < split_.count[which]; ++h) {
        const auto& map = net_.layers[k].maps[which][h].backward;
        map.product(n_, by_maps + at, net_.map_row(), part, wide);
        at += map.inputs();
        for (int a = 0; a < n_; ++a) {
          real* to = dx + std::size_t(a) * row_ + h * width;
          for (int f = 0; f < width; ++f) to[f] += part[std::size_t(a) * wide + f];
        }
      }
    }
  }

  void back_normalize(const LayerNorm<real>& norm, const Norm& kept, real* dx) const {
    if (norm.exists) norm.backward(n_, dx, kept.normal, kept.inverse);
  }

  void back_refine(const ResidualMLP<real>& residual, const Gates& kept, real* dx) {
    if (!residual.exists) return;
    const Arena::Scope scope(arena_);
    real* by_hidden = take(rows(row_));
    real* by_inner = take(rows(row_));
    residual.second.backward(n_, dx, by_hidden);
    multiply(by_hidden, kept.inner, rows(row_));
    residual.first.backward(n_, by_hidden, by_inner);
    multiply(by_inner, kept.outer, rows(row_));
    for (std::size_t k = 0; k < rows(row_); k += W) add_to<real>(dx + k, load(by_inner + k));
  }
};

template <class real>
std::unique_ptr<Pass<real>> Euclidean<real>::begin(Geometry<real>& geometry, Arena& arena,
                                                   bool) const {
  return std::make_unique<EuclideanPass<real>>(*this, geometry, arena);
}

}  // namespace molpool
