// From the rows of the atoms of one system to one row, as ``poolings`` writes it.
#pragma once

#include <functional>

#include "readouts.h"

namespace molpool {

// The way back: adds to ∂E/∂inputs what follows from ∂E/∂outputs.
template <class real>
using Backward = std::function<void(const real* by_outputs, real* by_inputs)>;

template <class real>
class Pooling {
 public:
  virtual ~Pooling() = default;
  virtual int outputs() const = 0;  // numbers of the pooled row, padded
  // ``weights``: of the atoms, summing to 1, or null; not written by a pooling without.
  virtual Backward<real> apply(int n, const real* rows, real* pooled, real* weights,
                               Arena& arena) const = 0;
};

enum class Kind {
  sum = 0, mean = 1, log_sum_exp = 2, softmax = 3, weighted_average = 4, attention = 5
};

// y of the values of a system, without weights, in float64:
//   Σ x,  Σ x / N,  ln(Σ e^βx) / β,  Σ x e^x / Σ e^x.
struct PlainPooling {
  Kind kind;
  double sharpness;  // β

  // ``slopes`` ← ∂y/∂x_i.
  double apply(int n, const double* x, double* slopes) const {
    if (kind == Kind::sum || kind == Kind::mean) {
      double total = 0.0;
      for (int i = 0; i < n; ++i) total += x[i];
      const double share = kind == Kind::sum || n == 0 ? 1.0 : 1.0 / n;
      std::fill(slopes, slopes + n, share);
      return total * share;
    }
    const double beta = kind == Kind::softmax ? 1.0 : sharpness;
    double largest = -HUGE_VAL, total = 0.0, average = 0.0;
    for (int i = 0; i < n; ++i) largest = std::max(largest, beta * x[i]);
    for (int i = 0; i < n; ++i) total += slopes[i] = std::exp(beta * x[i] - largest);
    for (int i = 0; i < n; ++i) average += (slopes[i] /= total) * x[i];
    if (kind == Kind::log_sum_exp) return (std::log(total) + largest) / beta;
    for (int i = 0; i < n; ++i) slopes[i] *= 1.0 + x[i] - average;
    return average;
  }
};

// The same of each feature.
template <class real>
class FeaturePooling final : public Pooling<real> {
 public:
  FeaturePooling(PlainPooling plain, int width) : plain_(plain), row_(padded(width)) {}

  int outputs() const override { return row_; }

  Backward<real> apply(int n, const real* rows, real* pooled, real*,
                       Arena& arena) const override {
    real* slopes = arena.take<real>(std::size_t(n) * row_);
    std::vector<double> x(n), by_x(n);
    for (int f = 0; f < row_; ++f) {
      for (int a = 0; a < n; ++a) x[a] = rows[std::size_t(a) * row_ + f];
      pooled[f] = static_cast<real>(plain_.apply(n, x.data(), by_x.data()));
      for (int a = 0; a < n; ++a) {
        slopes[std::size_t(a) * row_ + f] = static_cast<real>(by_x[a]);
      }
    }
    return [this, n, slopes](const real* by_pooled, real* by_rows) {
      for (int a = 0; a < n; ++a) {
        for (int f = 0; f < row_; f += Vector<real>::width) {
          const std::size_t at = std::size_t(a) * row_ + f;
          add_to<real>(by_rows + at, load(slopes + at) * load(by_pooled + f));
        }
      }
    };
  }

 private:
  PlainPooling plain_;
  int row_;
};

// Dense layers with an activation between them, to rows of any width.
template <class real>
class Chain {
 public:
  // ``layers``: names of the layers below ``name``; widths are those of their biases.
  Chain(const Archive& archive, const std::string& name,
        const std::vector<std::string>& layers, int inputs, Activation activation)
      : activation_(activation) {
    for (const auto& layer : layers) {
      const std::string path = name + "." + layer;
      const int outputs = static_cast<int>(archive.array(path + ".bias").size());
      layers_.emplace_back(archive, path, Parts{inputs}, Parts{outputs});
      inputs = outputs;
    }
  }

