// Output blocks of DimeNet++: sums of gated messages → features of the atoms.
#pragma once

#include "dimenet.h"

namespace molpool {

template <class real>
class OutputPass {
 public:
  OutputPass(const DimeNet<real>& network, int n_atoms, Arena& arena)
      : net_(network), arena_(arena), n_(n_atoms), row_(padded(network.n_features())),
        slopes_(network.outputs.size()) {
    for (std::size_t k = 0; k < slopes_.size(); ++k) {
      sums_.push_back(arena.zeros<real>(std::size_t(n_) * network.row));
    }
  }

  // Σ_j gate ⊙ m_ij of a block, [atoms row]; after ``backward`` the gradient by it.
  real* sums(std::size_t block) const { return sums_[block]; }

  // What all blocks give, summed.
  real* forward() {
    real* features = arena_.zeros<real>(std::size_t(n_) * row_);
    real* last = arena_.take<real>(std::size_t(n_) * row_);
    for (std::size_t block = 0; block < sums_.size(); ++block) {
      const auto& layers = net_.outputs[block].layers;
      const real* x = sums_[block];
      for (std::size_t k = 0; k + 1 < layers.size(); ++k) {
        const std::size_t count = std::size_t(n_) * layers[k].outputs();
        real* y = arena_.take<real>(count);
        real* slope = arena_.take<real>(count);
        layers[k].forward(n_, x, y);
        silu(y, slope, count);
        slopes_[block].push_back(slope);
        x = y;
      }
      layers.back().forward(n_, x, last);
      for (std::size_t at = 0; at < std::size_t(n_) * row_; at += Vector<real>::width) {
        add_to<real>(features + at, load(last + at));
      }
    }
    return features;
  }

  void backward(const real* gradient) {
    for (std::size_t block = 0; block < sums_.size(); ++block) {
      const auto& layers = net_.outputs[block].layers;
      const real* dy = gradient;
      for (std::size_t k = layers.size(); k-- > 0;) {
        const std::size_t count = std::size_t(n_) * layers[k].inputs();
        real* dx = k == 0 ? sums_[block] : arena_.take<real>(count);
        layers[k].backward(n_, dy, dx);
        if (k > 0) multiply(dx, slopes_[block][k - 1], count);
        dy = dx;
      }
    }
  }

 private:
  const DimeNet<real>& net_;
  Arena& arena_;
  const int n_, row_;
  std::vector<real*> sums_;
  std::vector<std::vector<const real*>> slopes_;
};

}  // namespace molpool
