// What engines publish, from its bytes to what the router knows: rows B11, B13, B14 and B15 of
// spec/dynamo-core.md 13.2.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "router/kv_index.h"
#include "wire/engine_kv_translator.h"
#include "wire/msgpack.h"
#include "wire/public_hash.h"
#include "wire/zmq_kv_event.h"

namespace pixii::router {
namespace {

constexpr std::uint32_t kBlockTokens = 4;
constexpr RankNumber kRank{3};

class EngineEvents : public testing::Test {
 protected:
  // A batch with one event that `write` writes, as bytes, into the index.
  template <class Write>
  void Publish(Write write) {
    std::string bytes;
    wire::MsgpackWriter out(bytes);
    out.Array(4);
    out.Double(1);
    out.Array(1);
    write(out);
    out.Nil();
    out.Text("of a later version");
    const auto batch = wire::DecodeEngineKvBatch(bytes);
    ASSERT_TRUE(batch) << batch.error().ToString();
    std::vector<wire::KvEvent> events;
    for (const wire::EngineKvEvent& event : batch->events) {
      translator_.Translate(event, 0, events);
    }
    for (const wire::KvEvent& event : events) {
      index_.Apply(kRank, event);
    }
  }

  // Blocks `hashes` of tokens first, first + 1, ...
  void Store(const std::vector<std::int64_t>& hashes, std::optional<std::int64_t> parent,
             TokenId first, std::string_view medium = "GPU", std::int64_t group = 0,
             std::string_view kind = "full_attention") {
    Publish([&](wire::MsgpackWriter& out) {
      out.Array(12);
      out.Text("BlockStored");
      WriteHashes(out, hashes);
      parent ? out.Int(*parent) : out.Nil();
      out.Array(hashes.size() * kBlockTokens);
      for (std::size_t i = 0; i < hashes.size() * kBlockTokens; ++i) {
        out.Int(first + static_cast<TokenId>(i));
      }
      out.Uint(kBlockTokens);
      out.Nil();
      out.Text(medium);
      out.Nil();
      out.Nil();
      out.Int(group);
      out.Text(kind);
      out.Map(0);  // of a later version
    });
  }

  void Remove(const std::vector<std::int64_t>& hashes, std::string_view medium = "GPU") {
    Publish([&](wire::MsgpackWriter& out) {
      out.Map(4);
      out.Text("type");
      out.Text("BlockRemoved");
      out.Text("medium");
      out.Text(medium);
      out.Text("later");
      out.Array(0);
      out.Text("block_hashes");
      WriteHashes(out, hashes);
    });
  }

  static void WriteHashes(wire::MsgpackWriter& out, const std::vector<std::int64_t>& hashes) {
    out.Array(hashes.size());
    for (const std::int64_t hash : hashes) {
      out.Int(hash);
    }
  }

  // Of the prompt 1, 2, 3, ... with `blocks` blocks.
  RankMatch Match(std::uint32_t blocks) {
    std::vector<TokenId> prompt(blocks * kBlockTokens);
    for (std::size_t i = 0; i < prompt.size(); ++i) {
      prompt[i] = static_cast<TokenId>(i + 1);
    }
    KvMatches matches;
    index_.Find(wire::PublicBlockHashes(prompt, kBlockTokens, wire::kPublicHashSeed), matches);
    return matches.ranks.empty() ? RankMatch{.rank = kRank} : matches.ranks.front();
  }

  wire::EngineKvTranslator translator_{{.block_tokens = kBlockTokens}};
  KvIndex index_{{}};
};

// B11.
TEST_F(EngineEvents, TheIndexHoldsWhatTheEngineHolds) {
  Store({-5, 7}, std::nullopt, 1);
  Store({-9}, 7, 9);
  EXPECT_EQ(Match(4).device, 3U);
  const std::vector<wire::KvEvent> dump = index_.Dump(kRank);
  std::size_t blocks = 0;
  for (const wire::KvEvent& event : dump) {
    blocks += event.blocks.size();
  }
  EXPECT_EQ(blocks, 3U);
  Remove({-9});
  EXPECT_EQ(Match(4).device, 2U);
  Publish([](wire::MsgpackWriter& out) {
    out.Array(1);
    out.Text("AllBlocksCleared");
  });
  EXPECT_EQ(Match(4).device, 0U);
}

// B13.
TEST_F(EngineEvents, ABlockStoredTwiceIsThereUntilItIsRemovedTwice) {
  Store({1}, std::nullopt, 1);
  Store({1}, std::nullopt, 1);
  Remove({1});
  EXPECT_EQ(Match(1).device, 1U);
  Remove({1});
  EXPECT_EQ(Match(1).device, 0U);
}

// B14.
TEST_F(EngineEvents, BlocksOfWindowsAreIgnored) {
  Store({1}, std::nullopt, 1, "GPU", 1, "sliding_window");
  EXPECT_EQ(Match(1).device, 0U);
  Store({2}, std::nullopt, 1, "GPU", 0, "full_attention");
  EXPECT_EQ(Match(1).device, 1U);
}

// B15; the cost's side of it: cost_test.cc.
TEST_F(EngineEvents, ABlockThatWentToTheHostIsThereAlone) {
  Store({1, 2}, std::nullopt, 1);
  Store({1, 2}, std::nullopt, 1, "CPU_PINNED");
  Remove({1, 2});
  EXPECT_EQ(Match(2).device, 0U);
  EXPECT_EQ(Match(2).host, 2U);
}

}  // namespace
}  // namespace pixii::router
