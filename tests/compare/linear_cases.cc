#include <fmt/format.h>

#include "compare/operator_cases.h"
#include "compare/operator_inputs.h"

namespace pixii::kernels::testing {
namespace {

struct LinearShape {
  std::int64_t m = 1;
  std::int64_t n = 1;
  std::int64_t k = 1;
  std::int32_t k_shards = 1;
  ComputeType compute = ComputeType::kF32;
  DType dtype = DType::kF32;
  int parts = 1;      // n rows each
  bool bias = false;  // of every second part, from the first on
  std::int64_t margin = 0;
};

std::string_view DTypeName(DType dtype) {
  return dtype == DType::kF32 ? "f32" : dtype == DType::kBf16 ? "bf16" : "f16";
}

OperatorCase MakeLinear(const LinearShape& shape) {
  OperatorCase out;
  out.name =
      fmt::format("linear_{}in{}_m{}_n{}_k{}_shards{}_parts{}{}_margin{}", DTypeName(shape.dtype),
                  shape.compute == ComputeType::kF32 ? "f32" : "bf16", shape.m, shape.n, shape.k,
                  shape.k_shards, shape.parts, shape.bias ? "_bias" : "", shape.margin);
  out.run = [shape, name = out.name](Operators& operators) {
    Inputs inputs(name);
    std::vector<RawValues> raw;
    std::vector<std::vector<float>> biases;
    std::vector<WeightPart> parts;
    for (int i = 0; i < shape.parts; ++i) {
      raw.emplace_back(inputs.Values(shape.n * shape.k), shape.dtype);
      biases.push_back(inputs.Values(shape.n));
    }
    for (int i = 0; i < shape.parts; ++i) {
      const auto at = static_cast<std::size_t>(i);
      parts.push_back({.data = raw[at].data(),
                       .dtype = shape.dtype,
                       .rows = shape.n,
                       .cols = shape.k,
                       .bias = shape.bias && i % 2 == 0 ? biases[at].data() : nullptr});
    }
    auto weight =
        operators.PrepareLinear(parts, {.compute = shape.compute, .k_shards = shape.k_shards});
    GuardedMatrix in(shape.m, shape.k, shape.margin, inputs);
    GuardedMatrix result(shape.m, shape.n * shape.parts, shape.margin);
    operators.Linear(in.view(), **weight, result.view());
    return result.Result();
  };
  return out;
}

}  // namespace

std::vector<OperatorCase> LinearCases() {
  std::vector<OperatorCase> out;

  struct Extent {
    std::int64_t n;
    std::int64_t k;
  };

  constexpr Extent kExtents[] = {{1, 1},     {16, 8},   {31, 33},    {32, 64},
                                 {33, 17},   {64, 256}, {96, 257},   {100, 300},
                                 {128, 528}, {200, 96}, {257, 1000}, {5, 2050}};
  constexpr std::int64_t kRows[] = {0, 1, 2, 3, 6, 7, 13, 14, 15, 29, 64, 257};
  constexpr DType kDTypes[] = {DType::kF32, DType::kBf16, DType::kF16};
  // Every extent with every row count; the rest turns at coprime speeds, so that all pairs meet.
  unsigned turn = 0;
  for (const Extent& extent : kExtents) {
    for (const std::int64_t m : kRows) {
      if (m * extent.n * extent.k > 4'000'000 && m > 64) {
        continue;
      }
      out.push_back(
          MakeLinear({.m = m,
                      .n = extent.n,
                      .k = extent.k,
                      .k_shards = turn % 2 == 0 ? 1 : 8,
                      .compute = turn / 2 % 2 == 0 ? ComputeType::kBf16 : ComputeType::kF32,
                      .dtype = kDTypes[turn % 3],
                      .bias = turn % 5 < 2,
                      .margin = turn % 7 == 0 ? 3 : 0}));
      ++turn;
    }
  }
  // Fused projections: parts need not end at a panel's edge.
  for (const int parts : {2, 3}) {
    for (const std::int64_t n : {7, 32, 40}) {
      out.push_back(MakeLinear({.m = 9,
                                .n = n,
                                .k = 72,
                                .dtype = DType::kBf16,
                                .parts = parts,
                                .bias = true,
                                .margin = 5}));
    }
  }
  // Rows that end in either half of a block of 32, K beyond a slab, rows beyond a group, outputs
  // beyond a chunk: where the tiles of AMX are cut.
  for (const LinearShape& shape :
       {LinearShape{.m = 33, .n = 64, .k = 200}, LinearShape{.m = 48, .n = 33, .k = 96},
        LinearShape{.m = 49, .n = 70, .k = 130, .k_shards = 8},
        LinearShape{.m = 17, .n = 40, .k = 640}, LinearShape{.m = 290, .n = 70, .k = 2100},
        LinearShape{.m = 70, .n = 600, .k = 2700},
        LinearShape{.m = 40, .n = 40, .k = 5000, .k_shards = 8},
        LinearShape{.m = 4, .n = 600, .k = 2700, .k_shards = 8}}) {
    LinearShape bf16 = shape;
    bf16.compute = ComputeType::kBf16;
    bf16.dtype = DType::kBf16;
    bf16.bias = shape.m % 2 == 1;
    out.push_back(MakeLinear(bf16));
  }
  // More rows than one L2 block holds, and more panels than a group.
  out.push_back(MakeLinear(
      {.m = 500, .n = 170, .k = 40, .compute = ComputeType::kBf16, .dtype = DType::kBf16}));
  out.push_back(MakeLinear({.m = 460,
                            .n = 140,
                            .k = 48,
                            .k_shards = 8,
                            .compute = ComputeType::kBf16,
                            .dtype = DType::kBf16,
                            .bias = true}));
  return out;
}

}  // namespace pixii::kernels::testing
