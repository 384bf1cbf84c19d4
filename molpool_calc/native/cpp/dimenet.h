// DimeNet++ (Gasteiger, Giri, Margraf, Günnemann, arXiv:2011.14115, after Gasteiger, Groß,
// Günnemann, ICLR 2020, arXiv:2003.03123), its weights. Names as in ``networks.dimenet``.
//
// What two matrices do one after the other without a function between them is one matrix
// here: of the radial filters, of the angular ones, of ``up`` and the first layer of an
// output block.
#pragma once

#include <utility>

#include "bessel.h"
#include "network.h"

namespace molpool {

// [rows, columns] as torch stores it.
struct Matrix {
  int rows, columns;
  std::vector<double> numbers;

  Matrix(int n_rows, int n_columns, const double* from)
      : rows(n_rows), columns(n_columns),
        numbers(from, from + std::size_t(n_rows) * n_columns) {}

  double at(int row, int column) const { return numbers[std::size_t(row) * columns + column]; }

  // The product with a matrix that is applied before.
  Matrix after(const Matrix& other) const {
    Matrix product(rows, other.columns, std::vector<double>(
                                            std::size_t(rows) * other.columns).data());
    for (int row = 0; row < rows; ++row) {
      for (int k = 0; k < columns; ++k) {
        const double factor = at(row, k);
        double* to = product.numbers.data() + std::size_t(row) * other.columns;
        for (int n = 0; n < other.columns; ++n) to[n] += factor * other.at(k, n);
      }
    }
    return product;
  }

  // Columns ``first`` to ``last``, to be applied to few numbers, with padded outputs.
  template <class real>
  Packed<real> packed(int first, int last) const {
    return Packed<real>(last - first, padded(rows), [&](int k, int n) {
      return n < rows ? at(n, first + k) : 0.0;
    });
  }
};

// The matrix of a layer of known width on one side.
inline Matrix matrix(const Archive& archive, const std::string& name, int columns) {
  const auto& numbers = archive.array(name);
  const int rows = static_cast<int>(numbers.size()) / columns;
  return Matrix(rows, columns, archive.array(name, std::size_t(rows) * columns).data());
}

// x + silu(Lin₂ silu(Lin₁ x))
template <class real>
struct Residual {
  Residual(const Archive& archive, const std::string& name, int width)
      : first(archive, name + ".first", {width}, {width}),
        second(archive, name + ".second", {width}, {width}) {}

  Linear<real> first, second;
};

template <class real>
struct Interaction {
  Interaction(const Archive& archive, const std::string& name, int width, int n_radial,
              int n_orders)
      : n_arriving(static_cast<int>(archive.array(name + ".down.weight").size()) / width),
        source(archive, name + ".source", {width}, {width, width}),
        down(archive, name + ".down", {width}, {n_arriving}),
        up(archive, name + ".up", {n_arriving}, {width}),
        skip(archive, name + ".skip", {width}, {width}) {
    const Matrix first = matrix(archive, name + ".radial_first.weight", n_radial);
    radial = matrix(archive, name + ".radial_second.weight", first.rows)
                 .after(first)
                 .template packed<real>(0, n_radial);
    const Matrix inner =
        matrix(archive, name + ".angular_first.weight", n_orders * n_radial);
    const Matrix both =
        matrix(archive, name + ".angular_second.weight", inner.rows).after(inner);
    if (both.rows != n_arriving) throw std::invalid_argument("wrong size: " + name);
    for (int l = 0; l < n_orders; ++l) {
      angular.push_back(both.packed<real>(l * n_radial, (l + 1) * n_radial));
    }
    add(archive, name + ".before_skip.", width, before);
    add(archive, name + ".after_skip.", width, after);
  }

  int n_arriving;
  Linear<real> source, down, up, skip;
  Packed<real> radial;                // filter of the arriving messages
  std::vector<Packed<real>> angular;  // of each order l
  std::vector<Residual<real>> before, after;

 private:
  static void add(const Archive& archive, const std::string& name, int width,
                  std::vector<Residual<real>>& to) {
    for (int k = 0; archive.has(name + std::to_string(k) + ".first.weight"); ++k) {
      to.emplace_back(archive, name + std::to_string(k), width);
    }
  }
};

// Σ_j gate ⊙ m_ij → features: linear layers, with an activation between them.
template <class real>
struct OutputBlock {
  OutputBlock(const Archive& archive, int block, int n_blocks, int width, int n_radial,
              int n_features)
      : gate(part(archive, "outputs.gate.weight", block, n_blocks, n_radial)
                 .template packed<real>(0, n_radial)) {
    Matrix weight = part(archive, "outputs.up.weight", block, n_blocks, width);
    for (int k = 0; archive.has(hidden(k) + ".weight"); ++k) {
      const Matrix next =
          part(archive, hidden(k) + ".weight", block, n_blocks, weight.rows);
      weight = k == 0 ? next.after(weight) : next;
      const auto& bias =
          archive.array(hidden(k) + ".bias", std::size_t(n_blocks) * weight.rows);
      layers.emplace_back(Parts{weight.columns}, Parts{weight.rows}, weight.numbers.data(),
                          bias.data() + std::size_t(block) * weight.rows);
    }
    const Matrix last =
        part(archive, "outputs.last.weight", block, n_blocks, weight.rows);
    const Matrix final = layers.empty() ? last.after(weight) : last;
    if (final.rows != n_features) throw std::invalid_argument("wrong size: outputs.last");
    layers.emplace_back(Parts{final.columns}, Parts{final.rows}, final.numbers.data(),
                        nullptr);
  }

