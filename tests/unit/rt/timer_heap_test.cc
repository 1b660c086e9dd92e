#include "rt/timer_heap.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <vector>

#include "rt/random.h"

namespace pixii::rt {
namespace {

Time At(std::int64_t ns) { return Time(Duration(ns)); }

// Naive: a map from (time, order) to a tag.
class NaiveTimers {
 public:
  void Add(std::int64_t when, int tag) { timers_[{when, next_order_++}] = tag; }

  bool Cancel(int tag) {
    return std::erase_if(timers_, [tag](const auto& entry) { return entry.second == tag; }) == 1;
  }

  int PopDue(std::int64_t now) {
    if (timers_.empty() || timers_.begin()->first.first > now) {
      return -1;
    }
    const int tag = timers_.begin()->second;
    timers_.erase(timers_.begin());
    return tag;
  }

  std::size_t size() const { return timers_.size(); }

 private:
  std::map<std::pair<std::int64_t, int>, int> timers_;
  int next_order_ = 0;
};

TEST(TimerHeap, AgreesWithANaiveModelUnderRandomEvents) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Random random(seed);
    TimerHeap heap;
    NaiveTimers naive;
    std::vector<TimerId> ids;
    int ran = -1;
    std::int64_t now = 0;
    for (int step = 0; step < 3000; ++step) {
      const std::uint64_t what = random.Below(10);
      if (what < 5) {
        const std::int64_t when = now + random.Between(0, 50);
        const int tag = static_cast<int>(ids.size());
        ids.push_back(heap.Add(At(when), [&ran, tag] { ran = tag; }));
        naive.Add(when, tag);
      } else if (what < 7 && !ids.empty()) {
        const auto tag = static_cast<int>(random.Below(ids.size()));
        ASSERT_EQ(static_cast<bool>(heap.Cancel(ids[tag])), naive.Cancel(tag));
      } else {
        now += random.Between(0, 5);
        ran = -1;
        if (std::optional<Callback> due = heap.PopDue(At(now))) {
          (*due)();
        }
        ASSERT_EQ(ran, naive.PopDue(now));
      }
      ASSERT_EQ(heap.size(), naive.size());
    }
  }
}

TEST(TimerHeap, ACancelledTimerGivesItsCallbackBackOnce) {
  TimerHeap heap;
  auto held = std::make_shared<int>(0);
  const TimerId id = heap.Add(At(5), [held] {});
  {
    const Callback dropped = heap.Cancel(id);
  }
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_FALSE(heap.Cancel(id));
  EXPECT_FALSE(heap.Cancel(TimerId::kNone));
  const TimerId next = heap.Add(At(6), [held] {});
  EXPECT_NE(next, id) << "an old id must not name a new timer";
}

}  // namespace
}  // namespace pixii::rt
