// Ends a listing that its server would let go on for ever.
//
// Thread: the lister's own; `stopping` may be set on any.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <utility>

#include "base/result.h"
#include "rt/time.h"

namespace pixii::kv {

struct ListLimits {
  std::uint32_t parts_max = 1U << 16U;               // of one listing
  rt::Duration time_max = std::chrono::seconds(10);  // of all of its parts
  std::function<rt::Time()> clock = {};              // on any thread; none: no limit of time
  const std::atomic<bool>* stopping = nullptr;       // null: nobody stops it
};

/// Of one listing.
class ListWatch final {
 public:
  explicit ListWatch(ListLimits limits)
      : limits_(std::move(limits)), began_(limits_.clock ? limits_.clock() : rt::Time{}) {}

  /// Before each part is asked for. Errors: kCancelled if nobody wants the rest,
  /// kDeadlineExceeded, kTooLarge past `parts_max`.
  Result<void> NextPart() {
    if (limits_.stopping != nullptr && limits_.stopping->load(std::memory_order_relaxed)) {
      return Fail(Code::kCancelled, "the listing is not wanted any more");
    }
    if (++parts_ > limits_.parts_max) {
      return Fail(Code::kTooLarge, "the store's list has no end: too many parts");
    }
    if (limits_.clock && limits_.clock() - began_ > limits_.time_max) {
      return Fail(Code::kDeadlineExceeded, "the store's list has no end: it takes too long");
    }
    return {};
  }

 private:
  ListLimits limits_;
  rt::Time began_;
  std::uint32_t parts_ = 0;
};

}  // namespace pixii::kv
