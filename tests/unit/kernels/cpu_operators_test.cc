#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "kernels/cpu/cpu_features.h"
#include "kernels/cpu/isa.h"
#include "kernels/operators.h"
#include "kernels/roof.h"

namespace pixii::kernels {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

TEST(MakeCpuOperators, RefusesThreadCountsOutsideItsLimits) {
  for (const std::int32_t threads : {-1, 257}) {
    const auto result = MakeCpuOperators({.thread_count = threads});
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(result.error().code(), Code::kInvalidArgument);
    EXPECT_EQ(result.error().param(), "threads");
    EXPECT_THAT(result.error().detail(), HasSubstr(std::to_string(threads)));
  }
}

TEST(MakeCpuOperators, RefusesAnInstructionSetTheHostLacksAndNamesWhatItHas) {
  const auto available = AvailableIsas();
  ASSERT_FALSE(available.empty()) << "pixii needs AVX2 or NEON";
  bool refused = false;
  for (const CpuIsa isa : {CpuIsa::kAvx2, CpuIsa::kAvx512, CpuIsa::kAvx512Bf16, CpuIsa::kAmx,
                           CpuIsa::kNeon, CpuIsa::kNeonI8mm}) {
    const bool has = std::find(available.begin(), available.end(), isa) != available.end();
    const auto result = MakeCpuOperators({.thread_count = 1, .isa = isa});
    EXPECT_EQ(result.has_value(), has) << IsaName(isa);
    if (!result) {
      refused = true;
      EXPECT_EQ(result.error().code(), Code::kUnsupported);
      EXPECT_THAT(result.error().detail(), HasSubstr(std::string(IsaName(isa))));
      EXPECT_THAT(result.error().detail(), HasSubstr(std::string(IsaName(available.back()))));
    }
  }
  if (!refused) {
    GTEST_SKIP() << "this host has every instruction set";
  }
}

TEST(MakeCpuOperators, AutoTakesTheBestInstructionSetOfTheHost) {
  const auto result = MakeCpuOperators({.thread_count = 1});
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ((*result)->name(), "cpu-" + std::string(IsaName(AvailableIsas().back())));
}

TEST(Allocate, GivesZeroedAlignedMemoryOfAnySize) {
  const auto operators = std::move(*MakeCpuOperators({.thread_count = 1}));
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1}, std::size_t{1000}, std::size_t{5} << 20}) {
    const auto buffer = operators->Allocate(size);
    ASSERT_TRUE(buffer.has_value());
    EXPECT_EQ(buffer->size_bytes(), size);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer->data()) % 64, 0U);
    const auto* bytes = static_cast<const unsigned char*>(buffer->data());
    EXPECT_TRUE(std::all_of(bytes, bytes + size, [](unsigned char byte) { return byte == 0; }));
  }
}

TEST(Allocate, AnImpossibleSizeIsAnErrorThatNamesIt) {
  const auto operators = std::move(*MakeCpuOperators({.thread_count = 1}));
  const auto buffer = operators->Allocate(std::size_t{1} << 60U);
  ASSERT_FALSE(buffer.has_value());
  EXPECT_EQ(buffer.error().code(), Code::kResourceExhausted);
  EXPECT_THAT(buffer.error().detail(), HasSubstr("1152921504606846976"));
}

TEST(PrepareLinear, BadPartsAreRefusedByEveryBackend) {
  const auto cpu = std::move(*MakeCpuOperators({.thread_count = 1}));
  const auto ref = MakeReferenceOperators();
  const WeightPart bad{
      .data = nullptr, .dtype = DType::kF32, .rows = 1, .cols = 1, .bias = nullptr};
  for (Operators* operators : {cpu.get(), ref.get()}) {
    EXPECT_EQ(operators->PrepareLinear({&bad, 1}, {}).error().code(), Code::kInvalidArgument);
    EXPECT_EQ(operators->PrepareEmbedding(bad).error().code(), Code::kInvalidArgument);
  }
}

TEST(Linear, InfinityAndNanShowInTheRowTheyAreInAndNowhereElse) {
  std::vector<float> values(40 * 20, 0.5F);
  const WeightPart part{
      .data = values.data(), .dtype = DType::kF32, .rows = 40, .cols = 20, .bias = nullptr};
  for (const ComputeType compute : {ComputeType::kF32, ComputeType::kBf16}) {
    const auto operators = std::move(*MakeCpuOperators({.thread_count = 1}));
    const auto weight = std::move(*operators->PrepareLinear({&part, 1}, {.compute = compute}));
    std::vector<float> in(3 * 20, 1.0F);
    in[20 + 7] = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> out(3 * 40);
    operators->Linear({.data = in.data(), .rows = 3, .cols = 20, .stride = 20}, *weight,
                      {.data = out.data(), .rows = 3, .cols = 40, .stride = 40});
    for (std::size_t i = 0; i < 40; ++i) {
      EXPECT_EQ(out[i], 10.0F);
      EXPECT_TRUE(out[40 + i] != out[40 + i]);
      EXPECT_EQ(out[80 + i], 10.0F);
    }
  }
}

TEST(CpuOperators, CountsEachExpertThatIsReadOnceACall) {
  const auto operators = std::move(*MakeCpuOperators({.thread_count = 1}));
  const std::vector<float> values(std::size_t{8} * 16, 0.5F);
  const WeightPart part{.data = values.data(), .dtype = DType::kF32, .rows = 8, .cols = 16};
  std::vector<std::unique_ptr<LinearWeight>> experts;
  for (int i = 0; i < 4; ++i) {
    experts.push_back(std::move(*operators->PrepareLinear({&part, 1}, {})));
  }
  std::vector<float> in(std::size_t{2} * 16, 1.0F);
  std::vector<float> out(std::size_t{4} * 8);
  const Matrix rows{.data = in.data(), .rows = 2, .cols = 16, .stride = 16};
  const Matrix each{.data = out.data(), .rows = 4, .cols = 8, .stride = 8};
  EXPECT_EQ(operators->expert_linears_run(), 0);
  const std::int32_t chosen[] = {3, 1, 1, 0};
  operators->ExpertLinear(rows, chosen, experts, each);
  EXPECT_EQ(operators->expert_linears_run(), 3);
  const std::int32_t same[] = {2, 1, 2, 1};
  operators->ExpertLinear(rows, same, experts, each);
  EXPECT_EQ(operators->expert_linears_run(), 5);
}

TEST(Roof, MeasuresPositiveRatesAndDescribesTheHost) {
  const auto roof = MakeRoof({.thread_count = 1});
  ASSERT_TRUE(roof.has_value());
  EXPECT_GT((*roof)->ReadBytesPerSecond(Roof::kReadBufferBytes), 0.0);
  EXPECT_GT((*roof)->MultiplyAddsPerSecond(ComputeType::kF32), 0.0);
  EXPECT_GT((*roof)->MultiplyAddsPerSecond(ComputeType::kBf16), 0.0);
  const HostDescription host = DescribeHost();
  EXPECT_FALSE(host.cpu_model.empty());
  EXPECT_THAT(host.flags, AnyOf(HasSubstr("avx2"), HasSubstr("neon")));
  EXPECT_GE(host.core_count, 1);
  EXPECT_EQ(host.isas.size(), AvailableIsas().size());
}

}  // namespace
}  // namespace pixii::kernels
