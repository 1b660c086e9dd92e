#include "kv/tiers/copy_pacer.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "rt/block_file.h"

namespace pixii::kv {

namespace {

double Seconds(rt::Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

TrafficBudget::TrafficBudget(const TrafficLimits& limits)
    : bytes_per_second_(limits.bytes_per_second),
      burst_bytes_(limits.bytes_per_second * Seconds(limits.burst)),
      left_(burst_bytes_) {
  PX_ASSERT(limits.bytes_per_second > 0);
}

rt::Duration TrafficBudget::Take(rt::Time now, std::uint64_t bytes, CopyHaste haste) {
  if (at_ != rt::Time{}) {
    left_ = std::min(burst_bytes_, left_ + Seconds(now - at_) * bytes_per_second_);
  }
  at_ = now;
  left_ -= static_cast<double>(bytes);
  const double lacks = (haste == CopyHaste::kNow ? 0 : burst_bytes_ / 2) - left_;
  return lacks <= 0 ? rt::Duration{}
                    : std::chrono::duration_cast<rt::Duration>(
                          std::chrono::duration<double>(lacks / bytes_per_second_));
}

CopyPacer::CopyPacer(const TrafficLimits& limits, Clock clock, Wait wait)
    : clock_(std::move(clock)), wait_(std::move(wait)), budget_(limits) {}

void CopyPacer::Pass(std::uint64_t bytes, CopyHaste haste) {
  rt::Duration wait{};
  {
    const rt::MutexLock lock(mutex_);
    wait = budget_.Take(clock_(), bytes, haste);
  }
  if (wait > rt::Duration{}) {
    wait_(wait);
    waited_ns_.fetch_add(static_cast<std::uint64_t>(wait.count()), std::memory_order_relaxed);
  }
}

void WaitOnThread(rt::Duration duration) {
  rt::Mutex mutex;
  rt::CondVar never;
  const rt::MutexLock lock(mutex);
  never.WaitFor(mutex, duration);
}

double MeasureBandwidth(const BandwidthProbe& probe, const CopyPacer::Clock& clock) {
  struct Copier {
    rt::AlignedBytes from;
    rt::AlignedBytes to;
    double bytes_per_second = 0;
  };

  std::vector<Copier> copiers(probe.threads);
  for (Copier& copier : copiers) {
    copier.from = rt::AlignedBytes(probe.bytes_of_thread);
    copier.to = rt::AlignedBytes(probe.bytes_of_thread);
    std::memset(copier.from.bytes().data(), 1, probe.bytes_of_thread);  // its pages are there now
    std::memset(copier.to.bytes().data(), 2, probe.bytes_of_thread);
  }
  std::vector<rt::Thread> threads;
  for (Copier& copier : copiers) {
    threads.emplace_back("kv-probe", [&copier, &probe, &clock] {
      const rt::Time began = clock();
      rt::Time now = began;
      std::uint64_t bytes = 0;
      do {
        std::memcpy(copier.to.bytes().data(), copier.from.bytes().data(), probe.bytes_of_thread);
        bytes += BlockTrafficCost::kCopy * probe.bytes_of_thread;
        now = clock();
      } while (now < began + probe.time);
      copier.bytes_per_second = static_cast<double>(bytes) / Seconds(now - began);
    });
  }
  threads.clear();  // waits
  double sum = 0;
  for (const Copier& copier : copiers) {
    sum += copier.bytes_per_second;
  }
  return sum;
}

}  // namespace pixii::kv
