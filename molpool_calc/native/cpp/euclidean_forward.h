// The Euclidean transformer forward, with what the way back needs (``euclidean.h``).
#pragma once

#include <algorithm>

#include "euclidean_attention.h"

namespace molpool {

template <class real>
class EuclideanForward : public Pass<real> {
 public:
  EuclideanForward(const Euclidean<real>& network, Geometry<real>& geometry, Arena& arena)
      : net_(network), split_(network.split), harmonics_(network.harmonics),
        pairs_(geometry), arena_(arena), n_(geometry.n_atoms), row_(split_.row),
        components_(harmonics_.row()), kept_(network.layers.size()),
        keeps_filters_(geometry.n_pairs <= MOST_KEPT),
        step_(keeps_filters_ ? std::max(geometry.n_pairs, 1) : AT_ONCE) {
    const std::size_t filters = std::size_t(step_) * split_.filter_row();
    const std::size_t hidden = std::size_t(step_) * net_.layers[0].spherical_first.outputs();
    for (std::size_t k = 0; k < kept_.size(); ++k) {
      if (k > 0 && !keeps_filters_) {
        kept_[k].block = kept_[0].block;
        continue;
      }
      kept_[k].block = {take(filters), take(filters), take(hidden)};
    }
    d_filters_ = take(filters);
    scratch_ = take(net_.layers[0].filters.scratch());
    hidden_ = take(hidden);
    invariants_ = zeros(std::size_t(step_) * degree_row());
    d_invariants_ = take(std::size_t(step_) * degree_row());
    envelope_ = take(geometry.n_pairs);
    envelope_slope_ = take(geometry.n_pairs);
    for (int p = 0; p < geometry.n_pairs; ++p) {
      double value, slope;
      network.radial.envelope(geometry.distance[p], value, slope);
      envelope_[p] = static_cast<real>(value);
      envelope_slope_[p] = static_cast<real>(slope);
    }
  }

  Features<real> forward() override {
    scalars_ = net_.composition.features(pairs_.batch, pairs_.range, arena_);
    for (std::size_t k = 0; k < kept_.size(); ++k) {
      project(k);
      receive(k);
      update(k);
    }
    return {scalars_, nullptr};
  }

 protected:
  // Of few pairs filters are kept for the way back; of many they would fall out of the
  // cache, and making them anew takes less than reading them.
  static constexpr int MOST_KEPT = 400;
  static constexpr int AT_ONCE = 2 * TILE_ROWS;
  static constexpr int W = Vector<real>::width;

  // Of a normalization, or of the activations of a residual network.
  struct Norm {
    real *normal, *inverse;
  };
  struct Gates {
    real *outer, *inner;
  };
  // Rows of a block of pairs: filters, derivatives, slopes of the activation of MLP_s.
  struct Block {
    real *filters, *slopes, *gate;
  };
  struct Kept {
    Block block;               // one for all layers unless they are kept
    real* maps;                // [atoms map row]
    const real* before;        // χ before the attention; null for zeros
    real *euclidean, *gain;    // χ + Δχ; [a b] of the exchange
    Norm norm_1, norm_2;
    Gates residual_1, residual_2;
  };

  real* take(std::size_t count) { return arena_.take<real>(count); }
  real* zeros(std::size_t count) { return arena_.zeros<real>(count); }
  std::size_t rows(int width) const { return std::size_t(n_) * width; }
  int degree_row() const { return padded(harmonics_.n_degrees()); }

  PairView<real> view(std::size_t k, int first, int p) const {
    return {pairs_.i[first + p], pairs_.j[first + p], envelope_[first + p],
            pairs_.unit + 3 * (first + p),
            kept_[k].block.filters + std::size_t(p) * split_.filter_row()};
  }

  // Calls ``act(first, count)`` for blocks of pairs, whose filters stand in the block.
  template <class Act>
  void for_blocks(std::size_t k, bool on_the_way_back, const Act& act) {
    for (int first = 0; first < pairs_.n_pairs; first += step_) {
      const int count = std::min(step_, pairs_.n_pairs - first);
      if (!(keeps_filters_ && on_the_way_back)) {
        make_filters(k, first, count, keeps_filters_ || on_the_way_back);
      }
      act(first, count);
    }
  }

  void make_filters(std::size_t k, int first, int count, bool with_slopes) {
    const auto& layer = net_.layers[k];
    const Block& block = kept_[k].block;
    layer.filters.evaluate(count, pairs_.distance + first, block.filters,
                           with_slopes ? block.slopes : nullptr, scratch_);
    const real* euclidean = kept_[k].before;
    if (euclidean == nullptr) return;
    real difference[padded(24)];
    for (int p = 0; p < count; ++p) {
      const real* from = euclidean + std::size_t(pairs_.i[first + p]) * components_;
      const real* to = euclidean + std::size_t(pairs_.j[first + p]) * components_;
      for (int c = 0; c < components_; c += W) {
        store<real>(difference + c, load(to + c) - load(from + c));
      }
      harmonics_.invariants(difference, invariants_ + p * degree_row());
    }
    layer.spherical_first.forward(count, invariants_, hidden_);
    const int width = layer.spherical_first.outputs(), half = width / 2;
    silu(hidden_, block.gate, std::size_t(count) * width);
    for (int which = 0; which < 2; ++which) {
      layer.spherical_second[which].forward.product(
          count, hidden_ + which * half, width, block.filters + which * split_.columns(0),
          split_.filter_row(), nullptr, true);
    }
  }

