#include "control/planner_feed.h"

#include <gtest/gtest.h>

#include <string>

#include "unit/control/planner_engine.h"

namespace pixii::control {
namespace {

using std::chrono::seconds;

constexpr LatencyGoal kGoal{.ttft_ms = 100, .itl_ms = 20};

rt::Time At(int second) { return rt::Time(seconds(second)); }

FeedRequests Seen(const std::string& process, std::uint64_t begun,
                  std::vector<FeedRequests::Ended> list = {}) {
  const std::uint64_t ended = list.empty() ? 0 : list.back().sequence;
  return {.process = process, .begun = begun, .ended = ended, .list = std::move(list)};
}

class PlannerFeedTest : public testing::Test {
 protected:
  void Answer(std::size_t frontend, const FeedRequests& requests, int second,
              const std::map<std::string, FeedWorker>& workers = {}) {
    feed_.OnAnswer(frontend, requests, workers, At(second));
  }

  std::optional<PlannerObservation> Take(int second) {
    return feed_.Take({}, {&engine_, &engine_}, At(second));
  }

  EngineModel engine_ = MakeEngine();
  PlannerFeed feed_{{.goal = kGoal, .patience = seconds(60)}, {"http://a:1", "http://b:1"}};
};

TEST_F(PlannerFeedTest, WhatTheFrontendsSayIsAddedUpFromTheFirstLookOn) {
  Answer(0, Seen("p", 1000), 0);
  Answer(1, Seen("q", 500), 0);
  EXPECT_FALSE(Take(0)) << "nobody knows when those came";
  Answer(0, Seen("p", 1030), 10);
  Answer(1, Seen("q", 510), 10);
  const auto seen = Take(10);
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->seconds, 10);
  EXPECT_EQ(seen->arrivals, 40U);
}

TEST_F(PlannerFeedTest, KeptAreThoseThatKeepBothGoalsAndRefusedOnesAreNoLoad) {
  Answer(0, Seen("p", 0), 0);
  Answer(1, Seen("q", 0), 0);
  (void)Take(0);
  const RequestSize size{.input = 100, .output = 10};
  Answer(0,
         Seen("p", 5,
              {{.sequence = 1, .size = size, .ttft_ms = 50, .itl_ms = 10},
               {.sequence = 2, .size = size, .ttft_ms = 150, .itl_ms = 10},
               {.sequence = 3, .size = size, .ttft_ms = 50, .itl_ms = 30},
               {.sequence = 4, .refused = true},
               {.sequence = 5, .failed = true}}),
         10);
  Answer(1, Seen("q", 0), 10);
  const auto seen = Take(10);
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->arrivals, 4U);
  EXPECT_EQ(seen->ended, 4U);
  EXPECT_DOUBLE_EQ(seen->kept_share, 0.25);
  EXPECT_EQ(seen->sizes.size(), 3U);
  EXPECT_NEAR(seen->ttft_ms, 250.0 / 3, 1e-9);
}

TEST_F(PlannerFeedTest, ASilentFrontendGoesOnAsItWasAndIsCountedOnceWhenItIsBack) {
  Answer(0, Seen("p", 0), 0);
  Answer(1, Seen("q", 0), 0);
  (void)Take(0);
  Answer(0, Seen("p", 100), 10);
  Answer(1, Seen("q", 20), 10);
  (void)Take(10);
  Answer(1, Seen("q", 40), 20);
  EXPECT_TRUE(feed_.OnSilence(0, At(20))) << "it was heard before";
  EXPECT_EQ(feed_.state(0), FeedState::kSilent);
  EXPECT_EQ(Take(20)->arrivals, 20U + 100U);
  // 130 more since it was heard, of which 100 were counted.
  Answer(0, Seen("p", 230), 30);
  Answer(1, Seen("q", 40), 30);
  EXPECT_EQ(Take(30)->arrivals, 30U);
}

TEST_F(PlannerFeedTest, WhoIsSilentForTooLongIsGivenUpAndWhenNobodyAnswersThereIsNothing) {
  Answer(0, Seen("p", 0), 0);
  Answer(1, Seen("q", 0), 0);
  (void)Take(0);
  Answer(0, Seen("p", 100), 10);
  Answer(1, Seen("q", 0), 10);
  (void)Take(10);
  feed_.OnSilence(0, At(20));
  Answer(1, Seen("q", 0), 75);
  EXPECT_TRUE(feed_.OnSilence(0, At(75)));
  EXPECT_EQ(feed_.state(0), FeedState::kGivenUp);
  EXPECT_EQ(Take(75)->arrivals, 0U);
  feed_.OnSilence(1, At(80));
  EXPECT_FALSE(Take(80));
  EXPECT_EQ(feed_.Trouble(), "no frontend answers");
}

