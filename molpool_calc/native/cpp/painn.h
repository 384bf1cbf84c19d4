// PaiNN (Schütt, Unke, Gastegger, ICML 2021, arXiv:2102.03150) and its gradient.
//
// Names as in ``networks.painn``: s_i scalars, v_i vectors, c_i = context(s_i) with the
// parts c¹ c² c³, w_ij = fc(r)(Wφ(r) + b) with the parts w¹ w² w³, û from i to j.
//
//   Eq. 7   Δs_i = Σ_j w¹ c¹_j
//   Eq. 8   Δv_i = Σ_j w² c²_j û_ij + w³ c³_j v_j
//   Eq. 9   Δs_i = a¹ + a³ ⟨U v_i, V v_i⟩        a = context([s_i, |V v_i|])
//   Eq. 10  Δv_i = a² U v_i
#pragma once

#include "network.h"

namespace molpool {

template <class real>
class PaiNN final : public Network<real> {
 public:
  explicit PaiNN(const Archive& archive)
      : width(archive.integer("n_features")),
        row(padded(width)),
        epsilon(archive.number("epsilon")),
        radial(archive) {
    const int rounds = archive.integer("n_interactions");
    for (int k = 0; k < rounds; ++k) layers.emplace_back(archive, k, width);
    for (int k = 0; archive.has("filters." + std::to_string(k) + ".weight"); ++k) {
      filters.push_back(filter(archive, k));
    }
    embed(archive);
  }

  double cutoff() const override { return radial.cutoff(); }
  int n_features() const override { return width; }
  std::unique_ptr<Pass<real>> begin(Geometry<real>& geometry, Arena& arena,
                                    bool wants_vectors) const override;

  struct Layer {
    Layer(const Archive& archive, int k, int width)
        : context_first(archive, part("messages", k, "context.first"), {width}, {width}),
          context_second(archive, part("messages", k, "context.second"), {width},
                         {width, width, width}),
          mix(archive, part("updates", k, "mix"), {width}, {width, width}),
          gates_first(archive, part("updates", k, "context.first"), {width, width}, {width}),
          gates_second(archive, part("updates", k, "context.second"), {width},
                       {width, width, width}) {}

    static std::string part(const char* what, int k, const char* layer) {
      return what + ("." + std::to_string(k)) + "." + layer;
    }

    Linear<real> context_first, context_second, mix, gates_first, gates_second;
  };

  const int width, row;  // features, and numbers from one row to the next
  const double epsilon;
  const Radial<real> radial;
  std::vector<Layer> layers;
  std::vector<Packed<real>> filters;
  Numbers<real> embedding, first_context;  // rows of the elements

 private:
  Packed<real> filter(const Archive& archive, int k) const {
    const std::string name = "filters." + std::to_string(k);
    const int n_rbf = radial.columns() - 1;
    const Parts out = {width, width, width};
    const auto& weight = archive.array(name + ".weight", std::size_t(3) * width * n_rbf);
    const auto& bias = archive.array(name + ".bias", std::size_t(3) * width);
    return Packed<real>(n_rbf + 1, 3 * row, [&](int from, int to) {
      const int place = out.place(to);
      if (place < 0) return 0.0;
      return from == n_rbf ? bias[place] : weight[std::size_t(place) * n_rbf + from];
    });
  }

