// Functions of the distance with their derivatives: radial bases times a cutoff function.
#pragma once

#include <cmath>

#include "functions.h"
#include "geometry.h"
#include "linear.h"

namespace molpool {

enum class Basis { gaussian = 0, bessel = 1, physnet = 2, bernstein = 3 };
enum class Envelope { cosine = 0, polynomial = 1, mollifier = 2 };

// A cutoff function of ``networks.radial`` and its derivative; zero from the cutoff on.
inline void cutoff_function(Envelope kind, double cutoff, double distance, double& value,
                            double& slope) {
  const double x = distance / cutoff;
  value = slope = 0.0;
  if (!(x < 1.0)) return;
  if (kind == Envelope::cosine) {
    const double angle = M_PI * x;
    value = 0.5 * std::cos(angle) + 0.5;
    slope = -0.5 * std::sin(angle) * (M_PI / cutoff);
  } else if (kind == Envelope::polynomial) {
    value = 1.0 + x * x * x * (-10.0 + x * (15.0 - 6.0 * x));
    slope = -30.0 * x * x * (1.0 - x) * (1.0 - x) / cutoff;
  } else {
    const double inside = 1.0 - x * x;
    value = std::exp(1.0 - 1.0 / inside);
    slope = -value * 2.0 * x / (inside * inside * cutoff);
  }
}

// [fc·φ_1 … fc·φ_K, fc] of a distance, so that a filter fc·(Wφ + b) is one product with
// [W, b]. The formulas stand in ``networks.radial``; sizes in Å.
template <class real>
class Radial {
 public:
  // ``path``: what stands before the names of the basis' own numbers.
  explicit Radial(const Archive& archive, const std::string& path = "radial.basis")
      : cutoff_(archive.number("cutoff")),
        basis_(static_cast<Basis>(archive.integer("basis"))),
        envelope_(static_cast<Envelope>(archive.integer("envelope"))) {
    std::vector<double> places, inverse_widths;
    if (basis_ == Basis::gaussian) {
      places = archive.array(path + ".centers");
      for (double width : archive.array(path + ".widths", places.size())) {
        inverse_widths.push_back(1.0 / width);
      }
    } else if (basis_ == Basis::bessel) {
      places = archive.array(path + ".frequencies");
    } else if (basis_ == Basis::physnet) {
      physnet(archive.integer("n_rbf"), places, inverse_widths);
    } else {
      decay_ = archive.number("bernstein_decay");
      bernstein(archive.integer("n_rbf"), places, inverse_widths);
    }
    size_ = static_cast<int>(places.size());
    places_ = Numbers<real>(padded(size_));
    inverse_widths_ = Numbers<real>(padded(size_));
    for (int k = 0; k < size_; ++k) places_.data()[k] = static_cast<real>(places[k]);
    for (std::size_t k = 0; k < inverse_widths.size(); ++k) {
      inverse_widths_.data()[k] = static_cast<real>(inverse_widths[k]);
    }
  }

  double cutoff() const { return cutoff_; }
  // Columns with a value, and numbers from one row to the next.
  int columns() const { return size_ + 1; }
  int stride() const { return padded(size_ + 1); }

  // The same of every pair.
  void of_pairs(const Geometry<real>& pairs, real* values, real* slopes) const {
    pairs.team.run([&](int rank) {
      for (int p = rank; p < pairs.n_pairs; p += pairs.team.size()) {
        const std::size_t row = std::size_t(p) * stride();
        at(pairs.distance[p], values + row, slopes + row);
      }
    });
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
  void basis(double distance, double factor, double slope, real* values,
             real* slopes) const {
    if (basis_ == Basis::bessel) {
      bessels(distance, factor, slope, values, slopes);
      return;
    }
    const real fc = static_cast<real>(factor), dfc = static_cast<real>(slope);
    if (basis_ == Basis::bernstein) {
      bernsteins(distance, fc, dfc, values, slopes);
    } else if (basis_ == Basis::physnet) {
      const real x = static_cast<real>(std::exp(-distance));
      gaussians(x, -x, fc, dfc, values, slopes);
    } else {
      gaussians(static_cast<real>(distance), real(1), fc, dfc, values, slopes);
    }
  }

  // The cutoff function fc and its derivative.
  void envelope(double distance, double& value, double& slope) const {
    cutoff_function(envelope_, cutoff_, distance, value, slope);
  }

 private:
  static constexpr double NEAREST = 1e-6;  // Å; nearer, a logarithm would diverge

  // e^{−β(x − c_k)²} with β = (2(1 − e^−rc)/K)⁻² and c_k evenly from e^−rc to 1
  void physnet(int n, std::vector<double>& places, std::vector<double>& widths) const {
    const double nearest = std::exp(-cutoff_), width = 2.0 / n * (1.0 - nearest);
    for (int k = 0; k < n; ++k) {
      places.push_back(nearest + (1.0 - nearest) * k / (n - 1));
      widths.push_back(std::sqrt(2.0) / width);
    }
  }

  // Powers k, and ln C(K−1, k) where other bases have widths.
  static void bernstein(int n, std::vector<double>& places, std::vector<double>& logs) {
    double log = 0.0;
    for (int k = 0; k < n; ++k) {
      places.push_back(k);
      logs.push_back(log);
      log += std::log(double(n - 1 - k) / (k + 1));
    }
  }

  // exp(−½ (x − μ_k)²/w_k²) of x, whose derivative by the distance is ``by_x``.
  void gaussians(real x, real by_x, real fc, real dfc, real* values, real* slopes) const {
    for (int k = 0; k < size_; k += Vector<real>::width) {
      const vec<real> narrow = load(inverse_widths_.data() + k);
      const vec<real> scaled = (x - load(places_.data() + k)) * narrow;
      const vec<real> basis = exponential<real>(scaled * scaled * real(-0.5));
      store<real>(values + k, basis * fc);
      store<real>(slopes + k, basis * (dfc - fc * by_x * scaled * narrow));
    }
  }

  // exp(ln C(K−1, k) + k ln s + (K−1−k) ln(1−s)) of s = e^−γd
  void bernsteins(double distance, real fc, real dfc, real* values, real* slopes) const {
    const double log_s = -decay_ * (distance > NEAREST ? distance : NEAREST);
    const double rest = -std::expm1(log_s), log_rest = std::log(rest);
    const double by_rest = decay_ * std::exp(log_s) / rest;  // of ln(1−s) by d
    const real last = static_cast<real>(size_ - 1);
    for (int k = 0; k < size_; k += Vector<real>::width) {
      const vec<real> power = load(places_.data() + k), other = last - power;
      const vec<real> basis =
          exponential<real>(load(inverse_widths_.data() + k) + power * real(log_s) +
                            other * real(log_rest));
      store<real>(values + k, basis * fc);
      store<real>(slopes + k,
                  basis * (dfc + fc * (other * real(by_rest) - power * real(decay_))));
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

  double cutoff_, decay_ = 0.0;
  Basis basis_;
  Envelope envelope_;
  int size_;
  Numbers<real> places_, inverse_widths_;
};

}  // namespace molpool
