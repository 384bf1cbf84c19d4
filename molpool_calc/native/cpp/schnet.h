// SchNet (Schütt et al., J. Chem. Phys. 148, 241722 (2018)) and its gradient.
//
// Names as in ``networks.schnet``: x_i features, A x_j values, W_ij = W(r_ij) filters,
// m_i sums. Filters depend on the distance only and serve both directions of a pair.
//
//   Eq. 2   m_i = Σ_j (A x_j) ⊙ W_ij
//   Fig. 2  Δx_i = Lin₂(ssp(Lin₁ m_i))
#pragma once

#include "filters.h"
#include "network.h"

namespace molpool {

template <class real>
class SchNet final : public Network<real> {
 public:
  explicit SchNet(const Archive& archive)
      : width(archive.integer("n_features")),
        row(padded(width)),
        filter_width(archive.integer("n_filters")),
        filter_row(padded(filter_width)),
        radial(archive) {
    const int rounds = archive.integer("n_interactions");
    for (int k = 0; k < rounds; ++k) layers.emplace_back(archive, k, *this);
    tabulate(archive);
    embed(archive);
  }

  double cutoff() const override { return radial.cutoff(); }
  int n_features() const override { return width; }
  std::unique_ptr<Pass<real>> begin(Geometry<real>& geometry, Arena& arena,
                                    bool wants_vectors) const override;

  struct Layer {
    Layer(const Archive& archive, int k, const SchNet& net)
        : filter(archive, part(k, "filter"), net.radial, net.filter_width),
          project(archive, part(k, "project"), {net.width}, {net.filter_width}),
          first(archive, part(k, "output.first"), {net.filter_width}, {net.width}),
          second(archive, part(k, "output.second"), {net.width}, {net.width}) {}

    FilterNetwork<real> filter;
    FilterTable<real> table;
    Linear<real> project, first, second;
  };

  static std::string part(int k, const char* layer) {
    return "interactions." + std::to_string(k) + "." + layer;
  }

  // Features, filters, and numbers from one row of them to the next.
  const int width, row, filter_width, filter_row;
  const Radial<real> radial;
  std::vector<Layer> layers;
  Numbers<real> embedding, first_values;  // rows of the elements

 private:
  // In float64 a table as exact as its numbers would be too long.
  void tabulate(const Archive& archive) {
    if (sizeof(real) > sizeof(float)) return;
    const Radial<double> exact(archive);
    for (std::size_t k = 0; k < layers.size(); ++k) {
      const FilterNetwork<double> filter(archive, part(static_cast<int>(k), "filter"), exact,
                                         filter_width);
      std::vector<double> scratch(filter.scratch());
      const auto at = [&](int count, const double* r, double* values, double* slopes) {
        filter.at(count, r, values, slopes, scratch.data());
      };
      layers[k].table = FilterTable<real>(filter_row, 0.0, cutoff(), at);
    }
  }

  // Before the first sums features depend on the element alone, and so do values.
  void embed(const Archive& archive) {
    const auto& table = archive.array("embedding.weight");
    const int elements = static_cast<int>(table.size() / width);
    embedding = padded_rows<real>(table, width);
    first_values = Numbers<real>(std::size_t(elements) * filter_row);
    layers.front().project.forward(elements, embedding.data(), first_values.data());
  }
};

template <class real>
class SchNetPass final : public Pass<real> {
 public:
  SchNetPass(const SchNet<real>& network, Geometry<real>& geometry, Arena& arena)
      : net_(network), pairs_(geometry), arena_(arena), n_(geometry.n_atoms),
        row_(network.row), wide_(network.filter_row), kept_(network.layers.size()),
        keeps_filters_(geometry.n_pairs <= MOST_KEPT) {
    scalars_ = arena.take<real>(std::size_t(n_) * row_);
    sums_ = arena.take<real>(std::size_t(n_) * wide_);
    hidden_ = arena.take<real>(2 * std::size_t(ATOMS_AT_ONCE) * row_);
    scratch_ = arena.take<real>(network.layers.front().filter.scratch());
    filters_ = arena.take<real>(std::size_t(PAIRS_AT_ONCE) * 2 * wide_);
    for (auto& kept : kept_) {
      kept.values = arena.take<real>(std::size_t(n_) * wide_);
      kept.slopes = arena.take<real>(std::size_t(n_) * row_);
    }
  }

