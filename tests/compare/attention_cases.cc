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
  std::int32_t key_dim = 64;
  std::int32_t value_dim = 64;
  bool value_in_key = false;
  std::int32_t block_tokens = 16;
  KvDType dtype = KvDType::kBf16;
  std::int32_t window = 0;
  float soft_cap = 0.0F;
  bool sinks = false;
  bool bidirectional = false;
  std::vector<Step> steps;  // one per sequence
  std::vector<MutualRows> mutual = {};
};

/// All sequences in one cache, side by side in the block table.
std::vector<float> RunAttention(Operators& operators, const AttentionShape& shape,
                                std::string_view seed) {
  Inputs inputs(seed);
  const KvLayout layout{.layer_count = 2,
                        .kv_head_count = shape.kv_heads,
                        .key_dim = shape.key_dim,
                        .value_dim = shape.value_dim,
                        .value_in_key = shape.value_in_key,
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
  batch.mutual_rows = shape.mutual;
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
  GuardedMatrix k(std::ssize(slots), std::int64_t{shape.kv_heads} * shape.key_dim, 0, inputs, -2.0F,
                  2.0F);
  GuardedMatrix v(std::ssize(slots), std::int64_t{shape.kv_heads} * shape.value_dim, 0, inputs);
  operators.StoreKv(k.view(), v.view(), slots, 1, filled.cache);
  GuardedMatrix q(rows, std::int64_t{shape.heads} * shape.key_dim, 5, inputs, -2.0F, 2.0F);
  GuardedMatrix out(rows, std::int64_t{shape.heads} * shape.value_dim, 3);
  const std::vector<float> sinks = inputs.Values(shape.heads, -1.0F, 3.0F);
  operators.PagedAttention(q.view(), batch, 1, filled.cache,
                           {.head_count = shape.heads,
                            .kv_head_count = shape.kv_heads,
                            .key_dim = shape.key_dim,
                            .value_dim = shape.value_dim,
                            .scale = 1.0F / std::sqrt(static_cast<float>(shape.key_dim)),
                            .window_tokens = shape.window,
                            .soft_cap = shape.soft_cap,
                            .sinks = shape.sinks ? sinks.data() : nullptr,
                            .bidirectional = shape.bidirectional},
                           out.view());
  return out.Result();
}

OperatorCase MakeAttention(const AttentionShape& shape) {
  std::string steps;
  for (const Step& step : shape.steps) {
    steps += fmt::format("_{}of{}", step.tokens, step.context);
  }
  for (const MutualRows& rows : shape.mutual) {
    steps +=
        fmt::format("_mutual{}to{}from{}", rows.row_begin, rows.row_end(), rows.position_begin);
  }
  const std::string name = fmt::format(
      "attention_heads{}_kv{}_dim{}_{}{}_blocks{}_{}_window{}_cap{}{}{}{}", shape.heads,
      shape.kv_heads, shape.key_dim, shape.value_dim, shape.value_in_key ? "_latent" : "",
      shape.block_tokens, KvDTypeName(shape.dtype), shape.window, shape.soft_cap,
      shape.sinks ? "_sinks" : "", shape.bidirectional ? "_bidirectional" : "", steps);
  return {name, [=](Operators& operators) { return RunAttention(operators, shape, name); },
          kAttentionNmse};
}

/// Every dtype of the cache with K and V of different widths, latents and odd sizes; lengths and
/// features turn at coprime speeds.
void AddFormatCases(std::vector<OperatorCase>& out) {
  struct Format {
    std::int32_t heads;
    std::int32_t kv_heads;
    std::int32_t key_dim;
    std::int32_t value_dim;
    bool value_in_key;
  };

  constexpr Format kFormats[] = {
      {6, 2, 64, 64, false},   {3, 3, 7, 5, false},    {4, 2, 33, 100, false},
      {8, 4, 192, 128, false}, {5, 1, 576, 512, true}, {16, 1, 80, 64, true},
      {2, 1, 1, 1, false},     {3, 1, 40, 40, true},
  };
  constexpr KvDType kDTypes[] = {KvDType::kBf16, KvDType::kInt8, KvDType::kFp8E4m3, KvDType::kF16,
                                 KvDType::kF32};
  const std::vector<std::vector<Step>> kSteps = {
      {{1, 1}},     {{1, 31}},  {{1, 65}},  {{1, 129}}, {{16, 16}}, {{2, 33}},
      {{33, 97}},   {{1, 640}}, {{29, 29}}, {{3, 514}}, {{15, 15}}, {{1, 7}, {9, 70}, {1, 128}},
      {{129, 129}},
  };
  unsigned turn = 0;
  for (const KvDType dtype : kDTypes) {
    for (const Format& format : kFormats) {
      for (int i = 0; i < 3; ++i, ++turn) {
        out.push_back(MakeAttention({.heads = format.heads,
                                     .kv_heads = format.kv_heads,
                                     .key_dim = format.key_dim,
                                     .value_dim = format.value_dim,
                                     .value_in_key = format.value_in_key,
                                     .block_tokens = turn % 4 == 0   ? 64
                                                     : turn % 4 == 1 ? 16
                                                     : turn % 4 == 2 ? 4
                                                                     : 128,
                                     .dtype = dtype,
                                     .window = turn % 3 == 1 ? 20 : 0,
                                     .soft_cap = turn % 5 == 2 ? 4.0F : 0.0F,
                                     .sinks = turn % 7 == 3,
                                     .steps = kSteps[turn % std::size(kSteps)]}));
      }
    }
  }
}

/// Every token sees its whole sequence, or a window to both sides.
void AddEncoderCases(std::vector<OperatorCase>& out) {
  unsigned turn = 0;
  for (const std::int32_t tokens : {1, 2, 15, 16, 17, 63, 64, 65, 100, 257}) {
    for (const std::int32_t window : {0, 1, 30}) {
      out.push_back(MakeAttention({.heads = 4,
                                   .kv_heads = turn % 2 == 0 ? 4 : 2,
                                   .key_dim = 24,
                                   .value_dim = 24,
                                   .block_tokens = turn % 3 == 0 ? 16 : 64,
                                   .dtype = turn % 4 == 0 ? KvDType::kF32 : KvDType::kBf16,
                                   .window = window,
                                   .bidirectional = true,
                                   .steps = {{tokens, tokens}, {3, 3}}}));
      ++turn;
    }
  }
}

/// Rows that see each other both ways: whole pictures, and the rest of one whose beginning is in
/// the cache, with windows shorter and longer than they are.
void AddMutualCases(std::vector<OperatorCase>& out) {
  struct Place {
    std::vector<Step> steps;
    std::vector<MutualRows> mutual;
  };

  const std::vector<Place> kPlaces = {
      {{{9, 9}}, {{0, 9, 0}}},
      {{{30, 30}}, {{4, 16, 4}}},
      {{{40, 100}}, {{0, 13, 50}, {20, 16, 80}}},
      {{{1, 70}, {90, 300}, {5, 5}}, {{1, 40, 190}, {41, 40, 251}, {92, 3, 1}}},
      {{{300, 600}}, {{2, 256, 302}}},
  };
  unsigned turn = 0;
  for (const Place& place : kPlaces) {
    for (const std::int32_t window : {0, 5, 64}) {
      out.push_back(MakeAttention({.heads = turn % 2 == 0 ? 4 : 6,
                                   .kv_heads = 2,
                                   .key_dim = 24,
                                   .value_dim = 24,
                                   .block_tokens = turn % 3 == 0 ? 16 : 64,
                                   .dtype = turn % 4 == 0 ? KvDType::kF32 : KvDType::kBf16,
                                   .window = window,
                                   .steps = place.steps,
                                   .mutual = place.mutual}));
      ++turn;
    }
  }
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
  constexpr KvDType kDTypes[] = {KvDType::kBf16, KvDType::kF32, KvDType::kF16};
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
                                   .key_dim = dim,
                                   .value_dim = dim,
                                   .block_tokens = kBlocks[turn / 3 % std::size(kBlocks)],
                                   .dtype = kDTypes[turn / 2 % std::size(kDTypes)],
                                   .window = feature.window,
                                   .soft_cap = feature.soft_cap,
                                   .sinks = feature.sinks,
                                   .steps = steps}));
      ++turn;
    }
  }
  out.push_back(MakeAttention(
      {.heads = 2, .kv_heads = 1, .key_dim = 16, .value_dim = 16, .steps = {{257, 257}}}));
  out.push_back(MakeAttention({.heads = 2,
                               .kv_heads = 2,
                               .key_dim = 16,
                               .value_dim = 16,
                               .window = 90,
                               .steps = {{200, 700}}}));
  AddFormatCases(out);
  AddEncoderCases(out);
  AddMutualCases(out);
  return out;
}

}  // namespace pixii::kernels::testing
