#include "router/load_tracker.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "rt/random.h"

namespace pixii::router {
namespace {

constexpr RankNumber kRank{3};

rt::Time At(int seconds) { return rt::Time{} + std::chrono::seconds(seconds); }

TEST(LoadTracker, CountsWhatRunsAndReturnsToNothing) {
  LoadTracker tracker({.track_output_blocks = true});
  const std::vector<std::uint64_t> blocks{1, 2, 3};
  const AddedLoad load{.block_hashes = blocks,
                       .prompt_tokens = 14,
                       .prefill_tokens = 10,
                       .block_tokens = 4,
                       .expected_output_tokens = 8};
  tracker.Add(RequestId{1}, kRank, load, At(0));
  tracker.Add(RequestId{2}, kRank, load, At(0));
  EXPECT_EQ(tracker.load(kRank), (RankLoad{20, 5, 0, 2}));  // three shared, one own each
  EXPECT_TRUE(tracker.OnPrefillDone(RequestId{1}, At(0)));
  EXPECT_FALSE(tracker.OnPrefillDone(RequestId{1}, At(0)));
  EXPECT_EQ(tracker.load(kRank).prefill_tokens, 10);
  tracker.OnTokens(RequestId{1}, 2, At(0));  // fills its last block
  EXPECT_EQ(tracker.load(kRank).output_blocks, 0);
  tracker.OnTokens(RequestId{1}, 2, At(0));  // half of what is expected
  EXPECT_DOUBLE_EQ(tracker.load(kRank).output_blocks, 0.5);
  EXPECT_EQ(tracker.Remove(RequestId{1}), kRank);
  EXPECT_EQ(tracker.load(kRank), (RankLoad{10, 4, 0, 1}));
  tracker.Remove(RequestId{2});
  EXPECT_EQ(tracker.load(kRank), RankLoad{});
  EXPECT_FALSE(tracker.Remove(RequestId{2}));
}

TEST(LoadTracker, ARequestThatStreamsNeverExpires) {
  LoadTracker tracker({.expiry = std::chrono::seconds(300)});
  tracker.Add(RequestId{1}, kRank, {.prompt_tokens = 8, .block_tokens = 4}, At(0));
  tracker.Add(RequestId{2}, kRank, {.prompt_tokens = 8, .block_tokens = 4}, At(0));
  for (int now = 0; now < 2000; now += 100) {
    tracker.OnTokens(RequestId{1}, 1, At(now));
    const std::vector<RequestId> expired = tracker.Expire(At(now));
    EXPECT_EQ(!expired.empty(), now == 300);
  }
  EXPECT_EQ(tracker.load(kRank).requests, 1);
  EXPECT_EQ(tracker.Expire(At(2199)).size(), 0);
  EXPECT_EQ(tracker.Expire(At(2200)).size(), 1);
  EXPECT_EQ(tracker.load(kRank), RankLoad{});
  EXPECT_EQ(tracker.next_expiry(), rt::kNever);
}

TEST(LoadTracker, WithoutReuseEveryRequestHasItsOwnBlocks) {
  LoadTracker tracker({.dedup_blocks = false});
  const std::vector<std::uint64_t> blocks{1, 2};
  for (std::uint64_t id = 1; id <= 3; ++id) {
    tracker.Add(RequestId{id}, kRank,
                {.block_hashes = blocks, .prompt_tokens = 8, .block_tokens = 4}, At(0));
  }
  EXPECT_EQ(tracker.load(kRank).prompt_blocks, 6);
}

TEST(LoadTracker, KnowsHowManyRequestsUseABlockWhereverTheyRun) {
  LoadTracker tracker({.count_uses = true});
  const std::vector<std::uint64_t> longer{1, 2, 3};
  const std::vector<std::uint64_t> shorter{1, 2, 4};
  const auto add = [&](std::uint64_t id, RankNumber rank,
                       const std::vector<std::uint64_t>& blocks) {
    tracker.Add(RequestId{id}, rank,
                {.block_hashes = blocks, .prompt_tokens = 12, .block_tokens = 4}, At(0));
  };
  const auto uses = [&](const std::vector<std::uint64_t>& blocks) {
    std::vector<std::uint32_t> out;
    tracker.FindUses(blocks, out);
    return out;
  };
  add(1, kRank, longer);
  add(2, kRank, shorter);
  add(3, RankNumber{5}, longer);
  EXPECT_EQ(uses(longer), (std::vector<std::uint32_t>{3, 3, 2}));
  EXPECT_EQ(uses({1, 2, 9, 3}), (std::vector<std::uint32_t>{3, 3}));
  EXPECT_EQ(uses({2}), std::vector<std::uint32_t>());
  tracker.Remove(RequestId{1});
  EXPECT_EQ(uses(longer), (std::vector<std::uint32_t>{2, 2, 1}));
  tracker.RemoveRank(kRank);
  EXPECT_EQ(uses(shorter), (std::vector<std::uint32_t>{1, 1}));
  tracker.Expire(At(1000));
  EXPECT_EQ(uses(longer), std::vector<std::uint32_t>());
}

// Against sets of prefixes, recounted each time.
TEST(LoadTracker, CountsAsANaiveModelDoes) {
  struct Request {
    std::uint32_t rank;
    std::vector<std::uint64_t> blocks;
    std::uint64_t tokens;
    std::uint64_t prefill;
  };

  rt::Random random(9);
  LoadTracker tracker({});
  std::map<std::uint64_t, Request> running;
  for (std::uint64_t step = 1; step <= 100'000; ++step) {
    const std::uint64_t what = random.Below(10);
    if (what < 4 && running.size() < 40) {
      Request request{static_cast<std::uint32_t>(random.Below(4)), {}, 0, 0};
      request.blocks.resize(random.Below(6));
      std::ranges::generate(request.blocks, [&] { return 1 + random.Below(3); });
      request.tokens = request.blocks.size() * 4 + random.Below(4);
      request.prefill = random.Below(request.tokens + 1);
      tracker.Add(RequestId{step}, RankNumber{request.rank},
                  {.block_hashes = request.blocks,
                   .prompt_tokens = request.tokens,
                   .prefill_tokens = request.prefill,
                   .block_tokens = 4},
                  At(0));
      running.emplace(step, std::move(request));
    } else if (!running.empty()) {
      auto at = running.begin();
      std::advance(at, static_cast<std::ptrdiff_t>(random.Below(running.size())));
      if (what < 7) {
        tracker.OnPrefillDone(RequestId{at->first}, At(0));
        at->second.prefill = 0;
      } else {
        tracker.Remove(RequestId{at->first});
        running.erase(at);
      }
    }
    const auto rank = static_cast<std::uint32_t>(random.Below(4));
    RankLoad expected;
    std::set<std::vector<std::uint64_t>> prefixes;
    for (const auto& [id, request] : running) {
      if (request.rank == rank) {
        ++expected.requests;
        expected.prefill_tokens += request.prefill;
        expected.prompt_blocks += request.tokens % 4 == 0 ? 0 : 1;
        for (std::size_t i = 1; i <= request.blocks.size(); ++i) {
          prefixes.emplace(request.blocks.begin(),
                           request.blocks.begin() + static_cast<std::ptrdiff_t>(i));
        }
      }
    }
    expected.prompt_blocks += prefixes.size();
    ASSERT_EQ(tracker.load(RankNumber{rank}), expected) << "step " << step;
    std::vector<std::uint64_t> prompt(1 + random.Below(6));
    std::ranges::generate(prompt, [&] { return 1 + random.Below(3); });
    std::uint32_t depth = 0;
    while (depth < prompt.size() &&
           prefixes.contains({prompt.begin(), prompt.begin() + depth + 1})) {
      ++depth;
    }
    KvMatches matches;
    tracker.FindActive(prompt, matches);
    const auto found = std::ranges::find(matches.ranks, RankNumber{rank}, &RankMatch::rank);
    ASSERT_EQ(found == matches.ranks.end() ? 0 : found->device, depth) << "step " << step;
  }
}

}  // namespace
}  // namespace pixii::router
