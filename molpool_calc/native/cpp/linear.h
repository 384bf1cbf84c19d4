// Products of few rows with weights that are packed once, forward and backward.
#pragma once

#include "archive.h"
#include "vectors.h"

namespace molpool {

// Steps of a product C = A·B: from one k to the next, and from one row to the next.
struct Steps {
  int inputs;
  std::ptrdiff_t a_next, lda, b_next, ldc;
  bool add;
};

// Some vectors of columns of as many rows as accumulators suffice for.
// ``packed``: of a panel and of rows in one piece, known to the compiler.
template <bool packed, int vectors, int height, class real>
inline void tile(const Steps& steps, const real* a, const real* b, real* c,
                 const real* bias) {
  constexpr int width = Vector<real>::width;
  const std::ptrdiff_t lda = steps.lda, ldc = steps.ldc;
  const std::ptrdiff_t a_next = packed ? 1 : steps.a_next;
  const std::ptrdiff_t b_next = packed ? vectors * width : steps.b_next;
  vec<real> sums[height][vectors];
#pragma GCC unroll 12
  for (int row = 0; row < height; ++row) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      sums[row][v] = steps.add ? load(c + row * ldc + v * width)
                     : bias    ? load(bias + v * width)
                               : vec<real>{};
    }
  }
  for (int k = 0; k < steps.inputs; ++k, a += a_next, b += b_next) {
    vec<real> weights[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) weights[v] = load(b + v * width);
#pragma GCC unroll 12
    for (int row = 0; row < height; ++row) {
      const real factor = a[row * lda];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sums[row][v] += factor * weights[v];
    }
  }
#pragma GCC unroll 12
  for (int row = 0; row < height; ++row) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      store<real>(c + row * ldc + v * width, sums[row][v]);
    }
  }
}

template <bool packed, int vectors, int height = TILE_ROWS, class real>
inline void choose(const Steps& steps, int rows, const real* a, const real* b, real* c,
                   const real* bias) {
  if constexpr (height > 0) {
    if (rows == height) {
      tile<packed, vectors, height>(steps, a, b, c, bias);
    } else {
      choose<packed, vectors, height - 1>(steps, rows, a, b, c, bias);
    }
  }
}

// Where a part begins if rows are shared evenly; the product exceeds an int.
inline int share(int rows, int part, int parts) {
  return static_cast<int>(std::int64_t(rows) * part / parts);
}

// The same of any B, ``columns`` wide (a multiple of LANES) as it lies in memory.
template <class real>
inline void multiply_rows(const Steps& steps, int rows, int columns, const real* a,
                          const real* b, real* c) {
  constexpr int width = Vector<real>::width;
  const int blocks = (rows + TILE_ROWS - 1) / TILE_ROWS;
  for (int block = 0; block < blocks; ++block) {
    const int from = share(rows, block, blocks), count = share(rows, block + 1, blocks) - from;
    const real* of = a + from * steps.lda;
    real* to = c + from * steps.ldc;
    int n = 0;
    for (; n + 2 * width <= columns; n += 2 * width) {
      choose<false, 2>(steps, count, of, b + n, to + n, static_cast<const real*>(nullptr));
    }
    if (n < columns) {
      choose<false, 1>(steps, count, of, b + n, to + n, static_cast<const real*>(nullptr));
    }
  }
}

// A matrix [inputs, outputs] in panels of two vectors of columns, each panel row by row,
// so that a product reads it from its beginning to its end.
template <class real>
class Packed {
 public:
  static constexpr int PANEL = 2 * Vector<real>::width;

  Packed() = default;

  // ``entry(k, n)`` gives the numbers; both sizes are multiples of LANES, or K is not.
  template <class Entry>
  Packed(int inputs, int outputs, const Entry& entry)
      : inputs_(inputs), outputs_(outputs),
        numbers_(static_cast<std::size_t>(inputs) * outputs) {
    real* to = numbers_.data();
    for (int first = 0; first < outputs; first += PANEL) {
      const int last = first + PANEL < outputs ? first + PANEL : outputs;
      for (int k = 0; k < inputs; ++k) {
        for (int n = first; n < last; ++n) *to++ = static_cast<real>(entry(k, n));
      }
    }
  }

  int inputs() const { return inputs_; }
  int outputs() const { return outputs_; }

  // C ← A·W + bias, or C ← C + A·W; rows of A and C ``lda`` and ``ldc`` numbers apart.
  void product(int rows, const real* a, std::ptrdiff_t lda, real* c, std::ptrdiff_t ldc,
               const real* bias = nullptr, bool add = false) const {
    product(rows, a, lda, c, ldc, bias, add, 0, outputs_);
  }

