// Features of the atoms before the first layer: element, total charge and unpaired
// electrons (``networks.electron_embedding``).
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>

#include "functions.h"
#include "geometry.h"
#include "linear.h"

namespace molpool {

// A number ψ of a system shared out among its atoms: y_i = softplus(q_Z · k_r/√F),
// a_i = ψ y_i/Σ y, z_i = a_i v_r and e_i = z_i + B₂ silu(B₁ silu z_i), with r = 1 for
// ψ < 0 and else 0 (after Unke et al., Nat. Commun. 12, 7273 (2021)).
template <class real>
class ElectronEmbedding {
 public:
  ElectronEmbedding(const Archive& archive, const std::string& name, int width)
      : width_(width), row_(padded(width)),
        queries_(archive.array(name + ".queries.weight")),
        keys_(archive.array(name + ".keys.weight", std::size_t(2) * width)),
        values_(archive.array(name + ".values.weight", std::size_t(2) * width)),
        first_(archive, name + ".first", {width}, {width}),
        second_(archive, name + ".second", {width}, {width}) {
    const std::size_t elements = queries_.size() / width;
    shares_.resize(2 * elements);
    for (std::size_t z = 0; z < elements; ++z) {
      for (int r = 0; r < 2; ++r) {
        double logit = 0.0;
        for (int f = 0; f < width; ++f) logit += queries_[z * width + f] * keys_[r * width + f];
        logit /= std::sqrt(double(width));
        shares_[2 * z + r] = std::max(logit, 0.0) + std::log1p(std::exp(-std::abs(logit)));
      }
    }
  }

  // Adds e_i of the atoms of a range whose systems have the amounts ψ.
  void add(const Batch<real>& batch, const Range& range, const real* amounts, real* to,
           Arena& arena) const {
    for (int first = range.first_atom; first < range.last_atom;) {
      const std::int64_t system = batch.system[first];
      int last = first;
      while (last < range.last_atom && batch.system[last] == system) ++last;
      // nothing comes from nothing, as there are no biases
      if (amounts[system] != 0) {
        add_system(batch, first, last, amounts[system],
                   to + std::size_t(first - range.first_atom) * row_, arena);
      }
      first = last;
    }
  }

 private:
  void add_system(const Batch<real>& batch, int first, int last, double amount, real* to,
                  Arena& arena) const {
    const int n = last - first, r = amount < 0;
    const std::size_t count = std::size_t(n) * row_;
    real* z = arena.zeros<real>(count);
    real* inner = arena.take<real>(count);
    real* hidden = arena.take<real>(count);
    real* slope = arena.take<real>(count);
    double total = 0.0;
    for (int a = first; a < last; ++a) total += shares_[2 * batch.numbers[a] + r];
    for (int a = 0; a < n; ++a) {
      const double share = amount * shares_[2 * batch.numbers[first + a] + r] / total;
      for (int f = 0; f < width_; ++f) {
        z[std::size_t(a) * row_ + f] = static_cast<real>(share * values_[r * width_ + f]);
      }
    }
    std::memcpy(inner, z, count * sizeof(real));
    silu(inner, slope, count);
    first_.forward(n, inner, hidden);
    silu(hidden, slope, count);
    second_.forward(n, hidden, inner);
    for (std::size_t k = 0; k < count; ++k) to[k] += z[k] + inner[k];
  }

  int width_, row_;
  std::vector<double> queries_, keys_, values_, shares_;
  Linear<real> first_, second_;
};

// (T_Z + e(Q) + e(S)) over the root of how many there are.
template <class real>
class Elements {
 public:
  Elements(const Archive& archive, int width) : width_(width), row_(padded(width)) {
    const auto& table = archive.array("embedding.weight");
    table_ = Numbers<real>(table.size() / width * row_);
    for (std::size_t k = 0; k < table.size(); ++k) {
      table_.data()[k / width * row_ + k % width] = static_cast<real>(table[k]);
    }
    const std::string names[] = {"total_charge", "num_unpaired"};
    for (int k = 0; k < 2; ++k) {
      const std::string path = "electrons." + names[k];
      if (!archive.has(path + ".keys.weight")) continue;
      electrons_[k] = std::make_unique<ElectronEmbedding<real>>(archive, path, width);
    }
  }

  real* features(const Batch<real>& batch, const Range& range, Arena& arena) const {
    const int n = range.last_atom - range.first_atom;
    real* to = arena.take<real>(std::size_t(n) * row_);
    for (int a = 0; a < n; ++a) {
      std::memcpy(to + std::size_t(a) * row_,
                  table_.data() + batch.numbers[range.first_atom + a] * row_,
                  row_ * sizeof(real));
    }
    const real* amounts[] = {batch.total_charge, batch.num_unpaired};
    int parts = 1;
    for (int k = 0; k < 2; ++k) {
      if (electrons_[k] == nullptr) continue;
      electrons_[k]->add(batch, range, amounts[k], to, arena);
      ++parts;
    }
    const real scale = static_cast<real>(1.0 / std::sqrt(double(parts)));
    for (std::size_t k = 0; k < std::size_t(n) * row_; ++k) to[k] *= scale;
    return to;
  }

 private:
  int width_, row_;
  Numbers<real> table_;
  std::unique_ptr<ElectronEmbedding<real>> electrons_[2];
};

}  // namespace molpool
