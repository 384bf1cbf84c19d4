// One pair of the Euclidean transformer, both directions at once; symbols as in
// ``euclidean.h``.
#pragma once

#include "euclidean.h"

namespace molpool {

// What of a pair and its atoms a visit reads; rows of the atoms begin at their own.
template <class real>
struct PairView {
  int i, j;
  real envelope;      // fc(d)
  const real* unit;
  const real* filters;  // [filter row]
};

template <class real>
class Attention {
 public:
  Attention(const Euclidean<real>& network, const real* maps)
      : net_(network), split_(network.split), maps_(maps), row_(network.map_row()),
        harmonics_(network.harmonics) {}

  // Adds to Δx [atoms columns of heads] and to χ [atoms components].
  void receive(const PairView<real>& pair, real* change, real* euclidean) const {
    const int padded = split_.padded_[0];
    const real scale = pair.envelope * real(net_.inverse_norms[0]);
    for (int h = 0; h < split_.count[0]; ++h) {
      const Ends at = ends(pair, 0, h);
      vec<real> ij{}, ji{};
      products(at, pair.filters + h * padded, padded, ij, ji);
      const vec<real> a_ij = total<real>(ij) * scale, a_ji = total<real>(ji) * scale;
      real* to_i = change + std::size_t(pair.i) * split_.columns(0) + h * padded;
      real* to_j = change + std::size_t(pair.j) * split_.columns(0) + h * padded;
      for (int f = 0; f < padded; f += W) {
        add_to<real>(to_i + f, a_ij * load(at.j + 2 * padded + f));
        add_to<real>(to_j + f, a_ji * load(at.i + 2 * padded + f));
      }
    }
    real b_ij[MAX_DEGREE], b_ji[MAX_DEGREE], y[MOST_COMPONENTS];
    for (int d = 0; d < split_.count[1]; ++d) degree_weights(pair, d, b_ij, b_ji);
    harmonics_.values(pair.unit, y);
    const int components = harmonics_.row();
    for (int c = 0; c < components; c += W) {
      const vec<real> value = load(y + c), turned = value * load(harmonics_.signs() + c);
      add_to<real>(euclidean + pair.i * components + c,
                   harmonics_.spread(b_ij, harmonics_.members(), c) * value);
      add_to<real>(euclidean + pair.j * components + c,
                   harmonics_.spread(b_ji, harmonics_.members(), c) * turned);
    }
  }

  // Where gradients by what a visit reads are summed up; ``maps`` may be null.
  struct Gradients {
    const real* change;     // ∂E/∂Δx
    const real* euclidean;  // ∂E/∂Δχ
    real* maps;             // [atoms map row]
    real* filters;          // [filter row], of this pair
    real* unit;             // [3], of this pair
    real envelope;          // of this pair
  };

  // Gradients by queries, keys, values, by the filters, fc and û.
  void give_back(const PairView<real>& pair, Gradients& by) const {
    const int padded = split_.padded_[0];
    by.envelope = 0;
    for (int h = 0; h < split_.count[0]; ++h) {
      const real* gi = by.change + std::size_t(pair.i) * split_.columns(0) + h * padded;
      const real* gj = by.change + std::size_t(pair.j) * split_.columns(0) + h * padded;
      const Ends at = ends(pair, 0, h);
      vec<real> ij{}, ji{}, by_ij{}, by_ji{};
      products(at, pair.filters + h * padded, padded, ij, ji);
      for (int f = 0; f < padded; f += W) {
        by_ij += load(gi + f) * load(at.j + 2 * padded + f);
        by_ji += load(gj + f) * load(at.i + 2 * padded + f);
      }
      const Weights w = {total<real>(ij), total<real>(ji), total<real>(by_ij),
                         total<real>(by_ji)};
      back_products(pair, 0, h, w, by);
      if (by.maps == nullptr) continue;
      const real scale = pair.envelope * real(net_.inverse_norms[0]);
      real* d_i = by.maps + at.from_i + 2 * padded;
      real* d_j = by.maps + at.from_j + 2 * padded;
      for (int f = 0; f < padded; f += W) {
        add_to<real>(d_j + f, w.ij * scale * load(gi + f));
        add_to<real>(d_i + f, w.ji * scale * load(gj + f));
      }
    }
    back_degrees(pair, by);
  }

 private:
  static constexpr int W = Vector<real>::width;
  static constexpr int MOST_COMPONENTS = padded(24);

  // Rows [q k v] of a head, or [q k] of a degree, of both atoms.
  struct Ends {
    std::size_t from_i, from_j;
    const real *i, *j;
  };

  Ends ends(const PairView<real>& pair, int which, int part) const {
    const int at = which == 0 ? 3 * part * split_.padded_[0]
                              : 3 * split_.columns(0) + 2 * part * split_.padded_[1];
    const std::size_t i = std::size_t(pair.i) * row_ + at, j = std::size_t(pair.j) * row_ + at;
    return {i, j, maps_ + i, maps_ + j};
  }

