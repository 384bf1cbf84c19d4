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
    embedding = padded_rows<real>(table, width);
    const Layer& layer = layers.front();
    std::vector<real> slopes(std::size_t(elements) * row);
    Numbers<real> hidden(slopes.size());
    layer.context_first.forward(elements, embedding.data(), hidden.data());
    silu(hidden.data(), slopes.data(), slopes.size());
    first_context = Numbers<real>(std::size_t(elements) * 3 * row);
    layer.context_second.forward(elements, hidden.data(), first_context.data());
  }
};

}  // namespace molpool
