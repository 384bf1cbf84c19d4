// Vectors of numbers as the processor has them, and memory for rows of features.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace molpool {

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
constexpr int TILE_ROWS = 12;  // with two vectors a row: 24 of 32 registers
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32;
constexpr int TILE_ROWS = 6;  // 12 of 16 registers
#else
constexpr int VECTOR_BYTES = 16;
constexpr int TILE_ROWS = 6;
#endif

// Rows are padded to multiples of this, whatever the vectors: 64 bytes in float32.
constexpr int LANES = 16;

constexpr int padded(int width) { return (width + LANES - 1) / LANES * LANES; }

template <class real>
struct Vector {
  static constexpr int width = VECTOR_BYTES / static_cast<int>(sizeof(real));
  typedef real type __attribute__((vector_size(VECTOR_BYTES)));
  // the same in memory: at any address of a number, beside any other pointer
  typedef real loose
      __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));
  typedef std::conditional_t<sizeof(real) == 4, std::int32_t, std::int64_t> integer;
  typedef integer places __attribute__((vector_size(VECTOR_BYTES)));
};

template <class real>
using vec = typename Vector<real>::type;

template <class real>
inline vec<real> load(const real* from) {
  return *reinterpret_cast<const typename Vector<real>::loose*>(from);
}

template <class real>
inline void store(real* to, vec<real> value) {
  *reinterpret_cast<typename Vector<real>::loose*>(to) = value;
}

template <class real>
inline void add_to(real* to, vec<real> value) {
  store<real>(to, load(to) + value);
}

template <class real>
inline vec<real> broadcast(real value) {
  return value - vec<real>{};
}

// Lanes exchanged with those ``step`` away.
template <class real, int step>
inline vec<real> exchanged(vec<real> value) {
#if defined(__clang__)
  vec<real> other;
  for (int lane = 0; lane < Vector<real>::width; ++lane) other[lane] = value[lane ^ step];
  return other;
#else
  typename Vector<real>::places places;
  for (int lane = 0; lane < Vector<real>::width; ++lane) places[lane] = lane ^ step;
  return __builtin_shuffle(value, places);
#endif
}

// The sum of all lanes, in every lane.
template <class real, int step = Vector<real>::width / 2>
inline vec<real> total(vec<real> value) {
  value += exchanged<real, step>(value);
  if constexpr (step > 1) value = total<real, step / 2>(value);
  return value;
}

template <class real>
inline real sum(vec<real> value) {
  return total<real>(value)[0];
}

// Memory that grows to what the largest evaluation needed and is kept for the next:
// fresh pages for each step would take as long as the step.
class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() {
    for (auto& block : blocks_) std::free(block.first);
  }

  // Uninitialised; valid until the next ``reset``.
  template <class T>
  T* take(std::size_t count) {
    const std::size_t bytes = (count * sizeof(T) + 63) / 64 * 64;
    while (current_ < blocks_.size() && used_ + bytes > blocks_[current_].second) {
      ++current_;
      used_ = 0;
    }
    if (current_ == blocks_.size()) grow(bytes);
    void* place = static_cast<char*>(blocks_[current_].first) + used_;
    used_ += bytes;
    return static_cast<T*>(place);
  }

  template <class T>
  T* zeros(std::size_t count) {
    T* place = take<T>(count);
    std::memset(place, 0, count * sizeof(T));
    return place;
  }

  // What is taken while this lives is free again afterwards.
  class Scope {
   public:
    explicit Scope(Arena& arena)
        : arena_(arena), current_(arena.current_), used_(arena.used_) {}
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() {
      arena_.current_ = current_;
      arena_.used_ = used_;
    }

   private:
    Arena& arena_;
    std::size_t current_, used_;
  };

  // Everything taken is free again; blocks that grew one by one become one.
  void reset() {
    if (blocks_.size() > 1) {
      std::size_t total = 0;
      for (auto& block : blocks_) {
        total += block.second;
        std::free(block.first);
      }
      blocks_.clear();
      grow(total);
    }
    current_ = 0;
    used_ = 0;
  }

 private:
  static constexpr std::size_t HUGE_PAGE = std::size_t{2} << 20;

  void grow(std::size_t bytes) {
    std::size_t size = HUGE_PAGE;  // as much again as there is, in few blocks
    for (auto& block : blocks_) size += block.second;
    if (size < bytes) size = bytes;
    size = (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    void* block = std::aligned_alloc(HUGE_PAGE, size);
    if (block == nullptr) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    madvise(block, size, MADV_HUGEPAGE);  // rows of neighbors lie on few pages then
#endif
    blocks_.emplace_back(block, size);
  }

  std::vector<std::pair<void*, std::size_t>> blocks_;
  std::size_t current_ = 0;
  std::size_t used_ = 0;
};

// Weights, aligned and never moved.
template <class real>
class Numbers {
 public:
  Numbers() = default;
  explicit Numbers(std::size_t count) : storage_(count + 64 / sizeof(real), real(0)) {}
  Numbers(const Numbers&) = delete;  // a copy would be aligned in another way
  Numbers& operator=(const Numbers&) = delete;
  Numbers(Numbers&&) = default;
  Numbers& operator=(Numbers&&) = default;
  real* data() {
    return const_cast<real*>(static_cast<const Numbers*>(this)->data());
  }
  const real* data() const {
    auto address = reinterpret_cast<std::uintptr_t>(storage_.data());
    return reinterpret_cast<const real*>((address + 63) / 64 * 64);
  }

 private:
  std::vector<real> storage_;
};

}  // namespace molpool
