// Threads that share the work on one large system, phase by phase.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <system_error>
#include <thread>

#include "vectors.h"

namespace molpool {

// The first member is the caller. The others wait for work from one phase to the next
// and end with the team; a phase takes them some microseconds to begin and to end.
class Team {
 public:
  explicit Team(std::vector<Arena*> arenas) : arenas_(std::move(arenas)) {
    try {
      for (int rank = 1; rank < size(); ++rank) {
        members_.emplace_back([this, rank] { serve(rank); });
      }
    } catch (const std::system_error&) {
      arenas_.resize(1 + members_.size());  // the system gives no more threads
    }
  }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  ~Team() {
    ended_ = true;
    change([this] { ++phase_; });
    for (auto& member : members_) member.join();
  }

  int size() const { return static_cast<int>(arenas_.size()); }
  Arena& arena(int rank) { return *arenas_[rank]; }

  // Calls ``act(rank)`` for each member and returns when all are done.
  void run(const std::function<void(int)>& act) {
    if (size() == 1) return act(0);
    act_ = &act;
    n_busy_ = size() - 1;
    change([this] { ++phase_; });
    attempt(0);
    wait([this] { return n_busy_ == 0; });
    if (failed_) throw std::bad_alloc();
  }

 private:
  // Looks before a thread sleeps, from which it takes long to wake: some 50 µs.
  static constexpr int PATIENCE = 50000;

  void serve(int rank) {
    for (int seen = 0;; ++seen) {
      wait([this, seen] { return phase_ != seen; });
      if (ended_) return;
      attempt(rank);
      change([this] { --n_busy_; });
    }
  }

  // Under the lock, as else one could fall asleep between its look and the change.
  template <class Act>
  void change(const Act& act) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      act();
    }
    changed_.notify_all();
  }

  template <class Condition>
  void wait(const Condition& condition) {
    for (int look = 0; look < PATIENCE; ++look) {
      if (condition()) return;
    }
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, condition);
  }

  // Memory is all that can fail, and it must not fail outside of ``run``.
  void attempt(int rank) {
    try {
      (*act_)(rank);
    } catch (const std::bad_alloc&) {
      failed_ = true;
    }
  }

  std::vector<Arena*> arenas_;
  std::vector<std::thread> members_;
  const std::function<void(int)>* act_ = nullptr;
  std::atomic<int> phase_{0}, n_busy_{0};
  std::atomic<bool> ended_{false}, failed_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
};

}  // namespace molpool
