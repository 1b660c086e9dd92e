#include "control/kv_event_reader.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <utility>
#include <vector>

namespace pixii::control {
namespace {

using wire::KvEvent;
using wire::KvEventBatch;

constexpr std::uint64_t kEpoch = 77;
constexpr rt::Time kNow{std::chrono::seconds(100)};

// One stored block, whose hash is its id.
KvEvent Stored(std::uint64_t id) {
  KvEvent event;
  event.id = id;
  event.blocks.push_back({id, id});
  return event;
}

// Events `from` .. `to` - 1.
KvEventBatch Batch(std::uint64_t from, std::uint64_t to) {
  KvEventBatch batch;
  batch.epoch = kEpoch;
  batch.next_id = to;
  for (std::uint64_t id = from; id < to; ++id) {
    batch.events.push_back(Stored(id));
  }
  return batch;
}

KvEventBatch Dump(std::uint64_t next_id) {
  KvEventBatch batch = Batch(0, 0);
  batch.next_id = next_id;
  batch.dump = batch.dump_begins = batch.dump_ends = true;
  return batch;
}

class KvEventReaderTest : public testing::Test {
 protected:
  std::vector<std::uint64_t> Ids() const {
    std::vector<std::uint64_t> out;
    for (const KvEvent& event : heard) {
      if (event.kind == KvEvent::Kind::kStored) {
        out.push_back(event.id);
      }
    }
    return out;
  }

