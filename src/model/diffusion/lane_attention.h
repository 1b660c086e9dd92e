// Attention among all tokens of a lane, for models without a KV cache: a cache of one layer that
// lives as long as a layer's keys and values, or of all layers where these stay the same.
//
// Thread: one caller. A lane is one sequence: a request's frames, a text, a picture's pixels. All
// lanes of a LaneKeys have room for equally many tokens. Numerics: a query's bits depend on its own
// lane alone.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "kernels/operators.h"

namespace pixii::model {

struct LaneShape {
  std::int32_t layers = 1;
  std::int32_t heads = 1;
  std::int32_t head_dim = 1;
  std::int32_t lanes = 1;
  std::int32_t tokens = 1;  // of a lane
  kernels::KvDType dtype = kernels::KvDType::kF32;

  bool operator==(const LaneShape&) const = default;
};

class LaneKeys final {
 public:
  /// Errors: kResourceExhausted.
  static Result<LaneKeys> Create(kernels::Operators& operators, const LaneShape& shape);

  const LaneShape& shape() const { return shape_; }

  /// Keeps keys and values [rows, heads * head_dim] of rows first_row, ... counted over the lanes.
  void Store(kernels::Operators& operators, std::int32_t layer, std::int64_t first_row,
             const kernels::Matrix& k, const kernels::Matrix& v);

  struct Query {
    std::int32_t layer = 0;
    std::int32_t tokens = 0;  // queries of each lane
    float scale = 1.0F;
    bool causal = false;  // a query sees keys up to its own; it has as many as there are keys
    const float* position_bias = nullptr;  // AttentionOptions
    std::int32_t bias_reach = 0;
  };

  /// Each lane's queries against all of its keys; q and out [lanes * query.tokens, heads *
  /// head_dim].
  void Attend(kernels::Operators& operators, const Query& query, const kernels::Matrix& q,
              const kernels::Matrix& out);

 private:
  static constexpr std::int32_t kBlockTokens = 64;

  LaneShape shape_;
  kernels::KvCache cache_;
  std::vector<std::int32_t> slots_;  // [lanes * tokens]
  kernels::StepBatch batch_;
};

}  // namespace pixii::model
