// The case table on a GPU, where there is one; and a row's bits there, alone and among many.
#include <gtest/gtest.h>

#include <algorithm>

#include "compare/operator_cases.h"
#include "compare/operator_inputs.h"
#include "compare/staged_operators.h"
#include "kernels/cuda/cuda_operators.h"

namespace pixii::kernels::testing {
namespace {

constexpr double kCudaNmse = 1e-11;  // sums in an order of their own

struct Cuda {
  std::unique_ptr<Operators> operators;
  std::string absent;

  Cuda() {
    auto made = MakeCudaOperators({});
    if (made) {
      operators = StageOperators(*std::move(made));
    } else {
      absent = "no CUDA device: " + made.error().detail();
    }
  }

  static const Cuda& Get() {
    static const Cuda cuda;
    return cuda;
  }
};

/// What the backend refuses yet, by the names of its cases: adapters, quantised caches, and what
/// Supports says no to.
bool Refused(const std::string& name) {
  const bool cache = name.starts_with("store_kv_") || name.starts_with("attention_");
  for (const char* group :
       {"lora_", "route_", "expert_linear_", "combine_experts_", "clamped_activation_",
        "soft_cap_and_copy_", "sigmoid_scale_", "convolve_", "scale_columns_",
        "add_layer_norm_runs", "attention_across_", "attention_biased_"}) {
    if (name.starts_with(group)) {
      return true;
    }
  }
  if (name.find("inint8") != std::string::npos) {
    return true;  // integer products
  }
  return (cache &&
          (name.find("_fp8") != std::string::npos || name.find("_int8") != std::string::npos));
}

TEST(CudaCompare, AgreesWithTheReferenceOnTheTable) {
  if (Cuda::Get().operators == nullptr) {
    GTEST_SKIP() << Cuda::Get().absent;
  }
  const auto ref = MakeReferenceOperators();
  int compared = 0;
  for (const OperatorCase& one : AllCases()) {
    if (Refused(one.name)) {
      continue;
    }
    SCOPED_TRACE(one.name);
    const std::vector<float> expected = one.run(*ref);
    const std::vector<float> actual = one.run(*Cuda::Get().operators);
    ASSERT_EQ(actual.size(), expected.size());
    EXPECT_LE(Nmse(expected, actual), std::max(one.nmse_max, kCudaNmse));
    ++compared;
  }
  EXPECT_GE(compared, 400);
  RecordProperty("compared", compared);
}

TEST(CudaCompare, ALinearRowHasTheSameBitsForEveryRowCount) {
  if (Cuda::Get().operators == nullptr) {
    GTEST_SKIP() << Cuda::Get().absent;
  }
  constexpr std::int64_t kN = 150;
  constexpr std::int64_t kM = 257;
  Operators& cuda = *Cuda::Get().operators;
  for (const std::int64_t k : {530, 1024}) {
    for (const std::int32_t shards : {1, 8}) {
      for (const ComputeType compute : {ComputeType::kF32, ComputeType::kBf16}) {
        Inputs inputs("cuda row invariance");
        const std::vector<float> values = inputs.Values(kN * k);
        const WeightPart part{.data = values.data(), .rows = kN, .cols = k};
        auto weight = cuda.PrepareLinear({&part, 1}, {.compute = compute, .k_shards = shards});
        GuardedMatrix in(kM, k, 0, inputs);
        GuardedMatrix whole(kM, kN, 0);
        cuda.Linear(in.view(), **weight, whole.view());
        const std::vector<float> expected = whole.Result();
        for (const std::int64_t m : {1, 2, 7, 64}) {
          for (const std::int64_t first : {std::int64_t{0}, kM - m}) {
            GuardedMatrix some(m, kN, 0);
            cuda.Linear(in.view().Rows(first, m), **weight, some.view());
            std::vector<float> rows(expected.begin() + first * kN,
                                    expected.begin() + (first + m) * kN);
            rows.push_back(1.0F);
            ASSERT_EQ(FirstDifference(some.Result(), rows), -1) << m << " rows from " << first;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace pixii::kernels::testing
