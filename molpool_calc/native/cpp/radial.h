// Functions of the distance with their derivatives: radial bases times a cutoff function.
#pragma once

#include <cmath>

#include "functions.h"
#include "geometry.h"
#include "linear.h"

namespace molpool {

enum class Basis { gaussian = 0, bessel = 1 };
enum class Envelope { cosine = 0, polynomial = 1, mollifier = 2 };

// [fc·φ_1 … fc·φ_K, fc] of a distance, so that a filter fc·(Wφ + b) is one product with
// [W, b]. The formulas stand in ``networks.radial``; sizes in Å.
template <class real>
class Radial {
 public:
  explicit Radial(const Archive& archive)
      : cutoff_(archive.number("cutoff")),
        basis_(static_cast<Basis>(archive.integer("basis"))),
        envelope_(static_cast<Envelope>(archive.integer("envelope"))) {
    const bool gaussian = basis_ == Basis::gaussian;
    const auto& places =
        archive.array(gaussian ? "radial.basis.centers" : "radial.basis.frequencies");
    size_ = static_cast<int>(places.size());
    places_ = Numbers<real>(padded(size_));
    inverse_widths_ = Numbers<real>(padded(size_));
    for (int k = 0; k < size_; ++k) places_.data()[k] = static_cast<real>(places[k]);
    if (!gaussian) return;
    const auto& widths = archive.array("radial.basis.widths", size_);
    for (int k = 0; k < size_; ++k) {
      inverse_widths_.data()[k] = static_cast<real>(1.0 / widths[k]);
    }
  }

  double cutoff() const { return cutoff_; }
  // Columns with a value, and numbers from one row to the next.
  int columns() const { return size_ + 1; }
  int stride() const { return padded(size_ + 1); }

  // The same of every pair.
  void of_pairs(const Geometry<real>& pairs, real* values, real* slopes) const {
    for (int p = 0; p < pairs.n_pairs; ++p) {
      const std::size_t row = std::size_t(p) * stride();
      at(pairs.distance[p], values + row, slopes + row);
    }
  }

  // Values and derivatives by the distance; the rows are as long as the stride.
  void at(real distance, real* values, real* slopes) const {
    double fc, dfc;
    envelope(distance, fc, dfc);
    basis(distance, fc, dfc, values, slopes);
    values[size_] = static_cast<real>(fc);
    slopes[size_] = static_cast<real>(dfc);
  }

  // The basis times a factor with the derivative ``slope``, without the last column.
  void basis(real distance, double factor, double slope, real* values, real* slopes) const {
    if (basis_ == Basis::gaussian) {
      gaussians(distance, static_cast<real>(factor), static_cast<real>(slope), values, slopes);
    } else {
      bessels(distance, factor, slope, values, slopes);
    }
  }

  // The cutoff function fc and its derivative.
  void envelope(double distance, double& value, double& slope) const {
    const double x = distance / cutoff_;
    value = slope = 0.0;
    if (!(x < 1.0)) return;
    if (envelope_ == Envelope::cosine) {
      const double angle = M_PI * x;
      value = 0.5 * std::cos(angle) + 0.5;
      slope = -0.5 * std::sin(angle) * (M_PI / cutoff_);
    } else if (envelope_ == Envelope::polynomial) {
      value = 1.0 + x * x * x * (-10.0 + x * (15.0 - 6.0 * x));
      slope = -30.0 * x * x * (1.0 - x) * (1.0 - x) / cutoff_;
    } else {
      const double inside = 1.0 - x * x;
      value = std::exp(1.0 - 1.0 / inside);
      slope = -value * 2.0 * x / (inside * inside * cutoff_);
    }
  }

 private:
  void gaussians(real distance, real fc, real dfc, real* values, real* slopes) const {
    for (int k = 0; k < size_; k += Vector<real>::width) {
      const vec<real> narrow = load(inverse_widths_.data() + k);
      const vec<real> scaled = (distance - load(places_.data() + k)) * narrow;
      const vec<real> basis = exponential<real>(scaled * scaled * real(-0.5));
      store<real>(values + k, basis * fc);
      store<real>(slopes + k, basis * (dfc - fc * scaled * narrow));
    }
  }

  void bessels(double distance, double fc, double dfc, real* values, real* slopes) const {
    for (int k = 0; k < size_; ++k) {
      const double frequency = places_.data()[k], angle = frequency * distance;
      const double basis = std::sin(angle) / distance;
      const double slope = (frequency * std::cos(angle) - basis) / distance;
      values[k] = static_cast<real>(basis * fc);
      slopes[k] = static_cast<real>(slope * fc + basis * dfc);
    }
  }

  double cutoff_;
  Basis basis_;
  Envelope envelope_;
  int size_;
  Numbers<real> places_, inverse_widths_;
};

}  // namespace molpool
