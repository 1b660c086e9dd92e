#include "model/model_cut.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.h"
#include "base/checked.h"
#include "kernels/weight_source.h"

namespace pixii::model {
namespace {

Result<void> CheckShare(const DecoderSpec& spec, const ModelShare& share) {
  const std::int32_t ranks = share.tensor_count;
  if (ranks != 1 && ranks != 2 && ranks != 4 && ranks != 8) {
    return Fail(Code::kInvalidArgument,
                fmt::format("tensor-parallel-size is {}; sums are cut into 8 shards, so it is 1, "
                            "2, 4 or 8",
                            ranks),
                "tensor-parallel-size");
  }
  if (ranks > spec.vocab_size) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("tensor-parallel-size is {}, the model has {} tokens", ranks, spec.vocab_size),
        "tensor-parallel-size");
  }
  const auto layers = static_cast<std::int32_t>(spec.layers.size());
  if (share.stage_count < 1 || share.stage_count > layers) {
    return Fail(Code::kInvalidArgument,
                fmt::format("pipeline-parallel-size is {}; the model has {} layers, so it is 1 to "
                            "{}",
                            share.stage_count, layers, layers),
                "pipeline-parallel-size");
  }
  if (!share.whole() && spec.is_draft_head()) {
    return Fail(Code::kUnsupported, "a draft head is not cut over ranks", "tensor-parallel-size");
  }
  PX_ASSERT(share.tensor_rank >= 0 && share.tensor_rank < ranks);
  PX_ASSERT(share.stage >= 0 && share.stage < share.stage_count);
  return {};
}

/// The heads behind the rank's part of attention's output, whole groups where it has several KV
/// heads.
void CutHeads(const DecoderSpec& spec, ModelCut& cut) {
  const std::int64_t heads = spec.head_count;
  const std::int64_t dim = spec.attention_size() / heads;
  const RowRange& columns = cut.attention.columns;
  // Who has no columns computes the last head, for nothing: so there is always one.
  cut.heads.begin = std::min(columns.begin / dim, heads - 1);
  cut.heads.end = std::max(CeilDiv(columns.end, dim), cut.heads.begin + 1);
  if (spec.is_latent()) {
    cut.kv_heads = {0, 1};
    return;
  }
  const std::int64_t group = heads / spec.kv_head_count;
  cut.kv_heads = {cut.heads.begin / group, CeilDiv(cut.heads.end, group)};
  if (cut.kv_head_count() > 1) {
    cut.heads = {cut.kv_heads.begin * group, cut.kv_heads.end * group};
  }
}

}  // namespace

RowRange CutEvenly(std::int64_t size, std::int64_t rank, std::int64_t count) {
  return {rank * size / count, (rank + 1) * size / count};
}

SumCut CutSum(std::int64_t size, std::int32_t rank, std::int32_t count) {
  if (count == 1) {
    return {.columns = {0, size}};
  }
  const kernels::ShardPlan plan = kernels::MakeShardPlan(size, kRowParallelShards);
  const std::int32_t shards = kRowParallelShards / count;
  const std::int32_t first = rank * shards;
  return {.shard_begin = first,
          .shard_end = first + shards,
          .columns = {plan.Begin(first), plan.End(first + shards - 1)}};
}

std::vector<RowRange> InEach(std::span<const std::int64_t> sizes,
                             std::span<const RowRange> ranges) {
  PX_ASSERT(sizes.size() == ranges.size());
  std::vector<RowRange> out;
  std::int64_t first = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (SizeOf(ranges[i]) > 0) {
      out.push_back({first + ranges[i].begin, first + ranges[i].end});
    }
    first += sizes[i];
  }
  return out;
}

Result<ModelCut> CutModel(const DecoderSpec& spec, const ModelShare& share) {
  PX_CHECK_OK(CheckShare(spec, share));
  ModelCut cut;
  cut.share = share;
  const auto sum = [&](std::int64_t size) {
    return CutSum(size, share.tensor_rank, share.tensor_count);
  };
  cut.layers = CutEvenly(std::ssize(spec.layers), share.stage, share.stage_count);
  cut.attention = sum(spec.attention_size());
  cut.features = sum(spec.intermediate_size);
  cut.expert_features = sum(spec.experts.intermediate_size);
  cut.shared_features = sum(spec.experts.shared_intermediate_size);
  cut.vocab = CutEvenly(spec.vocab_size, share.tensor_rank, share.tensor_count);
  CutHeads(spec, cut);
  return cut;
}

}  // namespace pixii::model
