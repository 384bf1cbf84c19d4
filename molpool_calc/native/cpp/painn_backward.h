// PaiNN backward: the gradients of Eqs. 7 to 10 by all that came before.
#pragma once

#include "painn_forward.h"

namespace molpool {

template <class real>
class PaiNNPass final : public PaiNNForward<real> {
 public:
  using PaiNNForward<real>::PaiNNForward;

  void backward(real* ds) override {
    const std::size_t n_sums = std::size_t(4) * pairs_.n_pairs;
    sums_ = zeros(n_sums * (n_slices_ - 1));
    real* dv = take(rows(3));
    real* other = take(rows(3));
    for (std::size_t k = kept_.size(); k-- > 0;) {
      // the energy does not see the vectors after the last update
      back_update(k, ds, dv, k + 1 == kept_.size());
      back_receive(k, ds, dv, other);
      std::swap(dv, other);
    }
    for (int rank = 1; rank < n_slices_; ++rank) {
      const Slice slice = slice_of(rank);
      for (int p = 0; p < pairs_.n_pairs; ++p) pairs_.d_distance[p] += slice.d_distance[p];
      for (int p = 0; p < 3 * pairs_.n_pairs; ++p) pairs_.d_unit[p] += slice.d_unit[p];
    }
  }

 private:
  typedef PaiNNForward<real> Base;
  using typename Base::Kept;
  using typename Base::Slice;
  using Base::arena_, Base::kept_, Base::n_, Base::net_, Base::pairs_, Base::row_, Base::W;
  using Base::n_slices_, Base::slice_of, Base::sums_;
  using Base::for_atoms, Base::for_pairs, Base::rows, Base::take, Base::zeros;

  // From gradients by what came after the update to those by what came before, in
  // place; ``blank``: there is none by the vectors yet.
  void back_update(std::size_t k, real* ds, real* dv, bool blank) {
    for_atoms([&](int first, int count, Arena& arena) {
      back_update(net_.layers[k], kept_[k].from(first, row_), count, ds + rows(1, first),
                  dv + rows(3, first), blank, arena);
    });
  }

  void back_update(const typename PaiNN<real>::Layer& layer, const Kept& kept, int count,
                   real* ds, real* dv, bool blank, Arena& arena) {
    real* d_gates = arena.take<real>(rows(3, count));
    real* d_hidden = arena.take<real>(rows(1, count));
    real* d_joined = arena.take<real>(rows(2, count));
    real* d_mixed = arena.take<real>(rows(6, count));
    back_gates(kept, count, ds, blank ? nullptr : dv, d_gates);
    layer.gates_second.backward(count, d_gates, d_hidden);
    multiply(d_hidden, kept.gates_slope, rows(1, count));
    layer.gates_first.backward(count, d_hidden, d_joined);
    back_mixed(kept, count, ds, blank ? nullptr : dv, d_joined, d_mixed);
    for (int a = 0; a < count; ++a) {
      for (int f = 0; f < row_; f += W) {
        add_to<real>(ds + rows(1, a) + f, load(d_joined + rows(2, a) + f));
      }
    }
    layer.mix.backward(3 * count, d_mixed, dv, !blank);
  }

  void back_gates(const Kept& kept, int count, const real* ds, const real* dv,
                  real* d_gates) const {
    for (int a = 0; a < count; ++a) {
      for (int f = 0; f < row_; f += W) {
        vec<real> both{}, turned{};
        for (int x = 0; x < 3; ++x) {
          const real* v = kept.mixed + rows(6, a) + 2 * x * row_ + f;
          both += load(v) * load(v + row_);
          if (dv == nullptr) continue;
          turned += load(dv + rows(3, a) + x * row_ + f) * load(v + row_);
        }
        const vec<real> by_scalar = load(ds + rows(1, a) + f);
        real* to = d_gates + rows(3, a) + f;
        store<real>(to, by_scalar);
        store<real>(to + row_, turned);
        store<real>(to + 2 * row_, by_scalar * both);
      }
    }
  }

