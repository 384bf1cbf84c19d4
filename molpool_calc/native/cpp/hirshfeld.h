// Volumes of the atoms (``heads.hirshfeld``), with the gradient.
#pragma once

#include "heads.h"

namespace molpool {

// h_i = |v_Z + t_Z · Lin₂(act(Lin₁ x_i))/√n|
template <class real>
class HirshfeldHead {
 public:
  HirshfeldHead(const Archive& archive, int width)
      : ratio_(archive.array("heads.hirshfeld.element_ratio")),
        activation_(static_cast<Activation>(archive.integer("hirshfeld.activation"))) {
    const std::string name = "heads.hirshfeld.readout.";
    const int n = static_cast<int>(archive.array(name + "first.bias").size());
    first_ = Linear<real>(archive, name + "first", {width}, {n});
    second_ = Linear<real>(archive, name + "second", {n}, {n});
    row_ = padded(n);
    query_ = Numbers<real>(ratio_.size() * row_);
    const auto& query = archive.array("heads.hirshfeld.element_query", ratio_.size() * n);
    for (std::size_t k = 0; k < query.size(); ++k) {
      query_.data()[k / n * row_ + k % n] = static_cast<real>(query[k] / std::sqrt(double(n)));
    }
  }

  struct Kept {
    double* ratios;
    double* sign;
    real* slope;
  };

  Kept apply(const Batch<real>& batch, const Range& range, const real* scalars,
             const Results<real>& results, Arena& arena) const {
    const int n = range.last_atom - range.first_atom;
    const std::size_t count = std::size_t(n) * row_;
    real* hidden = arena.take<real>(count);
    real* out = arena.take<real>(count);
    const Kept kept = {arena.take<double>(n), arena.take<double>(n), arena.take<real>(count)};
    first_.forward(n, scalars, hidden);
    activate(activation_, hidden, kept.slope, count);
    second_.forward(n, hidden, out);
    for (int a = 0; a < n; ++a) {
      const std::int64_t z = batch.numbers[range.first_atom + a];
      const real* query = query_.data() + z * row_;
      vec<real> change{};
      for (int f = 0; f < row_; f += Vector<real>::width) {
        change += load(query + f) * load(out + std::size_t(a) * row_ + f);
      }
      const double ratio = ratio_[z] + sum<real>(change);
      kept.ratios[a] = std::abs(ratio);
      kept.sign[a] = ratio > 0.0 ? 1.0 : ratio < 0.0 ? -1.0 : 0.0;
      if (results.hirshfeld_ratios == nullptr) continue;
      results.hirshfeld_ratios[range.first_atom + a] = static_cast<real>(kept.ratios[a]);
    }
    return kept;
  }

  // Adds to ∂E/∂scalars what comes by the ratios.
  void backward(const Batch<real>& batch, const Range& range, const Kept& kept,
                const double* by_ratio, real* gradient, Arena& arena) const {
    const int n = range.last_atom - range.first_atom;
    real* by_out = arena.take<real>(std::size_t(n) * row_);
    real* by_hidden = arena.take<real>(std::size_t(n) * row_);
    for (int a = 0; a < n; ++a) {
      const real* query = query_.data() + batch.numbers[range.first_atom + a] * row_;
      const real factor = static_cast<real>(kept.sign[a] * by_ratio[a]);
      for (int f = 0; f < row_; f += Vector<real>::width) {
        store<real>(by_out + std::size_t(a) * row_ + f, factor * load(query + f));
      }
    }
    second_.backward(n, by_out, by_hidden);
    multiply(by_hidden, kept.slope, std::size_t(n) * row_);
    first_.backward(n, by_hidden, gradient, true);
  }

 private:
  std::vector<double> ratio_;
  Activation activation_;
  Linear<real> first_, second_;
  Numbers<real> query_;
  int row_;
};

}  // namespace molpool
