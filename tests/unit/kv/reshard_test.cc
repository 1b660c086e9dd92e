// Blocks cut anew, against an oracle that walks every byte of every slice in the documented order.
#include "kv/reshard.h"

#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <random>
#include <tuple>

#include "base/small_floats.h"

namespace pixii::kv {
namespace {

struct Shape {
  std::uint32_t layers = 6;
  std::uint32_t heads = 2;
  std::uint32_t key_dim = 4;
  std::uint32_t value_dim = 4;
  bool latent = false;
  ElementType dtype = ElementType::kBf16;
};

struct Cut {
  std::uint32_t tensor = 1;
  std::uint32_t stages = 1;
  std::uint32_t block_tokens = 4;
};

LayoutRecord Make(const Shape& shape, const Cut& cut) {
  return {.layer_count = shape.layers,
          .kv_head_count = shape.heads,
          .key_dim = shape.key_dim,
          .value_dim = shape.value_dim,
          .value_in_key = shape.latent,
          .block_tokens = cut.block_tokens,
          .dtype = shape.dtype,
          .stage_layers = CutLayers(shape.layers, cut.stages),
          .rank_heads = CutHeads(shape.heads, cut.tensor)};
}

/// What a byte of a block is: layer, K or V, head, token, byte of its row; scales are rows past
/// all.
using Place = std::tuple<std::uint32_t, bool, std::uint32_t, std::uint32_t, std::uint64_t>;
constexpr std::uint64_t kScaleByte = 1U << 20U;

/// Calls `visit(offset, place)` for each byte of a rank's block that means something.
template <class Visit>
void Walk(const LayoutRecord& record, std::uint32_t rank, std::uint32_t block, Visit visit) {
  std::uint64_t offset = 0;
  for (std::uint32_t layer = record.layers_of(rank).begin; layer < record.layers_of(rank).end;
       ++layer) {
    for (const bool value : {false, true}) {
      if (value && record.value_in_key) {
        continue;
      }
      const std::uint32_t dim = value ? record.value_dim : record.key_dim;
      for (std::uint32_t head = record.heads_of(rank).begin; head < record.heads_of(rank).end;
           ++head) {
        for (std::uint32_t t = 0; t < record.block_tokens; ++t) {
          for (std::uint64_t b = 0; b < std::uint64_t{dim} * SizeOf(record.dtype); ++b) {
            visit(offset++, Place(layer, value, head, block * record.block_tokens + t, b));
          }
        }
        if (HasScales(record.dtype)) {
          offset += (4 - offset % 4) % 4;
          for (std::uint32_t t = 0; t < record.block_tokens; ++t) {
            for (std::uint64_t b = 0; b < 4; ++b) {
              visit(offset++,
                    Place(layer, value, head, block * record.block_tokens + t, kScaleByte + b));
            }
          }
        }
      }
    }
  }
  EXPECT_EQ(offset, record.block_size_bytes(rank));
}

std::byte Content(const Place& place) {
  const auto [layer, value, head, token, b] = place;
  const std::uint64_t mixed =
      ((((layer * 2ULL + (value ? 1 : 0)) * 131 + head) * 1031 + token) * 8191 + b) *
      0x9E3779B97F4A7C15ULL;
  return static_cast<std::byte>(mixed >> 56U);
}

constexpr std::byte kUntouched{0xEE};

using Blocks = std::map<std::pair<std::uint32_t, std::uint32_t>, std::vector<std::byte>>;

Blocks Filled(const LayoutRecord& record, std::uint32_t tokens) {
  Blocks out;
  for (std::uint32_t rank = 0; rank < record.rank_count(); ++rank) {
    for (std::uint32_t block = 0; block * record.block_tokens < tokens; ++block) {
      auto& bytes = out[{rank, block}];
      bytes.assign(record.block_size_bytes(rank), std::byte{0x55});
      Walk(record, rank, block, [&](std::uint64_t at, const Place& p) { bytes[at] = Content(p); });
    }
  }
  return out;
}

/// Moves tokens [begin, end) and looks at every byte of the target.
void CheckPair(const LayoutRecord& source, const LayoutRecord& target, Interval tokens) {
  SCOPED_TRACE(
      fmt::format("tp {} pp {} block {} -> tp {} pp {} block {}, {} heads {} layers {}, "
                  "tokens {} to {}",
                  source.rank_heads.size(), source.stage_layers.size(), source.block_tokens,
                  target.rank_heads.size(), target.stage_layers.size(), target.block_tokens,
                  source.kv_head_count, source.layer_count, ElementTypeName(source.dtype),
                  tokens.begin, tokens.end));
  const Reshard reshard = Reshard::Create(source, target).value();
  const Blocks from = Filled(source, tokens.end);
  const bool padding = source.block_tokens == target.block_tokens;  // whole slices move with it
  for (std::uint32_t rank = 0; rank < target.rank_count(); ++rank) {
    Blocks to;
    std::map<std::pair<std::uint32_t, std::uint64_t>, int> written;
    std::vector<BlockCopy> copies;
    reshard.Append(rank, tokens, copies);
    const std::vector<std::uint32_t> sources = reshard.Sources(rank);
    for (const BlockCopy& copy : copies) {
      ASSERT_EQ(copy.target_rank, rank);
      ASSERT_TRUE(std::ranges::binary_search(sources, copy.source_rank));
      const Interval held = reshard.SourceBlocks(tokens);
      ASSERT_TRUE(held.begin <= copy.source_block && copy.source_block < held.end);
      auto& bytes = to[{rank, copy.target_block}];
      bytes.resize(target.block_size_bytes(rank), kUntouched);
      const auto& source_bytes = from.at({copy.source_rank, copy.source_block});
      ASSERT_LE(copy.source_offset_bytes + copy.source_size_bytes, source_bytes.size());
      ASSERT_LE(copy.target_offset_bytes + copy.target_size_bytes, bytes.size());
      reshard.Move(
          std::span(source_bytes).subspan(copy.source_offset_bytes, copy.source_size_bytes),
          std::span(bytes).subspan(copy.target_offset_bytes, copy.target_size_bytes));
      for (std::uint64_t i = 0; i < copy.target_size_bytes; ++i) {
        ++written[{copy.target_block, copy.target_offset_bytes + i}];
      }
    }
    for (const auto& [place, times] : written) {
      ASSERT_EQ(times, 1) << "block " << place.first << " byte " << place.second;
    }
    for (std::uint32_t block = tokens.begin / target.block_tokens;
         block * target.block_tokens < tokens.end; ++block) {
      const auto& bytes = to.at({rank, block});
      std::uint64_t seen = 0;
      Walk(target, rank, block, [&](std::uint64_t at, const Place& place) {
        const std::uint32_t token = std::get<3>(place);
        const bool wanted = token >= tokens.begin && token < tokens.end;
        seen += wanted ? 1 : 0;
        ASSERT_EQ(bytes[at], wanted ? Content(place) : kUntouched)
            << "block " << block << " " << at;
      });
      const auto count = std::ranges::count_if(
          written, [&](const auto& entry) { return entry.first.first == block; });
      ASSERT_TRUE(padding || static_cast<std::uint64_t>(count) == seen);
    }
  }
}

TEST(Reshard, PairsThatUpstreamNames) {
  const Shape grouped;
  CheckPair(Make(grouped, {.tensor = 1}), Make(grouped, {.tensor = 2}), {0, 12});
  CheckPair(Make(grouped, {.tensor = 2}), Make(grouped, {.tensor = 1}), {0, 12});
  CheckPair(Make(grouped, {.tensor = 2}), Make(grouped, {.stages = 2}), {0, 12});
  CheckPair(Make(grouped, {.stages = 2}), Make(grouped, {.tensor = 1}), {0, 12});
  CheckPair(Make(grouped, {.tensor = 4}), Make(grouped, {.tensor = 1}), {0, 12});  // duplicates
}

TEST(Reshard, AnyTwoOf200RandomLayouts) {
  for (std::uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    std::mt19937 random(seed);
    const auto draw = [&](std::uint32_t from, std::uint32_t to) {
      return from + static_cast<std::uint32_t>(random() % (to - from + 1));
    };
    Shape shape = {.layers = draw(1, 7),
                   .heads = draw(1, 6),
                   .key_dim = draw(1, 5),
                   .value_dim = draw(1, 5),
                   .latent = draw(0, 3) == 0,
                   .dtype = static_cast<ElementType>(draw(0, 4))};
    if (shape.latent) {
      shape.heads = 1;
      shape.value_dim = std::min(shape.value_dim, shape.key_dim);
    }
    const auto cut = [&] {
      return Cut{.tensor = draw(1, 8),
                 .stages = draw(1, std::min(shape.layers, 4U)),
                 .block_tokens = draw(0, 1) == 0 ? 4 : draw(1, 9)};
    };
    const LayoutRecord source = Make(shape, cut());
    const LayoutRecord target = Make(shape, cut());
    const std::uint32_t begin = draw(0, 1) == 0 ? 0 : draw(0, 20);
    CheckPair(source, target, {begin, begin + draw(1, 24)});
    const std::uint32_t whole = source.block_tokens * target.block_tokens;
    CheckPair(source, target, {whole, 2 * whole});
    CheckPair(target, source, {whole, 2 * whole});
  }
}

TEST(Reshard, EqualLayoutsMoveEachBlockAsOneCopy) {
  const LayoutRecord layout = Make({.dtype = ElementType::kInt8}, {.tensor = 2, .stages = 3});
  const Reshard reshard = Reshard::Create(layout, layout).value();
  EXPECT_TRUE(reshard.identical());
  std::vector<BlockCopy> copies;
  reshard.Append(3, {4, 12}, copies);
  ASSERT_EQ(copies.size(), 2U);
  const std::uint64_t size = layout.block_size_bytes(3);
  EXPECT_EQ(copies[0], (BlockCopy{.source_rank = 3,
                                  .source_block = 1,
                                  .target_rank = 3,
                                  .target_block = 1,
                                  .source_size_bytes = size,
                                  .target_size_bytes = size}));
  EXPECT_EQ(copies[1].source_block, 2U);
}

TEST(Reshard, DuplicatedHeadsAreSentOnceAndByTurns) {
  const Shape shape = {.layers = 1};
  const Reshard gather =
      Reshard::Create(Make(shape, {.tensor = 8}), Make(shape, {.tensor = 1})).value();
  EXPECT_EQ(gather.Sources(0), (std::vector<std::uint32_t>{0, 4}));
  const Reshard same =
      Reshard::Create(Make(shape, {.tensor = 8}), Make(shape, {.tensor = 4})).value();
  EXPECT_EQ(same.Sources(0), (std::vector<std::uint32_t>{0}));
  EXPECT_EQ(same.Sources(1), (std::vector<std::uint32_t>{1}));
  EXPECT_EQ(same.Sources(2), (std::vector<std::uint32_t>{6}));
  EXPECT_EQ(same.Sources(3), (std::vector<std::uint32_t>{7}));
}

TEST(Reshard, ThereAndBackIsBitExact) {
  const Shape shape = {.layers = 5, .heads = 3, .key_dim = 3, .dtype = ElementType::kFp8E4m3};
  const LayoutRecord here = Make(shape, {.tensor = 2, .stages = 2, .block_tokens = 4});
  for (const Cut& cut : {Cut{.tensor = 1, .stages = 5, .block_tokens = 1},
                         Cut{.tensor = 3, .stages = 1, .block_tokens = 12},
                         Cut{.tensor = 7, .stages = 3, .block_tokens = 6}}) {
    const LayoutRecord there = Make(shape, cut);
    const Reshard out = Reshard::Create(here, there).value();
    const Reshard back = Reshard::Create(there, here).value();
    const Blocks start = Filled(here, 12);
    const auto move = [](const Reshard& reshard, const Blocks& from) {
      Blocks to;
      for (std::uint32_t rank = 0; rank < reshard.target().rank_count(); ++rank) {
        std::vector<BlockCopy> copies;
        reshard.Append(rank, {0, 12}, copies);
        for (const BlockCopy& copy : copies) {
          auto& bytes = to[{rank, copy.target_block}];
          bytes.resize(reshard.target().block_size_bytes(rank), std::byte{0x55});
          reshard.Move(std::span(from.at({copy.source_rank, copy.source_block}))
                           .subspan(copy.source_offset_bytes, copy.source_size_bytes),
                       std::span(bytes).subspan(copy.target_offset_bytes, copy.target_size_bytes));
        }
      }
      return to;
    };
    EXPECT_TRUE(move(back, move(out, start)) == start);
  }
}

TEST(Reshard, ADeclaredConversionRoundsEachElementToNearestEven) {
  Shape shape = {.layers = 1, .heads = 1, .key_dim = 2, .value_dim = 2};
  shape.dtype = ElementType::kF32;
  const LayoutRecord wide = Make(shape, {.block_tokens = 4});
  shape.dtype = ElementType::kF16;
  const LayoutRecord half = Make(shape, {.block_tokens = 2});
  shape.dtype = ElementType::kBf16;
  const LayoutRecord brain = Make(shape, {.block_tokens = 2});
  std::vector<float> values(16);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = std::ldexp(1.0F + static_cast<float>(i) / 4099.0F, static_cast<int>(i) - 8);
  }
  const auto convert = [](const LayoutRecord& from, const LayoutRecord& to,
                          std::span<const std::byte> bytes) {
    const Reshard reshard = Reshard::Create(from, to, {.convert = true}).value();
    std::vector<BlockCopy> copies;
    reshard.Append(0, {0, 4}, copies);
    std::vector<std::byte> out(to.block_size_bytes(0) * 4 / to.block_tokens);
    for (const BlockCopy& copy : copies) {
      reshard.Move(
          bytes.subspan(copy.source_block * from.block_size_bytes(0) + copy.source_offset_bytes,
                        copy.source_size_bytes),
          std::span(out).subspan(
              copy.target_block * to.block_size_bytes(0) + copy.target_offset_bytes,
              copy.target_size_bytes));
    }
    return out;
  };
  const auto bits = [](std::span<const std::byte> bytes, std::size_t i) {
    std::uint16_t out = 0;
    std::memcpy(&out, bytes.data() + 2 * i, 2);
    return out;
  };
  const auto halves = convert(wide, half, std::as_bytes(std::span(values)));
  const auto brains = convert(wide, brain, std::as_bytes(std::span(values)));
  // wide: K of tokens 0 to 3, then V; in blocks of two tokens: K 0 1, V 0 1, K 2 3, V 2 3.
  constexpr std::size_t kOrder[] = {0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15};
  for (std::size_t i = 0; i < 16; ++i) {
    EXPECT_EQ(bits(halves, i), F16FromFloat(values[kOrder[i]])) << i;
    EXPECT_EQ(bits(brains, i), Bf16FromFloat(values[kOrder[i]])) << i;
  }
  // Widened, and narrowed again, nothing is lost; between the two halves rounding is all.
  EXPECT_EQ(convert(wide, half, convert(half, wide, halves)), halves);
  const auto crossed = convert(half, brain, halves);
  for (std::size_t i = 0; i < 16; ++i) {
    EXPECT_EQ(bits(crossed, i), Bf16FromFloat(FloatFromF16(bits(halves, i)))) << i;
  }
}

TEST(Reshard, WhatDoesNotFitIsRefusedWithBothValues) {
  const LayoutRecord here = Make({}, {});
  const auto detail = [&](auto change, bool convert = false) {
    LayoutRecord there = here;
    change(there);
    const auto made = Reshard::Create(there, here, {.convert = convert});
    return made ? std::string("fine")
                : std::string(made.error().param() + "|" + made.error().detail());
  };
  EXPECT_EQ(detail([](LayoutRecord& r) { r.dtype = ElementType::kF16; }),
            "dtype|blocks cannot be taken over: dtype is fp16 there and bf16 here");
  EXPECT_EQ(detail([](LayoutRecord& r) { r.dtype = ElementType::kF16; }, true), "fine");
  EXPECT_EQ(detail([](LayoutRecord& r) { r.dtype = ElementType::kInt8; }, true),
            "dtype|blocks cannot be taken over: dtype is int8 there and bf16 here");
  EXPECT_EQ(detail([](LayoutRecord& r) { r.key_dim = 5; }),
            "key_dim|blocks cannot be taken over: key_dim is 5 there and 4 here");
  EXPECT_EQ(detail([](LayoutRecord& r) { r.value_dim = 3; }),
            "value_dim|blocks cannot be taken over: value_dim is 3 there and 4 here");
  EXPECT_EQ(detail([](LayoutRecord& r) {
              r.layer_count = 7;
              r.stage_layers = CutLayers(7, 1);
            }),
            "layer_count|blocks cannot be taken over: layer_count is 7 there and 6 here");
  EXPECT_EQ(detail([](LayoutRecord& r) {
              r.kv_head_count = 4;
              r.rank_heads = CutHeads(4, 1);
            }),
            "kv_head_count|blocks cannot be taken over: kv_head_count is 4 there and 2 here");
  EXPECT_EQ(detail([](LayoutRecord& r) { r.value_in_key = true; }),
            "attention|blocks cannot be taken over: attention is latent there and heads of keys "
            "and values here");
}

}  // namespace
}  // namespace pixii::kv
