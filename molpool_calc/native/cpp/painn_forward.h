// PaiNN forward: Eqs. 7 to 10 as ``painn.h`` names them, with what the way back needs.
#pragma once

#include <algorithm>

#include "painn.h"

namespace molpool {

template <class real>
class PaiNNForward : public Pass<real> {
 public:
  PaiNNForward(const PaiNN<real>& network, Geometry<real>& geometry, Arena& arena,
               bool wants_vectors)
      : net_(network), pairs_(geometry), team_(geometry.team), arena_(arena),
        wants_vectors_(wants_vectors), n_(geometry.n_atoms), row_(network.row),
        kept_(network.layers.size()), keeps_filters_(geometry.n_pairs <= MOST_KEPT),
        n_slices_(row_ % PANEL || keeps_filters_ ? 1 : std::min(team_.size(), row_ / PANEL)) {
    const std::size_t radials = std::size_t(geometry.n_pairs) * network.radial.stride();
    radials_ = take(radials);
    radial_slopes_ = take(radials);
    network.radial.of_pairs(geometry, radials_, radial_slopes_);
    for (auto& kept : kept_) {
      if (!keeps_filters_) break;
      kept.filters = take(std::size_t(geometry.n_pairs) * 3 * row_);
      kept.filter_slopes = take(std::size_t(geometry.n_pairs) * 3 * row_);
    }
  }

  Features<real> forward() override {
    for (std::size_t k = 0; k < kept_.size(); ++k) {
      find_context(k);
      receive(k);
      update(k);
    }
    return {scalars_, wants_vectors_ ? vectors_ : nullptr};
  }

 protected:
  // Of few pairs filters are kept for the way back; of many they would fall out of the
  // cache, and making them anew takes less than reading them.
  static constexpr int MOST_KEPT = 400;
  static constexpr int AT_ONCE = 2 * TILE_ROWS;
  static constexpr int ATOMS_AT_ONCE = 4 * TILE_ROWS;
  static constexpr int W = Vector<real>::width;
  static constexpr int PANEL = Packed<real>::PANEL;

  // Some columns of the features: what one member of the team does for all pairs, as
  // in this way no two of them add to the same numbers.
  struct Slice {
    int first, last;
    real *d_distance, *d_unit;  // sums over these columns, see ``Geometry``
  };

  struct Kept {
    const real* vectors;                   // before the messages; null for zeros
    const real* context;                   // [atoms 3 row]
    real* context_slope;                   // of the activation
    real *filters, *filter_slopes;         // [pairs 3 row]
    real *mixed, *norm, *gates, *gates_slope;

    Kept from(std::size_t atom, int row) const {
      Kept part = *this;
      part.mixed += 6 * atom * row;
      part.norm += atom * row;
      part.gates += 3 * atom * row;
      part.gates_slope += atom * row;
      return part;
    }
  };

  real* take(std::size_t count) { return arena_.take<real>(count); }
  real* zeros(std::size_t count) { return arena_.zeros<real>(count); }

  std::size_t rows(int per, int atoms) const { return std::size_t(atoms) * per * row_; }
  std::size_t rows(int per_atom) const { return rows(per_atom, n_); }

  // Calls ``act(first, count, arena)`` for blocks of atoms, shared by the team.
  template <class Act>
  void for_atoms(const Act& act) const {
    team_.run([&](int rank) {
      Arena& arena = team_.arena(rank);
      for (int first = rank * ATOMS_AT_ONCE; first < n_;
           first += team_.size() * ATOMS_AT_ONCE) {
        Arena::Scope scope(arena);
        act(first, std::min(ATOMS_AT_ONCE, n_ - first), arena);
      }
    });
  }

  void find_context(std::size_t k) {
    real* context = take(rows(3));
    kept_[k].context = context;
    if (k == 0) {
      scalars_ = take(rows(1));
      for (int a = 0; a < n_; ++a) {
        const std::size_t z = pairs_.numbers[a];
        std::memcpy(scalars_ + std::size_t(a) * row_, net_.embedding.data() + z * row_,
                    row_ * sizeof(real));
        std::memcpy(context + std::size_t(a) * 3 * row_,
                    net_.first_context.data() + z * 3 * row_, 3 * row_ * sizeof(real));
      }
      return;
    }
    kept_[k].context_slope = take(rows(1));
    const auto& layer = net_.layers[k];
    for_atoms([&](int first, int count, Arena& arena) {
      real* hidden = arena.take<real>(rows(1, count));
      layer.context_first.forward(count, scalars_ + rows(1, first), hidden);
      silu(hidden, kept_[k].context_slope + rows(1, first), rows(1, count));
      layer.context_second.forward(count, hidden, context + rows(3, first));
    });
  }

