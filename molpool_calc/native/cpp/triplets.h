// Triplets k → j → i of DimeNet, all of one middle atom j at a time (``networks.
// triplets``): what arrives at j, and what leaves it, are the pairs of j in both
// directions, so a triplet is a pair (a, b) of neighbors a = i and b = k of j.
//
//   received_a = Σ_b Σ_l P_l(cos α_ab) q_b,l
//
// Nothing with the number of triplets is kept: cosines and polynomials of one atom are made
// where they are used, which takes less than the products they enter.
#pragma once

#include <algorithm>

#include "geometry.h"
#include "linear.h"

namespace molpool {

// Pairs in both directions, those of one center in a row.
template <class real>
struct DirectedEdges {
  int n, n_atoms, most;  // edges, atoms, largest number of edges of an atom
  int* first;            // [atoms + 1] edges of a center
  int *center, *neighbor, *pair, *reverse;
  int* forward;  // [pairs] the edge from i
  real *unit[3], *length;      // from the center to the neighbor, Å
  real *d_unit[3], *d_length;  // ∂E/∂ of them

  DirectedEdges(const Geometry<real>& pairs, Arena& arena)
      : n(2 * pairs.n_pairs), n_atoms(pairs.n_atoms), most(0) {
    first = arena.zeros<int>(n_atoms + 1);
    for (int** to : {&center, &neighbor, &pair, &reverse}) *to = arena.take<int>(n);
    forward = arena.take<int>(pairs.n_pairs);
    for (int x = 0; x < 3; ++x) {
      unit[x] = arena.take<real>(n);
      d_unit[x] = arena.zeros<real>(n);
    }
    length = arena.take<real>(n);
    d_length = arena.zeros<real>(n);
    for (int p = 0; p < pairs.n_pairs; ++p) {
      ++first[pairs.i[p] + 1];
      ++first[pairs.j[p] + 1];
    }
    for (int a = 0; a < n_atoms; ++a) {
      most = std::max(most, first[a + 1]);
      first[a + 1] += first[a];
    }
    int* next = arena.take<int>(n_atoms);
    std::copy(first, first + n_atoms, next);
    for (int p = 0; p < pairs.n_pairs; ++p) {
      const int i = pairs.i[p], j = pairs.j[p];
      const int there = next[i]++, back = next[j]++;
      forward[p] = there;
      keep(pairs, p, there, i, j, real(1), back);
      keep(pairs, p, back, j, i, real(-1), there);
    }
  }

  // Adds the gradients to those of the pairs.
  void give(Geometry<real>& pairs) const {
    for (int p = 0; p < pairs.n_pairs; ++p) {
      const int there = forward[p], back = reverse[there];
      pairs.d_distance[p] += d_length[there] + d_length[back];
      for (int x = 0; x < 3; ++x) {
        pairs.d_unit[3 * p + x] += d_unit[x][there] - d_unit[x][back];
      }
    }
  }

 private:
  void keep(const Geometry<real>& pairs, int p, int e, int from, int to, real sign, int back) {
    center[e] = from;
    neighbor[e] = to;
    pair[e] = p;
    reverse[e] = back;
    length[e] = pairs.distance[p];
    for (int x = 0; x < 3; ++x) unit[x][e] = sign * pairs.unit[3 * p + x];
  }
};

// Angles of one middle atom, with the polynomials P_l as rows [a][l, b].
template <class real>
class Angles {
 public:
  // ``at_end``: α is the angle at i between j and k; else of ij with jk, 0 if straight.
  Angles(const DirectedEdges<real>& edges, int n_orders, bool at_end, Arena& arena)
      : edges_(edges), n_orders_(n_orders), at_end_(at_end), padded_(padded(edges.most)),
        stride_(padded(n_orders * edges.most) + LANES) {
    polynomials_ = arena.take<real>(std::size_t(edges.most) * stride_);
    place_ = arena.take<real>(padded_);
    length_ = arena.zeros<real>(padded_);
    d_length_ = arena.take<real>(padded_);
    for (int b = 0; b < padded_; ++b) place_[b] = static_cast<real>(b);
    for (int x = 0; x < 3; ++x) {
      unit_[x] = arena.take<real>(padded_);
      d_unit_[x] = arena.take<real>(padded_);
    }
  }

  int stride() const { return stride_; }
  const real* polynomials() const { return polynomials_; }

  void look_at(int atom) {
    first_ = edges_.first[atom];
    count_ = edges_.first[atom + 1] - first_;
    for (int x = 0; x < 3; ++x) copy(edges_.unit[x], unit_[x]);
    copy(edges_.length, length_);
    for (int a = 0; a < count_; ++a) legendre(a);
  }

