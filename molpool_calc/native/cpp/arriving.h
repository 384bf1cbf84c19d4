// The sum over triplets of DimeNet++ (see ``triplets.h``), forward and backward:
//
//   received_ij = Σ_k Σ_l P_l(cos α_ijk) q_jk,l    q_jk,l = t_jk ⊙ filter_l(d_jk)
//
// as one product for each middle atom j, with the neighbors i of j as rows.
#pragma once

#include "dimenet.h"
#include "triplets.h"

namespace molpool {

// Both bases of all pairs, in both directions.
template <class real>
struct EdgeBases {
  int radial_stride, spherical_stride;
  real *of_pairs, *slope_of_pairs;          // [pairs radial]
  real *radial, *radial_slope;              // [edges radial]
  real *spherical, *spherical_slope;        // [edges l·n]

  EdgeBases(const BesselBases<real>& bases, const Geometry<real>& pairs,
            const DirectedEdges<real>& edges, Arena& arena)
      : radial_stride(bases.radial_stride()), spherical_stride(bases.spherical_stride()) {
    const std::size_t r = radial_stride, s = spherical_stride, n = edges.n;
    for (real** to : {&of_pairs, &slope_of_pairs}) *to = arena.take<real>(pairs.n_pairs * r);
    for (real** to : {&radial, &radial_slope}) *to = arena.take<real>(n * r);
    for (real** to : {&spherical, &spherical_slope}) *to = arena.take<real>(n * s);
    for (int p = 0; p < pairs.n_pairs; ++p) {
      const std::size_t there = edges.forward[p], back = edges.reverse[there];
      bases.at(pairs.distance[p], radial + there * r, radial_slope + there * r,
               spherical + there * s, spherical_slope + there * s);
      for (real* of : {radial, radial_slope}) {
        std::memcpy(of + back * r, of + there * r, r * sizeof(real));
      }
      for (real* of : {spherical, spherical_slope}) {
        std::memcpy(of + back * s, of + there * s, s * sizeof(real));
      }
      std::memcpy(of_pairs + p * r, radial + there * r, r * sizeof(real));
      std::memcpy(slope_of_pairs + p * r, radial_slope + there * r, r * sizeof(real));
    }
  }
};

template <class real>
class Arriving {
 public:
  Arriving(const DimeNet<real>& network, DirectedEdges<real>& edges,
           const EdgeBases<real>& bases, Arena& arena)
      : net_(network), edges_(edges), bases_(bases),
        angles_(edges, network.n_orders, network.at_end, arena) {
    for (const auto& layer : network.interactions) {
      widest_ = std::max(widest_, layer.down.outputs());
    }
    const std::size_t most = edges.most, columns = most * network.n_orders;
    for (real** to : {&values_, &filters_, &filter_slopes_}) {
      *to = arena.take<real>(columns * widest_);
    }
    turned_ = arena.take<real>(std::size_t(widest_) * angles_.stride());
    d_polynomials_ = arena.take<real>(most * angles_.stride());
    rows_ = arena.take<real>(most * widest_);
  }

  // ``received`` of ``sent``, both [edges width of ``down``].
  void forward(std::size_t k, const real* sent, real* received) {
    const auto& layer = net_.interactions[k];
    const int width = layer.down.outputs(), orders = net_.n_orders;
    for (int j = 0; j < edges_.n_atoms; ++j) {
      const int first = edges_.first[j], count = edges_.first[j + 1] - first;
      angles_.look_at(j);
      make_filters(layer, first, count, bases_.spherical, values_);
      for (int l = 0; l < orders; ++l) {
        real* of = values_ + std::size_t(l) * count * width;
        multiply(of, sent + std::size_t(first) * width, std::size_t(count) * width);
      }
      const Steps steps = {orders * count, 1, angles_.stride(), width, width, false};
      multiply_rows(steps, count, width, angles_.polynomials(), values_, rows_);
      for (int a = 0; a < count; ++a) {
        std::memcpy(received + std::size_t(edges_.reverse[first + a]) * width,
                    rows_ + std::size_t(a) * width, width * sizeof(real));
      }
    }
  }

  // ``sent`` ← ∂E/∂sent of ``d_received``; adds to the gradients by the edges.
  void backward(std::size_t k, const real* d_received, real* sent) {
    const auto& layer = net_.interactions[k];
    const int width = layer.down.outputs(), orders = net_.n_orders;
    for (int j = 0; j < edges_.n_atoms; ++j) {
      const int first = edges_.first[j], count = edges_.first[j + 1] - first;
      for (int a = 0; a < count; ++a) {
        std::memcpy(rows_ + std::size_t(a) * width,
                    d_received + std::size_t(edges_.reverse[first + a]) * width,
                    width * sizeof(real));
      }
      angles_.look_at(j);
      make_filters(layer, first, count, bases_.spherical, filters_);
      make_filters(layer, first, count, bases_.spherical_slope, filter_slopes_);
      real* t = sent + std::size_t(first) * width;
      turn(count, width, t);
      const Steps steps = {count, angles_.stride(), 1, width, width, false};
      multiply_rows(steps, orders * count, width, angles_.polynomials(), rows_, values_);
      for (int b = 0; b < count; ++b) {
        edges_.d_length[first + b] += back_filter(b, count, width, t + std::size_t(b) * width);
      }
    }
  }

 private:
  static constexpr int W = Vector<real>::width;

  // [l, b, width]
  void make_filters(const Interaction<real>& layer, int first, int count, const real* basis,
                    real* to) const {
    const int stride = bases_.spherical_stride, width = layer.down.outputs();
    const int n_radial = net_.bases.n_radial();
    for (int l = 0; l < net_.n_orders; ++l) {
      layer.angular[l].product(count, basis + std::size_t(first) * stride + l * n_radial,
                               stride, to + std::size_t(l) * count * width, width);
    }
  }

  // ∂E/∂P_l = ⟨∂E/∂received_a, q_b,l⟩, and what follows for the directions.
  void turn(int count, int width, const real* t) {
    const int orders = net_.n_orders, stride = angles_.stride();
    for (int l = 0; l < orders; ++l) {
      for (int b = 0; b < count; ++b) {
        const real* of = filters_ + (std::size_t(l) * count + b) * width;
        real* to = turned_ + l * count + b;
        for (int f = 0; f < width; ++f) to[std::size_t(f) * stride] = of[f] * t[b * width + f];
      }
    }
    const Steps steps = {width, 1, width, stride, stride, false};
    multiply_rows(steps, count, padded(orders * count), rows_, turned_, d_polynomials_);
    angles_.turn(d_polynomials_);
  }

  // ``t`` ← ∂E/∂t_b of those by q_b,l in ``values_``; returns what follows for d_b.
  real back_filter(int b, int count, int width, real* t) const {
    vec<real> by_length{};
    for (int f = 0; f < width; f += W) {
      vec<real> by_sent{}, along{};
      for (int l = 0; l < net_.n_orders; ++l) {
        const std::size_t at = (std::size_t(l) * count + b) * width + f;
        by_sent += load(values_ + at) * load(filters_ + at);
        along += load(values_ + at) * load(filter_slopes_ + at);
      }
      by_length += along * load(t + f);
      store<real>(t + f, by_sent);
    }
    return sum<real>(by_length);
  }

  const DimeNet<real>& net_;
  DirectedEdges<real>& edges_;
  const EdgeBases<real>& bases_;
  Angles<real> angles_;
  int widest_ = 0;
  real *values_, *filters_, *filter_slopes_;  // [l, b, width] of the neighbors of an atom
  real *turned_, *d_polynomials_, *rows_;
};

}  // namespace molpool
