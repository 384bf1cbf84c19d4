// Atoms and their pairs, each pair once: what it gives to one atom and to the other
// needs the same filters, which are most of the arithmetic.
#pragma once

#include <algorithm>
#include <cmath>

#include "team.h"

namespace molpool {

// What the caller hands over: the fields of ``AtomsBatch`` and ``NeighborList``.
template <class real>
struct Batch {
  std::int64_t n_systems, n_atoms, n_pairs;
  std::int64_t n_dense;  // atoms of each system of a dense list, else 0
  const std::int64_t* numbers;
  const std::int64_t* system;
  const real* positions;
  const real* total_charge;
  const real* num_unpaired;
  const real* cell;
  const std::int64_t* center;
  const std::int64_t* neighbor;
  const real* shift;  // or null
};

// Systems in a row, and their atoms and pairs.
struct Range {
  int first_system, last_system, first_atom, last_atom;
  std::int64_t first_pair, last_pair;
};

// Calls ``act(a, b, r_b − r_a)`` for every pair of a range once.
template <class real, class Act>
inline void all_pairs(const Batch<real>& batch, const Range& range, const Act& act) {
  const int size = static_cast<int>(batch.n_dense);
  const int n_atoms = range.last_atom - range.first_atom;
  const real* positions = batch.positions + 3 * range.first_atom;
  for (int first = 0; first < n_atoms; first += size) {
    for (int a = first; a < first + size; ++a) {
      for (int b = a + 1; b < first + size; ++b) {
        real between[3];
        for (int x = 0; x < 3; ++x) between[x] = positions[3 * b + x] - positions[3 * a + x];
        act(a, b, between);
      }
    }
  }
}

// Of an atom and its own image, that of the pair in the other direction is left out.
template <class real>
inline bool is_ahead(const real* shift) {
  for (int k = 0; k < 3; ++k) {
    if (shift[k] != 0) return shift[k] > 0;
  }
  return false;
}

// The same of pairs that are listed in both directions. Which of them come first is no
// guess for the processor, as there is no branch: half of them would go the other way.
template <class real, class Act>
inline void listed_pairs(const Batch<real>& batch, const Range& range, const Act& act) {
  constexpr int AT_ONCE = 256;
  std::int64_t chosen[AT_ONCE];
  for (std::int64_t first = range.first_pair; first < range.last_pair; first += AT_ONCE) {
    const std::int64_t last = std::min(first + AT_ONCE, range.last_pair);
    int count = 0;
    for (std::int64_t p = first; p < last; ++p) {
      const std::int64_t a = batch.center[p], b = batch.neighbor[p];
      bool is_first = b > a;
      if (a == b) is_first = batch.shift != nullptr && is_ahead(batch.shift + 3 * p);
      chosen[count] = p;
      count += is_first;
    }
    for (int k = 0; k < count; ++k) {
      const std::int64_t p = chosen[k], a = batch.center[p], b = batch.neighbor[p];
      real between[3];
      for (int x = 0; x < 3; ++x) {
        between[x] = batch.positions[3 * b + x] - batch.positions[3 * a + x];
      }
      if (batch.shift != nullptr) {
        const real *shift = batch.shift + 3 * p, *cell = batch.cell + 9 * batch.system[a];
        for (int m = 0; m < 3; ++m) {
          for (int x = 0; x < 3; ++x) between[x] += shift[m] * cell[3 * m + x];
        }
      }
      act(static_cast<int>(a - range.first_atom), static_cast<int>(b - range.first_atom),
          between);
    }
  }
}

template <class real, class Act>
inline void for_each_pair(const Batch<real>& batch, const Range& range, const Act& act) {
  if (batch.n_dense > 0) {
    all_pairs(batch, range, act);
  } else {
    listed_pairs(batch, range, act);
  }
}

// Pairs {i, j} within the cutoff. Atoms are counted from the first of the range.
template <class real>
struct Geometry {
  const Batch<real>& batch;
  const Range& range;
  int n_atoms, n_pairs;
  const std::int64_t* numbers;
  int *i, *j;
  real* distance;    // r in Å
  real* unit;        // [pairs 3] from i to j
  real* d_distance;  // ∂E/∂r, summed up by the network
  real* d_unit;      // [pairs 3] ∂E/∂û
  Team& team;        // who works on it

  Geometry(const Batch<real>& batch, const Range& range, double cutoff, Team& team)
      : batch(batch), range(range), n_atoms(range.last_atom - range.first_atom), n_pairs(0),
        numbers(batch.numbers + range.first_atom), team(team) {
    Arena& arena = team.arena(0);
    const std::size_t most = batch.n_dense > 0
                                 ? std::size_t(n_atoms) * batch.n_dense / 2
                                 : std::size_t(range.last_pair - range.first_pair);
    i = arena.take<int>(most);
    j = arena.take<int>(most);
    distance = arena.take<real>(most);
    unit = arena.take<real>(3 * most);
    for_each_pair(batch, range, [&](int a, int b, const real* between) {
      keep(a, b, between, cutoff);
    });
    d_distance = arena.zeros<real>(n_pairs);
    d_unit = arena.zeros<real>(std::size_t(3) * n_pairs);
  }

  // ∂E/∂(r_j − r_i) of a pair: the part along it, and that of turning it.
  void gradient(int p, double* to) const {
    double along = 0.0;
    for (int x = 0; x < 3; ++x) along += double(d_unit[3 * p + x]) * unit[3 * p + x];
    for (int x = 0; x < 3; ++x) {
      const double u = unit[3 * p + x];
      to[x] = d_distance[p] * u + (d_unit[3 * p + x] - along * u) / distance[p];
    }
  }

 private:
  void keep(int a, int b, const real* between, double cutoff) {
    const real squared = between[0] * between[0] + between[1] * between[1] +
                         between[2] * between[2];
    const real r = std::sqrt(squared);
    if (!(r < cutoff)) return;
    i[n_pairs] = a;
    j[n_pairs] = b;
    distance[n_pairs] = r;
    for (int x = 0; x < 3; ++x) unit[3 * n_pairs + x] = between[x] / r;
    ++n_pairs;
  }
};

}  // namespace molpool
