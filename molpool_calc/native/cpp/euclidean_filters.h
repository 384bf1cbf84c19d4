// Filters of the Euclidean transformer that depend on the distance.
//
// Both filters of a layer, MLP_r(φ(d)) + shift (``networks.euclidean_layers``), one
// beside the other in a row.
#pragma once

#include <algorithm>

#include "radial.h"

namespace molpool {

// How features are split among heads and among degrees. Each part is padded on its own.
struct Split {
  int features, row;        // F, and from one atom to the next
  int count[2];             // heads; degrees
  int width[2], padded_[2];  // of a head; of a degree

  Split(int n_features, int n_heads, int n_degrees)
      : features(n_features), row(padded(n_features)), count{n_heads, n_degrees},
        width{n_features / n_heads, n_features / n_degrees},
        padded_{padded(width[0]), padded(width[1])} {}

  // Columns of the filter of the heads (0) or of the degrees (1).
  int columns(int which) const { return count[which] * padded_[which]; }
  int filter_row() const { return columns(0) + columns(1); }
  // The feature of a column, −1 for padding.
  int feature(int which, int column) const {
    const int part = column / padded_[which], within = column % padded_[which];
    return within < width[which] ? part * width[which] + within : -1;
  }
};

// MLP_r with its products, to rounding.
template <class real>
class RadialMLP {
 public:
  // ``shift`` [filter row] is added.
  RadialMLP(const Archive& archive, int layer, const Split& split, const double* shift)
      : split_(split), radial_(archive, "basis"), n_rbf_(radial_.columns() - 1) {
    const std::size_t width = split.features, first = std::size_t(2) * layer * width;
    const auto& weight = archive.array("radial.first.weight");
    const auto& bias = archive.array("radial.first.bias", weight.size() / n_rbf_);
    first_ = Packed<real>(n_rbf_, 2 * split.row, [&](int from, int to) {
      const std::size_t f = to % split.row, at = first + to / split.row * width + f;
      return f < width ? weight[at * n_rbf_ + from] : 0.0;
    });
    first_bias_ = Numbers<real>(2 * split.row);
    second_bias_ = Numbers<real>(split.filter_row());
    const auto& matrices = archive.array("radial.second", bias.size() * width);
    const auto& own = archive.array("radial.bias", bias.size());
    for (int which = 0; which < 2; ++which) {
      const std::size_t before = first + which * width;
      for (std::size_t f = 0; f < width; ++f) {
        first_bias_.data()[which * split.row + f] = static_cast<real>(bias[before + f]);
      }
      second_[which] =
          Packed<real>(split.features, split.columns(which), [&](int from, int to) {
            const int f = split.feature(which, to);
            return f < 0 ? 0.0 : matrices[(before + from) * width + f];
          });
      for (int column = 0; column < split.columns(which); ++column) {
        const int f = split.feature(which, column), at = which * split.columns(0) + column;
        const double bias = f < 0 ? 0.0 : own[before + f] + shift[at];
        second_bias_.data()[at] = static_cast<real>(bias);
      }
    }
  }

  const Radial<real>& radial() const { return radial_; }
  int n_rbf() const { return n_rbf_; }
  // Numbers of memory that ``evaluate`` needs.
  std::size_t scratch() const {
    return std::size_t(AT_ONCE) * (2 * radial_.stride() + 6 * split_.row);
  }

  // Filters [count, filter row] and, unless null, their derivatives.
  void evaluate(int count, const real* distance, real* values, real* slopes,
                real* scratch) const {
    for (int first = 0; first < count; first += AT_ONCE) {
      const std::size_t at = std::size_t(first) * split_.filter_row();
      block(std::min(AT_ONCE, count - first), distance + first, values + at,
            slopes == nullptr ? nullptr : slopes + at, scratch);
    }
  }

 private:
  static constexpr int AT_ONCE = 2 * TILE_ROWS;

  void block(int count, const real* distance, real* values, real* slopes,
             real* scratch) const {
    const int stride = radial_.stride(), row = 2 * split_.row;
    real* basis = scratch;
    real* by_distance = basis + std::size_t(count) * stride;
    real* hidden = by_distance + std::size_t(count) * stride;
    real* gate = hidden + std::size_t(count) * row;
    real* tangent = gate + std::size_t(count) * row;
    for (int p = 0; p < count; ++p) {
      radial_.basis(distance[p], 1.0, 0.0, basis + p * stride, by_distance + p * stride);
    }
    first_.product(count, basis, stride, hidden, row, first_bias_.data());
    silu(hidden, gate, std::size_t(count) * row);
    outer(count, hidden, values, second_bias_.data());
    if (slopes == nullptr) return;
    first_.product(count, by_distance, stride, tangent, row);
    multiply(tangent, gate, std::size_t(count) * row);
    outer(count, tangent, slopes, nullptr);
  }

  void outer(int count, const real* hidden, real* to, const real* bias) const {
    for (int which = 0; which < 2; ++which) {
      const int at = which * split_.columns(0);
      second_[which].product(count, hidden + which * split_.row, 2 * split_.row, to + at,
                             split_.filter_row(), bias == nullptr ? nullptr : bias + at);
    }
  }

  Split split_;
  Radial<real> radial_;
  int n_rbf_;
  Packed<real> first_, second_[2];
  Numbers<real> first_bias_, second_bias_;
};

}  // namespace molpool