  void back_mixed(const Kept& kept, int count, const real* ds, const real* dv,
                  const real* d_joined, real* d_mixed) const {
    for (int a = 0; a < count; ++a) {
      for (int f = 0; f < row_; f += W) {
        const real* gates = kept.gates + rows(3, a) + f;
        const vec<real> by_product = load(ds + rows(1, a) + f) * load(gates + 2 * row_);
        const vec<real> by_square =
            load(d_joined + rows(2, a) + row_ + f) / load(kept.norm + rows(1, a) + f);
        for (int x = 0; x < 3; ++x) {
          const std::size_t at = rows(6, a) + 2 * x * row_ + f;
          const vec<real> v = load(kept.mixed + at), u = load(kept.mixed + at + row_);
          vec<real> by_u = by_product * v;
          if (dv != nullptr) {
            by_u += load(dv + rows(3, a) + x * row_ + f) * load(gates + row_);
          }
          store<real>(d_mixed + at, by_product * u + by_square * v);
          store<real>(d_mixed + at + row_, by_u);
        }
      }
    }
  }

  // The same for the messages; gradients by vectors go into another place, ``before``.
  void back_receive(std::size_t k, real* ds, const real* dv, real* before) {
    if (k == 0) {
      for_pairs(k, true, [&](int p, const real* w, const real* slope, const Slice& slice) {
        back_first_pair(p, w, slope, slice, ds, dv);
      });
      return;
    }
    Arena::Scope scope(arena_);
    real* d_context = zeros(rows(3));
    std::memcpy(before, dv, rows(3) * sizeof(real));
    for_pairs(k, true, [&](int p, const real* w, const real* slope, const Slice& slice) {
      back_pair(kept_[k], p, w, slope, slice, ds, dv, d_context, before);
    });
    const auto& layer = net_.layers[k];
    for_atoms([&](int first, int count, Arena& arena) {
      real* d_hidden = arena.take<real>(rows(1, count));
      layer.context_second.backward(count, d_context + rows(3, first), d_hidden);
      multiply(d_hidden, kept_[k].context_slope + rows(1, first), rows(1, count));
      layer.context_first.backward(count, d_hidden, ds + rows(1, first), true);
    });
  }

  // Without vectors before, and without gradients by contexts, which are constants.
  void back_first_pair(int p, const real* w, const real* slope, const Slice& slice,
                       const real* ds, const real* dv) {
    const std::size_t i = pairs_.i[p], j = pairs_.j[p];
    const real* unit = pairs_.unit + 3 * p;
    const real* context = kept_[0].context;
    vec<real> by_distance{}, by_unit[3] = {};
    for (int f = slice.first; f < slice.last; f += W) {
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
    slice.d_distance[p] += sum<real>(by_distance);
    for (int x = 0; x < 3; ++x) slice.d_unit[3 * p + x] += sum<real>(by_unit[x]);
  }

  void back_pair(const Kept& kept, int p, const real* w, const real* slope,
                 const Slice& slice, const real* ds, const real* dv, real* d_context,
                 real* before) {
    const std::size_t i = pairs_.i[p], j = pairs_.j[p];
    const real* unit = pairs_.unit + 3 * p;
    vec<real> by_distance{}, by_unit[3] = {};
    for (int f = slice.first; f < slice.last; f += W) {
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
    slice.d_distance[p] += sum<real>(by_distance);
    for (int x = 0; x < 3; ++x) slice.d_unit[3 * p + x] += sum<real>(by_unit[x]);
  }
};

template <class real>
std::unique_ptr<Pass<real>> PaiNN<real>::begin(Geometry<real>& geometry, Arena& arena,
                                               bool wants_vectors) const {
  return std::make_unique<PaiNNPass<real>>(*this, geometry, arena, wants_vectors);
}

}  // namespace molpool
