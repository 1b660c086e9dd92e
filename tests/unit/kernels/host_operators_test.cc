#include "kernels/host_operators.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <limits>

namespace pixii::kernels {
namespace {

using ::testing::ElementsAre;

TEST(HostOperators, ReadTheCallersOwnArrays) {
  const auto operators = MakeReferenceOperators();
  StepBatch batch;
  batch.token_ids = {1, 2, 3};
  batch.logit_rows = {2};
  const StepView view = operators->UploadStep(batch);
  EXPECT_TRUE(operators->on_host());
  EXPECT_EQ(view.token_ids.data(), batch.token_ids.data());
  EXPECT_EQ(view.token_ids.size(), 3U);
  EXPECT_EQ(view.logit_rows.data(), batch.logit_rows.data());
  EXPECT_EQ(operators->PaddedRows(3), 3);
}

TEST(HostOperators, RunEveryStepAnew) {
  const auto operators = MakeReferenceOperators();
  int runs = 0;
  const StepKey key = {.owner = operators.get(), .rows = 1};
  operators->RunStep(key, [&] { ++runs; });
  operators->RunStep(key, [&] { ++runs; });
  EXPECT_EQ(runs, 2);
}

TEST(HostOperators, CopyBothWaysAndLeaveTheSameAddressAlone) {
  const auto operators = MakeReferenceOperators();
  std::array<int, 2> from = {5, 6};
  std::array<int, 2> to = {};
  operators->Upload(std::as_bytes(std::span(from)), to.data());
  EXPECT_THAT(to, ElementsAre(5, 6));
  from = {7, 8};
  operators->Download(from.data(), std::as_writable_bytes(std::span(to)));
  operators->Download(to.data(), std::as_writable_bytes(std::span(to)));
  EXPECT_THAT(to, ElementsAre(7, 8));
}

TEST(HostOperators, FlagTheRowsThatAreNotFinite) {
  const auto operators = MakeReferenceOperators();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kMax = std::numeric_limits<float>::max();
  // The fourth column belongs to nobody.
  std::array<float, 16> values = {0,
                                  1,
                                  kMax,
                                  kInfinity,
                                  0,
                                  -kInfinity,
                                  0,
                                  0,
                                  0,
                                  0,
                                  0,
                                  0,
                                  std::numeric_limits<float>::quiet_NaN()};
  std::array<std::int32_t, 4> flags = {9, 9, 9, 9};
  operators->FindNonFinite(
      {.data = values.data(), .dtype = DType::kF32, .rows = 4, .cols = 3, .stride = 4}, flags);
  EXPECT_THAT(flags, ElementsAre(0, 1, 0, 1));
}

TEST(AllocateFilled, FillsTheBuffersOwnMemoryOnTheHost) {
  const auto operators = MakeReferenceOperators();
  void* filled = nullptr;
  const auto buffer = AllocateFilled(*operators, 8, [&](void* host) { filled = host; });
  ASSERT_TRUE(buffer.has_value());
  EXPECT_EQ(filled, buffer->data());
}

}  // namespace
}  // namespace pixii::kernels
