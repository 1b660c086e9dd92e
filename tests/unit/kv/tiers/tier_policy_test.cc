// What each policy of the tiers finds again of the same requests with the same room, against plain
// LRU: conversations that come back between prompts that never do, and a recorded trace.
#include <gtest/gtest.h>

#include <charconv>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kv/tiers/host_store.h"
#include "kv/tiers/tiered_connector.h"
#include "support/golden.h"
#include "unit/kv/tiers/stored_blocks.h"

namespace pixii::kv {
namespace {

struct Asked {
  rt::Duration at{};
  std::vector<TokenId> blocks;  // one token stands for each
};

struct Policy {
  EvictionPolicy eviction = EvictionPolicy::kLru;
  bool filter = false;
};

constexpr Policy kPlainLru{EvictionPolicy::kLru, false};
constexpr Policy kHiCache{EvictionPolicy::kLeafFirst, true};
constexpr Policy kFlexKv{EvictionPolicy::kLeafReward, false};

struct Room {
  std::uint32_t host = 0;  // blocks
  std::uint32_t disk = 0;
};

class NowRunner final : public JobRunner {
 public:
  void Post(bool /*urgent*/, Job job) override { job(); }
};

/// Share of the requests' blocks that some tier had when they came.
double HitRate(const std::vector<Asked>& asked, const Policy& policy, const Room& room) {
  const BlockShape shape(1, {8});
  TieredConnectorOptions options;
  options.shape = shape;
  options.filter = policy.filter;
  std::vector<TierSetup> tiers(2);
  for (std::size_t i = 0; i < tiers.size(); ++i) {
    tiers[i].tier = i == 0 ? Tier::kHost : Tier::kDisk;
    tiers[i].index = {.slot_count = i == 0 ? room.host : room.disk, .policy = policy.eviction};
    tiers[i].store = std::make_unique<HostStore>(shape, tiers[i].index.slot_count);
    tiers[i].runner = std::make_unique<NowRunner>();
  }
  auto pool = *BlockPool::Create({.block_count_max = 4096});
  const std::vector<std::byte> bytes(shape.payload_bytes());
  TieredConnector connector(options, std::move(tiers), std::make_shared<TierCounters>());
  connector.Start([] {});
  const std::shared_ptr<const BlockRoot> root = MakeTestRoot();
  std::uint64_t wanted = 0;
  std::uint64_t found = 0;
  std::uint64_t id = 0;
  std::vector<LoadEnd> ended;
  for (const Asked& one : asked) {
    connector.Poll(rt::Time(std::chrono::seconds(1)) + one.at, ended);
    auto request = std::make_shared<ConnectorRequest>();
    request->id = RequestId{++id};
    request->chain.root = root;
    request->chain.tokens = one.blocks;
    Hash128 hash = root->hash;
    for (const TokenId token : one.blocks) {
      hash = TestIdentity().Chain(hash, std::span(&token, 1));
      request->chain.hashes.push_back(hash);
    }
    wanted += one.blocks.size();
    found += connector.Match(request, 0);
    std::vector<PublishedBlock> published;
    for (std::uint32_t i = 0; i < one.blocks.size(); ++i) {
      PublishedBlock& block = published.emplace_back();
      block.hash = request->chain.hashes[i];
      block.parent = i == 0 ? root->hash : request->chain.hashes[i - 1];
      block.root = root;
      block.index = i;
      block.tokens = {one.blocks[i]};
      block.bytes = std::span(const_cast<std::byte*>(bytes.data()), bytes.size());
      block.pin = std::move(pool->Acquire()->pin);
    }
    connector.Published(std::move(published));
    connector.Poll(rt::Time(std::chrono::seconds(1)) + one.at, ended);
    connector.Finished(request, {});
  }
  return static_cast<double>(found) / static_cast<double>(wanted);
}

// Sixty conversations, some more lively than others, between prompts that come once.
std::vector<Asked> Conversations(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::vector<TokenId>> talks(60);
  TokenId next = 1;
  auto grow = [&](std::vector<TokenId>& blocks, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      blocks.push_back(next++);
    }
  };
  std::vector<Asked> asked;
  for (int second = 0; second < 4000; ++second) {
    Asked& one = asked.emplace_back();
    one.at = std::chrono::seconds(second);
    if (random() % 10 < 4) {
      std::vector<TokenId>& talk = talks[std::min(random() % 60, random() % 60)];
      grow(talk, talk.empty() ? 10 : 1);
      one.blocks = talk;
      if (talk.size() >= 30) {
        talk.clear();  // another begins
      }
    } else {
      grow(one.blocks, 16);
    }
  }
  return asked;
}

TEST(TierPolicy, BothFindMoreOfConversationsBetweenOtherPromptsThanPlainLru) {
  for (const std::uint64_t seed : {1, 2, 3}) {
    const std::vector<Asked> asked = Conversations(seed);
    const Room room{.host = 300, .disk = 900};
    const double lru = HitRate(asked, kPlainLru, room);
    const double hicache = HitRate(asked, kHiCache, room);
    const double flexkv = HitRate(asked, kFlexKv, room);
    RecordProperty("rates", std::to_string(lru) + " " + std::to_string(hicache) + " " +
                                std::to_string(flexkv));
    EXPECT_GT(hicache, 1.05 * lru) << "seed " << seed << ": " << lru;
    EXPECT_GT(flexkv, 1.05 * lru) << "seed " << seed << ": " << lru;
  }
}

/// Nothing if the line is no request of Mooncake's form.
std::optional<Asked> ReadLine(const std::string& line) {
  const std::size_t time = line.find("\"timestamp\":");
  std::size_t at = line.find("\"hash_ids\": [");
  if (time == std::string::npos || at == std::string::npos) {
    return std::nullopt;
  }
  Asked asked;
  asked.at = std::chrono::milliseconds(std::strtoll(line.c_str() + time + 12, nullptr, 10));
  at += 13;
  while (at < line.size() && line[at] != ']') {
    TokenId id{};
    const auto [end, error] = std::from_chars(line.data() + at, line.data() + line.size(), id);
    if (error != std::errc()) {
      return std::nullopt;
    }
    asked.blocks.push_back(id);
    at = static_cast<std::size_t>(end - line.data());
    at = line.find_first_not_of(", ", at);
  }
  asked.blocks.pop_back();  // the last one is in part
  return asked;
}

TEST(TierPolicy, BothFindMoreOfARecordedTraceThanPlainLru) {
  const std::string path =
      pixii::testing::DataDir().value_or("") + "/traces/mooncake_conversation_trace.jsonl";
  std::ifstream file(path);
  if (!file) {
    GTEST_SKIP() << path << " is not there";
  }
  std::vector<Asked> asked;
  for (std::string line; std::getline(file, line);) {
    const std::optional<Asked> one = ReadLine(line);
    ASSERT_TRUE(one) << line.substr(0, 200);
    asked.push_back(*one);
  }
  for (const Room& room : {Room{.host = 1000, .disk = 4000}, Room{.host = 2000, .disk = 8000}}) {
    const double lru = HitRate(asked, kPlainLru, room);
    const double hicache = HitRate(asked, kHiCache, room);
    const double flexkv = HitRate(asked, kFlexKv, room);
    std::printf("host %u, disk %u: lru %.3f, hicache %.3f, flexkv %.3f\n", room.host, room.disk,
                lru, hicache, flexkv);
    EXPECT_GT(hicache, lru) << room.host;
    EXPECT_GT(flexkv, lru) << room.host;
  }
}

}  // namespace
}  // namespace pixii::kv
