// Filters of SchNet as functions of the distance.
#pragma once

#include <algorithm>

#include "filter_table.h"
#include "radial.h"

namespace molpool {

// W(r) = fc(r)·Lin₂(ssp(Lin₁ φ(r))) and dW/dr (Schütt et al. 2018, Sec. IV), the
// derivative carried along through both layers.
template <class real>
class FilterNetwork {
 public:
  static constexpr int AT_ONCE = 2 * TILE_ROWS;

  FilterNetwork(const Archive& archive, const std::string& name, const Radial<real>& radial,
                int width)
      : radial_(radial), width_(padded(width)), first_bias_(width_), second_bias_(width_) {
    const int n_rbf = radial.columns() - 1;
    first_ = layer(archive, name + ".first", n_rbf, n_rbf, width, first_bias_);
    second_ = layer(archive, name + ".second", width, width_, width, second_bias_);
  }

  // Numbers of scratch memory that ``at`` needs.
  std::size_t scratch() const {
    return std::size_t(AT_ONCE) * (2 * radial_.stride() + 4 * width_);
  }

  // Rows of filters at distances in Å, and of derivatives unless ``slopes`` is null.
  void at(int count, const real* distances, real* filters, real* slopes,
          real* scratch) const {
    for (int first = 0; first < count; first += AT_ONCE) {
      const int rows = std::min(AT_ONCE, count - first);
      const std::size_t to = std::size_t(first) * width_;
      block(rows, distances + first, filters + to, slopes ? slopes + to : nullptr, scratch);
    }
  }

 private:
  // Rows beyond the ``given`` inputs and outputs are zero.
  static Packed<real> layer(const Archive& archive, const std::string& name, int given,
                            int inputs, int outputs, Numbers<real>& bias_to) {
    const auto& weight = archive.array(name + ".weight", std::size_t(outputs) * given);
    const auto& bias = archive.array(name + ".bias", outputs);
    for (int n = 0; n < outputs; ++n) bias_to.data()[n] = static_cast<real>(bias[n]);
    return Packed<real>(inputs, padded(outputs), [&](int k, int n) {
      return k < given && n < outputs ? weight[std::size_t(n) * given + k] : 0.0;
    });
  }

  void block(int rows, const real* distances, real* filters, real* slopes,
             real* scratch) const {
    const int stride = radial_.stride();
    const std::size_t count = std::size_t(rows) * width_;
    real *basis = scratch, *turned = basis + std::size_t(rows) * stride;
    real *hidden = turned + std::size_t(rows) * stride, *slope = hidden + count;
    for (int p = 0; p < rows; ++p) {
      radial_.basis(distances[p], 1.0, 0.0, basis + p * stride, turned + p * stride);
    }
    first_.product(rows, basis, stride, hidden, width_, first_bias_.data());
    shifted_softplus(hidden, slope, count);
    second_.product(rows, hidden, width_, filters, width_, second_bias_.data());
    if (slopes != nullptr) {
      first_.product(rows, turned, stride, hidden, width_);
      multiply(hidden, slope, count);
      second_.product(rows, hidden, width_, slopes, width_);
    }
    for (int p = 0; p < rows; ++p) {
      double fc, dfc;
      radial_.envelope(distances[p], fc, dfc);
      const std::size_t row = std::size_t(p) * width_;
      for (int f = 0; f < width_; f += Vector<real>::width) {
        const vec<real> value = load(filters + row + f);
        store<real>(filters + row + f, value * real(fc));
        if (slopes == nullptr) continue;
        store<real>(slopes + row + f, value * real(dfc) + load(slopes + row + f) * real(fc));
      }
    }
  }

  const Radial<real>& radial_;
  int width_;
  Numbers<real> first_bias_, second_bias_;
  Packed<real> first_, second_;
};

}  // namespace molpool
