#include "kv/layout_record.h"

#include <gtest/gtest.h>

#include <fmt/format.h>

#include <random>
#include <sstream>

#include "base/hash.h"
#include "support/golden.h"

namespace pixii::kv {
namespace {

LayoutRecord Grouped() {
  return {.layer_count = 5,
          .kv_head_count = 2,
          .key_dim = 16,
          .value_dim = 8,
          .block_tokens = 3,
          .dtype = ElementType::kInt8,
          .stage_layers = CutLayers(5, 2),
          .rank_heads = CutHeads(2, 4),
          .data_rank_count = 3,
          .stage = 1,
          .tensor_rank = 2,
          .data_rank = 1};
}

LayoutRecord Latent() {
  return {.layer_count = 4,
          .kv_head_count = 1,
          .key_dim = 24,
          .value_dim = 16,
          .value_in_key = true,
          .block_tokens = 16,
          .stage_layers = CutLayers(4, 1),
          .rank_heads = CutHeads(1, 2)};
}

std::string Hex(std::string_view bytes) {
  std::string out;
  for (const char byte : bytes) {
    out += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  }
  return out;
}

std::string Unhex(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    out.push_back(static_cast<char>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16)));
  }
  return out;
}

/// The line "NAME HEX" of the format's page.
std::string Frozen(std::string_view name) {
  std::istringstream in(
      testing::ReadFileOrFail(testing::SourceDir() + "/docs/formats/kv_layout.md"));
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(std::string(name) + " ")) {
      return Unhex(line.substr(name.size() + 1));
    }
  }
  return {};
}

TEST(LayoutRecord, FrozenBytesOfVersion1MeanWhatTheyMeant) {
  EXPECT_EQ(Hex(EncodeLayout(Grouped())), Hex(Frozen("grouped")));
  EXPECT_EQ(Hex(EncodeLayout(Latent())), Hex(Frozen("latent")));
  EXPECT_EQ(DecodeLayout(Frozen("grouped")).value(), Grouped());
  EXPECT_EQ(DecodeLayout(Frozen("latent")).value(), Latent());
}

TEST(LayoutRecord, ALaterRevisionIsReadAndALaterVersionIsRefusedByNumber) {
  EXPECT_EQ(DecodeLayout(Frozen("latent_revision_1")).value(), Latent());
  const auto refused = DecodeLayout(Frozen("latent_version_2"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::kUnsupported);
  EXPECT_EQ(refused.error().detail(), "layout record of version 2; this program reads version 1");
}

TEST(LayoutRecord, EveryFlippedBitAndEveryCutIsRefused) {
  const std::string bytes = EncodeLayout(Grouped());
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(DecodeLayout(flipped)) << bit;
  }
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(DecodeLayout(bytes.substr(0, size))) << size;
  }
  EXPECT_FALSE(DecodeLayout(bytes + '\0'));
}

TEST(LayoutRecord, HeadsAreDuplicatedWhereRanksAreMoreAndSharedWhereTheyDoNotDivide) {
  using Cut = std::vector<Interval>;
  EXPECT_EQ(CutHeads(8, 2), (Cut{{0, 4}, {4, 8}}));
  EXPECT_EQ(CutHeads(2, 4), (Cut{{0, 1}, {0, 1}, {1, 2}, {1, 2}}));
  EXPECT_EQ(CutHeads(1, 3), (Cut{{0, 1}, {0, 1}, {0, 1}}));
  EXPECT_EQ(CutHeads(3, 2), (Cut{{0, 2}, {1, 3}}));
  EXPECT_EQ(CutLayers(5, 2), (Cut{{0, 2}, {2, 5}}));
}

TEST(LayoutRecord, SizesFollowTheRanksShare) {
  const LayoutRecord record = Grouped();
  // Key slices: 3 * 16 codes, 3 scales; value slices: 3 * 8 codes, 3 scales.
  EXPECT_EQ(record.slice_size_bytes(16), 60U);
  EXPECT_EQ(record.slice_size_bytes(8), 36U);
  EXPECT_EQ(record.block_size_bytes(0), 2 * 96U);
  EXPECT_EQ(record.block_size_bytes(7), 3 * 96U);
  LayoutRecord odd = record;
  odd.key_dim = 5;  // 15 codes, one byte to align, 12 of scales
  EXPECT_EQ(odd.scales_offset_bytes(5), 16U);
  EXPECT_EQ(odd.slice_size_bytes(5), 28U);
  EXPECT_EQ(Latent().block_size_bytes(1), 4 * 16 * 24 * 2U);
}

TEST(LayoutRecord, WhatCannotBeIsRefusedWithFieldValueAndLimit) {
  const auto detail = [](auto change) {
    LayoutRecord record = Grouped();
    change(record);
    const auto checked = CheckLayout(record);
    return checked ? std::string("fine") : checked.error().detail();
  };
  EXPECT_EQ(detail([](LayoutRecord& r) { r.block_tokens = 513; }),
            "layout: block_tokens is 513, not 1 to 512");
  EXPECT_EQ(detail([](LayoutRecord& r) { r.stage = 2; }), "layout: stage is 2, not 0 to 1");
  EXPECT_EQ(detail([](LayoutRecord& r) { r.stage_layers[1].begin = 3; }),
            "layout: stage_layers[1] is 3 to 5, which leaves a gap after 2");
  EXPECT_EQ(detail([](LayoutRecord& r) { r.stage_layers[1].begin = 1; }),
            "layout: stage_layers[1] is 1 to 5, which is held already");
  EXPECT_EQ(detail([](LayoutRecord& r) { r.rank_heads.pop_back(), r.rank_heads.pop_back(); }),
            "layout: tensor_rank is 2, not 0 to 1");
  EXPECT_EQ(detail([](LayoutRecord& r) { r.rank_heads[3] = {1, 3}; }),
            "layout: rank_heads[3] is 1 to 3, which is no part of 0 to 2");
  EXPECT_EQ(detail([](LayoutRecord& r) { r.rank_heads[3] = {0, 1}; }),
            "layout: rank_heads[3] is 0 to 1, which leaves a gap after 2");
  EXPECT_EQ(detail([](LayoutRecord& r) {
              r.value_in_key = true;
              r.value_dim = 17;
            }),
            "layout: value_dim is 17, not 1 to 16");
}

TEST(LayoutRecord, RandomBytesBehindAGoodSumNeverMakeABadRecord) {
  std::mt19937 random(7);
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = EncodeLayout(i % 2 == 0 ? Grouped() : Latent());
    bytes.resize(bytes.size() - 4);
    for (int n = 0; n < 1 + i % 3; ++n) {
      bytes[8 + random() % (bytes.size() - 8)] =
          static_cast<char>(random() % (i % 5 == 0 ? 256 : 4));
    }
    const auto sum = static_cast<std::uint32_t>(Hash64(std::as_bytes(std::span(bytes))));
    for (int n = 0; n < 4; ++n) {
      bytes.push_back(static_cast<char>(sum >> (8 * n)));
    }
    const auto record = DecodeLayout(bytes);
    EXPECT_TRUE(!record || CheckLayout(*record));
  }
}

}  // namespace
}  // namespace pixii::kv
