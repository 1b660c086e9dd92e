// The index against a model that keeps everything in maps.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "router/kv_index.h"
#include "rt/random.h"

namespace pixii::router {
namespace {

using wire::KvEvent;
using wire::KvTier;

constexpr std::uint32_t kRanks = 9;
constexpr std::uint32_t kTokens = 3;  // different blocks: many prefixes are shared
constexpr std::size_t kDepth = 7;

struct Held {
  std::array<std::uint32_t, 4> counts{};
  std::uint64_t own_name = 0;

  bool any() const {
    return std::ranges::any_of(counts, [](std::uint32_t one) { return one > 0; });
  }
};

// What a worker holds, by chain hash.
struct Worker {
  std::map<std::uint64_t, Held> blocks;
  std::map<std::uint64_t, std::uint64_t> by_name;  // own name -> chain
};

using Prompt = std::vector<std::uint64_t>;

class Model final {
 public:
  bool Has(std::uint32_t rank, std::uint64_t chain, std::uint32_t tier_last) const {
    const auto found = workers[rank].blocks.find(chain);
    return found != workers[rank].blocks.end() &&
           std::any_of(found->second.counts.begin(), found->second.counts.begin() + tier_last + 1,
                       [](std::uint32_t one) { return one > 0; });
  }

  std::vector<RankMatch> Find(const Prompt& prompt) const {
    std::vector<RankMatch> out;
    for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
      std::array<std::uint32_t, 3> depth{};
      for (std::uint32_t tier = 0; tier < 3; ++tier) {
        std::uint64_t chain = 0;
        while (depth[tier] < prompt.size()) {
          chain = ChainHashOf(chain, prompt[depth[tier]]);
          if (!Has(rank, chain, tier)) {
            break;
          }
          ++depth[tier];
        }
      }
      if (depth[2] > 0) {
        out.push_back({RankNumber{rank}, depth[0], depth[1], depth[2]});
      }
    }
    return out;
  }

  std::uint32_t Shared(const Prompt& prompt) const {
    std::uint64_t chain = 0;
    for (std::uint32_t depth = 0; depth < prompt.size(); ++depth) {
      chain = ChainHashOf(chain, prompt[depth]);
      if (std::ranges::none_of(workers, [&](const Worker& worker) {
            const auto found = worker.blocks.find(chain);
            return found != worker.blocks.end() && found->second.counts[3] > 0;
          })) {
        return depth;
      }
    }
    return static_cast<std::uint32_t>(prompt.size());
  }

  std::array<Worker, kRanks> workers;
};

Prompt RandomPrompt(rt::Random& random) {
  Prompt out(1 + random.Below(kDepth));
  for (std::uint64_t& block : out) {
    block = 0x1234567890abcdefU * (1 + random.Below(kTokens));
  }
  return out;
}

// Ranks from 6 on have hashes of their own.
std::uint64_t NameOf(std::uint32_t rank, std::uint64_t chain) {
  return rank < 6 ? chain : chain * 2654435761U + rank;
}

class Driver final {
 public:
  explicit Driver(std::uint64_t seed) : random_(seed), index_(KvIndexOptions{}) {}

  void Step() {
    const auto rank = static_cast<std::uint32_t>(random_.Below(kRanks));
    const std::uint64_t what = random_.Below(1000);
    if (what < 400) {
      Store(rank);
    } else if (what < 700) {
      Remove(rank);
    } else if (what < 703) {
      KvEvent event;
      event.kind = KvEvent::Kind::kCleared;
      index_.Apply(RankNumber{rank}, event);
      model_.workers[rank] = {};
    } else {
      Compare(RandomPrompt(random_));
    }
  }

  KvIndex& index() { return index_; }

  Model& model() { return model_; }

  void Compare(const Prompt& prompt) { CompareWith(index_, prompt); }

  void CompareWith(KvIndex& index, const Prompt& prompt) {
    KvMatches matches;
    index.Find(prompt, matches);
    std::ranges::sort(matches.ranks, {}, &RankMatch::rank);
    ASSERT_EQ(matches.ranks, model_.Find(prompt));
    // An engine's own hashes cannot say where a block without its parent belongs, so a copy may
    // know of fewer blocks in the middle of nowhere.
    ASSERT_LE(matches.shared, model_.Shared(prompt));
    if (&index == &index_) {
      ASSERT_EQ(matches.shared, model_.Shared(prompt));
    }
  }

