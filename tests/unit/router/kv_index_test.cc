#include "router/kv_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rt/random.h"

namespace pixii::router {
namespace {

using wire::KvEvent;
using wire::KvTier;

constexpr RankNumber kFirst{0};
constexpr RankNumber kSecond{1};

KvEvent Stored(const std::vector<std::uint64_t>& blocks, KvTier tier = KvTier::kDevice) {
  KvEvent out;
  out.tier = tier;
  std::uint64_t chain = 0;
  for (const std::uint64_t block : blocks) {
    chain = ChainHashOf(chain, block);
    out.blocks.push_back({chain, block});
  }
  return out;
}

KvEvent Removed(const KvEvent& stored, std::size_t from = 0) {
  KvEvent out;
  out.kind = KvEvent::Kind::kRemoved;
  out.tier = stored.tier;
  for (std::size_t i = from; i < stored.blocks.size(); ++i) {
    out.removed.push_back(stored.blocks[i].block_hash);
  }
  return out;
}

KvMatches Find(KvIndex& index, const std::vector<std::uint64_t>& blocks) {
  KvMatches out;
  index.Find(blocks, out);
  return out;
}

const std::vector<std::uint64_t> kPrompt{11, 22, 33, 44};

TEST(KvIndex, FindsThePrefixThatEachRankHas) {
  KvIndex index({});
  index.Apply(kFirst, Stored(kPrompt));
  index.Apply(kSecond, Stored({11, 22, 99}));
  EXPECT_THAT(
      Find(index, kPrompt).ranks,
      testing::UnorderedElementsAre(RankMatch{kFirst, 4, 4, 4}, RankMatch{kSecond, 2, 2, 2}));
  EXPECT_TRUE(Find(index, {22, 33}).ranks.empty());
}

TEST(KvIndex, ABlockStoredTwiceGoesWithTheSecondRemoval) {
  KvIndex index({});
  index.Apply(kFirst, Stored(kPrompt));
  index.Apply(kFirst, Stored(kPrompt));
  index.Apply(kFirst, Removed(Stored(kPrompt)));
  EXPECT_EQ(Find(index, kPrompt).ranks.size(), 1);
  index.Apply(kFirst, Removed(Stored(kPrompt)));
  EXPECT_TRUE(Find(index, kPrompt).ranks.empty());
  EXPECT_EQ(index.block_count(), 0);
}

TEST(KvIndex, ClearingARankLeavesTheOthers) {
  KvIndex index({});
  index.Apply(kFirst, Stored(kPrompt));
  index.Apply(kSecond, Stored(kPrompt));
  KvEvent cleared;
  cleared.kind = KvEvent::Kind::kCleared;
  index.Apply(kFirst, cleared);
  EXPECT_THAT(Find(index, kPrompt).ranks, testing::ElementsAre(RankMatch{kSecond, 4, 4, 4}));
  index.Apply(kFirst, Stored({11}));
  EXPECT_EQ(Find(index, kPrompt).ranks.size(), 2);
}

TEST(KvIndex, MemoryOfClearedRanksComesBack) {
  KvIndex index({});
  for (std::uint32_t round = 0; round < 500; ++round) {
    index.Apply(kFirst, Stored(kPrompt));
    index.Apply(kSecond, Stored({round + 1U, 7}));
    index.Clear(kFirst);
    index.Clear(kSecond);
  }
  for (int i = 0; i < 100; ++i) {
    Find(index, kPrompt);
  }
  EXPECT_EQ(index.block_count(), 0);
}

TEST(KvIndex, TiersAreCumulative) {
  KvIndex index({});
  index.Apply(kFirst, Stored(kPrompt));
  index.Apply(kFirst, Stored(kPrompt, KvTier::kHost));
  index.Apply(kFirst, Removed(Stored(kPrompt)));
  EXPECT_THAT(Find(index, kPrompt).ranks, testing::ElementsAre(RankMatch{kFirst, 0, 4, 4}));
  index.Apply(kFirst, Stored({11, 22}));
  index.Apply(kFirst, Removed(Stored(kPrompt, KvTier::kHost), 3));
  index.Apply(kFirst, Stored(kPrompt, KvTier::kDisk));
  EXPECT_THAT(Find(index, kPrompt).ranks, testing::ElementsAre(RankMatch{kFirst, 2, 3, 4}));
  index.Apply(kSecond, Stored({11, 22, 33}, KvTier::kExternal));
  EXPECT_EQ(Find(index, kPrompt).shared, 3);
  EXPECT_EQ(Find(index, kPrompt).ranks.size(), 1);
}

TEST(KvIndex, AnUnknownParentIsBelievedOfPublicHashesAlone) {
  KvEvent event = Stored(kPrompt);
  KvEvent tail;
  tail.parent = event.blocks[1].block_hash;
  tail.blocks = {event.blocks[2], event.blocks[3]};
  KvEvent opaque = tail;
  opaque.blocks[0].block_hash = 5;
  opaque.blocks[1].block_hash = 6;
  KvIndex index({});
  index.Apply(kFirst, opaque);
  EXPECT_EQ(index.block_count(), 0);
  EXPECT_EQ(index.counters().orphaned, 2);
  index.Apply(kFirst, tail);
  EXPECT_EQ(index.block_count(), 2);
  EXPECT_TRUE(Find(index, kPrompt).ranks.empty());
  index.Apply(kFirst, Stored({11, 22}));
  EXPECT_THAT(Find(index, kPrompt).ranks, testing::ElementsAre(RankMatch{kFirst, 4, 4, 4}));
}

TEST(KvIndex, AnEnginesOwnHashesAreItsOwn) {
  KvIndex index({});
  KvEvent event = Stored(kPrompt);
  for (std::size_t i = 0; i < event.blocks.size(); ++i) {
    event.blocks[i].block_hash = 100 + i;
  }
  index.Apply(kFirst, event);
  event.blocks.resize(2);
  event.blocks[0].tokens_hash = 77;  // of another rank 100 means something else
  index.Apply(kSecond, event);
  EXPECT_THAT(Find(index, kPrompt).ranks, testing::ElementsAre(RankMatch{kFirst, 4, 4, 4}));
  KvEvent removed;
  removed.kind = KvEvent::Kind::kRemoved;
  removed.removed = {103, 102};
  index.Apply(kSecond, removed);
  EXPECT_EQ(index.counters().unknown, 2);
  index.Apply(kFirst, removed);
  EXPECT_THAT(Find(index, kPrompt).ranks, testing::ElementsAre(RankMatch{kFirst, 2, 2, 2}));
}

TEST(KvIndex, KeepsItsByteBudgetAndLosesHitsAlone) {
  constexpr std::uint64_t kBudget = 8 << 20;
  for (const bool opaque : {false, true}) {
    KvIndex index({.bytes_max = kBudget});
    rt::Random random(4);
    std::vector<std::vector<std::uint64_t>> prompts;
    for (int i = 0; i < 20'000; ++i) {
      std::vector<std::uint64_t> prompt(32);
      std::ranges::generate(prompt, [&] { return random.Next() | 1; });
      KvEvent event = Stored(prompt);
      for (wire::KvBlock& block : event.blocks) {
        block.block_hash = opaque ? random.Next() : block.block_hash;
      }
      index.Apply(RankNumber{static_cast<std::uint32_t>(random.Below(10))}, event);
      ASSERT_LE(index.bytes(), kBudget);
      prompts.push_back(std::move(prompt));
    }
    EXPECT_GT(index.counters().evicted, 100'000);
    EXPECT_GT(index.block_count(), kBudget / 100);
    std::size_t newest = 0;
    for (std::size_t i = prompts.size() - 1000; i < prompts.size(); ++i) {
      newest += Find(index, prompts[i]).ranks.size();
    }
    EXPECT_GT(newest, opaque ? 700 : 950);  // what came last is there
    EXPECT_TRUE(Find(index, prompts[0]).ranks.empty());
  }
}

TEST(KvIndex, KeepsItsByteBudgetWithTheHashesOfOneRank) {
  constexpr std::uint64_t kBudget = 8 << 20;
  KvIndex index({.bytes_max = kBudget});
  rt::Random random(7);
  for (int i = 0; i < 20'000; ++i) {
    std::vector<std::uint64_t> prompt(32);
    std::ranges::generate(prompt, [&] { return random.Next() | 1; });
    KvEvent event = Stored(prompt);
    std::ranges::for_each(event.blocks,
                          [&](wire::KvBlock& block) { block.block_hash = random.Next(); });
    index.Apply(kFirst, event);
    ASSERT_LE(index.bytes(), kBudget);
  }
  EXPECT_GT(index.counters().evicted, 100'000);
}

TEST(KvIndex, EvictionKeepsWhatIsAskedFor) {
  constexpr int kPrompts = 12'000;  // three times what there is room for
  constexpr int kOften = 16;        // one of so many is asked for again and again
  KvIndex index({.bytes_max = 8 << 20});
  rt::Random random(6);
  std::vector<std::vector<std::uint64_t>> prompts;
  for (int i = 0; i < kPrompts; ++i) {
    std::vector<std::uint64_t>& prompt = prompts.emplace_back(64);
    std::ranges::generate(prompt, [&] { return random.Next() | 1; });
    index.Apply(RankNumber{static_cast<std::uint32_t>(i % 10)}, Stored(prompt));
    Find(index, prompts[random.Below(static_cast<std::uint64_t>(i / kOften + 1)) * kOften]);
  }
  EXPECT_GT(index.counters().evicted, 100'000);
  double found[2] = {};
  double count[2] = {};
  for (int i = 0; i < kPrompts; ++i) {
    const std::vector<RankMatch> ranks = Find(index, prompts[static_cast<std::size_t>(i)]).ranks;
    for (const RankMatch& match : ranks) {
      EXPECT_EQ(match.rank, RankNumber{static_cast<std::uint32_t>(i % 10)});
      found[i % kOften == 0 ? 1 : 0] += match.device;
    }
    count[i % kOften == 0 ? 1 : 0] += 64;
  }
  EXPECT_GT(found[1] / count[1], 2 * found[0] / count[0]);
  EXPECT_GT(found[0] / count[0], 0.2);
}

TEST(KvIndex, ThousandsOfHoldersOfOnePrefixAreOneSet) {
  KvIndex index({});
  std::vector<std::uint64_t> prompt(1000);
  for (std::size_t i = 0; i < prompt.size(); ++i) {
    prompt[i] = i + 1;
  }
  for (std::uint32_t rank = 0; rank < 1000; ++rank) {
    index.Apply(RankNumber{rank}, Stored(prompt));
  }
  EXPECT_LE(index.holder_set_count(), 3);
  const KvMatches matches = Find(index, prompt);
  EXPECT_EQ(matches.ranks.size(), 1000);
  EXPECT_TRUE(
      std::ranges::all_of(matches.ranks, [](const RankMatch& one) { return one.device == 1000; }));
}

}  // namespace
}  // namespace pixii::router
