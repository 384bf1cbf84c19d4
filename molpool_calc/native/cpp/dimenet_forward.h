// DimeNet++ forward, with what the way back needs. Rows are the messages j → i of pairs in
// both directions, sorted by their center i.
//
// A block of rows goes through all layers of an interaction before the next one, so that
// what lies between the layers stays in the cache. Of each layer the slope of its
// activation is kept, unless there are so many rows that memory may not suffice: then the
// way back computes each block once more.
#pragma once

#include "arriving.h"
#include "dimenet_outputs.h"

namespace molpool {

template <class real>
class DimeNetForward : public Pass<real> {
 public:
  DimeNetForward(const DimeNet<real>& network, Geometry<real>& geometry, Arena& arena)
      : net_(network), pairs_(geometry), arena_(arena), edges_(geometry, arena),
        bases_(network.bases, geometry, edges_, arena), row_(network.row),
        outputs_(network, geometry.n_atoms, arena),
        arriving_(network, edges_, bases_, arena), kept_(network.interactions.size()),
        keeps_(edges_.n <= network.most_kept) {
    const std::size_t block = std::size_t(AT_ONCE) * row_;
    for (real** to : {&filter_, &filter_slope_, &hidden_, &other_}) {
      *to = arena.take<real>(block);
    }
    both_ = arena.take<real>(2 * block);
  }

  Features<real> forward() override {
    messages_.push_back(arena_.take<real>(rows()));
    embed();
    for (std::size_t k = 0; k < kept_.size(); ++k) {
      messages_.push_back(arena_.take<real>(rows()));
      prepare(k);
      in_blocks(edges_.n, [&](int first, int count) { send(k, first, count); });
      arriving_.forward(k, kept_[k].sent, kept_[k].received);
      in_blocks(edges_.n, [&](int first, int count) {
        change(k, first, count);
        collect(k + 1, first, count);
      });
    }
    return {outputs_.forward(), nullptr};
  }

 protected:
  // Rows at once: weights are read once for them, and they stay in the cache.
  static constexpr int AT_ONCE = 8 * TILE_ROWS;
  static constexpr int W = Vector<real>::width;

  struct Kept {
    real *sent, *received;       // of all rows
    real *other, *down_slope;    // of all rows, or those of one interaction for all
    // of all rows, or of one block
    real *source_slope, *up_slope, *skip_slope;
    std::vector<std::pair<real*, real*>> before, after;  // slopes of residual layers
  };

  // Where the slopes of a row begin.
  std::size_t slope_at(int row) const { return keeps_ ? std::size_t(row) * row_ : 0; }

  std::size_t rows() const { return std::size_t(edges_.n) * row_; }

  // Calls ``act(first, count)`` for parts of alike size.
  template <class Act>
  static void in_blocks(int n, const Act& act) {
    const int blocks = (n + AT_ONCE - 1) / AT_ONCE;
    for (int block = 0; block < blocks; ++block) {
      const int from = static_cast<int>(std::int64_t(n) * block / blocks);
      act(from, static_cast<int>(std::int64_t(n) * (block + 1) / blocks) - from);
    }
  }

  real overlap(const real* a, const real* b, const real* c) const {
    vec<real> total{};
    for (int f = 0; f < row_; f += W) total += load(a + f) * load(b + f) * load(c + f);
    return sum<real>(total);
  }

  void make_filter(const Packed<real>& of, int first, int count, const real* basis,
                   real* to) const {
    of.product(count, basis + std::size_t(first) * bases_.radial_stride,
               bases_.radial_stride, to, row_);
  }

  // Own messages, and what others get of them: silu(Lin(silu(Lin m) ⊙ filter)).
  void send(std::size_t k, int first, int count) {
    const auto& layer = net_.interactions[k];
    Kept& kept = kept_[k];
    const std::size_t at = std::size_t(first) * row_;
    layer.source.forward(count, messages_[k] + at, both_);
    silu(both_, kept.source_slope + 2 * slope_at(first), std::size_t(2 * count) * row_);
    make_filter(layer.radial, first, count, bases_.radial, filter_);
    for (int e = 0; e < count; ++e) {
      const std::size_t here = std::size_t(e) * row_;
      for (int f = 0; f < row_; f += W) {
        store<real>(messages_[k + 1] + at + here + f, load(both_ + 2 * here + f));
        const vec<real> other = load(both_ + 2 * here + row_ + f);
        store<real>(kept.other + at + here + f, other);
        store<real>(hidden_ + here + f, other * load(filter_ + here + f));
      }
    }
    const std::size_t narrow = std::size_t(first) * layer.down.outputs();
    layer.down.forward(count, hidden_, kept.sent + narrow);
    silu(kept.sent + narrow, kept.down_slope + narrow,
         std::size_t(count) * layer.down.outputs());
  }

  // x ← x + silu(y), with the slopes
  static void add_silu(real* x, real* y, real* slope, std::size_t count) {
    silu(y, slope, count);
    for (std::size_t f = 0; f < count; f += W) add_to<real>(x + f, load(y + f));
  }

