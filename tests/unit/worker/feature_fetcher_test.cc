// Features that one worker keeps and another one fetches: FeatureStore and FeatureFetcher.
#include "worker/feature_fetcher.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "unit/worker/feature_fixture.h"

namespace pixii::worker {
namespace {

using testing::MakeFeatures;
using testing::ShowPicture;

class FeatureFetcherTest : public testing::FeatureFixture {
 protected:
  /// Puts features of a picture into `store` and pins them; the item says where they are.
  static wire::MediaItem Keep(FeatureStore& store, const model::VisionFeatures& features,
                              char colour = 'a') {
    wire::MediaItem item =
        ShowPicture(1, static_cast<std::uint32_t>(features.rows), colour).media.front();
    EXPECT_TRUE(store.Put(item.digest, features));
    item.encoded = store.Pin(item.digest).value_or("");
    EXPECT_FALSE(item.encoded.empty());
    return item;
  }

  Result<FeatureFetcher::Features> Fetch(FeatureFetcher& fetcher, const wire::MediaItem& item) {
    std::optional<Result<FeatureFetcher::Features>> got;
    fetcher.Fetch(item, [&](const Result<FeatureFetcher::Features>& features) { got = features; });
    EXPECT_FALSE(got) << "not inside the call";
    RunUntil([&] { return got.has_value(); });
    return *got;
  }
};

TEST_F(FeatureFetcherTest, FeaturesArriveAsTheyWereMade) {
  for (const char* transport : {"tcp", "shm"}) {
    for (const std::int32_t levels : {0, 2}) {
      SCOPED_TRACE(std::string(transport) + " with levels " + std::to_string(levels));
      const auto store = MakeStore(transport, 0, levels);
      const auto fetcher = MakeFetcher(transport, levels);
      const model::VisionFeatures made = MakeFeatures(9, levels);
      const Result<FeatureFetcher::Features> got = Fetch(*fetcher, Keep(*store, made));
      ASSERT_TRUE(got) << got.error().ToString();
      EXPECT_EQ((*got)->rows, 9);
      EXPECT_EQ((*got)->size, 2);
      EXPECT_EQ((*got)->levels, levels);
      EXPECT_EQ((*got)->rows_data, made.rows_data);
      EXPECT_EQ((*got)->layers_data, made.layers_data);
      EXPECT_EQ(fetcher->counters().fetched, 1U);
      EXPECT_EQ(fetcher->counters().bytes, 9U * 2 * sizeof(float) * (1U + levels));
      EXPECT_EQ(fetcher->running(), 0U);
    }
  }
}

TEST_F(FeatureFetcherTest, EqualOnesTravelOnceAndWhoCancelsHearsNothing) {
  const auto store = MakeStore();
  const auto fetcher = MakeFetcher();
  const wire::MediaItem item = Keep(*store, MakeFeatures(5));
  int first = 0;
  int second = 0;
  const std::uint64_t ticket = fetcher->Fetch(item, [&](const auto&) { ++first; });
  fetcher->Fetch(item, [&](const auto& got) { second += got ? 1 : 100; });
  fetcher->Cancel(ticket);
  RunUntil([&] { return second > 0; });
  EXPECT_EQ(first, 0);
  EXPECT_EQ(second, 1);
  EXPECT_EQ(fetcher->counters().fetched, 1U);
  fetcher->Cancel(fetcher->Fetch(item, [&](const auto&) { ++first; }));
  EXPECT_EQ(fetcher->running(), 0U);
  EXPECT_EQ(Fetch(*fetcher, item)->get()->rows, 5);
  EXPECT_EQ(first, 0);
}

TEST_F(FeatureFetcherTest, RecordsThatAreOfNoUseAreRefused) {
  const auto store = MakeStore();
  const auto fetcher = MakeFetcher();
  wire::MediaItem item = Keep(*store, MakeFeatures(5));
  const wire::MediaItem good = item;
  item.encoded.back() = static_cast<char>(item.encoded.back() ^ 1);
  EXPECT_EQ(Fetch(*fetcher, item).error().code(), Code::kDataCorrupt);
  item = Keep(*store, MakeFeatures(5), 'b');
  item.encoded = good.encoded;
  EXPECT_EQ(Fetch(*fetcher, item).error().param(), "digest");
  EXPECT_EQ(fetcher->counters().refused, 2U);
  EXPECT_EQ(fetcher->counters().failed, 0U);
}

TEST_F(FeatureFetcherTest, OtherBytesThanThoseOfTheRecordAreNotBelieved) {
  const auto store = MakeStore();
  const auto fetcher = MakeFetcher();
  const HashKey key(testing::kSecret);
  wire::MediaItem item = Keep(*store, MakeFeatures(5));
  wire::FeatureRecord record = *DecodeFeatureRecord(item.encoded, key);
  record.sum_low ^= 1;
  item.encoded = EncodeFeatureRecord(record, key);
  EXPECT_EQ(Fetch(*fetcher, item).error().code(), Code::kDataCorrupt);
  EXPECT_EQ(fetcher->counters().corrupt, 1U);
}

TEST_F(FeatureFetcherTest, WhatIsGoneIsNotFound) {
  auto store = MakeStore("tcp", 0);
  const auto fetcher = MakeFetcher();
  const wire::MediaItem item = Keep(*store, MakeFeatures(5));
  store->Unpin(item.digest);
  EXPECT_EQ(store->count(), 0U) << "the budget is nothing";
  EXPECT_EQ(Fetch(*fetcher, item).error().code(), Code::kNotFound);
  const wire::MediaItem other = Keep(*store, MakeFeatures(5), 'b');
  store.reset();
  EXPECT_FALSE(Fetch(*fetcher, other)) << "its worker is gone";
  EXPECT_EQ(fetcher->counters().failed, 2U);
}

TEST_F(FeatureFetcherTest, WhatNobodyPinnedGoesLeastRecentlyUsedFirst) {
  const std::uint64_t one = 5U * 2 * sizeof(float);
  const auto store = MakeStore("tcp", 2 * one);
  const wire::MediaItem a = Keep(*store, MakeFeatures(5), 'a');
  const wire::MediaItem b = Keep(*store, MakeFeatures(5), 'b');
  const wire::MediaItem c = Keep(*store, MakeFeatures(5), 'c');
  EXPECT_EQ(store->size_bytes(), 3 * one) << "pinned ones stay";
  EXPECT_EQ(store->pinned_bytes(), 3 * one);
  for (const wire::MediaItem* item : {&a, &b, &c}) {
    store->Unpin(item->digest);
  }
  EXPECT_EQ(store->pinned_bytes(), 0U);
  EXPECT_EQ(store->size_bytes(), 2 * one);
  EXPECT_FALSE(store->Pin(a.digest));
  EXPECT_TRUE(store->Pin(b.digest));
  store->Unpin(b.digest);  // it was used last
  const wire::MediaItem d = Keep(*store, MakeFeatures(5), 'd');
  store->Unpin(d.digest);
  EXPECT_FALSE(store->Pin(c.digest));
  EXPECT_TRUE(store->Pin(b.digest));
  store->Clear();
  EXPECT_EQ(store->count(), 1U) << "what is pinned stays";
  store->Unpin(b.digest);
}

}  // namespace
}  // namespace pixii::worker
