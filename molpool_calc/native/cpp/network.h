// What every network offers to the potential around it.
#pragma once

#include <memory>

#include "geometry.h"
#include "radial.h"

namespace molpool {

// Features of the atoms. Rows are padded.
template <class real>
struct Features {
  real* scalars;  // [atoms width]
  real* vectors;  // [atoms 3 width], or null
};

// One evaluation: forward, then backward on what forward left in the arena.
template <class real>
class Pass {
 public:
  virtual ~Pass() = default;
  virtual Features<real> forward() = 0;
  // From ∂E/∂scalars, which it overwrites, to ``d_distance`` and ``d_unit`` of the
  // geometry, to which it adds.
  virtual void backward(real* by_scalars) = 0;
};

template <class real>
class Network {
 public:
  virtual ~Network() = default;
  virtual double cutoff() const = 0;  // Å
  virtual int n_features() const = 0;
  // ``arena``: of the first member of the team, for what lasts to the end of the pass.
  // ``wants_vectors``: whether the vectors of the last round are needed.
  virtual std::unique_ptr<Pass<real>> begin(Geometry<real>& geometry, Arena& arena,
                                            bool wants_vectors) const = 0;
};

}  // namespace molpool
