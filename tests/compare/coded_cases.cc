// Linears and embeddings whose weights are codes: every code, block shapes, odd extents.
#include <fmt/format.h>

#include "compare/operator_cases.h"
#include "compare/operator_inputs.h"

namespace pixii::kernels::testing {
namespace {

std::string_view CodeName(WeightCode code) {
  return code == WeightCode::kInt8      ? "int8"
         : code == WeightCode::kUint4   ? "uint4"
         : code == WeightCode::kFp8E4m3 ? "fp8e4m3"
                                        : "fp4e2m1";
}

struct CodedLinear {
  CodedValues::Shape weight;
  std::int64_t m = 1;
  std::int32_t k_shards = 1;
  ComputeType compute = ComputeType::kF32;
  int parts = 1;  // of weight.rows each
  bool bias = false;
  bool middle = false;  // offsets say that code 8 is zero
};

std::string_view ComputeName(ComputeType compute) {
  return compute == ComputeType::kF32 ? "f32" : compute == ComputeType::kBf16 ? "bf16" : "int8";
}

OperatorCase MakeCoded(const CodedLinear& shape) {
  const CodedValues::Shape& w = shape.weight;
  OperatorCase out;
  out.name = fmt::format("coded_{}in{}_m{}_n{}_k{}_blocks{}x{}{}_shards{}_parts{}{}{}",
                         CodeName(w.code), ComputeName(shape.compute), shape.m, w.rows, w.cols,
                         w.scale_rows, w.scale_cols, w.offsets ? "_offsets" : "", shape.k_shards,
                         shape.parts, shape.bias ? "_bias" : "", shape.middle ? "_middle" : "");
  out.run = [shape, name = out.name](Operators& operators) {
    Inputs inputs(name);
    std::vector<CodedValues> values;
    std::vector<std::vector<float>> biases;
    std::vector<WeightPart> parts;
    std::vector<std::vector<float>> middles;
    for (int i = 0; i < shape.parts; ++i) {
      values.emplace_back(shape.weight, inputs);
      biases.push_back(inputs.Values(shape.weight.rows));
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
      parts.push_back(values[i].part());
      if (shape.middle) {
        middles.push_back(values[i].OffsetsOfMiddle());
        parts.back().offsets = middles.back().data();
      }
      parts.back().bias = shape.bias ? biases[i].data() : nullptr;
    }
    auto weight =
        operators.PrepareLinear(parts, {.compute = shape.compute, .k_shards = shape.k_shards});
    GuardedMatrix in(shape.m, shape.weight.cols, 1, inputs);
    GuardedMatrix result(shape.m, shape.weight.rows * shape.parts, 1);
    operators.Linear(in.view(), **weight, result.view());
    return result.Result();
  };
  return out;
}

OperatorCase MakeCodedEmbed(const CodedValues::Shape& shape) {
  OperatorCase out;
  out.name = fmt::format("embed_{}_f{}_blocks{}x{}{}", CodeName(shape.code), shape.cols,
                         shape.scale_rows, shape.scale_cols, shape.offsets ? "_offsets" : "");
  out.run = [shape, name = out.name](Operators& operators) {
    Inputs inputs(name);
    const CodedValues values(shape, inputs);
    auto table = operators.PrepareEmbedding(values.part());
    std::vector<std::int32_t> ids;
    for (int i = 0; i < 9; ++i) {
      ids.push_back(inputs.Below(static_cast<std::int32_t>(shape.rows)));
    }
    GuardedMatrix result(std::ssize(ids), shape.cols, 2);
    operators.Embed(**table, ids, 1.5F, result.view());
    return result.Result();
  };
  return out;
}

/// Integer products: both codes, scales by output and by group, every row count that fills or
/// leaves a block of any instruction set, shards that cut groups.
void AddIntegerCases(std::vector<OperatorCase>& out) {
  struct Extent {
    std::int64_t n;
    std::int64_t k;
  };

  constexpr Extent kExtents[] = {{1, 1}, {31, 33}, {48, 128}, {100, 257}, {130, 530}, {49, 1056}};
  constexpr std::int64_t kGroups[] = {1 << 20, 16, 32, 128, 17, 200};
  constexpr std::int64_t kRows[] = {1, 4, 5, 9, 28, 2, 64, 0, 257, 13, 3};
  unsigned turn = 0;
  for (const WeightCode code : {WeightCode::kInt8, WeightCode::kUint4}) {
    for (const std::int64_t group : kGroups) {
      for (const Extent& extent : kExtents) {
        const bool middle = code == WeightCode::kUint4 && turn % 2 == 0;
        out.push_back(MakeCoded({.weight = {.code = code,
                                            .rows = extent.n,
                                            .cols = extent.k,
                                            .scale_rows = turn % 5 == 4 ? 3 : 1,
                                            .scale_cols = group,
                                            .offsets = !middle && turn % 3 == 0,
                                            .half_scales = turn % 3 != 0},
                                 .m = kRows[turn % 11],
                                 .k_shards = turn % 7 < 4 ? 1 : 8,
                                 .compute = ComputeType::kInt8,
                                 .parts = turn % 13 == 0 ? 3 : 1,
                                 .bias = turn % 4 == 0,
                                 .middle = middle}));
        ++turn;
      }
    }
  }
  // Weights that kInt8 multiplies as kBf16 does: float codes, tiny groups.
  out.push_back(MakeCoded({.weight = {.code = WeightCode::kFp8E4m3,
                                      .rows = 40,
                                      .cols = 90,
                                      .scale_rows = 1,
                                      .scale_cols = 32},
                           .m = 6,
                           .compute = ComputeType::kInt8}));
  out.push_back(MakeCoded(
      {.weight =
           {.code = WeightCode::kInt8, .rows = 40, .cols = 90, .scale_rows = 1, .scale_cols = 8},
       .m = 6,
       .compute = ComputeType::kInt8}));
}

}  // namespace

std::vector<OperatorCase> CodedCases() {
  struct Block {
    std::int64_t rows;
    std::int64_t cols;
  };

  struct Extent {
    std::int64_t n;
    std::int64_t k;
  };

  constexpr WeightCode kCodes[] = {WeightCode::kInt8, WeightCode::kUint4, WeightCode::kFp8E4m3,
                                   WeightCode::kFp4E2m1};
  // Per channel, per tensor, groups of the file formats, blocks in both directions.
  constexpr std::int64_t kAll = 1 << 20;
  constexpr Block kBlocks[] = {{1, kAll}, {kAll, kAll}, {1, 16}, {1, 32},
                               {1, 128},  {128, 128},   {3, 7}};
  constexpr Extent kExtents[] = {{1, 1}, {31, 33}, {40, 64}, {130, 257}, {96, 512}};
  constexpr std::int64_t kRows[] = {1, 3, 17, 64};
  std::vector<OperatorCase> out;
  unsigned turn = 0;
  for (const WeightCode code : kCodes) {
    for (const Block& block : kBlocks) {
      for (const Extent& extent : kExtents) {
        out.push_back(MakeCoded({.weight = {.code = code,
                                            .rows = extent.n,
                                            .cols = extent.k,
                                            .scale_rows = block.rows,
                                            .scale_cols = block.cols,
                                            .offsets = turn % 2 == 0},
                                 .m = kRows[turn % 4],
                                 .k_shards = turn / 2 % 2 == 0 ? 1 : 8,
                                 .compute = turn % 3 == 0 ? ComputeType::kF32 : ComputeType::kBf16,
                                 .parts = turn % 7 == 0 ? 3 : 1,
                                 .bias = turn % 5 == 0}));
        ++turn;
      }
      out.push_back(MakeCodedEmbed({.code = code,
                                    .rows = 50,
                                    .cols = 45,
                                    .scale_rows = block.rows,
                                    .scale_cols = block.cols,
                                    .offsets = turn % 2 == 0}));
    }
  }
  AddIntegerCases(out);
  return out;
}

}  // namespace pixii::kernels::testing
