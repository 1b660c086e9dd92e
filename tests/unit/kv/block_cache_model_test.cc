// The block cache against a naive model: random users walk token tries, hold, publish, release;
// hashes as weak as 4 bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "kv/block_cache.h"
#include "wire/public_hash.h"

namespace pixii::kv {
namespace {

using Tokens = std::vector<TokenId>;

// A user of a prefix, as a sequence is: findable blocks first, then blocks still being written.
struct User {
  ChainPosition chain;
  Tokens tokens;  // of its findable blocks
  std::string tenant;
  std::vector<BlockPin> pins;
  bool broken = false;
};

struct Options {
  std::uint64_t seed = 0;
  int hash_bits = 128;
  std::uint32_t block_count = 0;
  std::uint32_t event_count_max = 64;
};

class Model {
 public:
  explicit Model(const Options& options)
      : random_(options.seed),
        cache_(*BlockCache::Create({.block_count_max = options.block_count,
                                    .block_tokens = kBlockTokens,
                                    .identity_key = "key",
                                    .hash_bits = options.hash_bits,
                                    .event_count_max = options.event_count_max,
                                    .events_have_tokens = true})),
        content_(options.block_count) {}

  void Run(int events) {
    for (int i = 0; i < events && !::testing::Test::HasFailure(); ++i) {
      switch (Draw(30) == 0 ? 4 : Draw(4)) {
        case 0:
          Arrive();
          break;
        case 1:
        case 2:
          Grow();
          break;
        case 3:
          Leave();
          break;
        default:
          Doubt();
      }
      Check();
      if (Draw(200) == 0) {
        cache_->Clear();
      }
      if (Draw(8) == 0) {
        CheckEvents();
      }
    }
    while (!users_.empty()) {
      Leave();
    }
    CheckEvents();
    EXPECT_EQ(cache_->pool().pinned_count(), 0U);
    Check();
  }

  const BlockCache& cache() const { return *cache_; }

  /// Blocks told of at a time.
  std::size_t largest() const { return largest_; }

 private:
  static constexpr std::uint32_t kBlockTokens = 2;

  std::uint32_t Draw(std::uint32_t bound) { return static_cast<std::uint32_t>(random_() % bound); }

  Tokens DrawBlock() { return {static_cast<TokenId>(Draw(2)), static_cast<TokenId>(Draw(2))}; }

  std::string Key(const User& user) {
    std::string key = user.tenant + ":";
    for (TokenId token : user.tokens) {
      key += std::to_string(token) + ",";
    }
    return key;
  }

  // What the device would hold: the whole prefix a block was written after, by block.
  void Write(const User& user, const Tokens& block, BlockId id) {
    User after;
    after.tenant = user.tenant;
    after.tokens = user.tokens;
    after.tokens.insert(after.tokens.end(), block.begin(), block.end());
    content_[Raw(id)] = Key(after);
  }

  void Arrive() {
    User user;
    user.tenant = Draw(2) == 0 ? "a" : "b";
    user.chain = StartOf(RootOf(user.tenant));
    for (int depth = 0; depth < 4; ++depth) {
      Tokens block = DrawBlock();
      BlockPin pin = cache_->Find(user.chain, block);
      if (!pin) {
        break;
      }
      user.tokens.insert(user.tokens.end(), block.begin(), block.end());
      // The heart of it: what was found is what was asked for, byte for byte.
      EXPECT_EQ(content_[Raw(pin.id())], Key(user));
      user.pins.push_back(std::move(pin));
    }
    users_.push_back(std::move(user));
  }

  void Grow() {
    if (users_.empty()) {
      return;
    }
    User& user = users_[Draw(static_cast<std::uint32_t>(users_.size()))];
    std::uint32_t available = cache_->available_count();
    std::optional<BlockPin> pin = cache_->Allocate();
    EXPECT_EQ(pin.has_value(), available > 0);
    if (!pin || user.broken) {
      return;
    }
    for (const User& other : users_) {
      for (const BlockPin& held : other.pins) {
        EXPECT_NE(held.id(), pin->id());  // never a block somebody uses
      }
    }
    Tokens block = DrawBlock();
    Write(user, block, pin->id());
    BlockRef written = pin->ref();
    BlockCache::Published published = cache_->Publish(std::move(*pin), user.chain, block);
    if (!published.findable) {
      EXPECT_EQ(published.pin.ref(), written);
      user.broken = true;
      user.pins.push_back(std::move(published.pin));
      return;
    }
    user.tokens.insert(user.tokens.end(), block.begin(), block.end());
    EXPECT_EQ(content_[Raw(published.pin.id())], Key(user));
    user.pins.push_back(std::move(published.pin));
  }

  void Leave() {
    if (users_.empty()) {
      return;
    }
    std::swap(users_[Draw(static_cast<std::uint32_t>(users_.size()))], users_.back());
    std::vector<BlockPin>& pins = users_.back().pins;
    if (Draw(8) == 0) {
      std::ranges::reverse(pins);  // a careless owner: root first. It costs hits, never truth.
    }
    while (!pins.empty()) {
      pins.pop_back();
    }
    users_.pop_back();
  }

  // A user's blocks are in doubt: whoever arrives later must not find them.
  void Doubt() {
    if (users_.empty()) {
      return;
    }
    for (const BlockPin& pin : users_[Draw(static_cast<std::uint32_t>(users_.size()))].pins) {
      cache_->Forget(pin);
      content_[Raw(pin.id())] += " (in doubt)";
    }
  }

