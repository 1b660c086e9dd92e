#include <fmt/format.h>

#include <cmath>

#include "compare/operator_cases.h"
#include "compare/operator_inputs.h"

namespace pixii::kernels::testing {
namespace {

constexpr double kAttentionNmse = 1e-11;
// Of a bf16 sequence: queries and weights may be rounded, too.
constexpr double kRoundedAttentionNmse = 2e-5;

struct NamedShape {
  std::string name;
  ConvolutionShape shape;
};

std::vector<NamedShape> Shapes() {
  std::vector<NamedShape> out;
  const auto add = [&](std::string name, const ConvolutionShape& shape) {
    out.push_back({std::move(name), shape});
  };
  // A causal 3x3x3, of one new frame and of more, down to a single pixel.
  for (const Volume in : {Volume{3, 1, 1}, Volume{3, 4, 6}, Volume{5, 7, 3}}) {
    add(fmt::format("causal_{}x{}x{}", in.frames, in.height, in.width), {.in = in,
                                                                         .kernel = {3, 3, 3},
                                                                         .pad_top = 1,
                                                                         .pad_bottom = 1,
                                                                         .pad_left = 1,
                                                                         .pad_right = 1});
  }
  for (const Volume in : {Volume{1, 4, 4}, Volume{2, 6, 10}}) {
    add(fmt::format("down_{}x{}x{}", in.frames, in.height, in.width),
        {.in = in, .kernel = {1, 3, 3}, .stride = 2, .pad_bottom = 1, .pad_right = 1});
    add(fmt::format("up_{}x{}x{}", in.frames, in.height, in.width), {.in = in,
                                                                     .kernel = {1, 3, 3},
                                                                     .upscale = 2,
                                                                     .pad_top = 1,
                                                                     .pad_bottom = 1,
                                                                     .pad_left = 1,
                                                                     .pad_right = 1});
  }
  add("time_3x2x5", {.in = {3, 2, 5}, .kernel = {3, 1, 1}});
  add("time_stride_7x2x5", {.in = {7, 2, 5}, .kernel = {3, 1, 1}, .stride_frames = 2});
  add("patches_2x6x8", {.in = {2, 6, 8}, .kernel = {1, 2, 2}, .stride = 2});
  add("point_2x3x3", {.in = {2, 3, 3}, .kernel = {1, 1, 1}});
  return out;
}

void AddConvolutions(std::vector<OperatorCase>& out) {
  for (const NamedShape& named : Shapes()) {
    for (const std::int64_t channels : {1, 3, 16, 40}) {
      for (const std::int64_t outputs : {1, 8, 70}) {
        const std::string name =
            fmt::format("convolve_{}_in{}_out{}", named.name, channels, outputs);
        out.push_back(
            {name, [=, shape = named.shape](Operators& operators) {
               Inputs inputs(name);
               const std::int64_t seen = shape.kernel.pixels() * channels;
               const std::vector<float> values = inputs.Values(seen * outputs);
               const std::vector<float> bias = inputs.Values(outputs);
               const WeightPart part{
                   .data = values.data(), .rows = outputs, .cols = seen, .bias = bias.data()};
               const auto weight = std::move(*operators.PrepareLinear({&part, 1}, {}));
               // Every other one stands in a wider matrix.
               GuardedMatrix in(shape.in.pixels(), channels, outputs == 8 ? 0 : 3, inputs);
               GuardedMatrix result(shape.out().pixels(), outputs, 2);
               operators.Convolve(in.view(), shape, *weight, result.view());
               return result.Result();
             }});
      }
    }
  }
  // More pixels than are laid out at a time.
  const std::string name = "convolve_many_pixels";
  out.push_back({name, [=](Operators& operators) {
                   Inputs inputs(name);
                   const ConvolutionShape shape{.in = {4, 33, 40},
                                                .kernel = {3, 3, 3},
                                                .pad_top = 1,
                                                .pad_bottom = 1,
                                                .pad_left = 1,
                                                .pad_right = 1};
                   const std::vector<float> values = inputs.Values(std::int64_t{27} * 24 * 5);
                   const WeightPart part{.data = values.data(), .rows = 5, .cols = 27 * 24};
                   const auto weight = std::move(*operators.PrepareLinear({&part, 1}, {}));
                   GuardedMatrix in(shape.in.pixels(), 24, 0, inputs);
                   GuardedMatrix result(shape.out().pixels(), 5, 0);
                   operators.Convolve(in.view(), shape, *weight, result.view());
                   return result.Result();
                 }});
}

void AddScales(std::vector<OperatorCase>& out) {
  for (const std::int64_t rows : {0, 1, 7, 300}) {
    for (const std::int64_t cols : {1, 17, 96, 257}) {
      const std::string name = fmt::format("scale_columns_rows{}_cols{}", rows, cols);
      out.push_back({name, [=](Operators& operators) {
                       Inputs inputs(name);
                       GuardedMatrix x(rows, cols, 3, inputs);
                       operators.ScaleColumns(x.view(), inputs.Values(cols));
                       return x.Result();
                     }});
    }
  }
  for (const std::int64_t runs : {2, 3}) {  // each has factors of its own
    const std::string name = fmt::format("scale_columns_runs{}", runs);
    out.push_back({name, [=](Operators& operators) {
                     Inputs inputs(name);
                     GuardedMatrix x(runs * 67, 96, 3, inputs);
                     operators.ScaleColumns(x.view(), inputs.Values(runs * 96));
                     return x.Result();
                   }});
  }
}

struct Lane {
  std::int32_t queries;
  std::int32_t keys;
};

struct Shape {
  std::int32_t heads = 1;
  std::int32_t dim = 8;
  bool biased = false;
  std::vector<Lane> lanes;
  KvDType dtype = KvDType::kF32;
};

std::vector<float> Attend(Operators& operators, const Shape& shape, std::string_view seed) {
  Inputs inputs(seed);
  const KvLayout layout{.layer_count = 1,
                        .kv_head_count = shape.heads,
                        .key_dim = shape.dim,
                        .value_dim = shape.dim,
                        .block_tokens = 32,
                        .dtype = shape.dtype};
  std::int32_t blocks = 0;
  for (const Lane& lane : shape.lanes) {
    blocks += (lane.keys + 31) / 32;
  }
  FilledCache filled = MakeCache(operators, layout, blocks * 32);
  std::vector<std::int32_t> slots;
  std::int32_t rows = 0;
  std::int32_t block = 0;
  for (const Lane& lane : shape.lanes) {
    for (std::int32_t i = 0; i < lane.keys; ++i) {
      slots.push_back(filled.slots[static_cast<std::size_t>(block * 32 + i)]);
    }
    filled.batch.sequences.push_back({.token_begin = rows,
                                      .token_count = lane.queries,
                                      .context_tokens = lane.keys,
                                      .block_begin = block,
                                      .block_count = (lane.keys + 31) / 32});
    rows += lane.queries;
    block += (lane.keys + 31) / 32;
  }
  const std::int64_t width = std::int64_t{shape.heads} * shape.dim;
  GuardedMatrix k(std::ssize(slots), width, 0, inputs);
  GuardedMatrix v(std::ssize(slots), width, 0, inputs);
  operators.StoreKv(k.view(), v.view(), slots, 0, filled.cache);
  GuardedMatrix q(rows, width, 1, inputs, -2.0F, 2.0F);
  GuardedMatrix out(rows, width, 3);
  constexpr std::int32_t kReach = 150;
  const std::vector<float> bias =
      inputs.Values(std::int64_t{shape.heads} * (2 * kReach - 1), -3.0F, 3.0F);
  operators.PagedAttention(
      q.view(), filled.batch, 0, filled.cache,
      {.head_count = shape.heads,
       .kv_head_count = shape.heads,
       .key_dim = shape.dim,
       .value_dim = shape.dim,
       .scale =
           shape.dtype == KvDType::kF32 ? 1.0F : 1.0F / std::sqrt(static_cast<float>(shape.dim)),
       .bidirectional = true,
       .position_bias = shape.biased ? bias.data() : nullptr,
       .bias_reach = shape.biased ? kReach : 0},
      out.view());
  return out.Result();
}

void AddAttention(std::vector<OperatorCase>& out) {
  const std::vector<std::vector<Lane>> across = {
      {{1, 1}},    {{1, 40}},           {{70, 1}},  {{300, 16}},  {{5, 700}},         {{90, 64}},
      {{33, 512}}, {{64, 16}, {64, 9}}, {{20, 65}}, {{600, 513}}, {{2, 30}, {700, 3}}};
  const std::vector<std::vector<Lane>> alone = {
      {{1, 1}}, {{6, 6}}, {{16, 16}}, {{63, 63}}, {{65, 65}}, {{150, 150}}, {{7, 7}, {129, 129}}};
  const auto add = [&](const Shape& shape) {
    std::string name = fmt::format("attention_{}_heads{}_dim{}", shape.biased ? "biased" : "across",
                                   shape.heads, shape.dim);
    for (const Lane& lane : shape.lanes) {
      name += fmt::format("_{}of{}", lane.queries, lane.keys);
    }
    const bool rounded = shape.dtype == KvDType::kBf16;
    name += rounded ? "_bf16" : "";
    out.push_back({name, [=](Operators& operators) { return Attend(operators, shape, name); },
                   rounded ? kRoundedAttentionNmse : kAttentionNmse});
  };
  unsigned turn = 0;
  for (const std::vector<Lane>& lanes : across) {
    add({.heads = turn % 2 == 0 ? 4 : 3, .dim = turn % 3 == 0 ? 24 : 40, .lanes = lanes});
    ++turn;
  }
  for (const std::vector<Lane>& lanes : across) {
    for (const std::int32_t dim : {24, 32, 128}) {
      add({.heads = 2, .dim = dim, .lanes = lanes, .dtype = KvDType::kBf16});
    }
  }
  for (const std::vector<Lane>& lanes : alone) {
    for (const std::int32_t dim : {8, 64}) {
      add({.heads = 4, .dim = dim, .biased = true, .lanes = lanes});
    }
  }
}

}  // namespace

std::vector<OperatorCase> DiffusionCases() {
  std::vector<OperatorCase> out;
  AddConvolutions(out);
  AddScales(out);
  AddAttention(out);
  return out;
}

}  // namespace pixii::kernels::testing
