// Attention-based pooling (Buterez et al., Commun. Chem. 2023; blocks of Lee et al., ICML
// 2019), as ``poolings.attention`` writes it, with its gradient.
//
//   o_h = q_h + softmax(q_h k_hᵀ/√d) v_h     of each head h, d the width of all heads
//   out = o + act(Lin o)                     with layer norms of o and out, if any
#pragma once

#include <limits>

#include "poolings.h"

namespace molpool {

// Each head is padded on its own, so that it begins at a vector.
struct Heads {
  int count, width;  // width of one

  int stride() const { return padded(width); }
  int row() const { return count * stride(); }
  Parts parts(int times = 1) const { return Parts::alike(times * count, width); }
  bool is_filled(int at) const { return at % stride() < width; }
};

// y = w ⊙ x̂ + b with x̂ = (x − mean)/√(variance + 10⁻⁵); padding stays zero.
template <class real>
class HeadNorm {
 public:
  HeadNorm(const Archive& archive, const std::string& name, Heads heads)
      : size_(heads.count * heads.width), row_(heads.row()), weight_(row_), bias_(row_),
        filled_(row_) {
    const auto &weight = archive.array(name + ".weight", size_),
               &bias = archive.array(name + ".bias", size_);
    for (int f = 0, k = 0; f < row_; ++f) {
      if (!heads.is_filled(f)) continue;
      filled_.data()[f] = 1;
      weight_.data()[f] = static_cast<real>(weight[k]);
      bias_.data()[f] = static_cast<real>(bias[k++]);
    }
  }

  Backward<real> apply(int n, const real* x, real* y, Arena& arena) const {
    real* normal = arena.take<real>(std::size_t(n) * row_);
    real* inverse = arena.take<real>(n);
    for (int a = 0; a < n; ++a) {
      const std::size_t at = std::size_t(a) * row_;
      vec<real> total{}, squares{};
      for (int f = 0; f < row_; f += W) total += load(x + at + f);
      const real mean = sum<real>(total) / size_;
      for (int f = 0; f < row_; f += W) {
        const vec<real> off = (load(x + at + f) - mean) * load(filled_.data() + f);
        store<real>(normal + at + f, off);
        squares += off * off;
      }
      inverse[a] = real(1) / std::sqrt(sum<real>(squares) / size_ + real(1e-5));
      for (int f = 0; f < row_; f += W) {
        const vec<real> scaled = load(normal + at + f) * inverse[a];
        store<real>(normal + at + f, scaled);
        store<real>(y + at + f, scaled * load(weight_.data() + f) + load(bias_.data() + f));
      }
    }
    return [this, n, normal, inverse](const real* by_y, real* by_x) {
      for (int a = 0; a < n; ++a) {
        const std::size_t at = std::size_t(a) * row_;
        vec<real> along{}, total{};
        for (int f = 0; f < row_; f += W) {
          const vec<real> by_normal = load(by_y + at + f) * load(weight_.data() + f);
          total += by_normal;
          along += by_normal * load(normal + at + f);
        }
        const real mean = sum<real>(total) / size_, turned = sum<real>(along) / size_;
        for (int f = 0; f < row_; f += W) {
          const vec<real> by_normal = load(by_y + at + f) * load(weight_.data() + f);
          const vec<real> rest = by_normal - mean - load(normal + at + f) * turned;
          add_to<real>(by_x + at + f, inverse[a] * rest * load(filled_.data() + f));
        }
      }
    };
  }

 private:
  static constexpr int W = Vector<real>::width;
  int size_, row_;
  Numbers<real> weight_, bias_, filled_;
};

// Queries, keys and values, or gradients by them, with rows of the heads.
template <class real>
struct Attended {
  real *query, *key, *value;
  int query_stride, stride;  // numbers from one row to the next; of keys and of values
};

template <class real>
class AttentionBlock {
 public:
  AttentionBlock(const Archive& archive, const std::string& name, Heads heads,
                 Activation activation)
      : heads_(heads), scale_(1.0 / std::sqrt(double(heads.count) * heads.width)),
        activation_(activation), mix_(archive, name + ".mix", heads.parts(), heads.parts()) {
    if (!archive.has(name + ".norms.0.weight")) return;
    for (const char* which : {".norms.0", ".norms.1"}) {
      norms_.emplace_back(archive, name + which, heads);
    }
  }

  // The way back adds to all of ``Attended``, but not to queries that are null.
  using Back = std::function<void(const real* by_out, Attended<real> by)>;