TEST_F(PlannerFeedTest, AtTheStartAllHaveToBeHeardOrGivenUp) {
  Answer(0, Seen("p", 0), 0);
  feed_.OnSilence(1, At(0));
  EXPECT_EQ(feed_.Trouble(), "http://b:1 was not heard yet");
  Answer(0, Seen("p", 0), 61);
  feed_.OnSilence(1, At(61));
  EXPECT_EQ(feed_.Trouble(), "");
}

TEST_F(PlannerFeedTest, ARestartedFrontendCountsFromNothing) {
  Answer(0, Seen("p", 1000, {{.sequence = 900}}), 0);
  Answer(1, Seen("q", 0), 0);
  (void)Take(0);
  Answer(0, Seen("r", 7, {{.sequence = 1, .size = {.input = 5, .output = 5}}}), 10);
  Answer(1, Seen("q", 0), 10);
  const auto seen = Take(10);
  EXPECT_EQ(seen->arrivals, 7U);
  EXPECT_EQ(seen->ended, 1U);
}

TEST_F(PlannerFeedTest, LoadsOfAWorkerThatTwoFrontendsSeeCountOnce) {
  const std::map<std::string, FeedWorker> workers = {
      {"1", {.queued = 4, .kv_used_tokens = 50, .kv_tokens = 100}},
      {"2", {.queued = 0, .kv_used_tokens = 0, .kv_tokens = 100}}};
  for (const int second : {0, 10}) {
    Answer(0, Seen("p", 0), second, workers);
    Answer(1, Seen("q", 0), second, workers);
    (void)(second == 0 ? Take(0) : std::nullopt);
  }
  const auto seen = Take(10);
  ASSERT_TRUE(seen);
  const PoolObserved& pool = seen->pools[static_cast<std::size_t>(Pool::kDecode)];
  EXPECT_EQ(seen->waiting, 4);
  EXPECT_EQ(pool.kv_rate, 0.25);
  EXPECT_EQ(pool.queued_tokens, 2 * 512);
  ASSERT_EQ(pool.engines.size(), 2U);
  EXPECT_GT(pool.engines[0].ttft_ms, pool.engines[1].ttft_ms);
}

TEST(ReadFeed, AnswersOfAFrontendAreReadAndWrongOnesNamed) {
  const auto requests = ReadFeedRequests(
      R"({"object":"list","process":"ab","begun":3,"ended":2,"data":[)"
      R"({"sequence":1,"prompt_tokens":10,"cached_tokens":4,"output_tokens":3,"ttft_ms":5,"itl_ms":2},)"
      R"({"sequence":2,"prompt_tokens":1,"error":"overloaded","status":529}]})");
  ASSERT_TRUE(requests) << requests.error().detail();
  EXPECT_EQ(requests->list[0].size.input, 6);
  EXPECT_TRUE(requests->list[1].failed);
  EXPECT_FALSE(ReadFeedRequests(R"({"process":"ab","begun":-1,"ended":2,"data":[]})"));
  EXPECT_FALSE(ReadFeedRequests(R"({"begun":1,"ended":2,"data":[]})"));
  EXPECT_FALSE(ReadFeedRequests("nothing"));
  const auto workers = ReadFeedWorkers(
      R"({"models":[{"name":"m","block_tokens":16}],"workers":[)"
      R"({"name":"1","role":"prefill","model":"m","load":{"running":1,"queued":2,"blocks":{"used":3,"total":10}}},)"
      R"({"name":"2","role":"encode","model":"m","load":{"running":1}},)"
      R"({"name":"3","role":"aggregated","model":"m","load":null}]})");
  ASSERT_TRUE(workers) << workers.error().detail();
  ASSERT_EQ(workers->size(), 1U);
  EXPECT_EQ(workers->at("1").pool, Pool::kPrefill);
  EXPECT_EQ(workers->at("1").kv_used_tokens, 48);
  EXPECT_FALSE(ReadFeedWorkers(R"({"models":[]})"));
}

}  // namespace
}  // namespace pixii::control
