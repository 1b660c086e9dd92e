#include "kv/reshard.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/small_floats.h"

namespace pixii::kv {
namespace {

Result<void> Differ(std::string_view field, std::string_view source, std::string_view target) {
  return Fail(
      Code::kUnsupported,
      fmt::format("blocks cannot be taken over: {} is {} there and {} here", field, source, target),
      std::string(field));
}

Result<void> CheckEqual(std::string_view field, std::uint32_t source, std::uint32_t target) {
  return source == target ? Result<void>()
                          : Differ(field, fmt::to_string(source), fmt::to_string(target));
}

std::string_view AttentionName(const LayoutRecord& record) {
  return record.value_in_key ? "latent" : "heads of keys and values";
}

Result<void> CheckDtypes(ElementType source, ElementType target, bool convert) {
  if (source == target || (convert && !HasScales(source) && !HasScales(target))) {
    return {};
  }
  return Differ("dtype", ElementTypeName(source), ElementTypeName(target));
}

bool SameCuts(const LayoutRecord& a, const LayoutRecord& b) {
  return a.stage_layers == b.stage_layers && a.rank_heads == b.rank_heads;
}

float Load(const std::byte* from, ElementType type) {
  if (type == ElementType::kF32) {
    float value = 0.0F;
    std::memcpy(&value, from, sizeof(value));
    return value;
  }
  std::uint16_t bits = 0;
  std::memcpy(&bits, from, sizeof(bits));
  return type == ElementType::kBf16 ? FloatFromBf16(bits) : FloatFromF16(bits);
}

void Store(float value, ElementType type, std::byte* to) {
  if (type == ElementType::kF32) {
    std::memcpy(to, &value, sizeof(value));
    return;
  }
  const std::uint16_t bits =
      type == ElementType::kBf16 ? Bf16FromFloat(value) : F16FromFloat(value);
  std::memcpy(to, &bits, sizeof(bits));
}

/// `next` goes on where `last` ends, on both sides.
bool Follows(const BlockCopy& last, const BlockCopy& next) {
  return last.source_rank == next.source_rank && last.source_block == next.source_block &&
         last.target_rank == next.target_rank && last.target_block == next.target_block &&
         last.source_offset_bytes + last.source_size_bytes == next.source_offset_bytes &&
         last.target_offset_bytes + last.target_size_bytes == next.target_offset_bytes;
}

void AppendMerged(const BlockCopy& copy, std::vector<BlockCopy>& out, std::size_t first) {
  if (out.size() > first && Follows(out.back(), copy)) {
    out.back().source_size_bytes += copy.source_size_bytes;
    out.back().target_size_bytes += copy.target_size_bytes;
    return;
  }
  out.push_back(copy);
}

}  // namespace

/// Tokens that lie in one block of the source and in one of the target.
struct Reshard::Piece {
  std::uint32_t target_rank = 0;
  Interval tokens;
  std::size_t first = 0;  // copies before this one are the caller's
};

Reshard::Reshard(const LayoutRecord& source, const LayoutRecord& target)
    : source_(source), target_(target), slices_(target.rank_count()) {
  identical_ = SameCuts(source, target) && source.block_tokens == target.block_tokens &&
               source.dtype == target.dtype;
}

Result<Reshard> Reshard::Create(const LayoutRecord& source, const LayoutRecord& target,
                                const ReshardOptions& options) {
  PX_ASSERT(CheckLayout(source) && CheckLayout(target));
  if (source.value_in_key != target.value_in_key) {
    PX_CHECK_OK(Differ("attention", AttentionName(source), AttentionName(target)));
  }
  PX_CHECK_OK(CheckEqual("layer_count", source.layer_count, target.layer_count));
  PX_CHECK_OK(CheckEqual("kv_head_count", source.kv_head_count, target.kv_head_count));
  PX_CHECK_OK(CheckEqual("key_dim", source.key_dim, target.key_dim));
  PX_CHECK_OK(CheckEqual("value_dim", source.value_dim, target.value_dim));
  PX_CHECK_OK(CheckDtypes(source.dtype, target.dtype, options.convert));
  Reshard out(source, target);
  for (std::uint32_t rank = 0; rank < target.rank_count(); ++rank) {
    const Interval layers = target.layers_of(rank);
    for (std::uint32_t layer = layers.begin; layer < layers.end; ++layer) {
      out.AddLayer(rank, layer, false);
      if (!target.value_in_key) {
        out.AddLayer(rank, layer, true);
      }
    }
  }
  return out;
}

/// Tensor rank of the source that gives `head` to a target's tensor rank.
std::uint32_t Reshard::HolderOf(std::uint32_t head, std::uint32_t target_tensor_rank) const {
  // Both ends ascend with the rank, so the holders of a head stand side by side.
  const auto holds = [&](const Interval& heads) { return heads.begin <= head && head < heads.end; };
  const auto& ranks = source_.rank_heads;
  const auto first = std::ranges::find_if(ranks, holds);
  const auto last = std::find_if_not(first, ranks.end(), holds);
  return static_cast<std::uint32_t>(first - ranks.begin()) +
         target_tensor_rank % static_cast<std::uint32_t>(last - first);
}

void Reshard::AddLayer(std::uint32_t target_rank, std::uint32_t layer, bool value) {
  const auto stage = std::ranges::find_if(source_.stage_layers, [&](const Interval& layers) {
    return layers.begin <= layer && layer < layers.end;
  });
  const auto first_rank = static_cast<std::uint32_t>(stage - source_.stage_layers.begin()) *
                          source_.tensor_rank_count();
  const std::uint32_t dim = value ? source_.value_dim : source_.key_dim;
  const auto offset = [&](const LayoutRecord& side, Interval layers, Interval heads,
                          std::uint32_t head) {
    return (layer - layers.begin) * side.layer_size_bytes(heads.size()) +
           (value ? heads.size() * side.slice_size_bytes(side.key_dim) : 0) +
           (head - heads.begin) * side.slice_size_bytes(dim);
  };
  const Interval wanted = target_.heads_of(target_rank);
  const std::uint32_t tensor_rank = target_rank % target_.tensor_rank_count();
  std::vector<Slices>& out = slices_[target_rank];
  const std::size_t before = out.size();
  for (std::uint32_t head = wanted.begin; head < wanted.end; ++head) {
    const std::uint32_t holder = HolderOf(head, tensor_rank);
    if (out.size() > before && out.back().source_rank == first_rank + holder) {
      ++out.back().head_count;
      continue;
    }
    out.push_back(
        {.source_rank = first_rank + holder,
         .dim = dim,
         .head_count = 1,
         .source_offset_bytes = offset(source_, *stage, source_.rank_heads[holder], head),
         .target_offset_bytes = offset(target_, target_.layers_of(target_rank), wanted, head)});
  }
}

std::vector<std::uint32_t> Reshard::Sources(std::uint32_t target_rank) const {
  std::vector<std::uint32_t> out;
  for (const Slices& slices : slices_[target_rank]) {
    out.push_back(slices.source_rank);
  }
  std::ranges::sort(out);
  const auto rest = std::ranges::unique(out);
  out.erase(rest.begin(), rest.end());
  return out;
}

Interval Reshard::SourceBlocks(Interval tokens) const {
  const std::uint32_t begin = tokens.begin / source_.block_tokens;
  return tokens.size() == 0 ? Interval{begin, begin}
                            : Interval{begin, (tokens.end - 1) / source_.block_tokens + 1};
}

void Reshard::AppendPiece(const Slices& slices, const Piece& piece,
                          std::vector<BlockCopy>& out) const {
  const std::uint32_t source_token = piece.tokens.begin % source_.block_tokens;
  const std::uint32_t target_token = piece.tokens.begin % target_.block_tokens;
  const std::uint32_t count = piece.tokens.size();
  BlockCopy copy = {.source_rank = slices.source_rank,
                    .source_block = piece.tokens.begin / source_.block_tokens,
                    .target_rank = piece.target_rank,
                    .target_block = piece.tokens.begin / target_.block_tokens};
  const auto append = [&](std::uint64_t source_offset, std::uint64_t target_offset,
                          std::uint64_t source_size, std::uint64_t target_size) {
    copy.source_offset_bytes = source_offset;
    copy.target_offset_bytes = target_offset;
    copy.source_size_bytes = source_size;
    copy.target_size_bytes = target_size;
    AppendMerged(copy, out, piece.first);
  };
  const std::uint64_t source_slice = source_.slice_size_bytes(slices.dim);
  const std::uint64_t target_slice = target_.slice_size_bytes(slices.dim);
  if (count == source_.block_tokens && count == target_.block_tokens) {
    append(slices.source_offset_bytes, slices.target_offset_bytes, slices.head_count * source_slice,
           slices.head_count * target_slice);
    return;
  }
  const std::uint64_t source_row = std::uint64_t{slices.dim} * SizeOf(source_.dtype);
  const std::uint64_t target_row = std::uint64_t{slices.dim} * SizeOf(target_.dtype);
  for (std::uint32_t head = 0; head < slices.head_count; ++head) {
    const std::uint64_t source_head = slices.source_offset_bytes + head * source_slice;
    const std::uint64_t target_head = slices.target_offset_bytes + head * target_slice;
    append(source_head + source_token * source_row, target_head + target_token * target_row,
           count * source_row, count * target_row);
    if (HasScales(source_.dtype)) {
      constexpr std::uint64_t kScale = sizeof(float);
      append(source_head + source_.scales_offset_bytes(slices.dim) + source_token * kScale,
             target_head + target_.scales_offset_bytes(slices.dim) + target_token * kScale,
             count * kScale, count * kScale);
    }
  }
}

void Reshard::Append(std::uint32_t target_rank, Interval tokens,
                     std::vector<BlockCopy>& out) const {
  PX_ASSERT(target_rank < slices_.size() && tokens.begin <= tokens.end &&
            tokens.end <= kReshardTokensMax);
  const std::size_t first = out.size();
  for (std::uint32_t begin = tokens.begin; begin < tokens.end;) {
    const std::uint32_t source_end = (begin / source_.block_tokens + 1) * source_.block_tokens;
    const std::uint32_t target_end = (begin / target_.block_tokens + 1) * target_.block_tokens;
    const std::uint32_t end = std::min({source_end, target_end, tokens.end});
    for (const Slices& slices : slices_[target_rank]) {
      AppendPiece(slices, {.target_rank = target_rank, .tokens = {begin, end}, .first = first},
                  out);
    }
    begin = end;
  }
}

void Reshard::Move(std::span<const std::byte> source, std::span<std::byte> target) const {
  if (!converts()) {
    PX_ASSERT(source.size() == target.size());
    std::memcpy(target.data(), source.data(), source.size());
    return;
  }
  const std::size_t from = SizeOf(source_.dtype);
  const std::size_t to = SizeOf(target_.dtype);
  PX_ASSERT(source.size() % from == 0 && source.size() / from * to == target.size());
  for (std::size_t i = 0; i < source.size() / from; ++i) {
    Store(Load(source.data() + i * from, source_.dtype), target_.dtype, target.data() + i * to);
  }
}

}  // namespace pixii::kv
