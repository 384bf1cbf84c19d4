// Filters of the distance of the Euclidean transformer: computed, or read from a table.
#pragma once

#include "euclidean_filters.h"
#include "filter_table.h"

namespace molpool {

// Both filters of a layer: by a table in float32, where that is as exact, else by MLP_r.
template <class real>
class DistanceFilters {
 public:
  DistanceFilters(const Archive& archive, int layer, const Split& split, const double* shift)
      : width_(split.filter_row()), mlp_(archive, layer, split, shift) {
    if (sizeof(real) != sizeof(float)) return;
    const RadialMLP<double> exact(archive, layer, split, shift);
    const double cutoff = exact.radial().cutoff();
    nearest_ = NEAREST * cutoff;
    std::vector<double> scratch(exact.scratch());
    table_ = FilterTable<real>(
        width_, nearest_, cutoff,
        [&](int count, const double* distances, double* values, double* slopes) {
          exact.evaluate(count, distances, values, slopes, scratch.data());
        });
  }

  // Numbers of memory that ``evaluate`` needs.
  std::size_t scratch() const { return mlp_.scratch(); }

  // Filters [count, filter row] and, unless null, their derivatives.
  void evaluate(int count, const real* distance, real* values, real* slopes,
                real* scratch) const {
    if (!table_) {
      mlp_.evaluate(count, distance, values, slopes, scratch);
      return;
    }
    for (int p = 0; p < count; ++p) {
      const std::size_t at = std::size_t(p) * width_;
      real* slope = slopes == nullptr ? nullptr : slopes + at;
      if (distance[p] < nearest_) {
        mlp_.evaluate(1, distance + p, values + at, slope, scratch);
      } else {
        read(table_.at(distance[p]), values + at, slope);
      }
    }
  }

 private:
  // Of the cutoff: nearer than any two atoms are, some radial functions are too steep.
  static constexpr double NEAREST = 0.05;

  void read(const typename FilterTable<real>::Row& row, real* values, real* slopes) const {
    constexpr int W = Vector<real>::width;
    for (int f = 0; f < width_; f += W) {
      if (slopes == nullptr) {
        store<real>(values + f, row.value(f));
        continue;
      }
      vec<real> value, slope;
      row.both(f, value, slope);
      store<real>(values + f, value);
      store<real>(slopes + f, slope);
    }
  }

  int width_;
  double nearest_ = 0.0;
  RadialMLP<real> mlp_;
  FilterTable<real> table_;
};

}  // namespace molpool
