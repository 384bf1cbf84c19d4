// PaiNN backward: the gradients of Eqs. 7 to 10 by all that came before.
#pragma once

#include "painn_forward.h"

namespace molpool {

template <class real>
class PaiNNPass final : public PaiNNForward<real> {
 public:
  using PaiNNForward<real>::PaiNNForward;

  void backward(Features<real> gradient) override {
    real* ds = gradient.scalars;
    real* dv = gradient.vectors;
    for (std::size_t k = kept_.size(); k-- > 0;) {
      dv = back_update(k, ds, dv);
      dv = back_receive(k, ds, dv);
    }
  }

 private:
  typedef PaiNNForward<real> Base;
  using typename Base::Kept;
  using Base::kept_, Base::n_, Base::net_, Base::pairs_, Base::row_, Base::W;
  using Base::for_pairs, Base::rows, Base::take, Base::zeros;

  // Gradients by what came before the update: ``ds`` in place, that by v⃗ returned.
  real* back_update(std::size_t k, real* ds, const real* dv) {
    const Kept& kept = kept_[k];
    const auto& layer = net_.layers[k];
    real* d_gates = take(rows(3));
    real* d_hidden = take(rows(1));
    real* d_norm = take(rows(2));
    real* d_mixed = take(2 * rows(3));
    real* before = take(rows(3));
    back_gates(kept, ds, dv, d_gates);
    layer.gates_second.backward(n_, d_gates, d_hidden);
    multiply(d_hidden, kept.gates_slope, rows(1));
    layer.gates_first.backward(n_, d_hidden, d_norm);
    back_mixed(kept, ds, dv, d_norm, d_mixed);
    for (int a = 0; a < n_; ++a) {
      for (int f = 0; f < row_; f += W) {
        add_to<real>(ds + std::size_t(a) * row_ + f,
                     load(d_norm + std::size_t(a) * 2 * row_ + f));
      }
    }
    if (dv != nullptr) std::memcpy(before, dv, rows(3) * sizeof(real));
    layer.mix.backward(3 * n_, d_mixed, before, dv != nullptr);
    return before;
  }

  void back_gates(const Kept& kept, const real* ds, const real* dv, real* d_gates) const {
    for (int a = 0; a < n_; ++a) {
      for (int f = 0; f < row_; f += W) {
        vec<real> both{}, turned{};
        for (int x = 0; x < 3; ++x) {
          const real* v = kept.mixed + (std::size_t(a) * 3 + x) * 2 * row_ + f;
          both += load(v) * load(v + row_);
          if (dv == nullptr) continue;
          turned += load(dv + (std::size_t(a) * 3 + x) * row_ + f) * load(v + row_);
        }
        const vec<real> by_scalar = load(ds + std::size_t(a) * row_ + f);
        real* to = d_gates + std::size_t(a) * 3 * row_ + f;
        store<real>(to, by_scalar);
        store<real>(to + row_, turned);
        store<real>(to + 2 * row_, by_scalar * both);
      }
    }
  }

  void back_mixed(const Kept& kept, const real* ds, const real* dv, const real* d_norm,
                  real* d_mixed) const {
    for (int a = 0; a < n_; ++a) {
      for (int f = 0; f < row_; f += W) {
        const real* gates = kept.gates + std::size_t(a) * 3 * row_ + f;
        const std::size_t two = std::size_t(a) * 2 * row_ + row_ + f;
        const vec<real> by_product =
            load(ds + std::size_t(a) * row_ + f) * load(gates + 2 * row_);
        const vec<real> by_square = load(d_norm + two) / load(kept.norm + two);
        for (int x = 0; x < 3; ++x) {
          const std::size_t at = (std::size_t(a) * 3 + x) * 2 * row_ + f;
          const vec<real> v = load(kept.mixed + at), u = load(kept.mixed + at + row_);
          vec<real> by_u = by_product * v;
          if (dv != nullptr) {
            by_u += load(dv + (std::size_t(a) * 3 + x) * row_ + f) * load(gates + row_);
          }
          store<real>(d_mixed + at, by_product * u + by_square * v);
          store<real>(d_mixed + at + row_, by_u);
        }
      }
    }
  }

  // Gradients by what came before the messages, in the same way.
  real* back_receive(std::size_t k, real* ds, real* dv) {
    if (k == 0) {
      for_pairs(k, true, [&](int p, const real* w, const real* slope) {
        back_first_pair(p, w, slope, ds, dv);
      });
      return nullptr;
    }
    real* d_context = zeros(rows(3));
    real* before = take(rows(3));
    std::memcpy(before, dv, rows(3) * sizeof(real));
    for_pairs(k, true, [&](int p, const real* w, const real* slope) {
      back_pair(kept_[k], p, w, slope, ds, dv, d_context, before);
    });
    real* d_hidden = take(rows(1));
    net_.layers[k].context_second.backward(n_, d_context, d_hidden);
    multiply(d_hidden, kept_[k].context_slope, rows(1));
    net_.layers[k].context_first.backward(n_, d_hidden, ds, true);
    return before;
  }

