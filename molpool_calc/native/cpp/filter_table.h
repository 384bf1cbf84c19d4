// Functions of the distance by tables of polynomials.
#pragma once

#include <algorithm>
#include <cmath>

#include "vectors.h"

namespace molpool {

// Filters as polynomials of the fifth degree in intervals of the distance, fitted in
// float64 and so fine that they deviate by less than float32 rounds: then reading them
// takes a twentieth of the time of computing them. (Lu et al., J. Chem. Theory Comput.
// 2022, 18, 5559, tabulate the embedding of Deep Potential so.)
template <class real>
class FilterTable {
 public:
  static constexpr int TERMS = 6;

  // Coefficients of a filter at one distance.
  struct Row {
    const real* coefficients;
    real t, per_angstrom;

    vec<real> value(int f) const {
      const real* c = coefficients + std::size_t(f) * TERMS;
      vec<real> sum = load(c + (TERMS - 1) * W);
#pragma GCC unroll 5
      for (int k = TERMS - 2; k >= 0; --k) sum = sum * t + load(c + k * W);
      return sum;
    }

    void both(int f, vec<real>& value, vec<real>& slope) const {
      const real* c = coefficients + std::size_t(f) * TERMS;
      vec<real> sum = load(c + (TERMS - 1) * W), turned{};
#pragma GCC unroll 5
      for (int k = TERMS - 2; k >= 0; --k) {
        turned = turned * t + sum;
        sum = sum * t + load(c + k * W);
      }
      value = sum;
      slope = turned * per_angstrom;
    }
  };

  FilterTable() = default;

  // ``at(count, distances, values, slopes)`` gives rows of ``width`` numbers; the table
  // holds from the distance ``nearest`` to the cutoff.
  template <class At>
  FilterTable(int width, double nearest, double cutoff, const At& at)
      : width_(width), nearest_(nearest) {
    for (int count = FEWEST; count <= MOST; count *= 2) {
      if (fit(count, cutoff - nearest, at)) return;
    }
    count_ = 0;
  }

  // Whether a table as exact as float32 was found.
  explicit operator bool() const { return count_ > 0; }

  Row at(real distance) const {
    const double place = (distance - nearest_) * per_angstrom_;
    const int k = std::min(static_cast<int>(place), count_ - 1);
    return {coefficients_.data() + std::size_t(k) * width_ * TERMS,
            static_cast<real>(2.0 * (place - k) - 1.0),
            static_cast<real>(2.0 * per_angstrom_)};
  }

 private:
  static constexpr int W = Vector<real>::width;
  static constexpr int FEWEST = 32, MOST = 1024;
  static constexpr int NODES = TERMS + 3;
  static constexpr double ROUNDING = 6e-8;  // 2⁻²⁴, of the largest filter or derivative

  template <class At>
  bool fit(int count, double reach, const At& at) {
    count_ = count;
    per_angstrom_ = count / reach;
    coefficients_ = Numbers<real>(std::size_t(count) * width_ * TERMS);
    double nodes[NODES] = {0, 0, 0, 0, 0, 0, -0.99, 0.0, 0.99};  // the last to check
    for (int k = 0; k < TERMS; ++k) nodes[k] = std::cos(M_PI * (2 * k + 1) / (2 * TERMS));
    const std::vector<double> matrix = powers_of_values();
    std::vector<double> values(NODES * std::size_t(width_)), slopes(values.size());
    Deviation deviation;
    for (int interval = 0; interval < count; ++interval) {
      double distances[NODES];
      for (int k = 0; k < NODES; ++k) {
        distances[k] = nearest_ + (interval + 0.5 + 0.5 * nodes[k]) / per_angstrom_;
      }
      at(NODES, distances, values.data(), slopes.data());
      for (int f = 0; f < width_; ++f) {
        double c[TERMS] = {};
        for (int m = 0; m < TERMS * TERMS; ++m) {
          c[m / TERMS] += matrix[m] * values[m % TERMS * width_ + f];
        }
        keep(interval, f, c);
        for (int k = TERMS; k < NODES; ++k) {
          deviation.see(c, nodes[k], values[k * width_ + f],
                        slopes[k * width_ + f] / (2.0 * per_angstrom_));
        }
      }
    }
    return deviation.is_rounding();
  }

  // Of what is fitted from what is true, values and derivatives by t.
  struct Deviation {
    double largest[2] = {0.0, 0.0}, off[2] = {0.0, 0.0};

    void see(const double* c, double t, double value, double slope) {
      double sum = 0.0, turned = 0.0;
      for (int m = TERMS - 1; m >= 0; --m) {
        turned = turned * t + sum;
        sum = sum * t + c[m];
      }
      const double right[2] = {value, slope}, fitted[2] = {sum, turned};
      for (int x = 0; x < 2; ++x) {
        largest[x] = std::max(largest[x], std::abs(right[x]));
        off[x] = std::max(off[x], std::abs(right[x] - fitted[x]));
      }
    }

    bool is_rounding() const {
      return off[0] <= ROUNDING * largest[0] && off[1] <= ROUNDING * largest[1];
    }
  };

  // The matrix from values at the zeros of T₆ to coefficients of powers of t: a_m =
  // (2 − δ_m0)/6 Σ_k T_m(t_k) y_k are those of T_m, which are written out.
  static std::vector<double> powers_of_values() {
    static const double chebyshev[TERMS][TERMS] = {
        {1, 0, 0, 0, 0, 0},  {0, 1, 0, 0, 0, 0},  {-1, 0, 2, 0, 0, 0},
        {0, -3, 0, 4, 0, 0}, {1, 0, -8, 0, 8, 0}, {0, 5, 0, -20, 0, 16}};
    std::vector<double> matrix(TERMS * TERMS, 0.0);
    for (int power = 0; power < TERMS; ++power) {
      for (int k = 0; k < TERMS; ++k) {
        for (int m = 0; m < TERMS; ++m) {
          const double at_node = std::cos(M_PI * m * (2 * k + 1) / (2 * TERMS));
          matrix[power * TERMS + k] +=
              chebyshev[m][power] * at_node * (m == 0 ? 1.0 : 2.0) / TERMS;
        }
      }
    }
    return matrix;
  }

  // Of each vector of filters, the coefficients stand one after another.
  void keep(int interval, int f, const double* c) {
    real* to = coefficients_.data() + (std::size_t(interval) * width_ + f / W * W) * TERMS;
    for (int k = 0; k < TERMS; ++k) to[k * W + f % W] = static_cast<real>(c[k]);
  }

  int width_ = 0, count_ = 0;
  double nearest_ = 0.0, per_angstrom_ = 0.0;
  Numbers<real> coefficients_;
};

}  // namespace molpool