  std::shared_ptr<const BlockRoot> RootOf(const std::string& tenant) {
    return cache_->MakeRoot({.model_fingerprint = "m",
                             .numerics_id = "n",
                             .kv_dtype = "k",
                             .adapter = {},
                             .tenant = tenant,
                             .salt = {},
                             .public_seed = wire::PublicHashSeed(tenant, {}),
                             .public_salt = tenant});
  }

  // Who hashes the tokens itself finds the hashes that were told.
  void CheckContents(const CacheChanges& changes) {
    std::size_t stored = 0;
    for (const CacheEvent& event : changes.events) {
      if (event.kind != CacheEvent::Kind::kStored) {
        continue;
      }
      ASSERT_LT(stored, changes.roots.size());
      const std::span<const TokenId> tokens =
          std::span(changes.tokens).subspan(stored * kBlockTokens, kBlockTokens);
      const std::uint64_t seed = wire::PublicHashSeed(changes.roots[stored]->public_salt, {});
      EXPECT_EQ(event.tokens_hash, wire::PublicBlockHash(tokens, seed));
      ++stored;
    }
    EXPECT_EQ(stored, changes.roots.size());
    EXPECT_EQ(stored * kBlockTokens, changes.tokens.size());
  }

  // What a router makes of the events is what requests find, block for block.
  void CheckEvents() {
    CacheChanges changes;
    cache_->DrainEvents(changes);
    CheckContents(changes);
    for (const CacheEvent& event : changes.events) {
      switch (event.kind) {
        case CacheEvent::Kind::kStored:
          EXPECT_TRUE(!event.has_parent || told_.contains(event.parent_hash));
          EXPECT_TRUE(told_.insert(event.chain_hash).second) << "told twice";
          break;
        case CacheEvent::Kind::kRemoved:
          EXPECT_EQ(told_.erase(event.chain_hash), 1U);
          break;
        case CacheEvent::Kind::kCleared:
          told_.clear();
      }
    }
    std::set<std::uint64_t> findable;
    for (const std::string tenant : {"a", "b"}) {
      FindAll(StartOf(RootOf(tenant)), tenant, std::nullopt, findable);
    }
    EXPECT_EQ(told_, findable);
    largest_ = std::max(largest_, told_.size());
  }

  void FindAll(const ChainPosition& from, const std::string& tenant,
               std::optional<std::uint64_t> chain, std::set<std::uint64_t>& out) {
    for (const TokenId first : {0, 1}) {
      for (const TokenId second : {0, 1}) {
        const Tokens block = {first, second};
        ChainPosition at = from;
        if (const BlockPin pin = cache_->Find(at, block)) {
          const std::uint64_t hash = wire::PublicBlockHash(block, wire::PublicHashSeed(tenant, {}));
          const std::uint64_t next = chain ? wire::PublicChainHash(*chain, hash) : hash;
          out.insert(next);
          FindAll(at, tenant, next, out);
        }
      }
    }
  }

  void Check() {
    cache_->CheckInvariants();
    std::map<std::uint32_t, std::uint32_t> pins;
    for (const User& user : users_) {
      for (const BlockPin& pin : user.pins) {
        ++pins[Raw(pin.id())];
        EXPECT_TRUE(cache_->pool().IsCurrent(pin.ref()));
      }
    }
    for (std::uint32_t i = 0; i < cache_->pool().block_count(); ++i) {
      EXPECT_EQ(cache_->pool().pins(BlockId{i}), pins.contains(i) ? pins[i] : 0U);
    }
  }

  std::mt19937_64 random_;
  std::unique_ptr<BlockCache> cache_;
  std::vector<std::string> content_;  // [block] the prefix whose KV stands in it
  std::vector<User> users_;
  std::set<std::uint64_t> told_;
  std::size_t largest_ = 0;
};

TEST(BlockCacheModel, NeverGivesAnotherPrefixsBlockUnderRandomUse) {
  std::uint64_t hits = 0;
  std::uint64_t evictions = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Model model(
        {.seed = seed, .hash_bits = 128, .block_count = 8 + static_cast<std::uint32_t>(seed % 24)});
    model.Run(1500);
    hits += model.cache().counters().lookup_hits;
    evictions += model.cache().counters().evictions;
    EXPECT_EQ(model.cache().counters().collisions, 0U);
  }
  EXPECT_GT(hits, 1000U);
  EXPECT_GT(evictions, 1000U);
}

// As few as one change is kept between two drains: then everything is told anew.
TEST(BlockCacheModel, EventsAreWhatIsFoundHoweverManyAreLost) {
  for (const std::uint32_t kept : {1U, 4U, 4096U}) {
    SCOPED_TRACE("kept " + std::to_string(kept));
    Model model({.seed = kept, .block_count = 32, .event_count_max = kept});
    model.Run(2000);
    EXPECT_GT(model.largest(), 8U);
  }
}

TEST(BlockCacheModel, HoldsWhenMostHashesCollide) {
  std::uint64_t collisions = 0;
  std::uint64_t hits = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    for (int bits : {0, 2, 4}) {
      SCOPED_TRACE("seed " + std::to_string(seed) + ", bits " + std::to_string(bits));
      Model model({.seed = seed, .hash_bits = bits, .block_count = 16});
      model.Run(500);
      collisions += model.cache().counters().collisions;
      hits += model.cache().counters().lookup_hits;
    }
  }
  EXPECT_GT(collisions, 1000U);
  EXPECT_GT(hits, 1000U);
}

}  // namespace
}  // namespace pixii::kv
