// The Set Transformer around the blocks of attention.h: encoder, seeds, decoder.
#pragma once

#include "attention.h"

namespace molpool {

// Every row attends to all rows.
template <class real>
class SelfBlock {
 public:
  SelfBlock(const Archive& archive, const std::string& name, const Parts& in, Heads heads,
            Activation activation)
      : row_(heads.row()), project_(archive, name + ".project", in, heads.parts(3)),
        block_(archive, name + ".block", heads, activation) {}

  Backward<real> apply(int n, const real* rows, real* out, Arena& arena) const {
    real* mixed = arena.take<real>(3 * std::size_t(n) * row_);
    project_.forward(n, rows, mixed);
    const auto back = block_.apply(n, n, parts(mixed), out, nullptr, arena);
    return [this, n, back, &arena](const real* by_out, real* by_rows) {
      Arena::Scope scope(arena);
      real* by_mixed = arena.zeros<real>(3 * std::size_t(n) * row_);
      back(by_out, parts(by_mixed));
      project_.backward(n, by_mixed, by_rows, true);
    };
  }

 private:
  Attended<real> parts(real* mixed) const {
    return {mixed, mixed + row_, mixed + 2 * row_, 3 * row_, 3 * row_};
  }

  int row_;
  Linear<real> project_;
  AttentionBlock<real> block_;
};

// Learned seeds attend to the rows; their queries are constants.
template <class real>
class SeedBlock {
 public:
  SeedBlock(const Archive& archive, const std::string& name, Heads heads,
            Activation activation)
      : row_(heads.row()), project_(archive, name + ".project", heads.parts(), heads.parts(2)),
        block_(archive, name + ".block", heads, activation) {
    const int width = heads.count * heads.width;
    const auto& seeds = archive.array(name + ".seeds");
    count_ = static_cast<int>(seeds.size() / width);
    Numbers<real> rows(std::size_t(count_) * padded(width));
    for (std::size_t k = 0; k < seeds.size(); ++k) {
      rows.data()[k / width * padded(width) + k % width] = static_cast<real>(seeds[k]);
    }
    const Linear<real> query(archive, name + ".query", {width}, heads.parts());
    queries_ = Numbers<real>(std::size_t(count_) * row_);
    query.forward(count_, rows.data(), queries_.data());
  }

  int count() const { return count_; }

  Backward<real> apply(int n, const real* rows, real* out, real* weights,
                       Arena& arena) const {
    real* mixed = arena.take<real>(2 * std::size_t(n) * row_);
    project_.forward(n, rows, mixed);
    real* queries = const_cast<real*>(queries_.data());  // read only
    const auto back = block_.apply(
        count_, n, {queries, mixed, mixed + row_, row_, 2 * row_}, out, weights, arena);
    return [this, n, back, &arena](const real* by_out, real* by_rows) {
      Arena::Scope scope(arena);
      real* by_mixed = arena.zeros<real>(2 * std::size_t(n) * row_);
      back(by_out, {nullptr, by_mixed, by_mixed + row_, 0, 2 * row_});
      project_.backward(n, by_mixed, by_rows, true);
    };
  }

 private:
  int row_, count_;
  Linear<real> project_;
  AttentionBlock<real> block_;
  Numbers<real> queries_;
};

template <class real>
class AttentionPooling final : public Pooling<real> {
 public:
  AttentionPooling(const Archive& archive, const std::string& name, int width, int n_heads,
                   int n_blocks, Activation activation)
      : heads_{n_heads, static_cast<int>(archive.array(name + ".last.weight").size() /
                                         archive.array(name + ".last.bias").size()) /
                            n_heads},
        seeds_(archive, name + ".seeds", heads_, activation),
        decoder_(archive, name + ".decoder", heads_.parts(), heads_, activation),
        last_(archive, name + ".last", heads_.parts(),
              {static_cast<int>(archive.array(name + ".last.bias").size())}) {
    for (int k = 0; k < n_blocks; ++k) {
      encoder_.emplace_back(archive, name + ".encoder." + std::to_string(k),
                            k == 0 ? Parts{width} : heads_.parts(), heads_, activation);
    }
  }

  int outputs() const override { return last_.outputs(); }

  Backward<real> apply(int n, const real* rows, real* pooled, real* weights,
                       Arena& arena) const override {
    const int row = heads_.row(), k = seeds_.count();
    std::vector<Backward<real>> steps;
    for (const auto& block : encoder_) {
      real* out = arena.take<real>(std::size_t(n) * row);
      steps.push_back(block.apply(n, rows, out, arena));
      rows = out;
    }
    real *seen = arena.take<real>(std::size_t(k) * row),
         *decoded = arena.take<real>(std::size_t(k) * row), *mean = arena.zeros<real>(row);
    const auto seeds_back = seeds_.apply(n, rows, seen, weights, arena);
    const auto decoder_back = decoder_.apply(k, seen, decoded, arena);
    for (int f = 0; f < k * row; ++f) mean[f % row] += decoded[f] / k;
    last_.forward(1, mean, pooled);
    return [=, &arena](const real* by_pooled, real* by_rows) {
      Arena::Scope scope(arena);
      const std::size_t of_seeds = std::size_t(k) * row;
      real *by_mean = arena.take<real>(row), *by_decoded = arena.take<real>(of_seeds),
           *by_seen = arena.zeros<real>(of_seeds);
      last_.backward(1, by_pooled, by_mean);
      for (int f = 0; f < k * row; ++f) by_decoded[f] = by_mean[f % row] / k;
      decoder_back(by_decoded, by_seen);
      real* by_out = arena.zeros<real>(std::size_t(n) * row);
      seeds_back(by_seen, by_out);
      for (std::size_t b = steps.size(); b-- > 0;) {
        real* before = b == 0 ? by_rows : arena.zeros<real>(std::size_t(n) * row);
        steps[b](by_out, before);
        by_out = before;
      }
    };
  }

 private:
  Heads heads_;
  SeedBlock<real> seeds_;
  SelfBlock<real> decoder_;
  Linear<real> last_;
  std::vector<SelfBlock<real>> encoder_;
};

}  // namespace molpool
