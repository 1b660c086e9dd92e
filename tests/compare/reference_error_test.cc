// How far ref itself is from exact arithmetic: the same formulas in fp64.
#include <gtest/gtest.h>

#include <cmath>

#include "compare/operator_cases.h"
#include "compare/operator_inputs.h"
#include "kernels/weight_source.h"

namespace pixii::kernels::testing {
namespace {

constexpr double kUnit = 0x1p-24;  // rounding of one fp32 operation

TEST(ReferenceError, ALinearStaysWithinTheBoundOfAChainOfFusedOperations) {
  constexpr std::int64_t kN = 20;
  constexpr std::int64_t kK = 900;
  Inputs inputs("linear error");
  auto ref = MakeReferenceOperators();
  const std::vector<float> values = inputs.Values(kN * kK);
  const WeightPart part{
      .data = values.data(), .dtype = DType::kF32, .rows = kN, .cols = kK, .bias = nullptr};
  for (const std::int32_t shards : {1, 8}) {
    auto weight =
        ref->PrepareLinear({&part, 1}, {.compute = ComputeType::kF32, .k_shards = shards});
    GuardedMatrix in(4, kK, 0, inputs);
    GuardedMatrix out(4, kN, 0);
    ref->Linear(in.view(), **weight, out.view());
    const double steps = shards == 1 ? kK : kK / 8.0 + 1 + 3;
    for (std::int64_t m = 0; m < 4; ++m) {
      for (std::int64_t n = 0; n < kN; ++n) {
        double exact = 0.0;
        double magnitude = 0.0;
        for (std::int64_t k = 0; k < kK; ++k) {
          const double product =
              double{in.view().f32(m)[k]} * double{values[static_cast<std::size_t>(n * kK + k)]};
          exact += product;
          magnitude += std::abs(product);
        }
        EXPECT_NEAR(out.view().f32(m)[n], exact, steps * kUnit * magnitude);
      }
    }
  }
}

TEST(ReferenceError, IntegerProductsAreWithinTheRoundingOfTheirInputs) {
  constexpr std::int64_t kN = 20;
  constexpr std::int64_t kK = 700;
  Inputs inputs("integer error");
  auto ref = MakeReferenceOperators();
  for (const std::int64_t group : {std::int64_t{32}, kK}) {
    const CodedValues values({.code = WeightCode::kUint4,
                              .rows = kN,
                              .cols = kK,
                              .scale_rows = 1,
                              .scale_cols = group,
                              .offsets = true},
                             inputs);
    auto weight = ref->PrepareLinear({&values.part(), 1}, {.compute = ComputeType::kInt8});
    GuardedMatrix in(4, kK, 0, inputs);
    GuardedMatrix out(4, kN, 0);
    ref->Linear(in.view(), **weight, out.view());
    std::vector<float> row(kK);
    for (std::int64_t n = 0; n < kN; ++n) {
      ReadRow(values.part(), n, row.data());
      for (std::int64_t m = 0; m < 4; ++m) {
        double exact = 0.0;
        double magnitude = 0.0;
        for (std::size_t k = 0; k < row.size(); ++k) {
          exact += double{in.view().f32(m)[k]} * double{row[k]};
          magnitude += std::abs(double{row[k]});
        }
        // Inputs lie in -1 .. 1: each is off by half a step of 1 / 127 at most; then fp32 sums of
        // codes and offsets apart, at most 16 times a value each.
        EXPECT_NEAR(out.view().f32(m)[n], exact, magnitude * 0.5 / 127 + 100 * kUnit * 32 * kK);
      }
    }
  }
}

TEST(ReferenceError, RmsNormIsWithinAFewRoundings) {
  constexpr std::int64_t kCols = 896;
  Inputs inputs("norm error");
  auto ref = MakeReferenceOperators();
  GuardedMatrix in(3, kCols, 0, inputs, -4.0F, 4.0F);
  GuardedMatrix out(3, kCols, 0);
  const std::vector<float> weight = inputs.Values(kCols, 0.5F, 1.5F);
  ref->RmsNorm(in.view(), weight, 0.0F, 1e-6F, out.view());
  for (std::int64_t t = 0; t < 3; ++t) {
    double sum = 0.0;
    for (std::int64_t i = 0; i < kCols; ++i) {
      sum += double{in.view().f32(t)[i]} * double{in.view().f32(t)[i]};
    }
    const double factor = 1.0 / std::sqrt(sum / kCols + double{1e-6F});
    for (std::int64_t i = 0; i < kCols; ++i) {
      const double exact = in.view().f32(t)[i] * factor * weight[static_cast<std::size_t>(i)];
      EXPECT_NEAR(out.view().f32(t)[i], exact, (kCols / 2.0 + 8) * kUnit * std::abs(exact));
    }
  }
}

TEST(ReferenceError, ALayerNormFarFromZeroIsWithinAFewRoundingsOfItsMean) {
  constexpr std::int64_t kCols = 770;
  Inputs inputs("layer norm error");
  auto ref = MakeReferenceOperators();
  GuardedMatrix in(3, kCols, 0, inputs, 6.0F, 10.0F);
  GuardedMatrix delta(3, kCols, 0, inputs);
  GuardedMatrix out(3, kCols, 0);
  const std::vector<float> weight = inputs.Values(kCols, 0.5F, 1.5F);
  const std::vector<float> bias = inputs.Values(kCols);
  ref->AddLayerNorm(in.view(), delta.view(), weight, bias, 1e-5F, out.view());
  for (std::int64_t t = 0; t < 3; ++t) {
    const float* x = in.view().f32(t);  // the sum by now
    double mean = 0.0;
    for (std::int64_t i = 0; i < kCols; ++i) {
      mean += x[i];
    }
    mean /= kCols;
    double variance = 0.0;
    for (std::int64_t i = 0; i < kCols; ++i) {
      variance += (x[i] - mean) * (x[i] - mean);
    }
    const double factor = 1.0 / std::sqrt(variance / kCols + double{1e-5F});
    for (std::int64_t i = 0; i < kCols; ++i) {
      const auto column = static_cast<std::size_t>(i);
      const double exact = (x[i] - mean) * factor * weight[column] + bias[column];
      EXPECT_NEAR(out.view().f32(t)[i], exact, 8.0 * kCols * kUnit * factor);
    }
  }
}

TEST(ReferenceError, ActivationsAreWithinAFewRoundings) {
  Inputs inputs("activation error");
  auto ref = MakeReferenceOperators();
  GuardedMatrix in(1, 2000, 0, inputs, -9.0F, 9.0F);
  GuardedMatrix out(1, 1000, 0);
  const auto check = [&](Activation activation, auto&& exact_of) {
    ref->ActivationMul(in.view(), activation, out.view());
    for (std::int64_t i = 0; i < 1000; ++i) {
      const double x = in.view().f32()[i];
      const double up = in.view().f32()[1000 + i];
      EXPECT_NEAR(out.view().f32()[i], exact_of(x) * up,
                  16 * kUnit * (std::abs(x) + 1) * std::abs(up));
    }
  };
  check(Activation::kSilu, [](double x) { return x / (1.0 + std::exp(-x)); });
  check(Activation::kGelu, [](double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); });
  check(Activation::kGeluTanh, [](double x) {
    return 0.5 * x *
           (1.0 + std::tanh(std::sqrt(2.0 / 3.14159265358979) * (x + 0.044715 * x * x * x)));
  });
  check(Activation::kRelu, [](double x) { return x > 0.0 ? x : 0.0; });
  check(Activation::kTanh, [](double x) { return std::tanh(x); });
  check(Activation::kQuickGelu, [](double x) { return x / (1.0 + std::exp(-1.702 * x)); });
}

TEST(ReferenceError, AttentionOverAThousandPositionsIsWithinTenMillionthsOfTheLargestValue) {
  constexpr std::int32_t kContext = 1000;
  constexpr std::int32_t kDim = 64;
  const KvLayout layout{.layer_count = 1,
                        .kv_head_count = 1,
                        .key_dim = kDim,
                        .value_dim = kDim,
                        .block_tokens = 16,
                        .dtype = KvDType::kF32};
  Inputs inputs("attention error");
  auto ref = MakeReferenceOperators();
  FilledCache filled = MakeCache(*ref, layout, kContext);
  GuardedMatrix k(kContext, kDim, 0, inputs, -3.0F, 3.0F);
  GuardedMatrix v(kContext, kDim, 0, inputs);
  GuardedMatrix q(1, kDim, 0, inputs, -3.0F, 3.0F);
  GuardedMatrix out(1, kDim, 0);
  ref->StoreKv(k.view(), v.view(), filled.slots, 0, filled.cache);
  filled.batch.sequences = {
      {.token_begin = 0,
       .token_count = 1,
       .context_tokens = kContext,
       .block_begin = 0,
       .block_count = static_cast<std::int32_t>(std::ssize(filled.batch.block_table))}};
  ref->PagedAttention(
      q.view(), filled.batch, 0, filled.cache,
      {.head_count = 1, .kv_head_count = 1, .key_dim = kDim, .value_dim = kDim, .scale = 0.125F},
      out.view());
  std::vector<double> weights;
  double sum = 0.0;
  for (std::int32_t position = 0; position < kContext; ++position) {
    double dot = 0.0;
    for (std::int32_t d = 0; d < kDim; ++d) {
      dot += double{q.view().f32()[d]} * double{k.view().f32(position)[d]};
    }
    weights.push_back(std::exp(dot * 0.125 - 30.0));
    sum += weights.back();
  }
  for (std::int32_t d = 0; d < kDim; ++d) {
    double exact = 0.0;
    for (std::int32_t position = 0; position < kContext; ++position) {
      exact += weights[static_cast<std::size_t>(position)] * double{v.view().f32(position)[d]};
    }
    EXPECT_NEAR(out.view().f32()[d], exact / sum, 1e-5);
  }
}

}  // namespace
}  // namespace pixii::kernels::testing