  Packed<real> gate;
  std::vector<Linear<real>> layers;

 private:
  static std::string hidden(int k) { return "outputs.hidden." + std::to_string(k); }

  static Matrix part(const Archive& archive, const std::string& name, int block,
                     int n_blocks, int columns) {
    const Matrix all = matrix(archive, name, columns);
    const int rows = all.rows / n_blocks;
    return Matrix(rows, columns, all.numbers.data() + std::size_t(block) * rows * columns);
  }
};

template <class real>
class DimeNet final : public Network<real> {
 public:
  explicit DimeNet(const Archive& archive)
      : n_features_(archive.integer("n_features")),
        width(archive.integer("n_hidden")), row(padded(width)),
        n_orders(archive.integer("n_spherical")),
        at_end(archive.integer("angle_at_end") != 0),
        most_kept(archive.integer("most_kept")), bases(archive) {
    const int blocks = archive.integer("n_interactions"), n_radial = bases.n_radial();
    for (int k = 0; k < blocks; ++k) {
      interactions.emplace_back(archive, "interactions." + std::to_string(k), width,
                                n_radial, n_orders);
    }
    for (int k = 0; k <= blocks; ++k) {
      outputs.emplace_back(archive, k, blocks + 1, width, n_radial, n_features_);
    }
    embed(archive);
  }

  double cutoff() const override { return bases.cutoff(); }
  int n_features() const override { return n_features_; }
  std::unique_ptr<Pass<real>> begin(Geometry<real>& geometry, Arena& arena,
                                    bool wants_vectors) const override;

 private:
  const int n_features_;

 public:
  const int width, row;  // of messages, and numbers from one row to the next
  const int n_orders;    // Legendre polynomials
  const bool at_end;     // where angles are
  const int most_kept;   // rows of which all slopes are kept
  const BesselBases<real> bases;
  std::vector<Interaction<real>> interactions;
  std::vector<OutputBlock<real>> outputs;
  Linear<real> embed_inner;  // of silu(Lin rbf)
  Packed<real> radial;         // Lin rbf without its bias
  Numbers<real> radial_bias, center, neighbor;  // rows of the elements

 private:
  // Silu(Lin[x_i, x_j, silu(Lin rbf)]): what does not depend on distances is a table.
  void embed(const Archive& archive) {
    const Matrix table = matrix(archive, "embedding.weight", width);
    const Matrix pair = matrix(archive, "embed_pair.weight", 3 * width);
    const auto& bias = archive.array("embed_pair.bias", width);
    center = Numbers<real>(std::size_t(table.rows) * row);
    neighbor = Numbers<real>(std::size_t(table.rows) * row);
    for (int z = 0; z < table.rows; ++z) {
      for (int f = 0; f < width; ++f) {
        double of_center = bias[f], of_neighbor = 0.0;
        for (int k = 0; k < width; ++k) {
          of_center += pair.at(f, k) * table.at(z, k);
          of_neighbor += pair.at(f, width + k) * table.at(z, k);
        }
        center.data()[z * row + f] = static_cast<real>(of_center);
        neighbor.data()[z * row + f] = static_cast<real>(of_neighbor);
      }
    }
    std::vector<double> of_radial;
    for (int f = 0; f < width; ++f) {
      for (int k = 0; k < width; ++k) of_radial.push_back(pair.at(f, 2 * width + k));
    }
    embed_inner = Linear<real>(Parts{width}, Parts{width}, of_radial.data(), nullptr);
    const Matrix first = matrix(archive, "embed_radial.weight", bases.n_radial());
    if (first.rows != width) throw std::invalid_argument("wrong size: embed_radial");
    radial = first.packed<real>(0, bases.n_radial());
    const auto& radial_biases = archive.array("embed_radial.bias", width);
    radial_bias = Numbers<real>(row);
    for (int f = 0; f < width; ++f) {
      radial_bias.data()[f] = static_cast<real>(radial_biases[f]);
    }
  }
};

}  // namespace molpool