  int outputs() const { return layers_.back().outputs(); }

  Backward<real> apply(int n, const real* rows, real* out, Arena& arena) const {
    std::vector<const real*> slopes;
    for (const auto& layer : layers_) {
      const bool last = &layer == &layers_.back();
      const std::size_t count = std::size_t(n) * layer.outputs();
      real* to = last ? out : arena.take<real>(count);
      layer.forward(n, rows, to);
      if (!last) {
        real* slope = arena.take<real>(count);
        activate(activation_, to, slope, count);
        slopes.push_back(slope);
      }
      rows = to;
    }
    return [this, n, slopes, &arena](const real* by_out, real* by_rows) {
      Arena::Scope scope(arena);
      for (std::size_t k = layers_.size(); k-- > 1;) {
        const std::size_t count = std::size_t(n) * layers_[k].inputs();
        real* before = arena.take<real>(count);
        layers_[k].backward(n, by_out, before);
        multiply(before, slopes[k - 1], count);
        by_out = before;
      }
      layers_[0].backward(n, by_out, by_rows, true);
    };
  }

 private:
  Activation activation_;
  std::vector<Linear<real>> layers_;
};

// y = Σ_i w_i ε_i with w = softmax(s) over the atoms, ε and s of a chain each.
template <class real>
class WeightedAverage final : public Pooling<real> {
 public:
  WeightedAverage(const Archive& archive, const std::string& name, int width, int n_layers,
                  Activation activation)
      : value_(archive, name + ".value", names(n_layers), width, activation),
        score_(archive, name + ".score", names(n_layers), width, activation) {}

  int outputs() const override { return value_.outputs(); }

  Backward<real> apply(int n, const real* rows, real* pooled, real* weights,
                       Arena& arena) const override {
    const int row = outputs(), step = score_.outputs();
    real* values = arena.take<real>(std::size_t(n) * row);
    real* scores = arena.take<real>(std::size_t(n) * step);
    const auto value_back = value_.apply(n, rows, values, arena);
    const auto score_back = score_.apply(n, rows, scores, arena);
    real *w = arena.take<real>(n), largest = -static_cast<real>(HUGE_VAL), total = 0;
    for (int a = 0; a < n; ++a) largest = std::max(largest, scores[std::size_t(a) * step]);
    for (int a = 0; a < n; ++a) {
      total += w[a] = std::exp(scores[std::size_t(a) * step] - largest);
    }
    std::fill(pooled, pooled + row, real(0));
    for (int a = 0; a < n; ++a) {
      w[a] /= total;
      const real* from = values + std::size_t(a) * row;
      for (int f = 0; f < row; f += W) add_to<real>(pooled + f, w[a] * load(from + f));
    }
    if (weights != nullptr) std::memcpy(weights, w, n * sizeof(real));
    return [=, &arena](const real* by_pooled, real* by_rows) {
      Arena::Scope scope(arena);
      real* by_values = arena.take<real>(std::size_t(n) * row);
      real* by_scores = arena.zeros<real>(std::size_t(n) * step);
      real mean = 0;  // of ∂E/∂w
      for (int a = 0; a < n; ++a) {
        vec<real> by_weight{};
        for (int f = 0; f < row; f += W) {
          const std::size_t at = std::size_t(a) * row + f;
          by_weight += load(by_pooled + f) * load(values + at);
          store<real>(by_values + at, w[a] * load(by_pooled + f));
        }
        mean += w[a] * (by_scores[std::size_t(a) * step] = sum<real>(by_weight));
      }
      for (int a = 0; a < n; ++a) {
        real& by_score = by_scores[std::size_t(a) * step];
        by_score = w[a] * (by_score - mean);
      }
      value_back(by_values, by_rows);
      score_back(by_scores, by_rows);
    };
  }

 private:
  static constexpr int W = Vector<real>::width;

  static std::vector<std::string> names(int count) {
    std::vector<std::string> made;
    for (int k = 0; k < count; ++k) made.push_back("layers." + std::to_string(k));
    return made;
  }

  Chain<real> value_, score_;
};

}  // namespace molpool
