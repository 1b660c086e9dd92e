// How much of the memory's bandwidth the tiers' copies take: their share of what was measured, and
// no more, so that whoever computes meanwhile keeps the rest. docs/kvbm.md
//
// Thread: TrafficBudget is a value; a CopyPacer is for any.
// Traffic is what a copy reads and writes in memory: its bytes several times over.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "rt/thread.h"
#include "rt/time.h"

namespace pixii::kv {

struct TrafficLimits {
  double bytes_per_second = 0;                         // > 0
  rt::Duration burst = std::chrono::milliseconds(20);  // so much of it may come at once
};

/// Whether somebody waits for a copy.
enum class CopyHaste : std::uint8_t {
  kNow,    // a request does
  kLater,  // nobody: half of a burst stays for those that do
};

/// When the next copy may begin. What is taken beyond the budget is waited for by whoever takes it.
class TrafficBudget final {
 public:
  explicit TrafficBudget(const TrafficLimits& limits);

  /// `bytes` of traffic begin after the returned time has passed. Pre: `now` never goes back.
  rt::Duration Take(rt::Time now, std::uint64_t bytes, CopyHaste haste);

 private:
  double bytes_per_second_;
  double burst_bytes_;
  double left_;  // below 0: taken ahead of time
  rt::Time at_{};
};

/// What moves a block of `bytes`, in bytes of memory traffic.
struct BlockTrafficCost {
  static constexpr std::uint64_t kCopy = 2;    // read here, written there
  static constexpr std::uint64_t kCheck = 1;   // summed at its new place
  static constexpr std::uint64_t kDevice = 1;  // between memory and disk or network
};

class CopyPacer final {
 public:
  using Clock = std::function<rt::Time()>;
  using Wait = std::function<void(rt::Duration)>;

  /// `clock` and `wait` are called on any thread.
  CopyPacer(const TrafficLimits& limits, Clock clock, Wait wait);

  /// Waits until `bytes` of traffic may begin.
  void Pass(std::uint64_t bytes, CopyHaste haste);

  std::uint64_t waited_ns() const { return waited_ns_.load(std::memory_order_relaxed); }

 private:
  Clock clock_;
  Wait wait_;
  rt::Mutex mutex_;
  TrafficBudget budget_ PX_GUARDED_BY(mutex_);
  std::atomic<std::uint64_t> waited_ns_{0};
};

/// Waits for `duration` on the thread that calls.
void WaitOnThread(rt::Duration duration);

struct BandwidthProbe {
  std::uint32_t threads = 1;
  std::uint64_t bytes_of_thread = 16U << 20U;  // beyond what caches hold
  rt::Duration time = std::chrono::milliseconds(30);
};

/// Bytes per second that all threads together read and write while they copy. Takes the machine
/// for `probe.time`.
double MeasureBandwidth(const BandwidthProbe& probe, const CopyPacer::Clock& clock);

}  // namespace pixii::kv
