// Which part of a decoder one rank holds: layers by stage, heads, features and vocabulary by tensor
// rank. docs/subsystems/model.md
//
// Thread: values.
// Sums over heads and features are cut where the 8 fixed shards of K are (kernels/operators.h), so
// that the ranks' sums, joined in order, are the whole one's tree. A rank computes every head that
// its shards touch; where ranks share a head, both compute it. KV heads follow from query heads, so
// ranks beyond the KV heads hold duplicates.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "kernels/collective.h"
#include "kernels/operators.h"
#include "model/decoder_spec.h"

namespace pixii::model {

/// A rank among those that hold one model together: rank = stage * tensor_count + tensor_rank.
struct ModelShare {
  std::int32_t tensor_rank = 0;
  std::int32_t tensor_count = 1;  // 1, 2, 4 or 8
  std::int32_t stage = 0;
  std::int32_t stage_count = 1;  // at most the model's layers

  bool first_stage() const { return stage == 0; }

  bool last_stage() const { return stage + 1 == stage_count; }

  bool whole() const { return tensor_count == 1 && stage_count == 1; }
};

/// How a rank reaches the others; null where there is none. They may change between steps.
struct RankLinks {
  kernels::Collective* tensor = nullptr;  // the ranks of its stage, by tensor rank
  kernels::Collective* before = nullptr;  // the same tensor rank of the stage before, and it
  kernels::Collective* after = nullptr;   // it, and that of the stage behind
};

/// Where a rank stands.
struct RankPlace {
  ModelShare share = {};
  const RankLinks* links = nullptr;  // outlives the model; null: there are no others
};

using kernels::RowRange;

/// Row-parallel projections sum K in this many shards, so that 1, 2, 4 and 8 ranks give the same
/// bits.
inline constexpr std::int32_t kRowParallelShards = 8;

inline std::int64_t SizeOf(const RowRange& range) { return range.end - range.begin; }

/// Outputs and columns of K that a rank has of a sum over `size` columns.
struct SumCut {
  std::int32_t shard_begin = 0;
  std::int32_t shard_end = 0;  // 0, 0: all
  RowRange columns;            // may be empty: the rank adds zeros
};

struct ModelCut {
  ModelShare share;
  RowRange layers;
  RowRange heads;     // query heads that it computes
  RowRange kv_heads;  // as the cache holds them
  SumCut attention;   // of attention's whole output
  SumCut features;    // of the dense feed-forward
  SumCut expert_features;
  SumCut shared_features;
  RowRange vocab;  // rows of table and head

  std::int64_t head_count() const { return SizeOf(heads); }

  std::int64_t kv_head_count() const { return SizeOf(kv_heads); }

  bool holds(std::size_t layer) const {
    return static_cast<std::int64_t>(layer) >= layers.begin &&
           static_cast<std::int64_t>(layer) < layers.end;
  }
};

/// Errors: kInvalidArgument naming tensor-parallel-size or pipeline-parallel-size, its value and
/// what the model has.
Result<ModelCut> CutModel(const DecoderSpec& spec, const ModelShare& share);

/// Part `rank` of `count` nearly equal ones of 0 .. size - 1.
RowRange CutEvenly(std::int64_t size, std::int64_t rank, std::int64_t count);

/// What rank `rank` of `count` has of a sum over `size` columns.
SumCut CutSum(std::int64_t size, std::int32_t rank, std::int32_t count);

/// `ranges[i]` of the i-th of `sizes` rows that lie one behind the other; empty ones are left out.
std::vector<RowRange> InEach(std::span<const std::int64_t> sizes, std::span<const RowRange> ranges);

}  // namespace pixii::model
