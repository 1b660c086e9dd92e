#include <fmt/format.h>

#include <memory>
#include <vector>

#include "base/assert.h"
#include "compare/operator_cases.h"
#include "compare/operator_inputs.h"

namespace pixii::kernels::testing {
namespace {

constexpr double kSumNmse = 1e-12;  // sums in another order

struct PairShape {
  std::int64_t in_features = 1;
  std::int64_t out_features = 1;
  std::int64_t rank = 1;
  DType dtype = DType::kBf16;
};

std::unique_ptr<LoraWeight> MakePair(Operators& operators, const PairShape& shape, float scale,
                                     Inputs& inputs) {
  const RawValues down(inputs.Values(shape.rank * shape.in_features), shape.dtype);
  const RawValues up(inputs.Values(shape.rank * shape.out_features), shape.dtype);
  auto pair = operators.PrepareLora(
      {.data = down.data(), .dtype = shape.dtype, .rows = shape.rank, .cols = shape.in_features},
      {.data = up.data(), .dtype = shape.dtype, .rows = shape.out_features, .cols = shape.rank},
      scale);
  PX_ASSERT(pair.has_value());
  return std::move(*pair);
}

/// `pair_of_row(row)` picks one of three pairs of different ranks, or none: -1 or the fourth.
OperatorCase Case(std::string name, const PairShape& shape, std::int64_t rows,
                  std::function<int(std::int64_t)> pair_of_row) {
  return {name,
          [=](Operators& operators) {
            Inputs inputs(name);
            std::vector<std::unique_ptr<LoraWeight>> pairs;
            for (const std::int64_t rank :
                 {shape.rank, std::max<std::int64_t>(1, shape.rank / 2), std::int64_t{3}}) {
              PairShape one = shape;
              one.rank = rank;
              pairs.push_back(MakePair(operators, one, 0.5F + static_cast<float>(rank), inputs));
            }
            GuardedMatrix in(rows, shape.in_features, 3, inputs);
            GuardedMatrix out(rows, shape.out_features, 5, inputs);
            const std::vector<const LoraWeight*> table = {pairs[0].get(), pairs[1].get(),
                                                          pairs[2].get(), nullptr};
            std::vector<std::int32_t> of_rows;
            for (std::int64_t row = 0; row < rows; ++row) {
              of_rows.push_back(pair_of_row(row));
            }
            operators.AddLora(in.view(), table, of_rows, out.view());
            return out.Result();
          },
          kSumNmse};
}

}  // namespace

std::vector<OperatorCase> LoraCases() {
  std::vector<OperatorCase> out;
  for (const std::int64_t rank : {1, 4, 7, 16, 256}) {
    for (const DType dtype : {DType::kBf16, DType::kF16, DType::kF32}) {
      const PairShape shape{.in_features = 96, .out_features = 200, .rank = rank, .dtype = dtype};
      out.push_back(Case(fmt::format("lora_rank{}_dtype{}", rank, static_cast<int>(dtype)), shape,
                         5, [](std::int64_t) { return 0; }));
    }
  }
  for (const std::int64_t rows : {0, 1, 2, 3, 4, 9, 65}) {
    const PairShape shape{.in_features = 64, .out_features = 144, .rank = 8, .dtype = DType::kBf16};
    out.push_back(Case(fmt::format("lora_mixed_rows{}", rows), shape, rows,
                       [](std::int64_t row) { return static_cast<int>(row * 7 / 3 % 5) - 1; }));
    out.push_back(
        Case(fmt::format("lora_none_rows{}", rows), shape, rows, [](std::int64_t) { return -1; }));
  }
  for (const std::int64_t size : {1, 15, 16, 17, 127, 129, 260}) {
    const PairShape shape{
        .in_features = size, .out_features = size + 1, .rank = 5, .dtype = DType::kBf16};
    out.push_back(Case(fmt::format("lora_odd_size{}", size), shape, 6,
                       [](std::int64_t row) { return static_cast<int>(row / 4); }));
  }
  return out;
}

}  // namespace pixii::kernels::testing