  const Packed<real>& filter(std::size_t k) const {
    return net_.filters[k % net_.filters.size()];
  }

  // Filters of some pairs, in the columns of a slice. The first vectors are zero, and w³
  // acts on them.
  void make_filters(std::size_t k, int first, int count, const Slice& slice, const real* of,
                    real* to) const {
    const int stride = net_.radial.stride(), parts = k == 0 ? 2 : 3;
    const real* from = of + std::size_t(first) * stride;
    if (slice.last - slice.first == row_) {
      filter(k).product(count, from, stride, to, 3 * row_, nullptr, false, 0, parts * row_);
      return;
    }
    for (int part = 0; part < parts; ++part) {
      filter(k).product(count, from, stride, to, 3 * row_, nullptr, false,
                        part * row_ + slice.first, part * row_ + slice.last);
    }
  }

  // Calls ``act(pair, filters, slopes, slice)`` for each pair and slice.
  template <class Act>
  void for_pairs(std::size_t k, bool on_the_way_back, const Act& act) {
    if (keeps_filters_) {
      const Slice all = {0, row_, pairs_.d_distance, pairs_.d_unit};
      real *w = kept_[k].filters, *slopes = kept_[k].filter_slopes;
      if (!on_the_way_back) {
        make_filters(k, 0, pairs_.n_pairs, all, radials_, w);
        make_filters(k, 0, pairs_.n_pairs, all, radial_slopes_, slopes);
      }
      act_on(0, pairs_.n_pairs, w, slopes, all, act);
      return;
    }
    team_.run([&](int rank) {
      if (rank >= n_slices_) return;
      const Slice slice = slice_of(rank);
      Arena& arena = team_.arena(rank);
      Arena::Scope scope(arena);
      real* w = arena.take<real>(std::size_t(AT_ONCE) * 3 * row_);
      real* slopes = arena.take<real>(std::size_t(AT_ONCE) * 3 * row_);
      const int blocks = (pairs_.n_pairs + AT_ONCE - 1) / AT_ONCE;
      for (int block = 0; block < blocks; ++block) {
        // each elsewhere at a time, as a core reads ahead what another one writes
        const int first = (block + blocks * rank / n_slices_) % blocks * AT_ONCE;
        const int count = std::min(AT_ONCE, pairs_.n_pairs - first);
        make_filters(k, first, count, slice, radials_, w);
        if (on_the_way_back) make_filters(k, first, count, slice, radial_slopes_, slopes);
        act_on(first, count, w, slopes, slice, act);
      }
    });
  }

  template <class Act>
  void act_on(int first, int count, const real* w, const real* slopes, const Slice& slice,
              const Act& act) const {
    for (int p = 0; p < count; ++p) {
      const std::size_t at = std::size_t(p) * 3 * row_;
      act(first + p, w + at, slopes + at, slice);
    }
  }

  Slice slice_of(int rank) const {
    const int panels = row_ / PANEL, first = panels * rank / n_slices_ * PANEL;
    const int next = panels * (rank + 1) / n_slices_ * PANEL;
    const int last = rank + 1 == n_slices_ ? row_ : next;
    if (rank == 0) return {first, last, pairs_.d_distance, pairs_.d_unit};
    real* sums = sums_ + std::size_t(4) * pairs_.n_pairs * (rank - 1);
    return {first, last, sums, sums + pairs_.n_pairs};
  }

