// Exponentials and activations of whole vectors, to rounding.
#pragma once

#include <cmath>

#include "vectors.h"

namespace molpool {

template <class real>
struct Exponent;

template <>
struct Exponent<float> {
  typedef std::int32_t integer;
  typedef integer bits __attribute__((vector_size(VECTOR_BYTES)));
  static constexpr int mantissa = 23, bias = 127, order = 7;
  static constexpr float lowest = -87.0f, highest = 88.0f;
  static constexpr float high = 0.693359375f, low = -2.12194440e-4f;  // ln 2
  static constexpr float rounder = 12582912.0f;  // 1.5 · 2^23
};

template <>
struct Exponent<double> {
  typedef std::int64_t integer;
  typedef integer bits __attribute__((vector_size(VECTOR_BYTES)));
  static constexpr int mantissa = 52, bias = 1023, order = 13;
  static constexpr double lowest = -708.0, highest = 709.0;
  static constexpr double high = 6.93147180369123816490e-01;  // ln 2
  static constexpr double low = 1.90821492927058770002e-10;
  static constexpr double rounder = 6755399441055744.0;  // 1.5 · 2^52
};

template <class real>
inline vec<real> smaller(vec<real> a, vec<real> b) {
  return a < b ? a : b;
}

template <class real>
inline vec<real> larger(vec<real> a, vec<real> b) {
  return a > b ? a : b;
}

// 1/k!, k = 0 … 13
constexpr double INVERSE_FACTORIALS[] = {
    1.0,       1.0,        1.0 / 2,       1.0 / 6,        1.0 / 24,
    1.0 / 120, 1.0 / 720,  1.0 / 5040,    1.0 / 40320,    1.0 / 362880,
    1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800.0};

// e^x = 2^n e^r with |r| ≤ ½ ln 2 and the Taylor series of e^r, exact to rounding there.
// Below the least normal number it is that number, so it never vanishes.
template <class real>
inline vec<real> exponential(vec<real> x) {
  typedef Exponent<real> E;
  x = larger<real>(smaller<real>(x, broadcast<real>(E::highest)), broadcast<real>(E::lowest));
  const vec<real> rounder = broadcast<real>(E::rounder);
  const vec<real> shifted = x * real(1.44269504088896340736) + rounder;
  const vec<real> n = shifted - rounder;
  const vec<real> r = (x - n * E::high) - n * E::low;
  vec<real> p = broadcast<real>(real(INVERSE_FACTORIALS[E::order]));
#pragma GCC unroll 13
  for (int k = E::order - 1; k >= 0; --k) p = p * r + real(INVERSE_FACTORIALS[k]);
  const auto whole = reinterpret_cast<typename E::bits>(shifted);
  // the lowest bits of ``shifted`` are n; the others fall out
  const typename E::bits scale = (whole + E::bias) << E::mantissa;
  return p * reinterpret_cast<vec<real>>(scale);
}

template <class real>
inline vec<real> root(vec<real> x) {
  vec<real> y{};
  // one instruction, once the compiler has seen the loop
#pragma GCC unroll 16
  for (int lane = 0; lane < Vector<real>::width; ++lane) y[lane] = std::sqrt(x[lane]);
  return y;
}

// σ(x) = 1/(1 + e^−x)
template <class real>
inline vec<real> logistic(vec<real> x) {
  return real(1) / (real(1) + exponential<real>(-x));
}

// x ← silu(x) = xσ(x), slope ← σ(x)(1 + x(1 − σ(x))); counts are multiples of LANES.
template <class real>
inline void silu(real* x, real* slope, std::size_t count) {
  for (std::size_t k = 0; k < count; k += Vector<real>::width) {
    const vec<real> value = load(x + k);
    const vec<real> gate = logistic<real>(value);
    store<real>(slope + k, gate * (real(1) + value * (real(1) - gate)));
    store<real>(x + k, value * gate);
  }
}

// ln(1 + t) for 0 ≤ t ≤ 1: twice the series of artanh at t/(2 + t), which is at most ⅓.
template <class real>
inline vec<real> log_one_plus(vec<real> t) {
  constexpr int terms = sizeof(real) == 4 ? 9 : 18;
  const vec<real> s = t / (t + real(2)), square = s * s;
  vec<real> series = broadcast<real>(real(1) / (2 * terms - 1));
#pragma GCC unroll 18
  for (int k = terms - 2; k >= 0; --k) series = series * square + real(1) / (2 * k + 1);
  return real(2) * s * series;
}

// x ← ln(½eˣ + ½), slope ← σ(x); beyond 20 the tangent, as torch has it: a difference of
// 2·10⁻⁹ at most, but one that float64 would show.
template <class real>
inline void shifted_softplus(real* x, real* slope, std::size_t count) {
  for (std::size_t k = 0; k < count; k += Vector<real>::width) {
    const vec<real> value = load(x + k);
    const vec<real> positive = larger<real>(value, vec<real>{});
    vec<real> small = exponential<real>(value - real(2) * positive);  // e^−|x|
    small = value > real(20) ? vec<real>{} : small;
    const vec<real> gate = real(1) / (real(1) + small);
    store<real>(slope + k, value > real(0) ? gate : small * gate);
    store<real>(x + k, positive + log_one_plus<real>(small) - real(0.69314718055994530942));
  }
}

// x ← max(x, 0), slope ← 1 where it is positive
template <class real>
inline void relu(real* x, real* slope, std::size_t count) {
  for (std::size_t k = 0; k < count; k += Vector<real>::width) {
    const vec<real> value = load(x + k);
    store<real>(slope + k, value > real(0) ? broadcast<real>(1) : vec<real>{});
    store<real>(x + k, larger<real>(value, vec<real>{}));
  }
}

enum class Activation { silu = 0, shifted_softplus = 1, relu = 2 };

template <class real>
inline void activate(Activation kind, real* x, real* slope, std::size_t count) {
  if (kind == Activation::silu) silu(x, slope, count);
  if (kind == Activation::shifted_softplus) shifted_softplus(x, slope, count);
  if (kind == Activation::relu) relu(x, slope, count);
}

// gradient ← gradient · slope
template <class real>
inline void multiply(real* gradient, const real* slope, std::size_t count) {
  for (std::size_t k = 0; k < count; k += Vector<real>::width) {
    store<real>(gradient + k, load(gradient + k) * load(slope + k));
  }
}

}  // namespace molpool