 private:
  // Queries, keys and values.
  void project(std::size_t k) {
    real* maps = kept_[k].maps = take(rows(net_.map_row()));
    for (int which = 0; which < 2; ++which) {
      int at = which == 0 ? 0 : 3 * split_.columns(0);
      for (int h = 0; h < split_.count[which]; ++h) {
        const auto& map = net_.layers[k].maps[which][h].forward;
        map.product(n_, scalars_ + h * split_.width[which], row_, maps + at,
                    net_.map_row());
        at += map.outputs();
      }
    }
  }

  void receive(std::size_t k) {
    Kept& kept = kept_[k];
    kept.before = euclidean_;
    kept.euclidean = zeros(rows(components_));
    if (euclidean_ != nullptr) {
      std::memcpy(kept.euclidean, euclidean_, rows(components_) * sizeof(real));
    }
    const Arena::Scope scope(arena_);
    real* change = zeros(rows(split_.columns(0)));
    const Attention<real> attention(net_, kept.maps);
    for_blocks(k, false, [&](int first, int count) {
      for (int p = 0; p < count; ++p) {
        attention.receive(view(k, first, p), change, kept.euclidean);
      }
    });
    const int width = split_.width[0], padded = split_.padded_[0];
    for (int a = 0; a < n_; ++a) {
      for (int h = 0; h < split_.count[0]; ++h) {
        const real* from = change + (std::size_t(a) * split_.count[0] + h) * padded;
        real* to = scalars_ + std::size_t(a) * row_ + h * width;
        for (int f = 0; f < width; ++f) to[f] += from[f];
      }
    }
  }

  void update(std::size_t k) {
    Kept& kept = kept_[k];
    const auto& layer = net_.layers[k];
    normalize(layer.norm_1, kept.norm_1);
    refine(layer.residual_1, kept.residual_1);
    const int joined_row = row_ + degree_row();
    kept.gain = take(rows(joined_row));
    euclidean_ = take(rows(components_));
    exchange(layer, kept, joined_row);
    refine(layer.residual_2, kept.residual_2);
    normalize(layer.norm_2, kept.norm_2);
  }

  void exchange(const typename Euclidean<real>::Layer& layer, const Kept& kept,
                int joined_row) {
    const Arena::Scope scope(arena_);
    real* joined = take(rows(joined_row));
    for (int a = 0; a < n_; ++a) {
      real* to = joined + std::size_t(a) * joined_row;
      std::memcpy(to, scalars_ + std::size_t(a) * row_, row_ * sizeof(real));
      std::memset(to + row_, 0, degree_row() * sizeof(real));
      harmonics_.invariants(kept.euclidean + std::size_t(a) * components_, to + row_);
    }
    layer.exchange.forward(n_, joined, kept.gain);
    for (int a = 0; a < n_; ++a) {
      const real* gain = kept.gain + std::size_t(a) * joined_row;
      real* to = scalars_ + std::size_t(a) * row_;
      for (int f = 0; f < row_; f += W) add_to<real>(to + f, load(gain + f));
      const std::size_t at = std::size_t(a) * components_;
      for (int c = 0; c < components_; c += W) {
        const vec<real> of = harmonics_.spread(gain + row_, harmonics_.members(), c);
        store<real>(euclidean_ + at + c, load(kept.euclidean + at + c) * (real(1) + of));
      }
    }
  }

  void normalize(const LayerNorm<real>& norm, Norm& kept) {
    if (!norm.exists) return;
    kept = {take(rows(row_)), take(n_)};
    norm.forward(n_, scalars_, kept.normal, kept.inverse);
  }

  void refine(const ResidualMLP<real>& residual, Gates& kept) {
    if (!residual.exists) return;
    kept = {take(rows(row_)), take(rows(row_))};
    const Arena::Scope scope(arena_);
    real* inner = take(rows(row_));
    real* hidden = take(rows(row_));
    std::memcpy(inner, scalars_, rows(row_) * sizeof(real));
    silu(inner, kept.outer, rows(row_));
    residual.first.forward(n_, inner, hidden);
    silu(hidden, kept.inner, rows(row_));
    residual.second.forward(n_, hidden, inner);
    for (std::size_t k = 0; k < rows(row_); k += W) {
      add_to<real>(scalars_ + k, load(inner + k));
    }
  }

 protected:
  const Euclidean<real>& net_;
  const Split& split_;
  const Harmonics<real>& harmonics_;
  Geometry<real>& pairs_;
  Arena& arena_;
  const int n_, row_, components_;
  std::vector<Kept> kept_;
  const bool keeps_filters_;
  const int step_;  // pairs of a block
  // of a block of pairs
  real *d_filters_, *scratch_, *hidden_, *invariants_, *d_invariants_;
  real *envelope_, *envelope_slope_;
  real* scalars_ = nullptr;
  real* euclidean_ = nullptr;
};

}  // namespace molpool
