#include "wire/zmq_kv_event.h"

#include <gtest/gtest.h>

#include <string>

#include "wire/msgpack.h"

namespace pixii::wire {
namespace {

std::string Hex(std::string_view digits) {
  std::string out;
  std::string clean;
  for (const char c : digits) {
    if (c != ' ') {
      clean.push_back(c);
    }
  }
  for (std::size_t i = 0; i + 1 < clean.size(); i += 2) {
    out.push_back(static_cast<char>(std::stoi(clean.substr(i, 2), nullptr, 16)));
  }
  return out;
}

// The vectors of docs/kv_events_for_engines.md.
constexpr std::string_view kStoredArray =
    "93 cb41d954fc40000000 91 9b ab426c6f636b53746f726564 92 0b d085 c0 98 01 02 03 04 05 06 07 "
    "08 04 c0 a3475055 c0 c0 c0 c0 00";
constexpr std::string_view kStoredMap =
    "93 cb41d954fc40000000 91 86 a474797065 ab426c6f636b53746f726564 ac626c6f636b5f686173686573 91 "
    "c40800000000000000c8 b1706172656e745f626c6f636b5f68617368 0b a9746f6b656e5f696473 94 09 0a 0b "
    "0c aa626c6f636b5f73697a65 04 a66d656469756d aa4350555f50494e4e4544 c0";

constexpr std::string_view kGoneArray =
    "93 cb41d954fc40400000 92 93 ac426c6f636b52656d6f766564 91 d085 a3475055 91 "
    "b0416c6c426c6f636b73436c6561726564 00";

TEST(ZmqKvEvent, RemovalsAreReadAsPublished) {
  const auto batch = DecodeEngineKvBatch(Hex(kGoneArray));
  ASSERT_TRUE(batch) << batch.error().ToString();
  ASSERT_EQ(batch->events.size(), 2U);
  EXPECT_EQ(batch->events[0].kind, EngineKvEvent::Kind::kRemoved);
  EXPECT_EQ(batch->events[0].hashes,
            (std::vector<std::uint64_t>{static_cast<std::uint64_t>(-123)}));
  EXPECT_EQ(batch->events[1].kind, EngineKvEvent::Kind::kCleared);
}

TEST(ZmqKvEvent, ArraysAreReadAsPublished) {
  const auto batch = DecodeEngineKvBatch(Hex(kStoredArray));
  ASSERT_TRUE(batch) << batch.error().ToString();
  EXPECT_EQ(batch->seconds, 1700000000.0);
  EXPECT_EQ(batch->rank, 0U);
  ASSERT_EQ(batch->events.size(), 1U);
  const EngineKvEvent& event = batch->events[0];
  EXPECT_EQ(event.kind, EngineKvEvent::Kind::kStored);
  EXPECT_EQ(event.hashes, (std::vector<std::uint64_t>{11, static_cast<std::uint64_t>(-123)}));
  EXPECT_FALSE(event.parent);
  EXPECT_EQ(event.tokens, (std::vector<TokenId>{1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_EQ(event.block_tokens, 4U);
  EXPECT_EQ(event.tier, KvTier::kDevice);
}

TEST(ZmqKvEvent, MapsAreReadAsPublished) {
  const auto batch = DecodeEngineKvBatch(Hex(kStoredMap));
  ASSERT_TRUE(batch) << batch.error().ToString();
  EXPECT_FALSE(batch->rank);
  ASSERT_EQ(batch->events.size(), 1U);
  const EngineKvEvent& event = batch->events[0];
  EXPECT_EQ(event.hashes, (std::vector<std::uint64_t>{200}));  // of bytes: their last eight
  EXPECT_EQ(event.parent, 11U);
  EXPECT_EQ(event.tokens, (std::vector<TokenId>{9, 10, 11, 12}));
  EXPECT_EQ(event.tier, KvTier::kHost);
}

// A batch of one event that `write` writes.
template <class Write>
Result<EngineKvBatch> BatchOf(Write write) {
  std::string bytes;
  MsgpackWriter out(bytes);
  out.Array(3);
  out.Double(1);
  out.Array(1);
  write(out);
  out.Nil();
  return DecodeEngineKvBatch(bytes);
}

TEST(ZmqKvEvent, WhatLaterVersionsAddIsSkipped) {
  const auto batch = BatchOf([](MsgpackWriter& out) {
    out.Array(8);
    out.Text("BlockRemoved");
    out.Array(1);
    out.Uint(5);
    out.Text("GPU");
    out.Int(0);
    out.Text("full_attention");
    out.Map(1);
    out.Text("later");
    out.Array(1);
    out.Bool(true);
    out.Text("LOCAL");
    out.Nil();
  });
  ASSERT_TRUE(batch) << batch.error().ToString();
  ASSERT_EQ(batch->events.size(), 1U);
  EXPECT_EQ(batch->events[0].kind, EngineKvEvent::Kind::kRemoved);
  EXPECT_EQ(batch->events[0].hashes, (std::vector<std::uint64_t>{5}));

  const auto unknown = BatchOf([](MsgpackWriter& out) {
    out.Array(3);
    out.Text("BlockTransferred");
    out.Array(0);
    out.Map(0);
  });
  ASSERT_TRUE(unknown);
  EXPECT_TRUE(unknown->events.empty());

  const auto map = BatchOf([](MsgpackWriter& out) {
    out.Map(3);
    out.Text("block_hashes");  // before its type
    out.Array(1);
    out.Int(-1);
    out.Text("later");
    out.Map(0);
    out.Text("type");
    out.Text("BlockRemoved");
  });
  ASSERT_TRUE(map);
  EXPECT_EQ(map->events[0].hashes, (std::vector<std::uint64_t>{~std::uint64_t{0}}));
}

TEST(ZmqKvEvent, AWholeBatchMayBeAMap) {
  std::string bytes;
  MsgpackWriter out(bytes);
  out.Map(4);
  out.Text("later");
  out.Nil();
  out.Text("ts");
  out.Int(7);
  out.Text("data_parallel_rank");
  out.Uint(3);
  out.Text("events");
  out.Array(1);
  out.Map(1);
  out.Text("type");
  out.Text("AllBlocksCleared");
  const auto batch = DecodeEngineKvBatch(bytes);
  ASSERT_TRUE(batch) << batch.error().ToString();
  EXPECT_EQ(batch->seconds, 7);
  EXPECT_EQ(batch->rank, 3U);
  ASSERT_EQ(batch->events.size(), 1U);
  EXPECT_EQ(batch->events[0].kind, EngineKvEvent::Kind::kCleared);
}

TEST(ZmqKvEvent, WindowsOfADraftHeadCountByTheirFirstToken) {
  const auto batch = BatchOf([](MsgpackWriter& out) {
    out.Array(5);
    out.Text("BlockStored");
    out.Array(1);
    out.Uint(1);
    out.Nil();
    out.Array(2);
    for (int i = 0; i < 2; ++i) {
      out.Array(2);
      out.Uint(40U + i);
      out.Uint(41U + i);
    }
    out.Uint(2);
  });
  ASSERT_TRUE(batch) << batch.error().ToString();
  EXPECT_EQ(batch->events[0].tokens, (std::vector<TokenId>{40, 41}));
}

TEST(ZmqKvEvent, MediaSaltAndAdapterStandInTheKeys) {
  const std::string picture = "00000000000000ff" + std::string(48, '1');
  const auto batch = BatchOf([&](MsgpackWriter& out) {
    out.Array(9);
    out.Text("BlockStored");
    out.Array(2);
    out.Uint(1);
    out.Uint(2);
    out.Nil();
    out.Array(2);
    out.Uint(1);
    out.Uint(2);
    out.Uint(1);
    out.Nil();
    out.Nil();
    out.Text("tuned");
    out.Array(2);
    out.Array(4);
    out.Text("tuned");
    out.Array(2);  // an identifier with its place
    out.Text(picture);
    out.Int(0);
    out.Text("not a hash");
    out.Text("pixii-salt:tenant");
    out.Nil();
  });
  ASSERT_TRUE(batch) << batch.error().ToString();
  const EngineKvEvent& event = batch->events[0];
  EXPECT_EQ(event.adapter, "tuned");
  EXPECT_EQ(event.salt, "tenant");
  EXPECT_EQ(event.media, (std::vector<std::vector<std::uint64_t>>{{255}, {}}));
}

TEST(ZmqKvEvent, WhatIsWrongIsNamed) {
  const auto refused = [](auto write) {
    const auto batch = BatchOf(write);
    return batch ? std::string("taken") : batch.error().param();
  };
  EXPECT_EQ(refused([](MsgpackWriter& out) { out.Array(0); }), "type");
  EXPECT_EQ(refused([](MsgpackWriter& out) { out.Int(3); }), "");
  EXPECT_EQ(refused([](MsgpackWriter& out) {
              out.Array(2);
              out.Text("BlockStored");
              out.Array(0);
            }),
            "parent_block_hash");
  EXPECT_EQ(refused([](MsgpackWriter& out) {
              out.Map(2);
              out.Text("type");
              out.Text("BlockStored");
              out.Text("block_hashes");
              out.Array(0);
            }),
            "parent_block_hash");
  const auto stored = [&](auto write_size) {
    return refused([&](MsgpackWriter& out) {
      out.Array(5);
      out.Text("BlockStored");
      out.Array(0);
      out.Nil();
      out.Array(0);
      write_size(out);
    });
  };
  EXPECT_EQ(stored([](MsgpackWriter& out) { out.Uint(0); }), "block_size");
  EXPECT_EQ(stored([](MsgpackWriter& out) { out.Uint(1U << 30U); }), "block_size");
  EXPECT_EQ(stored([](MsgpackWriter& out) { out.Text("16"); }), "block_size");
  EXPECT_EQ(stored([](MsgpackWriter& out) { out.Uint(16); }), "taken");
  EXPECT_FALSE(DecodeEngineKvBatch(""));
  EXPECT_FALSE(DecodeEngineKvBatch(Hex(kStoredArray) + "x"));
  const std::string whole = Hex(kStoredArray);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(DecodeEngineKvBatch(whole.substr(0, size))) << size;
  }
}

TEST(ZmqKvEvent, WhatIsWrittenIsReadBack) {
  EngineKvBatch batch;
  batch.seconds = 12.5;
  batch.rank = 2;
  EngineKvEvent& stored = batch.events.emplace_back();
  stored.hashes = {1, ~std::uint64_t{0}};
  stored.parent = 99;
  stored.tokens = {5, 6, 7, 8};
  stored.block_tokens = 2;
  stored.adapter = "a";
  stored.media = {{}, {12, 13}};
  stored.group = 1;
  stored.attention = "mla_attention";
  stored.tier = KvTier::kDisk;
  EngineKvEvent& first = batch.events.emplace_back();
  first.hashes = {3};
  first.tokens = {1};
  first.block_tokens = 1;
  first.salt = "s";
  first.media = {{}};
  EngineKvEvent& removed = batch.events.emplace_back();
  removed.kind = EngineKvEvent::Kind::kRemoved;
  removed.hashes = {1};
  removed.tier = KvTier::kExternal;
  batch.events.emplace_back().kind = EngineKvEvent::Kind::kCleared;
  for (const EngineKvForm form : {EngineKvForm::kArrays, EngineKvForm::kMaps}) {
    const auto back = DecodeEngineKvBatch(EncodeEngineKvBatch(batch, form));
    ASSERT_TRUE(back) << back.error().ToString();
    EXPECT_EQ(back->events, batch.events);
    EXPECT_EQ(*back, batch);
  }
}

TEST(ZmqKvEvent, SequencesAreEightBytes) {
  EXPECT_EQ(EncodeEngineKvSequence(0x0102), std::string("\0\0\0\0\0\0\1\2", 8));
  EXPECT_EQ(DecodeEngineKvSequence(EncodeEngineKvSequence(~std::uint64_t{0})).value(),
            ~std::uint64_t{0});
  EXPECT_FALSE(DecodeEngineKvSequence("1234567"));
}

TEST(ZmqKvEvent, MediaHaveTheirNames) {
  EXPECT_EQ(KvTierOf("gpu"), KvTier::kDevice);
  EXPECT_EQ(KvTierOf("CPU_TIER2"), KvTier::kDisk);
  EXPECT_EQ(KvTierOf("SHARED"), KvTier::kExternal);
  EXPECT_FALSE(KvTierOf("tape"));
}

}  // namespace
}  // namespace pixii::wire
