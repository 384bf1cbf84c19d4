// DimeNet++ backward: the gradient of all that ``dimenet_forward.h`` computes.
#pragma once

#include "dimenet_forward.h"

namespace molpool {

template <class real>
class DimeNetPass final : public DimeNetForward<real> {
 public:
  using DimeNetForward<real>::DimeNetForward;

  void backward(real* by_scalars) override {
    outputs_.backward(by_scalars);
    real* dm = arena_.template zeros<real>(rows());
    real* d_source = arena_.template take<real>(2 * rows());
    for (std::size_t k = kept_.size(); k-- > 0;) {
      in_blocks(edges_.n, [&](int first, int count) {
        back_collect(k + 1, first, count, dm);
        if (!keeps_) {
          send(k, first, count);
          change(k, first, count);
        }
        back_change(k, first, count, dm, d_source);
      });
      // ∂E/∂received stands where it stood, and ∂E/∂sent will
      arriving_.backward(k, kept_[k].received, kept_[k].sent);
      in_blocks(edges_.n, [&](int first, int count) {
        back_send(k, first, count, dm, d_source);
      });
    }
    in_blocks(edges_.n, [&](int first, int count) { back_collect(0, first, count, dm); });
    back_embed(dm);
    edges_.give(pairs_);
  }

 private:
  typedef DimeNetForward<real> Base;
  using typename Base::Kept;
  using Base::arena_, Base::arriving_, Base::bases_, Base::edges_, Base::kept_;
  using Base::messages_, Base::net_, Base::outputs_, Base::pairs_, Base::row_, Base::W;
  using Base::both_, Base::filter_, Base::filter_slope_, Base::hidden_, Base::other_;
  using Base::embed_slope_, Base::inner_slope_;
  using Base::change, Base::in_blocks, Base::keeps_, Base::make_filter, Base::overlap;
  using Base::rows, Base::send, Base::slope_at;

  void back_collect(std::size_t block, int first, int count, real* dm) {
    const auto& gate = net_.outputs[block].gate;
    make_filter(gate, first, count, bases_.radial, filter_);
    make_filter(gate, first, count, bases_.radial_slope, filter_slope_);
    for (int e = 0; e < count; ++e) {
      const real* of = outputs_.sums(block) + std::size_t(edges_.center[first + e]) * row_;
      const std::size_t at = std::size_t(first + e) * row_, here = std::size_t(e) * row_;
      for (int f = 0; f < row_; f += W) {
        add_to<real>(dm + at + f, load(of + f) * load(filter_ + here + f));
      }
      edges_.d_length[first + e] += overlap(of, messages_[block] + at, filter_slope_ + here);
    }
  }

  void back_send(std::size_t k, int first, int count, real* dm, real* d_source) {
    const auto& layer = net_.interactions[k];
    const Kept& kept = kept_[k];
    const std::size_t at = std::size_t(first) * row_;
    const std::size_t narrow = std::size_t(first) * layer.down.outputs();
    multiply(kept.sent + narrow, kept.down_slope + narrow,
             std::size_t(count) * layer.down.outputs());
    layer.down.backward(count, kept.sent + narrow, hidden_);
    make_filter(layer.radial, first, count, bases_.radial, filter_);
    make_filter(layer.radial, first, count, bases_.radial_slope, filter_slope_);
    for (int e = 0; e < count; ++e) {
      const std::size_t here = std::size_t(e) * row_;
      edges_.d_length[first + e] +=
          overlap(hidden_ + here, kept.other + at + here, filter_slope_ + here);
      for (int f = 0; f < row_; f += W) {
        const std::size_t to = 2 * (at + here) + row_ + f;
        const vec<real> by_other = load(hidden_ + here + f) * load(filter_ + here + f);
        store<real>(d_source + to, by_other * load(d_source + to));
      }
    }
    layer.source.backward(count, d_source + 2 * at, dm + at, true);
  }

  static void scaled(const real* x, const real* by, real* to, std::size_t count) {
    for (std::size_t f = 0; f < count; f += W) store<real>(to + f, load(x + f) * load(by + f));
  }

  // Of ``dm``, the gradient by the messages after the block, to that by those before, which
  // the skip connection gives; and to those by what was received and by ``source``.
  void back_change(std::size_t k, int first, int count, real* dm, real* d_source) {
    const auto& layer = net_.interactions[k];
    Kept& kept = kept_[k];
    const std::size_t at = std::size_t(first) * row_, size = std::size_t(count) * row_;
    const std::size_t slopes_at = slope_at(first);
    const auto residuals = [&](const auto& layers, const auto& slopes, real* dx) {
      for (std::size_t n = layers.size(); n-- > 0;) {
        scaled(dx, slopes[n].second + slopes_at, hidden_, size);
        layers[n].second.backward(count, hidden_, other_);
        multiply(other_, slopes[n].first + slopes_at, size);
        layers[n].first.backward(count, other_, dx, true);
      }
    };
    residuals(layer.after, kept.after, dm + at);
    scaled(dm + at, kept.skip_slope + slopes_at, hidden_, size);
    layer.skip.backward(count, hidden_, both_);
    residuals(layer.before, kept.before, both_);
    for (int e = 0; e < count; ++e) {
      const std::size_t here = std::size_t(e) * row_;
      const real* slope = kept.source_slope + 2 * (slopes_at + here);
      scaled(both_ + here, slope, d_source + 2 * (at + here), row_);
      // the other half waits for what arrives
      std::memcpy(d_source + 2 * (at + here) + row_, slope + row_, row_ * sizeof(real));
    }
    multiply(both_, kept.up_slope + slopes_at, size);
    layer.up.backward(count, both_, kept.received + std::size_t(first) * layer.up.inputs());
  }

  void back_embed(const real* dm) {
    in_blocks(pairs_.n_pairs, [&](int first, int count) {
      for (int p = 0; p < count; ++p) {
        const int edge = edges_.forward[first + p];
        const std::size_t there = std::size_t(edge) * row_;
        const std::size_t back = std::size_t(edges_.reverse[edge]) * row_;
        for (int f = 0; f < row_; f += W) {
          store<real>(hidden_ + std::size_t(p) * row_ + f,
                      load(dm + there + f) * load(embed_slope_ + there + f) +
                          load(dm + back + f) * load(embed_slope_ + back + f));
        }
      }
      net_.embed_inner.backward(count, hidden_, other_);
      const int stride = bases_.radial_stride;
      net_.radial.product(count, bases_.slope_of_pairs + std::size_t(first) * stride, stride,
                          filter_slope_, row_);
      for (int p = 0; p < count; ++p) {
        const std::size_t here = std::size_t(p) * row_, at = std::size_t(first + p) * row_;
        pairs_.d_distance[first + p] +=
            overlap(other_ + here, inner_slope_ + at, filter_slope_ + here);
      }
    });
  }
};

template <class real>
std::unique_ptr<Pass<real>> DimeNet<real>::begin(Geometry<real>& geometry, Arena& arena,
                                                 bool) const {
  return std::make_unique<DimeNetPass<real>>(*this, geometry, arena);
}

}  // namespace molpool