  Features<real> forward() override {
    copy_rows(net_.embedding.data(), row_, scalars_);
    copy_rows(net_.first_values.data(), wide_, kept_[0].values);
    for (std::size_t k = 0; k < kept_.size(); ++k) {
      receive(k);
      update(k);
    }
    return {scalars_, nullptr};
  }

  void backward(real* by_scalars) override {
    d_values_ = arena_.take<real>(std::size_t(n_) * wide_);
    for (std::size_t k = kept_.size(); k-- > 0;) {
      back_update(k, by_scalars);
      back_receive(k);
    }
  }

 private:
  static constexpr int ATOMS_AT_ONCE = 8 * TILE_ROWS;
  static constexpr int PAIRS_AT_ONCE = FilterNetwork<real>::AT_ONCE;
  // Computed filters of few pairs are kept for the way back; of many they would fall out
  // of the cache and fill the memory.
  static constexpr int MOST_KEPT = 400;
  static constexpr int W = Vector<real>::width;

  struct Kept {
    real* values;            // [atoms wide] A x
    real* slopes;            // [atoms row] of the activation
    real* filters = nullptr;  // [pairs wide] and as many derivatives, or null
  };

  // A filter that stands in memory, as ``FilterTable::Row`` does in a table.
  struct Computed {
    const real *filters, *slopes;

    vec<real> value(int f) const { return load(filters + f); }
    void both(int f, vec<real>& value, vec<real>& slope) const {
      value = load(filters + f);
      slope = load(slopes + f);
    }
  };

  // The rows of the atoms' elements.
  void copy_rows(const real* table, int width, real* to) const {
    for (int a = 0; a < n_; ++a) {
      std::memcpy(to + std::size_t(a) * width, table + std::size_t(pairs_.numbers[a]) * width,
                  width * sizeof(real));
    }
  }

  // Calls ``act(pair, filter)`` for each pair.
  template <class Act>
  void for_pairs(std::size_t k, bool on_the_way_back, const Act& act) {
    const auto& layer = net_.layers[k];
    if (layer.table) {
      for (int p = 0; p < pairs_.n_pairs; ++p) act(p, layer.table.at(pairs_.distance[p]));
      return;
    }
    Kept& kept = kept_[k];
    if (keeps_filters_ && kept.filters == nullptr) {
      kept.filters = arena_.take<real>(2 * std::size_t(pairs_.n_pairs) * wide_);
    }
    for (int first = 0; first < pairs_.n_pairs; first += PAIRS_AT_ONCE) {
      const int count = std::min(PAIRS_AT_ONCE, pairs_.n_pairs - first);
      real* filters = keeps_filters_ ? kept.filters + 2 * std::size_t(first) * wide_ : filters_;
      real* slopes = filters + std::size_t(count) * wide_;
      if (!keeps_filters_ || !on_the_way_back) {
        const bool wants_slopes = keeps_filters_ || on_the_way_back;
        layer.filter.at(count, pairs_.distance + first, filters,
                        wants_slopes ? slopes : nullptr, scratch_);
      }
      for (int p = 0; p < count; ++p) {
        const std::size_t at = std::size_t(p) * wide_;
        act(first + p, Computed{filters + at, slopes + at});
      }
    }
  }

  // Eq. 2.
  void receive(std::size_t k) {
    std::memset(sums_, 0, std::size_t(n_) * wide_ * sizeof(real));
    for_pairs(k, false, [&](int p, const auto& filter) {
      const std::size_t at_i = std::size_t(pairs_.i[p]) * wide_,
                        at_j = std::size_t(pairs_.j[p]) * wide_;
      const real *xi = kept_[k].values + at_i, *xj = kept_[k].values + at_j;
      for (int f = 0; f < wide_; f += W) {
        const vec<real> w = filter.value(f);
        add_to<real>(sums_ + at_i + f, w * load(xj + f));
        add_to<real>(sums_ + at_j + f, w * load(xi + f));
      }
    });
  }

