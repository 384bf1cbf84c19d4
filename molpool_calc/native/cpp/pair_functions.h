// Functions of the distance of two atoms that the pair terms are made of, in float64.
#pragma once

#include "radial.h"

namespace molpool {

typedef vec<double> doubles;

inline double lowest(double a, double b) { return a < b ? a : b; }

// 1 up to ``start``, 0 from ``stop`` on and smooth to all orders, with its derivative:
// the logistic function of 1/c − 1/(1−c), c = (d − start)/(stop − start).
inline void smooth_switch(doubles d, double start, double stop, doubles& value,
                          doubles& slope) {
  constexpr double EDGE = 1e-3;  // so near to either end, e^(−1/EDGE) is zero already
  const double scale = 1.0 / (stop - start);
  const doubles c = larger<double>(
      smaller<double>((d - start) * scale, broadcast<double>(1.0 - EDGE)),
      broadcast<double>(EDGE));
  const doubles up = 1.0 / c, down = 1.0 / (1.0 - c);
  value = logistic<double>(up - down);
  slope = value * (1.0 - value) * -(up * up + down * down) * scale;
}

inline void smooth_switch(double d, double start, double stop, double& value,
                          double& slope) {
  doubles values, slopes;
  smooth_switch(broadcast<double>(d), start, stop, values, slopes);
  value = values[0];
  slope = slopes[0];
}

// x^(1/7) of positive numbers: a first guess from exponent and mantissa, right to 6 %, then
// Halley's method, whose relative error is four times the cube of that before.
inline doubles seventh_root(doubles x) {
  typedef Vector<double>::places whole;
  const whole one = reinterpret_cast<whole>(broadcast<double>(1.0));
  const whole bits = reinterpret_cast<whole>(x) - one;
  const doubles part = __builtin_convertvector(bits, doubles) * (1.0 / 7.0);
  doubles y = reinterpret_cast<doubles>(__builtin_convertvector(part, whole) + one);
  for (int step = 0; step < 3; ++step) {
    const doubles square = y * y, power = square * square * square * y;
    y *= (6.0 * power + 8.0 * x) / (8.0 * power + 6.0 * x);
  }
  return y;
}

// erf of numbers ≥ 0 as (2x/√π) e^(−x²) Σ_n (2x²)^n/(2n+1)!!, a sum of positive terms.
class ErrorFunction {
 public:
  static constexpr int AT_ONCE = 4;  // vectors, whose sums do not wait for each other

  // ``largest``: of the arguments; from 6 on the result is 1 to rounding.
  explicit ErrorFunction(double largest) : largest_(lowest(largest, 6.0)) {
    double term = 1.0, sum = 0.0;
    for (int n = 1; n < 4 || term > 1e-18 * sum; ++n) {
      terms_.push_back(term);
      sum += term;
      term *= 2.0 * largest_ * largest_ / (2 * n + 1);
    }
  }

  // With e^(−x²), which the derivative needs.
  void operator()(const doubles* x, doubles* value, doubles* gaussian) const {
    doubles t[AT_ONCE], sum[AT_ONCE] = {};
    for (int k = 0; k < AT_ONCE; ++k) {
      t[k] = smaller<double>(x[k] * (1.0 / largest_), broadcast<double>(1.0));
      gaussian[k] = exponential<double>(-x[k] * x[k]);
    }
    for (int k = 0; k < AT_ONCE; ++k) value[k] = t[k] * t[k];
    for (std::size_t n = terms_.size(); n-- > 0;) {
      for (int k = 0; k < AT_ONCE; ++k) sum[k] = sum[k] * value[k] + terms_[n];
    }
    for (int k = 0; k < AT_ONCE; ++k) {
      const doubles inside = t[k] * largest_;
      sum[k] *= exponential<double>(-inside * inside);
      value[k] = 2.0 / std::sqrt(M_PI) * inside * sum[k];
    }
  }

 private:
  double largest_;
  std::vector<double> terms_;
};

}  // namespace molpool