  // ``weights`` of the rows, unless null: how much is looked at each, on average.
  Back apply(int n_queries, int n, Attended<real> in, real* out, real* weights,
             Arena& arena) const {
    const std::size_t count = std::size_t(n_queries) * heads_.row();
    real* looks = arena.take<real>(std::size_t(heads_.count) * n_queries * padded(n));
    real *joined = arena.take<real>(count), *slope = arena.take<real>(count);
    for (int h = 0; h < heads_.count; ++h) {
      for (int i = 0; i < n_queries; ++i) attend(h, i, n_queries, n, in, looks, joined);
    }
    if (weights != nullptr) average(heads_.count * n_queries, n, looks, weights);
    Backward<real> first, second;
    real *before = joined, *summed = out;
    if (!norms_.empty()) {
      before = arena.take<real>(count);
      summed = arena.take<real>(count);
      first = norms_[0].apply(n_queries, joined, before, arena);
    }
    mix_.forward(n_queries, before, summed);
    activate(activation_, summed, slope, count);
    for (std::size_t f = 0; f < count; f += W) add_to<real>(summed + f, load(before + f));
    if (!norms_.empty()) second = norms_[1].apply(n_queries, summed, out, arena);
    return [=, &arena](const real* by_out, Attended<real> by) {
      Arena::Scope scope(arena);
      real* by_joined = arena.zeros<real>(count);
      if (second) {
        real* by_sum = arena.zeros<real>(count);
        second(by_out, by_sum);
        by_out = by_sum;
      }
      real *by_mixed = arena.take<real>(count), *by_before = arena.take<real>(count);
      std::memcpy(by_mixed, by_out, count * sizeof(real));
      std::memcpy(by_before, by_out, count * sizeof(real));
      multiply(by_mixed, slope, count);
      mix_.backward(n_queries, by_mixed, by_before, true);
      if (first) first(by_before, by_joined);
      const real* given = first ? by_joined : by_before;
      real* by_scores = arena.take<real>(n);
      for (int h = 0; h < heads_.count; ++h) {
        for (int i = 0; i < n_queries; ++i) {
          const std::size_t row = std::size_t(h) * n_queries + i;
          look_back(h, i, n, in, looks + row * padded(n), given, by, by_scores);
        }
      }
    };
  }

 private:
  static constexpr int W = Vector<real>::width;

  real product(const real* a, const real* b) const {
    vec<real> total{};
    for (int f = 0; f < heads_.stride(); f += W) total += load(a + f) * load(b + f);
    return sum<real>(total);
  }

  static void average(int count, int n, const real* looks, real* weights) {
    std::fill(weights, weights + n, real(0));
    for (int k = 0; k < count; ++k) {
      for (int j = 0; j < n; ++j) weights[j] += looks[std::size_t(k) * padded(n) + j] / count;
    }
  }

  // How much query i looks at each key, and what it sees.
  void attend(int h, int i, int n_queries, int n, const Attended<real>& in, real* looks,
              real* out) const {
    const int length = padded(n), at = h * heads_.stride();
    real* w = looks + (std::size_t(h) * n_queries + i) * length;
    const real* query = in.query + std::size_t(i) * in.query_stride + at;
    constexpr real NOTHING = -std::numeric_limits<real>::infinity();
    real largest = NOTHING;
    for (int j = 0; j < n; ++j) {
      w[j] = scale_ * product(query, in.key + std::size_t(j) * in.stride + at);
      largest = std::max(largest, w[j]);
    }
    std::fill(w + n, w + length, NOTHING);
    vec<real> total{};
    for (int j = 0; j < length; j += W) {
      const vec<real> power = exponential<real>(load(w + j) - largest);
      store<real>(w + j, power);
      total += power;
    }
    const real inverse = real(1) / sum<real>(total);
    for (int j = 0; j < n; ++j) w[j] *= inverse;
    real* to = out + std::size_t(i) * heads_.row() + at;
    for (int f = 0; f < heads_.stride(); f += W) {
      vec<real> seen = load(query + f);
      for (int j = 0; j < n; ++j) {
        seen += w[j] * load(in.value + std::size_t(j) * in.stride + at + f);
      }
      store<real>(to + f, seen);
    }
  }

  void look_back(int h, int i, int n, const Attended<real>& in, const real* w,
                 const real* by_joined, const Attended<real>& by, real* by_scores) const {
    const int at = h * heads_.stride();
    const real* given = by_joined + std::size_t(i) * heads_.row() + at;
    const real* query = in.query + std::size_t(i) * in.query_stride + at;
    real mean = 0;
    for (int j = 0; j < n; ++j) {
      by_scores[j] = product(given, in.value + std::size_t(j) * in.stride + at);
      mean += w[j] * by_scores[j];
    }
    for (int j = 0; j < n; ++j) by_scores[j] = scale_ * w[j] * (by_scores[j] - mean);
    for (int f = 0; f < heads_.stride(); f += W) {
      vec<real> by_query = load(given + f);
      for (int j = 0; j < n; ++j) {
        const std::size_t place = std::size_t(j) * in.stride + at + f;
        by_query += by_scores[j] * load(in.key + place);
        add_to<real>(by.key + place, by_scores[j] * load(query + f));
        add_to<real>(by.value + place, w[j] * load(given + f));
      }
      if (by.query == nullptr) continue;
      add_to<real>(by.query + std::size_t(i) * by.query_stride + at + f, by_query);
    }
  }

  Heads heads_;
  real scale_;
  Activation activation_;
  Linear<real> mix_;
  std::vector<HeadNorm<real>> norms_;
};

}  // namespace molpool