  KvEventReader reader;
  std::vector<KvEvent> heard;
};

TEST_F(KvEventReaderTest, ThePlaneGoesOnWhereTheWorkerEnded) {
  EXPECT_TRUE(reader.OnPlane(Batch(0, 3), kNow, heard));
  EXPECT_TRUE(heard.empty()) << "the worker has not said what is true";
  EXPECT_EQ(reader.Request().epoch, 0U);
  EXPECT_TRUE(reader.OnAnswer(Dump(5), heard));
  EXPECT_TRUE(reader.NeedsWorker(kNow)) << "nothing is known of the plane";
  EXPECT_TRUE(reader.OnPlane(Batch(3, 7), kNow, heard));
  EXPECT_EQ(Ids(), (std::vector<std::uint64_t>{5, 6}));
  EXPECT_FALSE(reader.NeedsWorker(kNow));
  EXPECT_EQ(reader.Request().from_id, 7U);
  EXPECT_TRUE(reader.NeedsWorker(kNow + KvEventReader::kPlaneSilence));
}

TEST_F(KvEventReaderTest, WhatThePlaneLacksTheWorkerIsAskedFor) {
  EXPECT_TRUE(reader.OnAnswer(Dump(5), heard));
  EXPECT_TRUE(reader.OnPlane(Batch(7, 9), kNow, heard));
  EXPECT_TRUE(reader.OnPlane(Batch(9, 10), kNow, heard));
  EXPECT_TRUE(Ids().empty());
  EXPECT_TRUE(reader.NeedsWorker(kNow));
  EXPECT_EQ(reader.Request().from_id, 5U);
  EXPECT_TRUE(reader.OnAnswer(Batch(5, 8), heard));
  EXPECT_TRUE(reader.NeedsWorker(kNow));
  EXPECT_TRUE(reader.OnAnswer(Batch(8, 10), heard));
  EXPECT_FALSE(reader.NeedsWorker(kNow));
  EXPECT_EQ(Ids(), (std::vector<std::uint64_t>{5, 6, 7, 8, 9}));
  EXPECT_EQ(reader.counters().plane_gaps, 1U);
}

TEST_F(KvEventReaderTest, APositionShowsThatTheLastEventsAreMissing) {
  EXPECT_TRUE(reader.OnAnswer(Dump(5), heard));
  EXPECT_TRUE(reader.OnPlane(Batch(5, 5), kNow, heard));
  EXPECT_FALSE(reader.NeedsWorker(kNow));
  KvEventBatch position = Batch(0, 0);
  position.next_id = 6;
  EXPECT_TRUE(reader.OnPlane(std::move(position), kNow, heard));
  EXPECT_TRUE(reader.NeedsWorker(kNow));
}

TEST_F(KvEventReaderTest, AnotherStartOfTheWorkerCountsForNothing) {
  EXPECT_TRUE(reader.OnAnswer(Dump(5), heard));
  KvEventBatch other = Batch(5, 6);
  other.epoch = kEpoch + 1;
  EXPECT_TRUE(reader.OnPlane(std::move(other), kNow, heard));
  EXPECT_TRUE(Ids().empty());
  EXPECT_TRUE(reader.NeedsWorker(kNow));  // until the plane says something of this one
}

TEST_F(KvEventReaderTest, WhatCannotBeIsRefused) {
  EXPECT_TRUE(reader.OnAnswer(Dump(5), heard));
  EXPECT_FALSE(reader.OnPlane(Dump(6), kNow, heard)) << "only the worker gives dumps";
  KvEventBatch batch = Batch(5, 7);
  batch.next_id = 9;
  EXPECT_FALSE(reader.OnPlane(batch, kNow, heard)) << "no row";
  batch = Batch(5, 7);
  std::swap(batch.events[0], batch.events[1]);
  EXPECT_FALSE(reader.OnPlane(batch, kNow, heard)) << "no order";
  batch = Batch(5, 6);
  batch.events[0].rank = KvEventReader::kRankCountMax;
  EXPECT_FALSE(reader.OnPlane(batch, kNow, heard)) << "no rank";
  EXPECT_FALSE(reader.OnAnswer(batch, heard));
  batch = Batch(0, 3);
  batch.next_id = 1;
  EXPECT_FALSE(reader.OnPlane(batch, kNow, heard)) << "more events than there were";
  EXPECT_TRUE(Ids().empty());
}

// Whatever the plane does, each event is heard once and in order, and at the end all are.
TEST_F(KvEventReaderTest, EveryEventIsHeardOnceWhateverThePlaneDoes) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    std::mt19937_64 random(seed);
    KvEventReader own;
    std::vector<KvEvent> got;
    std::uint64_t next = 0;  // of the worker
    std::vector<KvEventBatch> plane;
    std::optional<std::uint64_t> call;  // where the worker's answer is
    rt::Time now = kNow;
    for (int step = 0; step < 300; ++step) {
      const bool calm = step > 250;
      const std::uint64_t more = calm ? 0 : random() % 3;
      plane.push_back(Batch(next, next + more));
      next += more;
      for (std::uint64_t tries = random() % 4; tries > 0; --tries) {
        const std::size_t which = random() % plane.size();
        KvEventBatch batch = plane[calm ? plane.size() - 1 : which];
        if (!calm && random() % 10 == 0) {
          batch.next_id += random() % 3;
        }
        (void)own.OnPlane(std::move(batch), now, got);
      }
      if (!own.NeedsWorker(now)) {
        call.reset();
      } else if (!call) {
        const wire::KvEventsRequest request = own.Request();
        call = request.epoch == kEpoch ? request.from_id : next;
        if (request.epoch != kEpoch) {
          EXPECT_TRUE(own.OnAnswer(Dump(next), got));
        }
      }
      if (call && *call < next && (calm || random() % 2 == 0)) {
        EXPECT_TRUE(own.OnAnswer(Batch(*call, next), got)) << "seed " << seed;
        call = next;
      }
      now += std::chrono::milliseconds(random() % 500);
    }
    std::optional<std::uint64_t> last;
    for (const KvEvent& event : got) {
      if (event.kind == KvEvent::Kind::kStored) {
        ASSERT_TRUE(!last || event.id == *last + 1) << "seed " << seed;
        last = event.id;
      }
    }
    ASSERT_EQ(last, next - 1) << "seed " << seed;
  }
}

}  // namespace
}  // namespace pixii::control
