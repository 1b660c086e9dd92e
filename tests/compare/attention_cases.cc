#include <fmt/format.h>

#include "compare/operator_cases.h"
#include "compare/operator_inputs.h"

namespace pixii::kernels::testing {
namespace {

constexpr double kAttentionNmse = 1e-11;

struct Step {
  std::int32_t tokens;
  std::int32_t context;
};

struct AttentionShape {
  std::int32_t heads = 1;
  std::int32_t kv_heads = 1;
  std::int32_t head_dim = 64;
  std::int32_t block_tokens = 16;
  DType dtype = DType::kBf16;
  std::int32_t window = 0;
  float soft_cap = 0.0F;
  bool sinks = false;
  std::vector<Step> steps;  // one per sequence
};

/// All sequences in one cache, side by side in the block table.
std::vector<float> RunAttention(Operators& operators, const AttentionShape& shape,
                                std::string_view seed) {
  Inputs inputs(seed);
  const KvLayout layout{.layer_count = 2,
                        .kv_head_count = shape.kv_heads,
                        .head_dim = shape.head_dim,
                        .block_tokens = shape.block_tokens,
                        .dtype = shape.dtype};
  std::int32_t positions = 0;
  std::int32_t rows = 0;
  for (const Step& step : shape.steps) {
    positions += (step.context + shape.block_tokens - 1) / shape.block_tokens * shape.block_tokens;
    rows += step.tokens;
  }
  FilledCache filled = MakeCache(operators, layout, positions);
  StepBatch& batch = filled.batch;
  std::vector<std::int32_t> slots;
  std::int32_t block = 0;
  std::int32_t row = 0;
  for (const Step& step : shape.steps) {
    const std::int32_t blocks = (step.context + shape.block_tokens - 1) / shape.block_tokens;
    for (std::int32_t position = 0; position < step.context; ++position) {
      slots.push_back(
          filled.slots[static_cast<std::size_t>(block * shape.block_tokens + position)]);
    }
    batch.sequences.push_back({.token_begin = row,
                               .token_count = step.tokens,
                               .context_tokens = step.context,
                               .block_begin = block,
                               .block_count = blocks});
    block += blocks;
    row += step.tokens;
  }
  const std::int64_t kv_cols = std::int64_t{shape.kv_heads} * shape.head_dim;
  const std::int64_t cols = std::int64_t{shape.heads} * shape.head_dim;
  GuardedMatrix k(std::ssize(slots), kv_cols, 0, inputs, -2.0F, 2.0F);
  GuardedMatrix v(std::ssize(slots), kv_cols, 0, inputs);
  operators.StoreKv(k.view(), v.view(), slots, 1, filled.cache);
  GuardedMatrix q(rows, cols, 5, inputs, -2.0F, 2.0F);
  GuardedMatrix out(rows, cols, 3);
  const std::vector<float> sinks = inputs.Values(shape.heads, -1.0F, 3.0F);
  operators.PagedAttention(q.view(), batch, 1, filled.cache,
                           {.head_count = shape.heads,
                            .kv_head_count = shape.kv_heads,
                            .head_dim = shape.head_dim,
                            .scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim)),
                            .window_tokens = shape.window,
                            .soft_cap = shape.soft_cap,
                            .sinks = shape.sinks ? sinks.data() : nullptr},
                           out.view());
  return out.Result();
}

OperatorCase MakeAttention(const AttentionShape& shape) {
  std::string steps;
  for (const Step& step : shape.steps) {
    steps += fmt::format("_{}of{}", step.tokens, step.context);
  }
  const std::string name =
      fmt::format("attention_heads{}_kv{}_dim{}_blocks{}_dtype{}_window{}_cap{}{}{}", shape.heads,
                  shape.kv_heads, shape.head_dim, shape.block_tokens, static_cast<int>(shape.dtype),
                  shape.window, shape.soft_cap, shape.sinks ? "_sinks" : "", steps);
  return {name, [=](Operators& operators) { return RunAttention(operators, shape, name); },
          kAttentionNmse};
}

}  // namespace

std::vector<OperatorCase> AttentionCases() {
  std::vector<OperatorCase> out;
  constexpr std::int32_t kDims[] = {8, 24, 40, 64, 96, 128, 256};

  struct Heads {
    std::int32_t heads;
    std::int32_t kv_heads;
  };

  constexpr Heads kHeads[] = {{1, 1}, {4, 4}, {6, 2}, {7, 1}, {14, 2}};
  constexpr DType kDTypes[] = {DType::kBf16, DType::kF32, DType::kF16};
  constexpr std::int32_t kBlocks[] = {16, 64, 8, 32};

  struct Feature {
    std::int32_t window;
    float soft_cap;
    bool sinks;
  };

  constexpr Feature kFeatures[] = {{0, 0, false}, {1, 0, false}, {16, 0, false}, {100, 0, false},
                                   {0, 5, false}, {0, 0, true},  {70, 20, true}};
  const std::vector<std::vector<Step>> kSteps = {{{1, 1}},
                                                 {{1, 15}},
                                                 {{1, 16}},
                                                 {{1, 17}},
                                                 {{1, 63}},
                                                 {{1, 64}},
                                                 {{1, 65}},
                                                 {{1, 300}},
                                                 {{1, 511}},
                                                 {{1, 512}},
                                                 {{1, 513}},
                                                 {{1, 1100}},
                                                 {{5, 5}},
                                                 {{2, 64}},
                                                 {{17, 80}},
                                                 {{64, 64}},
                                                 {{65, 130}},
                                                 {{3, 514}},
                                                 {{1, 9}, {1, 200}, {1, 64}},
                                                 {{7, 7}, {1, 90}, {20, 33}}};
  // Every head_dim with every step; the rest turns at coprime speeds.
  unsigned turn = 0;
  for (const std::int32_t dim : kDims) {
    for (const std::vector<Step>& steps : kSteps) {
      const Heads& heads = kHeads[turn % std::size(kHeads)];
      const Feature& feature = kFeatures[turn % std::size(kFeatures)];
      out.push_back(MakeAttention({.heads = heads.heads,
                                   .kv_heads = heads.kv_heads,
                                   .head_dim = dim,
                                   .block_tokens = kBlocks[turn / 3 % std::size(kBlocks)],
                                   .dtype = kDTypes[turn / 2 % std::size(kDTypes)],
                                   .window = feature.window,
                                   .soft_cap = feature.soft_cap,
                                   .sinks = feature.sinks,
                                   .steps = steps}));
      ++turn;
    }
  }
  out.push_back(MakeAttention({.heads = 2, .kv_heads = 1, .head_dim = 16, .steps = {{257, 257}}}));
  out.push_back(MakeAttention(
      {.heads = 2, .kv_heads = 2, .head_dim = 16, .window = 90, .steps = {{200, 700}}}));
  return out;
}

}  // namespace pixii::kernels::testing