  // q_i w k_j and q_j w k_i, to be summed over lanes.
  static void products(const Ends& at, const real* w, int padded, vec<real>& ij,
                       vec<real>& ji) {
    for (int f = 0; f < padded; f += W) {
      const vec<real> filter = load(w + f);
      ij += load(at.i + f) * filter * load(at.j + padded + f);
      ji += load(at.j + f) * filter * load(at.i + padded + f);
    }
  }

  void degree_weights(const PairView<real>& pair, int d, real* b_ij, real* b_ji) const {
    const int padded = split_.padded_[1];
    const real scale = pair.envelope * real(net_.inverse_norms[1]);
    vec<real> ij{}, ji{};
    products(ends(pair, 1, d), pair.filters + split_.columns(0) + d * padded, padded, ij, ji);
    b_ij[d] = sum<real>(ij) * scale;
    b_ji[d] = sum<real>(ji) * scale;
  }

  // ⟨q, w, k⟩ of both directions, and the gradients by α = fc/N of them.
  struct Weights {
    vec<real> ij, ji, by_ij, by_ji;
  };

  void back_products(const PairView<real>& pair, int which, int part, const Weights& w,
                     Gradients& by) const {
    const int padded = split_.padded_[which];
    const int at_filter = which * split_.columns(0) + part * padded;
    const real norm = static_cast<real>(net_.inverse_norms[which]);
    const Ends at = ends(pair, which, part);
    by.envelope += (w.by_ij * w.ij + w.by_ji * w.ji)[0] * norm;
    const vec<real> e_ij = w.by_ij * (pair.envelope * norm);
    const vec<real> e_ji = w.by_ji * (pair.envelope * norm);
    for (int f = 0; f < padded; f += W) {
      const vec<real> qi = load(at.i + f), ki = load(at.i + padded + f);
      const vec<real> qj = load(at.j + f), kj = load(at.j + padded + f);
      store<real>(by.filters + at_filter + f, e_ij * qi * kj + e_ji * qj * ki);
      if (by.maps == nullptr) continue;
      const vec<real> filter = load(pair.filters + at_filter + f);
      const vec<real> w_ij = e_ij * filter, w_ji = e_ji * filter;
      real *d_i = by.maps + at.from_i + f, *d_j = by.maps + at.from_j + f;
      add_to<real>(d_i, w_ij * kj);
      add_to<real>(d_j + padded, w_ij * qi);
      add_to<real>(d_j, w_ji * ki);
      add_to<real>(d_i + padded, w_ji * qj);
    }
  }

  void back_degrees(const PairView<real>& pair, Gradients& by) const {
    const int components = harmonics_.row(), padded = split_.padded_[1];
    real y[MOST_COMPONENTS], along_i[MOST_COMPONENTS], along_j[MOST_COMPONENTS];
    real by_y[MOST_COMPONENTS], b_ij[MAX_DEGREE], b_ji[MAX_DEGREE];
    const real* gi = by.euclidean + pair.i * components;
    const real* gj = by.euclidean + pair.j * components;
    harmonics_.values(pair.unit, y);
    for (int c = 0; c < components; c += W) {
      const vec<real> value = load(y + c);
      store<real>(along_i + c, value * load(gi + c));
      store<real>(along_j + c, value * load(harmonics_.signs() + c) * load(gj + c));
    }
    const real scale = pair.envelope * real(net_.inverse_norms[1]);
    for (int d = 0; d < split_.count[1]; ++d) {
      vec<real> ij{}, ji{}, by_ij{}, by_ji{};
      products(ends(pair, 1, d), pair.filters + split_.columns(0) + d * padded, padded, ij,
               ji);
      for (int c = 0; c < components; c += W) {
        const vec<real> member = load(harmonics_.members(d) + c);
        by_ij += member * load(along_i + c);
        by_ji += member * load(along_j + c);
      }
      const Weights w = {total<real>(ij), total<real>(ji), total<real>(by_ij),
                         total<real>(by_ji)};
      back_products(pair, 1, d, w, by);
      b_ij[d] = w.ij[0] * scale;
      b_ji[d] = w.ji[0] * scale;
    }
    for (int c = 0; c < components; c += W) {
      const vec<real> of_i = harmonics_.spread(b_ij, harmonics_.members(), c);
      const vec<real> of_j = harmonics_.spread(b_ji, harmonics_.members(), c);
      store<real>(by_y + c, of_i * load(gi + c) +
                                of_j * load(harmonics_.signs() + c) * load(gj + c));
    }
    harmonics_.gradient(pair.unit, by_y, by.unit);
  }

  const Euclidean<real>& net_;
  const Split& split_;
  const real* maps_;
  const int row_;
  const Harmonics<real>& harmonics_;
};

}  // namespace molpool