  // Before the first messages features depend on the element alone, and so do contexts.
  void embed(const Archive& archive) {
    const auto& table = archive.array("embedding.weight");
    const int elements = static_cast<int>(table.size() / width);
    embedding = Numbers<real>(std::size_t(elements) * row);
    for (int z = 0; z < elements; ++z) {
      for (int f = 0; f < width; ++f) {
        embedding.data()[z * row + f] = static_cast<real>(table[std::size_t(z) * width + f]);
      }
    }
    const Layer& layer = layers.front();
    std::vector<real> slopes(std::size_t(elements) * row);
    Numbers<real> hidden(slopes.size());
    layer.context_first.forward(elements, embedding.data(), hidden.data());
    silu(hidden.data(), slopes.data(), slopes.size());
    first_context = Numbers<real>(std::size_t(elements) * 3 * row);
    layer.context_second.forward(elements, hidden.data(), first_context.data());
  }
};

template <class real>
class PaiNNPass final : public Pass<real> {
 public:
  PaiNNPass(const PaiNN<real>& network, Geometry<real>& geometry, Arena& arena,
            bool wants_vectors)
      : net_(network), pairs_(geometry), arena_(arena), wants_vectors_(wants_vectors),
        n_(geometry.n_atoms), row_(network.row), kept_(network.layers.size()),
        keeps_filters_(geometry.n_pairs <= MOST_KEPT) {
    const std::size_t radials = std::size_t(geometry.n_pairs) * network.radial.stride();
    radials_ = arena.take<real>(radials);
    radial_slopes_ = arena.take<real>(radials);
    network.radial.of_pairs(geometry, radials_, radial_slopes_);
    const int rows = keeps_filters_ ? geometry.n_pairs : AT_ONCE;
    for (std::size_t k = 0; k < (keeps_filters_ ? kept_.size() : 1); ++k) {
      kept_[k].filters = arena.take<real>(std::size_t(rows) * 3 * row_);
      kept_[k].filter_slopes = arena.take<real>(std::size_t(rows) * 3 * row_);
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

  void backward(Features<real> gradient) override {
    real* ds = gradient.scalars;
    real* dv = gradient.vectors;
    for (std::size_t k = kept_.size(); k-- > 0;) {
      dv = back_update(k, ds, dv);
      dv = back_receive(k, ds, dv);
    }
  }

 private:
  // Of few pairs filters are kept for the way back; of many they would fall out of the
  // cache, and making them anew takes less than reading them.
  static constexpr int MOST_KEPT = 400;
  static constexpr int AT_ONCE = 2 * TILE_ROWS;
  static constexpr int W = Vector<real>::width;

  struct Kept {
    const real* vectors;                   // before the messages; null for zeros
    const real* context;                   // [atoms 3 row]
    real* context_slope;                   // of the activation
    real *filters, *filter_slopes;         // [pairs 3 row]
    real *mixed, *norm, *gates, *gates_slope;
  };

  std::size_t rows(int per_atom) const { return std::size_t(n_) * per_atom * row_; }

  void find_context(std::size_t k) {
    real* context = arena_.take<real>(rows(3));
    kept_[k].context = context;
    if (k == 0) {
      scalars_ = arena_.take<real>(rows(1));
      for (int a = 0; a < n_; ++a) {
        const std::size_t z = pairs_.numbers[a];
        std::memcpy(scalars_ + std::size_t(a) * row_, net_.embedding.data() + z * row_,
                    row_ * sizeof(real));
        std::memcpy(context + std::size_t(a) * 3 * row_,
                    net_.first_context.data() + z * 3 * row_, 3 * row_ * sizeof(real));
      }
      return;
    }
    real* hidden = arena_.take<real>(rows(1));
    kept_[k].context_slope = arena_.take<real>(rows(1));
    net_.layers[k].context_first.forward(n_, scalars_, hidden);
    silu(hidden, kept_[k].context_slope, rows(1));
    net_.layers[k].context_second.forward(n_, hidden, context);
  }

  const Packed<real>& filter(std::size_t k) const {
    return net_.filters[k % net_.filters.size()];
  }

  // Columns of the filters in use: the first vectors are zero, and w³ acts on them.
  int columns(std::size_t k) const { return (k == 0 ? 2 : 3) * row_; }

  void make_filters(std::size_t k, int first, int count, real* to, const real* of) const {
    const int stride = net_.radial.stride();
    filter(k).product(count, of + std::size_t(first) * stride, stride, to, 3 * row_,
                      nullptr, false, 0, columns(k));
  }

  // Calls ``act(pair, filters, slopes)`` for each pair, with the filters made in blocks.
  template <class Act>
  void for_pairs(std::size_t k, bool on_the_way_back, const Act& act) {
    const Kept& kept = keeps_filters_ ? kept_[k] : kept_[0];
    const int step = keeps_filters_ ? (pairs_.n_pairs ? pairs_.n_pairs : 1) : AT_ONCE;
    for (int first = 0; first < pairs_.n_pairs; first += step) {
      const int count = std::min(step, pairs_.n_pairs - first);
      if (!(keeps_filters_ && on_the_way_back)) {
        make_filters(k, first, count, kept.filters, radials_);
      }
      if (keeps_filters_ != on_the_way_back) {
        make_filters(k, first, count, kept.filter_slopes, radial_slopes_);
      }
      for (int p = 0; p < count; ++p) {
        const std::size_t at = std::size_t(p) * 3 * row_;
        act(first + p, kept.filters + at, kept.filter_slopes + at);
      }
    }
  }

  // Eqs. 7 and 8.
  void receive(std::size_t k) {
    const real* old = k == 0 ? nullptr : vectors_;
    const real* context = kept_[k].context;
    real* vectors = arena_.take<real>(rows(3));
    if (old == nullptr) {
      std::memset(vectors, 0, rows(3) * sizeof(real));
    } else {
      std::memcpy(vectors, old, rows(3) * sizeof(real));
    }
    kept_[k].vectors = old;
    vectors_ = vectors;
    for_pairs(k, false, [&](int p, const real* w, const real*) {
      const std::size_t i = pairs_.i[p], j = pairs_.j[p];
      const real* unit = pairs_.unit + 3 * p;
      const std::size_t at_i = 3 * i * row_, at_j = 3 * j * row_;
      for (int f = 0; f < row_; f += W) {
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

  // Eqs. 9 and 10.
  void update(std::size_t k) {
    Kept& kept = kept_[k];
    const auto& layer = net_.layers[k];
    const bool last = k + 1 == kept_.size() && !wants_vectors_;
    kept.mixed = arena_.take<real>(2 * rows(3));
    kept.gates = arena_.take<real>(rows(3));
    kept.gates_slope = arena_.take<real>(rows(1));
    // [s, |V v|], of which the second half is wanted on the way back
    kept.norm = arena_.take<real>(rows(2));
    layer.mix.forward(3 * n_, vectors_, kept.mixed);
    real* product = arena_.take<real>(rows(1));
    measure(kept, product);
    real* hidden = arena_.take<real>(rows(1));
    layer.gates_first.forward(n_, kept.norm, hidden);
    silu(hidden, kept.gates_slope, rows(1));
    layer.gates_second.forward(n_, hidden, kept.gates);
    real* vectors = last ? nullptr : arena_.take<real>(rows(3));
    for (int a = 0; a < n_; ++a) {
      for (int f = 0; f < row_; f += W) {
        const real* gates = kept.gates + std::size_t(a) * 3 * row_ + f;
        const std::size_t at = std::size_t(a) * row_ + f;
        add_to<real>(scalars_ + at,
                     load(gates) + load(gates + 2 * row_) * load(product + at));
        if (last) continue;
        for (int x = 0; x < 3; ++x) {
          const std::size_t to = (std::size_t(a) * 3 + x) * row_ + f;
          const real* u = kept.mixed + 2 * (to - f) + row_ + f;
          store<real>(vectors + to, load(vectors_ + to) + load(gates + row_) * load(u));
        }
      }
    }
    if (!last) vectors_ = vectors;
  }

  // [s, √(|V v|² + ε)] and ⟨U v, V v⟩ of [V v, U v].
  void measure(Kept& kept, real* product) const {
    for (int a = 0; a < n_; ++a) {
      for (int f = 0; f < row_; f += W) {
        vec<real> squared = broadcast<real>(real(net_.epsilon)), both{};
        for (int x = 0; x < 3; ++x) {
          const real* v = kept.mixed + (std::size_t(a) * 3 + x) * 2 * row_ + f;
          squared += load(v) * load(v);
          both += load(v) * load(v + row_);
        }
        real* norm = kept.norm + std::size_t(a) * 2 * row_ + f;
        store<real>(norm, load(scalars_ + std::size_t(a) * row_ + f));
        store<real>(norm + row_, root<real>(squared));
        store<real>(product + std::size_t(a) * row_ + f, both);
      }
    }
  }

  // Gradients by what came before the update: ``ds`` in place, that by v⃗ returned.
  real* back_update(std::size_t k, real* ds, const real* dv) {
    const Kept& kept = kept_[k];
    const auto& layer = net_.layers[k];
    real* d_gates = arena_.take<real>(rows(3));
    real* d_hidden = arena_.take<real>(rows(1));
    real* d_norm = arena_.take<real>(rows(2));
    real* d_mixed = arena_.take<real>(2 * rows(3));
    real* before = arena_.take<real>(rows(3));
    back_gates(kept, ds, dv, d_gates);
    layer.gates_second.backward(n_, d_gates, d_hidden);
    multiply(d_hidden, kept.gates_slope, rows(1));
    layer.gates_first.backward(n_, d_hidden, d_norm);
    back_mixed(kept, ds, dv, d_norm, d_mixed);
    for (int a = 0; a < n_; ++a) {
      for (int f = 0; f < row_; f += W) {
        add_to<real>(ds + std::size_t(a) * row_ + f,
                     load(d_norm + std::size_t(a) * 2 * row_ + f));
      }
    }
    if (dv != nullptr) std::memcpy(before, dv, rows(3) * sizeof(real));
    layer.mix.backward(3 * n_, d_mixed, before, dv != nullptr);
    return before;
  }

  void back_gates(const Kept& kept, const real* ds, const real* dv, real* d_gates) const {
    for (int a = 0; a < n_; ++a) {
      for (int f = 0; f < row_; f += W) {
        vec<real> both{}, turned{};
        for (int x = 0; x < 3; ++x) {
          const real* v = kept.mixed + (std::size_t(a) * 3 + x) * 2 * row_ + f;
          both += load(v) * load(v + row_);
          if (dv == nullptr) continue;
          turned += load(dv + (std::size_t(a) * 3 + x) * row_ + f) * load(v + row_);
        }
        const vec<real> by_scalar = load(ds + std::size_t(a) * row_ + f);
        real* to = d_gates + std::size_t(a) * 3 * row_ + f;
        store<real>(to, by_scalar);
        store<real>(to + row_, turned);
        store<real>(to + 2 * row_, by_scalar * both);
      }
    }
  }

  void back_mixed(const Kept& kept, const real* ds, const real* dv, const real* d_norm,
                  real* d_mixed) const {
    for (int a = 0; a < n_; ++a) {
      for (int f = 0; f < row_; f += W) {
        const real* gates = kept.gates + std::size_t(a) * 3 * row_ + f;
        const std::size_t two = std::size_t(a) * 2 * row_ + row_ + f;
        const vec<real> by_product =
            load(ds + std::size_t(a) * row_ + f) * load(gates + 2 * row_);
        const vec<real> by_square = load(d_norm + two) / load(kept.norm + two);
        for (int x = 0; x < 3; ++x) {
          const std::size_t at = (std::size_t(a) * 3 + x) * 2 * row_ + f;
          const vec<real> v = load(kept.mixed + at), u = load(kept.mixed + at + row_);
          vec<real> by_u = by_product * v;
          if (dv != nullptr) {
            by_u += load(dv + (std::size_t(a) * 3 + x) * row_ + f) * load(gates + row_);
          }
          store<real>(d_mixed + at, by_product * u + by_square * v);
          store<real>(d_mixed + at + row_, by_u);
        }
      }
    }
  }

  // Gradients by what came before the messages, in the same way.
  real* back_receive(std::size_t k, real* ds, real* dv) {
    if (k == 0) {
      for_pairs(k, true, [&](int p, const real* w, const real* slope) {
        back_first_pair(p, w, slope, ds, dv);
      });
      return nullptr;
    }
    real* d_context = arena_.zeros<real>(rows(3));
    real* before = arena_.take<real>(rows(3));
    std::memcpy(before, dv, rows(3) * sizeof(real));
    for_pairs(k, true, [&](int p, const real* w, const real* slope) {
      back_pair(kept_[k], p, w, slope, ds, dv, d_context, before);
    });
    real* d_hidden = arena_.take<real>(rows(1));
    net_.layers[k].context_second.backward(n_, d_context, d_hidden);
    multiply(d_hidden, kept_[k].context_slope, rows(1));
    net_.layers[k].context_first.backward(n_, d_hidden, ds, true);
    return before;
  }

  // Without vectors before, and without gradients by contexts, which are constants.
  void back_first_pair(int p, const real* w, const real* slope, const real* ds,
                       const real* dv) {
    const std::size_t i = pairs_.i[p], j = pairs_.j[p];
    const real* unit = pairs_.unit + 3 * p;
    const real* context = kept_[0].context;
    vec<real> by_distance{}, by_unit[3] = {};
    for (int f = 0; f < row_; f += W) {
      const real *ci = context + 3 * i * row_ + f, *cj = context + 3 * j * row_ + f;
      const vec<real> c2i = load(ci + row_), c2j = load(cj + row_), w2 = load(w + row_ + f);
      vec<real> across{};
      for (int x = 0; x < 3; ++x) {
        const vec<real> turned = load(dv + (3 * i + x) * row_ + f) * c2j -
                                 load(dv + (3 * j + x) * row_ + f) * c2i;
        across += turned * unit[x];
        by_unit[x] += w2 * turned;
      }
      const vec<real> by_w1 =
          load(ds + i * row_ + f) * load(cj) + load(ds + j * row_ + f) * load(ci);
      by_distance += load(slope + f) * by_w1 + load(slope + row_ + f) * across;
    }
    pairs_.d_distance[p] += sum<real>(by_distance);
    for (int x = 0; x < 3; ++x) pairs_.d_unit[3 * p + x] += sum<real>(by_unit[x]);
  }

  void back_pair(const Kept& kept, int p, const real* w, const real* slope, const real* ds,
                 const real* dv, real* d_context, real* before) {
    const std::size_t i = pairs_.i[p], j = pairs_.j[p];
    const real* unit = pairs_.unit + 3 * p;
    vec<real> by_distance{}, by_unit[3] = {};
    for (int f = 0; f < row_; f += W) {
      const std::size_t at_i = 3 * i * row_ + f, at_j = 3 * j * row_ + f;
      const real *ci = kept.context + at_i, *cj = kept.context + at_j;
      const vec<real> w2 = load(w + row_ + f), w3 = load(w + 2 * row_ + f);
      const vec<real> c2i = load(ci + row_), c2j = load(cj + row_);
      const vec<real> to_i = w3 * load(ci + 2 * row_), to_j = w3 * load(cj + 2 * row_);
      vec<real> along_i{}, along_j{}, with_i{}, with_j{};
      for (int x = 0; x < 3; ++x) {
        const std::size_t xi = at_i + x * row_, xj = at_j + x * row_;
        const vec<real> gi = load(dv + xi), gj = load(dv + xj);
        along_i += gi * unit[x];
        along_j += gj * unit[x];
        with_j += gi * load(kept.vectors + xj);
        with_i += gj * load(kept.vectors + xi);
        by_unit[x] += w2 * (gi * c2j - gj * c2i);
        add_to<real>(before + xj, to_j * gi);
        add_to<real>(before + xi, to_i * gj);
      }
      const vec<real> w1 = load(w + f), si = load(ds + i * row_ + f),
                      sj = load(ds + j * row_ + f);
      by_distance += load(slope + f) * (si * load(cj) + sj * load(ci)) +
                     load(slope + row_ + f) * (along_i * c2j - along_j * c2i) +
                     load(slope + 2 * row_ + f) *
                         (with_j * load(cj + 2 * row_) + with_i * load(ci + 2 * row_));
      add_to<real>(d_context + at_j, w1 * si);
      add_to<real>(d_context + at_i, w1 * sj);
      add_to<real>(d_context + at_j + row_, w2 * along_i);
      add_to<real>(d_context + at_i + row_, -(w2 * along_j));
      add_to<real>(d_context + at_j + 2 * row_, w3 * with_j);
      add_to<real>(d_context + at_i + 2 * row_, w3 * with_i);
    }
    pairs_.d_distance[p] += sum<real>(by_distance);
    for (int x = 0; x < 3; ++x) pairs_.d_unit[3 * p + x] += sum<real>(by_unit[x]);
  }

  const PaiNN<real>& net_;
  Geometry<real>& pairs_;
  Arena& arena_;
  const bool wants_vectors_;
  const int n_, row_;
  std::vector<Kept> kept_;
  const bool keeps_filters_;
  real *radials_, *radial_slopes_;  // [pairs stride]
  real* scalars_ = nullptr;
  real* vectors_ = nullptr;
};

template <class real>
std::unique_ptr<Pass<real>> PaiNN<real>::begin(Geometry<real>& geometry, Arena& arena,
                                               bool wants_vectors) const {
  return std::make_unique<PaiNNPass<real>>(*this, geometry, arena, wants_vectors);
}

}  // namespace molpool
