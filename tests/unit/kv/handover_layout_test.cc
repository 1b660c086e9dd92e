#include "kv/handover_layout.h"

#include <gtest/gtest.h>

#include <random>

namespace pixii::kv {
namespace {

constexpr char kKey[] = "a key of 16 bytes or more";

struct Cut {
  std::uint32_t tensor = 1;
  std::uint32_t stages = 1;
  std::uint32_t block_tokens = 4;
};

LayoutRecord Make(const Cut& cut) {
  return {.layer_count = 3,
          .kv_head_count = 2,
          .key_dim = 4,
          .value_dim = 4,
          .block_tokens = cut.block_tokens,
          .stage_layers = CutLayers(3, cut.stages),
          .rank_heads = CutHeads(2, cut.tensor)};
}

BlockGeometry GeometryOf(const LayoutRecord& layout) {
  BlockGeometry out;
  out.block_tokens = layout.block_tokens;
  out.layout = layout;
  return out;
}

wire::KvLayoutRecord WireOf(const LayoutRecord& layout) {
  return {.block_tokens = layout.block_tokens,
          .block_bytes = layout.rank_offset_bytes(layout.rank_count()),
          .dtype = "bf16",
          .cut = EncodeLayout(layout)};
}

/// The chain of `count` tokens in whole blocks.
BlockChain ChainOf(std::uint32_t count, std::uint32_t block_tokens, TokenId first = 100) {
  const BlockIdentity identity(kKey);
  BlockChain out;
  out.root = identity.MakeRoot({});
  Hash128 hash = out.root->hash;
  for (std::uint32_t begin = 0; begin + block_tokens <= count; begin += block_tokens) {
    for (std::uint32_t t = begin; t < begin + block_tokens; ++t) {
      out.tokens.push_back(first + static_cast<TokenId>(t));
    }
    hash = identity.Chain(hash, std::span(out.tokens).subspan(begin, block_tokens));
    out.hashes.push_back(hash);
  }
  return out;
}

TEST(HandoverLayout, OfEqualLayoutsThereIsNone) {
  const LayoutRecord layout = Make({.tensor = 2});
  EXPECT_EQ(HandoverLayout::Create(WireOf(layout), GeometryOf(layout)).value(), nullptr);
  EXPECT_NE(HandoverLayout::Create(WireOf(layout), GeometryOf(Make({}))).value(), nullptr);
}

TEST(HandoverLayout, WhatCannotBeTakenOverIsRefused) {
  LayoutRecord other = Make({});
  other.key_dim = 5;
  const auto refused = HandoverLayout::Create(WireOf(other), GeometryOf(Make({})));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().detail(), "blocks cannot be taken over: key_dim is 5 there and 4 here");
  wire::KvLayoutRecord lie = WireOf(Make({.tensor = 2}));
  lie.block_bytes += 1;
  EXPECT_EQ(HandoverLayout::Create(lie, GeometryOf(Make({}))).error().code(), Code::kDataCorrupt);
  lie = WireOf(Make({.tensor = 2}));
  lie.cut[20] = static_cast<char>(lie.cut[20] ^ 1);
  EXPECT_EQ(HandoverLayout::Create(lie, GeometryOf(Make({}))).error().code(), Code::kDataCorrupt);
}

TEST(HandoverLayout, BlocksOfAnotherSizeAreKnownByTheTokensThatBothHave) {
  const BlockIdentity identity(kKey);
  const auto usable = [&](std::uint32_t theirs, std::uint32_t ours, std::uint32_t tokens,
                          std::uint32_t own_tokens, TokenId first = 100) {
    const auto layout =
        HandoverLayout::Create(WireOf(Make({.block_tokens = theirs})),
                               GeometryOf(Make({.tensor = 2, .block_tokens = ours})))
            .value();
    wire::HandoverRecord record;
    record.chain = PackHashes(ChainOf(tokens, theirs).hashes);
    return layout->Usable(record, ChainOf(own_tokens, ours, first), identity);
  };
  EXPECT_EQ(usable(4, 4, 23, 23), 5U);
  EXPECT_EQ(usable(4, 8, 23, 23), 2U);  // 20 tokens, of which 16 are in whole blocks here
  EXPECT_EQ(usable(8, 4, 23, 23), 4U);  // 16 tokens
  EXPECT_EQ(usable(6, 4, 23, 23), 4U);  // 18 tokens
  EXPECT_EQ(usable(8, 4, 23, 12), 2U);  // the second of theirs has tokens that are not known here
  EXPECT_EQ(usable(8, 4, 7, 23), 0U);
  EXPECT_EQ(usable(4, 8, 23, 23, 101), 0U);  // other tokens
}

TEST(HandoverLayout, WhatIsProvenFillsWholeBlocksAndNothingElse) {
  for (const auto& [source_cut, target_cut] :
       {std::pair(Cut{.tensor = 4, .stages = 2, .block_tokens = 4}, Cut{.block_tokens = 8}),
        std::pair(Cut{.block_tokens = 8}, Cut{.tensor = 2, .stages = 3, .block_tokens = 4}),
        std::pair(Cut{.tensor = 2, .block_tokens = 6}, Cut{.stages = 2, .block_tokens = 4})}) {
    const LayoutRecord source = Make(source_cut);
    const LayoutRecord target = Make(target_cut);
    const auto there = HandoverLayout::Create(WireOf(source), GeometryOf(target)).value();
    const auto back = HandoverLayout::Create(WireOf(target), GeometryOf(source)).value();
    ASSERT_NE(there, nullptr);
    const std::uint64_t source_size = source.rank_offset_bytes(source.rank_count());
    const std::uint64_t target_size = target.rank_offset_bytes(target.rank_count());
    // 24 tokens: ours from theirs, then theirs again from ours.
    const std::uint32_t source_count = 24 / source.block_tokens;
    const std::uint32_t target_count = 24 / target.block_tokens;
    std::vector<std::byte> ours(target_count * target_size);
    std::mt19937 random(1);
    for (std::byte& byte : ours) {
      byte = static_cast<std::byte>(random());
    }
    // Duplicated heads are equal in what a worker has: so we begin with one rank's bytes.
    const LayoutRecord one = Make({.block_tokens = target.block_tokens});
    const auto spread = HandoverLayout::Create(WireOf(one), GeometryOf(target)).value();
    const auto memory = [](std::vector<std::byte>& bytes, std::uint64_t size) {
      std::vector<BlockMemory> out;
      for (std::size_t at = 0; at < bytes.size(); at += size) {
        out.push_back({.ref = {}, .bytes = std::span(bytes).subspan(at, size)});
      }
      return out;
    };
    if (spread) {
      std::vector<std::byte> whole(target_count * one.rank_offset_bytes(1));
      for (std::byte& byte : whole) {
        byte = static_cast<std::byte>(random());
      }
      EXPECT_EQ(spread->Fill(whole, {0, target_count}, 0, memory(ours, target_size)), target_count);
    }
    std::vector<std::byte> theirs(source_count * source_size);
    EXPECT_EQ(back->Fill(ours, {0, target_count}, 0, memory(theirs, source_size)), source_count);
    std::vector<std::byte> again(ours.size());
    EXPECT_EQ(there->Fill(theirs, {0, source_count}, 0, memory(again, target_size)), target_count);
    EXPECT_TRUE(again == ours);
    // The last of theirs is not proven: what it gives is not written.
    std::vector<std::byte> less(ours.size(), std::byte{0xEE});
    const std::uint32_t whole = (24 - source.block_tokens) / target.block_tokens;
    EXPECT_EQ(there->Fill(theirs, {0, source_count - 1}, 0, memory(less, target_size)), whole);
    for (std::size_t at = 0; at < less.size(); ++at) {
      ASSERT_EQ(less[at], at < whole * target_size ? ours[at] : std::byte{0xEE}) << at;
    }
    // From the second of ours on.
    const Interval sources = there->Sources(1, target_count - 1);
    std::vector<std::byte> rest(ours.size() - target_size);
    EXPECT_EQ(there->Fill(std::span(theirs).subspan(sources.begin * source_size), sources, 1,
                          memory(rest, target_size)),
              target_count - 1);
    EXPECT_TRUE(std::equal(rest.begin(), rest.end(), ours.begin() + target_size));
  }
}

}  // namespace
}  // namespace pixii::kv
