// This process and its machine: signals to a loop, what it uses, what it may use.
//
// Thread: readings from any; they cost a read of /proc, so not per request.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>

#include "base/result.h"
#include "rt/loop.h"

namespace pixii::rt {

/// Delivers signals to a loop until it dies.
class SignalWatch {
 public:
  virtual ~SignalWatch() = default;
};

/// Calls `fn` with the number of each of `signals` that comes. The loop is a real one and outlives
/// the watch. Blocks the signals in this thread and in those it starts later: call it before
/// starting threads.
Result<std::unique_ptr<SignalWatch>> WatchSignals(Loop& loop, std::initializer_list<int> signals,
                                                  Function<void(int)> fn);

/// A write to a closed pipe or socket is an error value for this process, never its death.
void IgnoreBrokenPipes();

struct ProcessUsage {
  std::uint64_t resident_bytes = 0;
  std::uint64_t resident_bytes_peak = 0;
  std::uint32_t threads = 0;
  std::uint32_t descriptors = 0;
  std::uint32_t descriptors_max = 0;  // ulimit -n
  Duration cpu_time{};                // user and system, of all threads
};

Result<ProcessUsage> ReadProcessUsage();

/// CPU time of the calling thread.
Duration ThreadCpuTime();

/// Gives memory that was freed back to the system. Costs milliseconds.
void TrimMemory();

struct MachineLimits {
  std::uint64_t memory_bytes = 0;  // of the machine or of this container, whichever is less
  std::uint64_t memory_available_bytes = 0;  // could be taken now without swapping
  std::uint32_t cpu_count = 1;  // this process may run on, containers' quota included, rounded up
};

Result<MachineLimits> ReadMachineLimits();

}  // namespace pixii::rt