  // Without vectors before, and without gradients by contexts, which are constants.
  void back_first_pair(int p, const real* w, const real* slope, const real* ds,
                       const real* dv) {
    const std::size_t i = pairs_.i[p], j = pairs_.j[p];
    const real* unit = pairs_.unit + 3 * p;
    const real* context = kept_[0].context;
    vec<real> by_distance{}, by_unit[3] = {};
    for (int f = 0; f < row_; f += W) {
      const real *ci = context + 3 * i * row_ + f, *cj = context + 3 * j * row_ + f;
      const vec<real> c2i = load(ci + row_), c2j = load(cj + row_), w2 = load(w + row_ + f);
      vec<real> across{};
      for (int x = 0; x < 3; ++x) {
        const vec<real> turned = load(dv + (3 * i + x) * row_ + f) * c2j -
                                 load(dv + (3 * j + x) * row_ + f) * c2i;
        across += turned * unit[x];
        by_unit[x] += w2 * turned;
      }
      const vec<real> by_w1 =
          load(ds + i * row_ + f) * load(cj) + load(ds + j * row_ + f) * load(ci);
      by_distance += load(slope + f) * by_w1 + load(slope + row_ + f) * across;
    }
    pairs_.d_distance[p] += sum<real>(by_distance);
    for (int x = 0; x < 3; ++x) pairs_.d_unit[3 * p + x] += sum<real>(by_unit[x]);
  }

  void back_pair(const Kept& kept, int p, const real* w, const real* slope, const real* ds,
                 const real* dv, real* d_context, real* before) {
    const std::size_t i = pairs_.i[p], j = pairs_.j[p];
    const real* unit = pairs_.unit + 3 * p;
    vec<real> by_distance{}, by_unit[3] = {};
    for (int f = 0; f < row_; f += W) {
      const std::size_t at_i = 3 * i * row_ + f, at_j = 3 * j * row_ + f;
      const real *ci = kept.context + at_i, *cj = kept.context + at_j;
      const vec<real> w2 = load(w + row_ + f), w3 = load(w + 2 * row_ + f);
      const vec<real> c2i = load(ci + row_), c2j = load(cj + row_);
      const vec<real> to_i = w3 * load(ci + 2 * row_), to_j = w3 * load(cj + 2 * row_);
      vec<real> along_i{}, along_j{}, with_i{}, with_j{};
      for (int x = 0; x < 3; ++x) {
        const std::size_t xi = at_i + x * row_, xj = at_j + x * row_;
        const vec<real> gi = load(dv + xi), gj = load(dv + xj);
        along_i += gi * unit[x];
        along_j += gj * unit[x];
        with_j += gi * load(kept.vectors + xj);
        with_i += gj * load(kept.vectors + xi);
        by_unit[x] += w2 * (gi * c2j - gj * c2i);
        add_to<real>(before + xj, to_j * gi);
        add_to<real>(before + xi, to_i * gj);
      }
      const vec<real> w1 = load(w + f), si = load(ds + i * row_ + f),
                      sj = load(ds + j * row_ + f);
      by_distance += load(slope + f) * (si * load(cj) + sj * load(ci)) +
                     load(slope + row_ + f) * (along_i * c2j - along_j * c2i) +
                     load(slope + 2 * row_ + f) *
                         (with_j * load(cj + 2 * row_) + with_i * load(ci + 2 * row_));
      add_to<real>(d_context + at_j, w1 * si);
      add_to<real>(d_context + at_i, w1 * sj);
      add_to<real>(d_context + at_j + row_, w2 * along_i);
      add_to<real>(d_context + at_i + row_, -(w2 * along_j));
      add_to<real>(d_context + at_j + 2 * row_, w3 * with_j);
      add_to<real>(d_context + at_i + 2 * row_, w3 * with_i);
    }
    pairs_.d_distance[p] += sum<real>(by_distance);
    for (int x = 0; x < 3; ++x) pairs_.d_unit[3 * p + x] += sum<real>(by_unit[x]);
  }
};

template <class real>
std::unique_ptr<Pass<real>> PaiNN<real>::begin(Geometry<real>& geometry, Arena& arena,
                                               bool wants_vectors) const {
  return std::make_unique<PaiNNPass<real>>(*this, geometry, arena, wants_vectors);
}

}  // namespace molpool