  // Adds what follows from the gradient by the polynomials to that by the vectors.
  void turn(const real* gradient) {
    for (int x = 0; x < 3; ++x) std::memset(d_unit_[x], 0, padded_ * sizeof(real));
    std::memset(d_length_, 0, padded_ * sizeof(real));
    for (int a = 0; a < count_; ++a) turn(a, gradient + std::size_t(a) * stride_);
    for (int b = 0; b < count_; ++b) {
      for (int x = 0; x < 3; ++x) edges_.d_unit[x][first_ + b] += d_unit_[x][b];
      edges_.d_length[first_ + b] += d_length_[b];
    }
  }

 private:
  static constexpr int W = Vector<real>::width;

  struct Direction {
    vec<real> e[3], length;
  };

  void copy(const real* from, real* to) const {
    for (int b = 0; b < padded_; ++b) to[b] = b < count_ ? from[first_ + b] : real(0);
  }

  // From a to b, where they are not the same.
  Direction between(int a, int b) const {
    Direction to;
    vec<real> squared{};
    for (int x = 0; x < 3; ++x) {
      to.e[x] = load(length_ + b) * load(unit_[x] + b) - length_[a] * unit_[x][a];
      squared += to.e[x] * to.e[x];
    }
    squared = load(place_ + b) == real(a) ? real(1) + vec<real>{} : squared;
    to.length = root<real>(squared);
    for (int x = 0; x < 3; ++x) to.e[x] /= to.length;
    return to;
  }

  vec<real> cosine(int a, int b) const {
    vec<real> along{};
    if (at_end_) {
      const Direction to = between(a, b);
      for (int x = 0; x < 3; ++x) along += unit_[x][a] * to.e[x];
    } else {
      for (int x = 0; x < 3; ++x) along += unit_[x][a] * load(unit_[x] + b);
    }
    return -along;
  }

  // l P_l = (2l − 1) c P_{l−1} − (l − 1) P_{l−2}; zero for a = b, which would come straight
  // back. What stands behind the last neighbor is overwritten by the next order.
  void legendre(int a) {
    real* p = polynomials_ + std::size_t(a) * stride_;
    for (int b = 0; b < count_; b += W) {
      store<real>(p + b, load(place_ + b) == real(a) ? vec<real>{} : real(1) + vec<real>{});
    }
    for (int b = 0; b < count_; b += W) {
      store<real>(p + count_ + b, load(place_ + b) == real(a) ? vec<real>{} : cosine(a, b));
    }
    const real* c = p + count_;
    for (int l = 2; l < n_orders_; ++l) {
      real* to = p + l * count_;
      const real up = real(2 * l - 1) / real(l), down = real(l - 1) / real(l);
      for (int b = 0; b < count_; b += W) {
        store<real>(to + b, up * load(c + b) * load(to - count_ + b) -
                                down * load(to - 2 * count_ + b));
      }
    }
  }

  // Σ_l (∂E/∂P_l) P′_l with P′_l = P′_{l−2} + (2l − 1) P_{l−1}.
  vec<real> by_cosine(const real* p, const real* gradient, int b) const {
    vec<real> before{}, slope = load(p + b);
    vec<real> total = load(gradient + count_ + b) * slope;
    for (int l = 2; l < n_orders_; ++l) {
      const vec<real> next = before + real(2 * l - 1) * load(p + (l - 1) * count_ + b);
      total += load(gradient + l * count_ + b) * next;
      before = slope;
      slope = next;
    }
    return load(place_ + b) < real(count_) ? total : vec<real>{};
  }

  void turn(int a, const real* gradient) {
    const real* p = polynomials_ + std::size_t(a) * stride_;
    vec<real> of_unit[3] = {}, of_vector[3] = {};
    for (int b = 0; b < count_; b += W) {
      const vec<real> change = by_cosine(p, gradient, b);
      if (!at_end_) {
        for (int x = 0; x < 3; ++x) {
          add_to<real>(d_unit_[x] + b, -unit_[x][a] * change);
          of_unit[x] -= change * load(unit_[x] + b);
        }
        continue;
      }
      const Direction to = between(a, b);
      vec<real> along{}, stretch{};
      for (int x = 0; x < 3; ++x) along += unit_[x][a] * to.e[x];
      for (int x = 0; x < 3; ++x) {
        const vec<real> by_vector = change * (along * to.e[x] - unit_[x][a]) / to.length;
        of_unit[x] -= change * to.e[x];
        of_vector[x] -= by_vector;
        stretch += by_vector * load(unit_[x] + b);
        add_to<real>(d_unit_[x] + b, by_vector * load(length_ + b));
      }
      add_to<real>(d_length_ + b, stretch);
    }
    for (int x = 0; x < 3; ++x) {
      const real of = sum<real>(of_vector[x]);
      d_unit_[x][a] += sum<real>(of_unit[x]) + of * length_[a];
      d_length_[a] += of * unit_[x][a];
    }
  }

  const DirectedEdges<real>& edges_;
  const int n_orders_;
  const bool at_end_;
  const int padded_, stride_;
  int first_ = 0, count_ = 0;
  real *polynomials_, *place_, *unit_[3], *length_, *d_unit_[3], *d_length_;
};

}  // namespace molpool