  // Features and the next values. Atoms in blocks, whose rows stay in the cache from one
  // layer to the next.
  void update(std::size_t k) {
    const auto& layer = net_.layers[k];
    real* change = hidden_ + std::size_t(ATOMS_AT_ONCE) * row_;
    for (int first = 0; first < n_; first += ATOMS_AT_ONCE) {
      const int rows = std::min(ATOMS_AT_ONCE, n_ - first);
      const std::size_t count = std::size_t(rows) * row_, at = std::size_t(first) * row_;
      const std::size_t of_filters = std::size_t(first) * wide_;
      layer.first.forward(rows, sums_ + of_filters, hidden_);
      shifted_softplus(hidden_, kept_[k].slopes + at, count);
      layer.second.forward(rows, hidden_, change);
      for (std::size_t f = 0; f < count; f += W) {
        add_to<real>(scalars_ + at + f, load(change + f));
      }
      if (k + 1 == kept_.size()) continue;
      net_.layers[k + 1].project.forward(rows, scalars_ + at, kept_[k + 1].values + of_filters);
    }
  }

  // ∂E/∂x after this round, then ∂E/∂m in the place of the sums.
  void back_update(std::size_t k, real* dx) {
    const auto& layer = net_.layers[k];
    for (int first = 0; first < n_; first += ATOMS_AT_ONCE) {
      const int rows = std::min(ATOMS_AT_ONCE, n_ - first);
      const std::size_t at = std::size_t(first) * row_, of_filters = std::size_t(first) * wide_;
      if (k + 1 < kept_.size()) {
        net_.layers[k + 1].project.backward(rows, d_values_ + of_filters, dx + at, true);
      }
      layer.second.backward(rows, dx + at, hidden_);
      multiply(hidden_, kept_[k].slopes + at, std::size_t(rows) * row_);
      layer.first.backward(rows, hidden_, sums_ + of_filters);
    }
  }

  // ∂E/∂r and, but for the first values, which are constants, ∂E/∂(A x).
  void back_receive(std::size_t k) {
    if (k > 0) std::memset(d_values_, 0, std::size_t(n_) * wide_ * sizeof(real));
    for_pairs(k, true, [&](int p, const auto& filter) {
      const std::size_t at_i = std::size_t(pairs_.i[p]) * wide_,
                        at_j = std::size_t(pairs_.j[p]) * wide_;
      const real *xi = kept_[k].values + at_i, *xj = kept_[k].values + at_j;
      vec<real> by_distance{};
      for (int f = 0; f < wide_; f += W) {
        vec<real> w, slope;
        filter.both(f, w, slope);
        const vec<real> gi = load(sums_ + at_i + f), gj = load(sums_ + at_j + f);
        by_distance += slope * (gi * load(xj + f) + gj * load(xi + f));
        if (k == 0) continue;
        add_to<real>(d_values_ + at_j + f, w * gi);
        add_to<real>(d_values_ + at_i + f, w * gj);
      }
      pairs_.d_distance[p] += sum<real>(by_distance);
    });
  }

  const SchNet<real>& net_;
  Geometry<real>& pairs_;
  Arena& arena_;
  const int n_, row_, wide_;
  std::vector<Kept> kept_;
  const bool keeps_filters_;
  real *scalars_, *sums_, *hidden_, *scratch_, *filters_;
  real* d_values_ = nullptr;
};

template <class real>
std::unique_ptr<Pass<real>> SchNet<real>::begin(Geometry<real>& geometry, Arena& arena,
                                                bool) const {
  return std::make_unique<SchNetPass<real>>(*this, geometry, arena);
}

}  // namespace molpool
