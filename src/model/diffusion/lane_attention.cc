#include "model/diffusion/lane_attention.h"

#include "base/assert.h"
#include "base/checked.h"

namespace pixii::model {

Result<LaneKeys> LaneKeys::Create(kernels::Operators& operators, const LaneShape& shape) {
  LaneKeys keys;
  keys.shape_ = shape;
  keys.cache_.layout = {.layer_count = shape.layers,
                        .kv_head_count = shape.heads,
                        .key_dim = shape.head_dim,
                        .value_dim = shape.head_dim,
                        .value_in_key = false,
                        .block_tokens = kBlockTokens,
                        .dtype = shape.dtype};
  const std::int32_t blocks = CeilDiv(shape.tokens, kBlockTokens);
  keys.cache_.block_count = blocks * shape.lanes;
  PX_TRY(keys.cache_.buffer, operators.Allocate(static_cast<std::size_t>(keys.cache_.block_count) *
                                                keys.cache_.layout.block_size_bytes()));
  for (std::int32_t lane = 0; lane < shape.lanes; ++lane) {
    for (std::int32_t token = 0; token < shape.tokens; ++token) {
      keys.slots_.push_back(lane * blocks * kBlockTokens + token);
    }
    keys.batch_.sequences.push_back({.token_begin = 0,
                                     .token_count = 0,
                                     .context_tokens = shape.tokens,
                                     .block_begin = lane * blocks,
                                     .block_count = blocks});
  }
  for (std::int32_t block = 0; block < keys.cache_.block_count; ++block) {
    keys.batch_.block_table.push_back(block);
  }
  return keys;
}

void LaneKeys::Store(kernels::Operators& operators, std::int32_t layer, std::int64_t first_row,
                     const kernels::Matrix& k, const kernels::Matrix& v) {
  operators.StoreKv(k, v,
                    std::span(slots_).subspan(static_cast<std::size_t>(first_row),
                                              static_cast<std::size_t>(k.rows)),
                    layer, cache_);
}

void LaneKeys::Attend(kernels::Operators& operators, const Query& query, const kernels::Matrix& q,
                      const kernels::Matrix& out) {
  if (query.tokens == 0) {
    return;  // a rank of more than there are tokens
  }
  std::int32_t row = 0;
  for (kernels::StepSequence& sequence : batch_.sequences) {
    sequence.token_begin = row;
    sequence.token_count = query.tokens;
    row += query.tokens;
  }
  PX_ASSERT(q.rows == row && out.rows == row);
  operators.PagedAttention(q, batch_, query.layer, cache_,
                           {.head_count = shape_.heads,
                            .kv_head_count = shape_.heads,
                            .key_dim = shape_.head_dim,
                            .value_dim = shape_.head_dim,
                            .scale = query.scale,
                            .bidirectional = !query.causal,
                            .position_bias = query.position_bias,
                            .bias_reach = query.bias_reach},
                           out);
}

}  // namespace pixii::model