 private:
  void Store(std::uint32_t rank) {
    Worker& worker = model_.workers[rank];
    const Prompt prompt = RandomPrompt(random_);
    const std::size_t from = random_.Below(prompt.size());
    KvEvent event;
    event.tier = static_cast<KvTier>(random_.Below(4));
    std::uint64_t chain = 0;
    bool parent_known = true;
    for (std::size_t i = 0; i < prompt.size(); ++i) {
      const std::uint64_t parent = chain;
      chain = ChainHashOf(chain, prompt[i]);
      if (i < from) {
        continue;
      }
      if (i == from && i > 0) {
        event.parent = NameOf(rank, parent);
        parent_known = worker.blocks.contains(parent);
      }
      event.blocks.push_back({NameOf(rank, chain), prompt[i]});
      if (rank < 6 || parent_known) {
        Held& held = worker.blocks[chain];
        std::uint32_t& count = held.counts[static_cast<std::size_t>(event.tier)];
        count = std::min(count + 1, 15U);
        held.own_name = NameOf(rank, chain);
        worker.by_name[held.own_name] = chain;
      }
    }
    index_.Apply(RankNumber{rank}, event);
  }

  void Remove(std::uint32_t rank) {
    Worker& worker = model_.workers[rank];
    KvEvent event;
    event.kind = KvEvent::Kind::kRemoved;
    event.tier = static_cast<KvTier>(random_.Below(4));
    for (std::uint64_t n = 1 + random_.Below(6); n > 0; --n) {
      std::uint64_t name = random_.Next();
      if (!worker.blocks.empty() && !random_.Chance(0.1)) {
        auto at = worker.blocks.begin();
        std::advance(at, static_cast<std::ptrdiff_t>(random_.Below(worker.blocks.size())));
        name = at->second.own_name;
      }
      event.removed.push_back(name);
      const auto chain = worker.by_name.find(name);
      if (chain == worker.by_name.end()) {
        continue;
      }
      Held& held = worker.blocks.at(chain->second);
      std::uint32_t& count = held.counts[static_cast<std::size_t>(event.tier)];
      count -= count > 0 ? 1 : 0;
      if (!held.any()) {
        worker.blocks.erase(chain->second);
        worker.by_name.erase(chain);
      }
    }
    index_.Apply(RankNumber{rank}, event);
  }

  rt::Random random_;
  KvIndex index_;
  Model model_;
};

TEST(KvIndexModel, AMillionRandomStepsFindWhatTheModelFinds) {
  Driver driver(20'260'101);
  for (int i = 0; i < 1'000'000; ++i) {
    driver.Step();
    if (testing::Test::HasFatalFailure()) {
      FAIL() << "at step " << i;
    }
  }
  EXPECT_GT(driver.index().counters().duplicate, 1000);
  EXPECT_GT(driver.index().counters().orphaned, 1000);
  EXPECT_GT(driver.index().counters().unknown, 1000);
  EXPECT_EQ(driver.index().counters().refused, 0);
}

TEST(KvIndexModel, ADumpMakesAnEqualIndex) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Driver driver(seed);
    for (int i = 0; i < 2000; ++i) {
      driver.Step();
    }
    KvIndex copy(KvIndexOptions{});
    for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
      for (const KvEvent& event : driver.index().Dump(RankNumber{rank})) {
        copy.Apply(RankNumber{rank}, event);
      }
    }
    rt::Random random(seed);
    for (int i = 0; i < 200; ++i) {
      driver.CompareWith(copy, RandomPrompt(random));
    }
    // The copy understands removals too: what each rank holds goes, and nothing is left.
    for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
      for (const auto& [chain, held] : driver.model().workers[rank].blocks) {
        KvEvent event;
        event.kind = KvEvent::Kind::kRemoved;
        for (std::uint32_t tier = 0; tier < 4; ++tier) {
          event.tier = static_cast<KvTier>(tier);
          event.removed.assign(held.counts[tier], held.own_name);
          copy.Apply(RankNumber{rank}, event);
        }
      }
    }
    EXPECT_EQ(copy.block_count(), 0);
    EXPECT_EQ(copy.holder_set_count(), 1) << "but that of the last change";
  }
}

}  // namespace
}  // namespace pixii::router
