// What Python calls: functions of C, which return a message where something failed.
#include <cstdio>

#include "potential.h"

namespace {

using molpool::Archive;
using molpool::Batch;
using molpool::Potential;
using molpool::Results;

// Runs ``act`` and returns 0, or writes why it failed and returns 1 (2: out of memory).
template <class Act>
int guarded(char* message, std::int64_t size, const Act& act) {
  try {
    act();
    return 0;
  } catch (const std::bad_alloc&) {
    std::snprintf(message, size, "out of memory");
    return 2;
  } catch (const std::exception& error) {
    std::snprintf(message, size, "%s", error.what());
    return 1;
  }
}

template <class real>
int create(std::int64_t count, const char* const* names, const double* const* data,
           const std::int64_t* sizes, void** handle, char* message, std::int64_t size) {
  return guarded(message, size, [&] {
    *handle = new Potential<real>(Archive(count, names, data, sizes));
  });
}

template <class real>
int evaluate(void* handle, const Batch<real>* batch, const Results<real>* results,
             std::int64_t n_threads, char* message, std::int64_t size) {
  return guarded(message, size, [&] {
    static_cast<Potential<real>*>(handle)->evaluate(*batch, *results,
                                                    static_cast<int>(n_threads));
  });
}

}  // namespace

extern "C" {

int molpool_create_float32(std::int64_t count, const char* const* names,
                           const double* const* data, const std::int64_t* sizes,
                           void** handle, char* message, std::int64_t size) {
  return create<float>(count, names, data, sizes, handle, message, size);
}

int molpool_create_float64(std::int64_t count, const char* const* names,
                           const double* const* data, const std::int64_t* sizes,
                           void** handle, char* message, std::int64_t size) {
  return create<double>(count, names, data, sizes, handle, message, size);
}

int molpool_evaluate_float32(void* handle, const Batch<float>* batch,
                             const Results<float>* results, std::int64_t n_threads,
                             char* message, std::int64_t size) {
  return evaluate<float>(handle, batch, results, n_threads, message, size);
}

int molpool_evaluate_float64(void* handle, const Batch<double>* batch,
                             const Results<double>* results, std::int64_t n_threads,
                             char* message, std::int64_t size) {
  return evaluate<double>(handle, batch, results, n_threads, message, size);
}

void molpool_destroy_float32(void* handle) { delete static_cast<Potential<float>*>(handle); }
void molpool_destroy_float64(void* handle) { delete static_cast<Potential<double>*>(handle); }
}
