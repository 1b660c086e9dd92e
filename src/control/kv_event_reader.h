// One worker's KV events in order: of its own answers, and of an event plane that may lose and
// repeat them.
//
// Thread: a value; decides, does nothing. docs/formats/kv_events.md
// The worker's answers say what is true: its epoch, and everything up to an id. A plane's events
// are taken only if they are the next ones of that; when something is missing, or nothing is heard
// of the plane, the worker is asked.
#pragma once

#include <chrono>
#include <cstdint>
#include <set>
#include <vector>

#include "rt/time.h"
#include "wire/messages/kv_event.h"

namespace pixii::control {

class KvEventReader final {
 public:
  static constexpr std::uint32_t kRankCountMax = 16'384;  // of the worker
  /// A plane that is silent for so long is not relied on; workers say every second where they are.
  static constexpr rt::Duration kPlaneSilence = std::chrono::seconds(5);

  struct Counters {
    std::uint64_t gaps = 0;          // of answers, which were asked for again
    std::uint64_t plane_events = 0;  // that were taken of the plane
    std::uint64_t plane_gaps = 0;    // that the plane showed
  };

  /// From what on the worker is to be asked.
  wire::KvEventsRequest Request() const {
    return complete_ ? wire::KvEventsRequest{epoch_, next_id_} : wire::KvEventsRequest{};
  }

  /// Who hears of the events is another one: everything is asked for.
  void Restart() { complete_ = false; }

  /// A batch of the worker's answer; appends what it says. False: something before it is missing,
  /// or it says what cannot be: the worker is to be asked again.
  bool OnAnswer(wire::KvEventBatch batch, std::vector<wire::KvEvent>& heard);

  /// A message of the worker that could not be read.
  void CountGap() { ++counters_.gaps; }

  /// A batch of the plane. False: it says what cannot be, and counts for nothing.
  bool OnPlane(wire::KvEventBatch batch, rt::Time now, std::vector<wire::KvEvent>& heard);

  /// Whether the worker is to be listened to.
  bool NeedsWorker(rt::Time now) const {
    return !complete_ || wanted_id_ > next_id_ || !plane_heard_ ||
           now - plane_heard_at_ >= kPlaneSilence;
  }

  /// When the plane, which was heard, counts as silent.
  rt::Time silent_at() const { return plane_heard_at_ + kPlaneSilence; }

  const Counters& counters() const { return counters_; }

 private:
  bool Take(std::vector<wire::KvEvent>& events, std::vector<wire::KvEvent>& heard);

  bool complete_ = false;          // a whole dump was heard, and everything up to next_id_
  std::uint64_t epoch_ = 0;        // of the events heard
  std::uint64_t next_id_ = 0;      // of the first that was not heard
  std::uint64_t wanted_id_ = 0;    // the plane showed that there is everything below
  std::set<std::uint32_t> ranks_;  // that events were heard of
  bool plane_heard_ = false;
  rt::Time plane_heard_at_{};
  Counters counters_;
};

}  // namespace pixii::control