  // Eqs. 7 and 8.
  void receive(std::size_t k) {
    const real* old = k == 0 ? nullptr : vectors_;
    const real* context = kept_[k].context;
    real* vectors = take(rows(3));
    if (old == nullptr) {
      std::memset(vectors, 0, rows(3) * sizeof(real));
    } else {
      std::memcpy(vectors, old, rows(3) * sizeof(real));
    }
    kept_[k].vectors = old;
    vectors_ = vectors;
    for_pairs(k, false, [&](int p, const real* w, const real*, const Slice& slice) {
      const std::size_t i = pairs_.i[p], j = pairs_.j[p];
      const real* unit = pairs_.unit + 3 * p;
      const std::size_t at_i = 3 * i * row_, at_j = 3 * j * row_;
      for (int f = slice.first; f < slice.last; f += W) {
        const real *ci = context + at_i + f, *cj = context + at_j + f;
        const vec<real> w1 = load(w + f), w2 = load(w + row_ + f);
        add_to<real>(scalars_ + i * row_ + f, w1 * load(cj));
        add_to<real>(scalars_ + j * row_ + f, w1 * load(ci));
        const vec<real> along_i = w2 * load(cj + row_), along_j = w2 * load(ci + row_);
        if (old == nullptr) {
          for (int x = 0; x < 3; ++x) {
            add_to<real>(vectors + at_i + x * row_ + f, along_i * unit[x]);
            add_to<real>(vectors + at_j + x * row_ + f, along_j * -unit[x]);
          }
          continue;
        }
        const vec<real> w3 = load(w + 2 * row_ + f);
        const vec<real> from_j = w3 * load(cj + 2 * row_), from_i = w3 * load(ci + 2 * row_);
        for (int x = 0; x < 3; ++x) {
          const std::size_t xi = at_i + x * row_ + f, xj = at_j + x * row_ + f;
          add_to<real>(vectors + xi, along_i * unit[x] + from_j * load(old + xj));
          add_to<real>(vectors + xj, along_j * -unit[x] + from_i * load(old + xi));
        }
      }
    });
  }

  // Eqs. 9 and 10, of some atoms at a time, whose intermediate rows stay in the cache.
  void update(std::size_t k) {
    Kept& kept = kept_[k];
    kept.mixed = take(2 * rows(3));
    kept.gates = take(rows(3));
    kept.gates_slope = take(rows(1));
    kept.norm = take(rows(1));
    for_atoms([&](int first, int count, Arena& arena) {
      update(k, kept.from(first, row_), first, count, arena);
    });
  }

  void update(std::size_t k, const Kept& kept, int first, int count, Arena& arena) {
    const auto& layer = net_.layers[k];
    real* joined = arena.take<real>(rows(2, count));
    real* product = arena.take<real>(rows(1, count));
    real* hidden = arena.take<real>(rows(1, count));
    real* scalars = scalars_ + rows(1, first);
    real* vectors = vectors_ + rows(3, first);
    layer.mix.forward(3 * count, vectors, kept.mixed);
    measure(kept, count, scalars, joined, product);
    layer.gates_first.forward(count, joined, hidden);
    silu(hidden, kept.gates_slope, rows(1, count));
    layer.gates_second.forward(count, hidden, kept.gates);
    const bool last = k + 1 == kept_.size() && !wants_vectors_;
    for (int a = 0; a < count; ++a) {
      for (int f = 0; f < row_; f += W) {
        const real* gates = kept.gates + rows(3, a) + f;
        const std::size_t at = rows(1, a) + f;
        add_to<real>(scalars + at,
                     load(gates) + load(gates + 2 * row_) * load(product + at));
        for (int x = 0; x < 3 && !last; ++x) {
          const real* u = kept.mixed + rows(6, a) + (2 * x + 1) * row_ + f;
          add_to<real>(vectors + rows(3, a) + x * row_ + f, load(gates + row_) * load(u));
        }
      }
    }
  }

  // [s, √(|V v|² + ε)], of which the second half is kept, and ⟨U v, V v⟩ of [V v, U v].
  void measure(const Kept& kept, int count, const real* scalars, real* joined,
               real* product) const {
    for (int a = 0; a < count; ++a) {
      for (int f = 0; f < row_; f += W) {
        vec<real> squared = broadcast<real>(real(net_.epsilon)), both{};
        for (int x = 0; x < 3; ++x) {
          const real* v = kept.mixed + rows(6, a) + 2 * x * row_ + f;
          squared += load(v) * load(v);
          both += load(v) * load(v + row_);
        }
        const vec<real> norm = root<real>(squared);
        store<real>(joined + rows(2, a) + f, load(scalars + rows(1, a) + f));
        store<real>(joined + rows(2, a) + row_ + f, norm);
        store<real>(kept.norm + rows(1, a) + f, norm);
        store<real>(product + rows(1, a) + f, both);
      }
    }
  }

  const PaiNN<real>& net_;
  Geometry<real>& pairs_;
  Team& team_;
  Arena& arena_;  // for what lasts
  const bool wants_vectors_;
  const int n_, row_;
  std::vector<Kept> kept_;
  const bool keeps_filters_;
  const int n_slices_;
  real* sums_ = nullptr;  // of all slices but the first
  real *radials_, *radial_slopes_;  // [pairs stride]
  real* scalars_ = nullptr;
  real* vectors_ = nullptr;
};

}  // namespace molpool
