// Radial and spherical Bessel functions of DimeNet with their derivatives.
//
// Gasteiger, Groß, Günnemann, ICLR 2020 (arXiv:2003.03123), as ``networks.
// spherical_bessel`` writes them, with x = d/r_c and y = 1/x:
//
//   Eq. 7   U(x) sin(ω_n x)
//   Eq. 6   U(x) [sin(z_ln x) A_ln(y) + cos(z_ln x) B_ln(y)], without the angular part
//   Eq. 8   U(x) = y + a xᵖ⁻¹ + b xᵖ + c xᵖ⁺¹, divided by x as the published code does
//
// A_ln and B_ln are polynomials without constant term. Always in float64, as their terms
// cancel at small x.
#pragma once

#include <algorithm>
#include <cmath>

#include "archive.h"
#include "functions.h"

namespace molpool {

// sin x and cos x to rounding for |x| < 10⁶: the rest r of quarter turns, and the Taylor
// series of both at |r| ≤ π/4.
inline void sine_cosine(vec<double> x, vec<double>& sine, vec<double>& cosine) {
  typedef Exponent<double> E;
  constexpr double QUARTER = 1.57079632673412561417, REST = 6.07710050650619224932e-11;
  const vec<double> shifted = x * (2.0 / M_PI) + E::rounder, n = shifted - E::rounder;
  const vec<double> r = (x - n * QUARTER) - n * REST, square = r * r;
  vec<double> odd = broadcast<double>(1.0), even = broadcast<double>(1.0);
#pragma GCC unroll 8
  for (int k = 8; k > 0; --k) {
    odd = 1.0 - odd * square * (1.0 / (2 * k * (2 * k + 1)));
    even = 1.0 - even * square * (1.0 / (2 * k * (2 * k - 1)));
  }
  odd *= r;
  const auto turns = reinterpret_cast<E::bits>(shifted);  // n in the lowest bits
  const vec<double> s = (turns & 1) != 0 ? even : odd, c = (turns & 1) != 0 ? odd : even;
  sine = (turns & 2) != 0 ? -s : s;
  cosine = ((turns + 1) & 2) != 0 ? -c : c;
}

// Rows of one distance are padded with zeros.
template <class real>
class BesselBases {
 public:
  explicit BesselBases(const Archive& archive)
      : cutoff_(archive.number("cutoff")), smallest_(archive.number("smallest")),
        power_(archive.integer("power")) {
    const auto& frequencies = archive.array("bases.frequencies");
    const auto& roots = archive.array("roots");
    const auto& envelope = archive.array("envelope", 3);
    n_radial_ = static_cast<int>(frequencies.size());
    n_spherical_ = static_cast<int>(roots.size());
    std::copy(envelope.begin(), envelope.end(), envelope_);
    frequencies_ = Numbers<double>(radial_stride());
    std::copy(frequencies.begin(), frequencies.end(), frequencies_.data());
    const int stride = spherical_stride();
    roots_ = Numbers<double>(stride);
    std::copy(roots.begin(), roots.end(), roots_.data());
    // [powers, A and B, columns]
    n_powers_ = static_cast<int>(archive.array("table").size() / (2 * roots.size()));
    const auto& table = archive.array("table", std::size_t(2) * n_powers_ * roots.size());
    table_ = Numbers<double>(std::size_t(2) * n_powers_ * stride);
    for (int row = 0; row < 2 * n_powers_; ++row) {
      for (int k = 0; k < n_spherical_; ++k) {
        table_.data()[row * stride + k] = table[std::size_t(row) * n_spherical_ + k];
      }
    }
  }

  double cutoff() const { return cutoff_; }
  int n_radial() const { return n_radial_; }
  int radial_stride() const { return padded(n_radial_); }
  int spherical_stride() const { return padded(n_spherical_); }

  // Both bases of a distance in Å and their derivatives by it.
  void at(double distance, real* radial, real* radial_slope, real* spherical,
          real* spherical_slope) const {
    const double scaled = distance / cutoff_;
    const double x = std::min(std::max(scaled, smallest_), 1.0);
    // beside the range in which x follows the distance it has no slope
    const double per_length = scaled >= smallest_ && scaled < 1.0 ? 1.0 / cutoff_ : 0.0;
    double u = 0.0, du = 0.0;
    if (scaled < 1.0) envelope(x, u, du);
    for (int k = 0; k < radial_stride(); k += W) {
      const vec<double> frequency = load(frequencies_.data() + k);
      vec<double> sine, cosine;
      sine_cosine(frequency * x, sine, cosine);
      keep(sine * u, radial + k);
      keep((frequency * cosine * u + sine * du) * per_length, radial_slope + k);
    }
    for (int k = 0; k < spherical_stride(); k += W) {
      vec<double> value, slope;
      bessel(k, x, value, slope);
      keep(value * u, spherical + k);
      keep((slope * u + value * du) * per_length, spherical_slope + k);
    }
  }

 private:
  static constexpr int W = Vector<double>::width;

  static void keep(vec<double> values, real* to) {
    for (int lane = 0; lane < W; ++lane) to[lane] = static_cast<real>(values[lane]);
  }

  void envelope(double x, double& value, double& slope) const {
    double power = 1.0;  // x^(p−2)
    for (int k = 1; k < power_; ++k) power *= x;
    const double a = envelope_[0], b = envelope_[1], c = envelope_[2];
    value = 1.0 / x + power * x * (a + x * (b + x * c));
    slope = -1.0 / (x * x) +
            power * (power_ * a + x * ((power_ + 1) * b + x * (power_ + 2) * c));
  }

  // Columns from ``first`` without U, and their derivative by x.
  void bessel(int first, double x, vec<double>& value, vec<double>& slope) const {
    const int stride = spherical_stride();
    const double y = 1.0 / x;
    vec<double> a{}, b{}, da{}, db{};  // A/y and B/y, and their derivatives by y
    for (int power = n_powers_ - 1; power >= 0; --power) {
      const double* of = table_.data() + 2 * power * stride + first;
      da = da * y + a;
      db = db * y + b;
      a = a * y + load(of);
      b = b * y + load(of + stride);
    }
    da = -(da * y + a) * (y * y);  // by x
    db = -(db * y + b) * (y * y);
    a *= y;
    b *= y;
    const vec<double> root = load(roots_.data() + first);
    vec<double> sine, cosine;
    sine_cosine(root * x, sine, cosine);
    value = sine * a + cosine * b;
    slope = root * (cosine * a - sine * b) + sine * da + cosine * db;
  }

  double cutoff_, smallest_;
  int power_, n_radial_, n_spherical_, n_powers_;
  double envelope_[3];
  Numbers<double> frequencies_, roots_, table_;
};

}  // namespace molpool