  // The same of the columns from ``first``, a multiple of PANEL, to ``last``.
  void product(int rows, const real* a, std::ptrdiff_t lda, real* c, std::ptrdiff_t ldc,
               const real* bias, bool add, int first, int last) const {
    const int blocks = (rows + TILE_ROWS - 1) / TILE_ROWS;
    for (int n = first; n < last; n += PANEL) {
      const real* panel = numbers_.data() + static_cast<std::size_t>(n) * inputs_;
      const int width = outputs_ - n < PANEL ? outputs_ - n : PANEL;
      for (int block = 0; block < blocks; ++block) {
        // of alike height, as a low tile leaves the multipliers idle
        const int from = share(rows, block, blocks), to = share(rows, block + 1, blocks);
        const real* b = bias == nullptr ? nullptr : bias + n;
        if (width == PANEL) {
          choose<true, 2>({inputs_, 1, lda, PANEL, ldc, add}, to - from, a + from * lda, panel,
                    c + from * ldc + n, b);
        } else {
          narrow(width, to - from, a + from * lda, lda, panel, c + from * ldc + n, ldc, b,
                 add);
        }
      }
    }
  }

 private:
  // The last panel of a width that is a multiple of LANES but not of PANEL.
  void narrow(int width, int rows, const real* a, std::ptrdiff_t lda, const real* panel,
              real* c, std::ptrdiff_t ldc, const real* bias, bool add) const {
    static_assert(LANES % Vector<real>::width == 0, "rows are whole vectors");
    // one vector is all that can be left
    choose<true, 1>({inputs_, 1, lda, width, ldc, add}, rows, a, panel, c, bias);
  }

  int inputs_ = 0, outputs_ = 0;
  Numbers<real> numbers_;
};

// Widths of the parts of a row, each of which is padded on its own.
class Parts {
 public:
  Parts(std::initializer_list<int> widths) : widths_(widths) {}
  // Parts of one width.
  static Parts alike(int count, int width) {
    Parts parts{};
    parts.widths_.assign(count, width);
    return parts;
  }

  int width() const {
    int total = 0;
    for (int width : widths_) total += width;
    return total;
  }
  int padded_width() const {
    int total = 0;
    for (int width : widths_) total += padded(width);
    return total;
  }
  // The place among the unpadded of a padded place, −1 for padding.
  int place(int at) const {
    int before = 0;
    for (int width : widths_) {
      if (at < padded(width)) return at < width ? before + at : -1;
      at -= padded(width);
      before += width;
    }
    return -1;
  }

 private:
  std::vector<int> widths_;
};

// The rows of a table, as many as there are of this width, each padded.
template <class real>
inline Numbers<real> padded_rows(const std::vector<double>& table, int width) {
  const std::size_t count = table.size() / width, row = padded(width);
  Numbers<real> rows(count * row);
  for (std::size_t k = 0; k < count; ++k) {
    for (int f = 0; f < width; ++f) {
      rows.data()[k * row + f] = static_cast<real>(table[k * width + f]);
    }
  }
  return rows;
}

// y = xWᵀ + b with W [outputs, inputs] as torch stores it; both sides padded.
template <class real>
class Linear {
 public:
  Linear() = default;
  Linear(const Archive& archive, const std::string& name, const Parts& in,
         const Parts& out)
      : Linear(in, out,
               archive.array(name + ".weight", std::size_t(in.width()) * out.width()).data(),
               archive.has(name + ".bias")
                   ? archive.array(name + ".bias", out.width()).data()
                   : nullptr) {}

  // ``weight`` [outputs, inputs] and ``bias``, which may be null.
  Linear(const Parts& in, const Parts& out, const double* weight, const double* bias)
      : inputs_(in.padded_width()), outputs_(out.padded_width()), has_bias_(bias != nullptr) {
    const int n_in = in.width();
    const auto entry = [&](int k, int n) {
      const int from = in.place(k), to = out.place(n);
      return from < 0 || to < 0 ? 0.0 : weight[static_cast<std::size_t>(to) * n_in + from];
    };
    forward_ = Packed<real>(inputs_, outputs_, entry);
    backward_ = Packed<real>(outputs_, inputs_, [&](int n, int k) { return entry(k, n); });
    if (bias == nullptr) return;
    bias_ = Numbers<real>(outputs_);
    for (int n = 0; n < outputs_; ++n) {
      bias_.data()[n] = out.place(n) < 0 ? real(0) : static_cast<real>(bias[out.place(n)]);
    }
  }

  int inputs() const { return inputs_; }
  int outputs() const { return outputs_; }

  // y [rows, outputs] of x, whose rows are ``stride`` apart (0: as wide as it is).
  void forward(int rows, const real* x, real* y, std::ptrdiff_t stride = 0) const {
    forward_.product(rows, x, stride ? stride : inputs_, y, outputs_,
                     has_bias_ ? bias_.data() : nullptr);
  }

  // ∂/∂x ← or += ∂/∂y · W
  void backward(int rows, const real* dy, real* dx, bool add = false,
                std::ptrdiff_t stride = 0) const {
    backward_.product(rows, dy, outputs_, dx, stride ? stride : inputs_, nullptr, add);
  }

 private:
  int inputs_ = 0, outputs_ = 0;
  bool has_bias_ = false;
  Packed<real> forward_, backward_;
  Numbers<real> bias_;
};

}  // namespace molpool
