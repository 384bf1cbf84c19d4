// Real spherical harmonics of degrees 1 to 4 with their gradient, and sums over them.
//
// Y_lm = √((2l+1)/4π · (2 − δ_m0) (l−|m|)!/(l+|m|)!) · Π_l|m|(z) · (A_m or B_|m|), with
// A_m + iB_m = (x + iy)^m and Π_lm the m-th derivative of the Legendre polynomial
// (Blanco, Flórez, Bermejo, J. Mol. Struct. THEOCHEM 419, 19 (1997)); names as in
// ``networks.spherical``. Under u → −u a component of degree l gets the sign (−1)^l.
#pragma once

#include <array>
#include <cmath>

#include "archive.h"
#include "vectors.h"

namespace molpool {

constexpr int MAX_DEGREE = 4;

template <class real>
class Harmonics {
 public:
  // ``degree.l`` in the archive stands for a degree that is there.
  explicit Harmonics(const Archive& archive) {
    for (int l = 1; l <= MAX_DEGREE; ++l) {
      if (archive.has("degree." + std::to_string(l))) degrees_.push_back(l);
    }
    for (int l : degrees_) n_components_ += 2 * l + 1;
    row_ = padded(n_components_);
    signs_ = Numbers<real>(row_);
    members_ = Numbers<real>(n_degrees() * row_);
    weights_ = Numbers<real>(n_degrees() * row_);
    int at = 0;
    for (int d = 0; d < n_degrees(); ++d) {
      const int l = degrees_[d];
      for (int m = -l; m <= l; ++m, ++at) {
        signs_.data()[at] = l % 2 ? -1 : 1;
        members_.data()[d * row_ + at] = 1;
        weights_.data()[d * row_ + at] = static_cast<real>(1.0 / std::sqrt(2 * l + 1.0));
      }
      for (int m = 0; m <= l; ++m) norms_[l][m] = norm(l, m);
    }
  }

  int n_degrees() const { return static_cast<int>(degrees_.size()); }
  int row() const { return row_; }  // components, padded
  const real* signs() const { return signs_.data(); }  // (−1)^l of each component
  // 1 for the components of a degree, and 1/√(2l+1), else 0.
  const real* members(int d) const { return members_.data() + d * row_; }
  const real* weights(int d) const { return weights_.data() + d * row_; }

  // All components of a unit vector; padding is zero.
  void values(const real* unit, real* y) const {
    const Factors of(unit);
    int at = 0;
    for (int l : degrees_) {
      real* middle = y + at + l;
      middle[0] = norms_[l][0] * of.along[l][0];
      for (int m = 1; m <= l; ++m) {
        const real height = norms_[l][m] * of.along[l][m];
        middle[m] = height * of.a[m];
        middle[-m] = height * of.b[m];
      }
      at += 2 * l + 1;
    }
    for (; at < row_; ++at) y[at] = 0;
  }

  // Adds ∂/∂u of Σ_lm by_y_lm Y_lm.
  void gradient(const real* unit, const real* by_y, real* by_unit) const {
    const Factors of(unit);
    real dx = 0, dy = 0, dz = 0;
    int at = 0;
    for (int l : degrees_) {
      const real* middle = by_y + at + l;
      dz += middle[0] * norms_[l][0] * of.along[l][1];
      for (int m = 1; m <= l; ++m) {
        const real by_a = norms_[l][m] * middle[m], by_b = norms_[l][m] * middle[-m];
        const real around = of.along[l][m] * m;
        dz += of.along[l][m + 1] * (by_a * of.a[m] + by_b * of.b[m]);
        dx += around * (by_a * of.a[m - 1] + by_b * of.b[m - 1]);
        dy += around * (by_b * of.a[m - 1] - by_a * of.b[m - 1]);
      }
      at += 2 * l + 1;
    }
    by_unit[0] += dx;
    by_unit[1] += dy;
    by_unit[2] += dz;
  }

  // c_l = Σ_m χ_lm² / √(2l+1) of each degree.
  void invariants(const real* components, real* c) const {
    for (int d = 0; d < n_degrees(); ++d) {
      vec<real> sums{};
      for (int k = 0; k < row_; k += Vector<real>::width) {
        const vec<real> value = load(components + k);
        sums += value * value * load(weights(d) + k);
      }
      c[d] = sum<real>(sums);
    }
  }

  // Σ_l factor_l [component is of degree l], or of its weights.
  vec<real> spread(const real* factors, const real* table, int at) const {
    vec<real> spread{};
    for (int d = 0; d < n_degrees(); ++d) spread += factors[d] * load(table + d * row_ + at);
    return spread;
  }
  const real* members() const { return members_.data(); }
  const real* weights() const { return weights_.data(); }

 private:
  // Π_lm(z), with Π_l,l+1 = 0, and A_m, B_m.
  struct Factors {
    real along[MAX_DEGREE + 1][MAX_DEGREE + 2] = {};
    real a[MAX_DEGREE + 1], b[MAX_DEGREE + 1];

    explicit Factors(const real* u) {
      a[0] = 1;
      b[0] = 0;
      along[0][0] = 1;
#pragma GCC unroll 4
      for (int l = 1; l <= MAX_DEGREE; ++l) {
        a[l] = u[0] * a[l - 1] - u[1] * b[l - 1];
        b[l] = u[0] * b[l - 1] + u[1] * a[l - 1];
        along[l][l] = (2 * l - 1) * along[l - 1][l - 1];
        for (int m = 0; m < l; ++m) {
          const real before = l > 1 ? along[l - 2][m] : real(0);
          along[l][m] = ((2 * l - 1) * u[2] * along[l - 1][m] - (l + m - 1) * before) *
                        (real(1) / (l - m));
        }
      }
    }
  };

  static real norm(int l, int m) {
    double ratio = (2 * l + 1) / (4.0 * M_PI) * (m ? 2 : 1);
    for (int k = l - m + 1; k <= l + m; ++k) ratio /= k;
    return static_cast<real>(std::sqrt(ratio));
  }

  std::vector<int> degrees_;
  int n_components_ = 0, row_;
  Numbers<real> signs_, members_, weights_;
  std::array<std::array<real, MAX_DEGREE + 1>, MAX_DEGREE + 1> norms_{};
};

}  // namespace molpool