  // The messages after the block, of what each received and its own.
  void change(std::size_t k, int first, int count) {
    const auto& layer = net_.interactions[k];
    Kept& kept = kept_[k];
    const std::size_t at = std::size_t(first) * row_, size = std::size_t(count) * row_;
    const std::size_t here = slope_at(first);
    real* m = messages_[k + 1] + at;
    layer.up.forward(count, kept.received + std::size_t(first) * layer.up.inputs(), hidden_);
    add_silu(m, hidden_, kept.up_slope + here, size);
    const auto residuals = [&](const auto& layers, const auto& slopes) {
      for (std::size_t n = 0; n < layers.size(); ++n) {
        layers[n].first.forward(count, m, hidden_);
        silu(hidden_, slopes[n].first + here, size);
        layers[n].second.forward(count, hidden_, other_);
        add_silu(m, other_, slopes[n].second + here, size);
      }
    };
    residuals(layer.before, kept.before);
    layer.skip.forward(count, m, hidden_);
    std::memcpy(m, messages_[k] + at, size * sizeof(real));
    add_silu(m, hidden_, kept.skip_slope + here, size);
    residuals(layer.after, kept.after);
  }

  const DimeNet<real>& net_;
  Geometry<real>& pairs_;
  Arena& arena_;
  DirectedEdges<real> edges_;
  const EdgeBases<real> bases_;
  const int row_;
  OutputPass<real> outputs_;
  Arriving<real> arriving_;
  std::vector<Kept> kept_;
  const bool keeps_;
  std::vector<real*> messages_;  // before each interaction and after the last, [edges row]
  real *inner_slope_ = nullptr, *embed_slope_ = nullptr;
  real *filter_, *filter_slope_, *hidden_, *other_, *both_;  // of a block

 private:
  void prepare(std::size_t k) {
    const auto& layer = net_.interactions[k];
    const std::size_t narrow = std::size_t(edges_.n) * layer.down.outputs();
    Kept& kept = kept_[k];
    if (keeps_ || k == 0) {
      const std::size_t count = keeps_ ? rows() : std::size_t(AT_ONCE) * row_;
      kept.other = arena_.take<real>(rows());
      kept.down_slope = arena_.take<real>(narrow);
      kept.source_slope = arena_.take<real>(2 * count);
      kept.up_slope = arena_.take<real>(count);
      kept.skip_slope = arena_.take<real>(count);
      for (auto* to : {&kept.before, &kept.after}) {
        to->resize(to == &kept.before ? layer.before.size() : layer.after.size());
        for (auto& slopes : *to) {
          slopes = {arena_.take<real>(count), arena_.take<real>(count)};
        }
      }
    } else {
      kept = kept_[0];
    }
    kept.sent = arena_.take<real>(narrow);
    kept.received = arena_.take<real>(narrow);
  }

  // Silu(Lin[x_i, x_j, silu(Lin rbf)]); the inner part is the same in both directions.
  void embed() {
    inner_slope_ = arena_.take<real>(std::size_t(pairs_.n_pairs) * row_);
    embed_slope_ = arena_.take<real>(rows());
    in_blocks(pairs_.n_pairs, [&](int first, int count) {
      net_.radial.product(count, bases_.of_pairs + std::size_t(first) * bases_.radial_stride,
                          bases_.radial_stride, hidden_, row_, net_.radial_bias.data());
      silu(hidden_, inner_slope_ + std::size_t(first) * row_, std::size_t(count) * row_);
      net_.embed_inner.forward(count, hidden_, other_);
      for (int p = 0; p < count; ++p) {
        const int there = edges_.forward[first + p];
        add_ends(there, other_ + std::size_t(p) * row_);
        add_ends(edges_.reverse[there], other_ + std::size_t(p) * row_);
      }
    });
    in_blocks(edges_.n, [&](int first, int count) {
      const std::size_t at = std::size_t(first) * row_;
      silu(messages_[0] + at, embed_slope_ + at, std::size_t(count) * row_);
      collect(0, first, count);
    });
  }

  void add_ends(int e, const real* of_distance) {
    const std::size_t i = pairs_.numbers[edges_.center[e]];
    const std::size_t j = pairs_.numbers[edges_.neighbor[e]];
    real* to = messages_[0] + std::size_t(e) * row_;
    for (int f = 0; f < row_; f += W) {
      const vec<real> ends =
          load(net_.center.data() + i * row_ + f) + load(net_.neighbor.data() + j * row_ + f);
      store<real>(to + f, load(of_distance + f) + ends);
    }
  }

  // Adds the gated messages to what their centers give out.
  void collect(std::size_t block, int first, int count) {
    make_filter(net_.outputs[block].gate, first, count, bases_.radial, filter_);
    for (int e = 0; e < count; ++e) {
      real* to = outputs_.sums(block) + std::size_t(edges_.center[first + e]) * row_;
      const real* from = messages_[block] + std::size_t(first + e) * row_;
      for (int f = 0; f < row_; f += W) {
        add_to<real>(to + f, load(from + f) * load(filter_ + std::size_t(e) * row_ + f));
      }
    }
  }
};

}  // namespace molpool
