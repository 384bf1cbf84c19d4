// What Python calls: functions of C, which return a message where something failed.
//
// The command that compiles this includes the header of a network, names its class
// MOLPOOL_NETWORK and the type of numbers MOLPOOL_REAL.
#include <cstdio>

#include "potential.h"

namespace {

using molpool::Archive;
using molpool::Batch;
using molpool::Potential;
using molpool::Results;
typedef MOLPOOL_REAL real;

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

}  // namespace

extern "C" {

int molpool_create(std::int64_t count, const char* const* names, const double* const* data,
                   const std::int64_t* sizes, void** handle, char* message,
                   std::int64_t size) {
  return guarded(message, size, [&] {
    *handle = new Potential<real>(Archive(count, names, data, sizes));
  });
}

int molpool_evaluate(void* handle, const Batch<real>* batch, const Results<real>* results,
                     std::int64_t n_threads, char* message, std::int64_t size) {
  return guarded(message, size, [&] {
    static_cast<Potential<real>*>(handle)->evaluate(*batch, *results,
                                                    static_cast<int>(n_threads));
  });
}

void molpool_destroy(void* handle) { delete static_cast<Potential<real>*>(handle); }
}
