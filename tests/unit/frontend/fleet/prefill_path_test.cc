#include "frontend/fleet/prefill_path.h"

#include <gtest/gtest.h>

namespace pixii::frontend {
namespace {

wire::GenerateRequest Request(std::size_t prompt, std::uint32_t max_tokens = 8) {
  wire::GenerateRequest request;
  request.prompt.resize(prompt);
  request.stop.max_tokens = max_tokens;
  return request;
}

TEST(PrefillPath, EveryPromptGoesToAPrefillWorkerUnlessItIsConditional) {
  EXPECT_EQ(ChoosePath(Request(1), {}, {.prefill_there = true}), PrefillPath::kPrefill);
  EXPECT_EQ(ChoosePath(Request(1), {}, {.prefill_there = false}), PrefillPath::kNoWorker);
}

TEST(PrefillPath, NothingIsHandedOverOfWhatHasNoSecondToken) {
  EXPECT_EQ(ChoosePath(Request(9, 1), {}, {.prefill_there = true}), PrefillPath::kNothingToDo);
  EXPECT_EQ(ChoosePath(Request(9, 0), {}, {.prefill_there = true}), PrefillPath::kNothingToDo);
  EXPECT_EQ(ChoosePath(Request(15), {}, {.block_tokens = 16, .prefill_there = true}),
            PrefillPath::kNothingToDo);
  EXPECT_EQ(ChoosePath(Request(16), {}, {.block_tokens = 16, .prefill_there = true}),
            PrefillPath::kPrefill);
  EXPECT_EQ(ChoosePath(Request(16), {}, {.decode_there = false, .prefill_there = true}),
            PrefillPath::kNothingToDo);
  wire::GenerateRequest pooled = Request(9);
  pooled.pool.emplace();
  EXPECT_EQ(ChoosePath(pooled, {}, {.prefill_there = true}), PrefillPath::kNothingToDo);
  wire::GenerateRequest begun = Request(9);
  begun.generated = {{}, {4}};
  EXPECT_EQ(ChoosePath(begun, {}, {.prefill_there = true}), PrefillPath::kNothingToDo);
}

// Row E13: both bounds, to the token.
TEST(PrefillPath, IsLocalBelowBothThresholds) {
  const PrefillOptions options = {.conditional = true};
  const auto path = [&](std::size_t prompt, std::uint64_t cached) {
    return ChoosePath(Request(prompt), options, {.prefill_there = true, .overlap_tokens = cached});
  };
  EXPECT_EQ(path(4000, 4000 - 2047), PrefillPath::kShort);
  EXPECT_EQ(path(4000, 4000 - 2048), PrefillPath::kPrefill);
  EXPECT_EQ(path(1000, 301), PrefillPath::kShort);
  EXPECT_EQ(path(1000, 300), PrefillPath::kPrefill) << "0.7 of it is left";
  EXPECT_EQ(path(100, 0), PrefillPath::kPrefill) << "short, but all of it is to be computed";
}

TEST(PrefillPath, IsLocalWherePrefillWorkersAreBusy) {
  PrefillOptions options = {
      .conditional = true, .policy = LocalPrefillPolicy::kPrefillBusy, .prefill_busy_at = 2.0};
  const auto path = [&](double busy) {
    return ChoosePath(Request(1000), options,
                      {.prefill_there = true, .overlap_tokens = 900, .prefill_busy = busy});
  };
  EXPECT_EQ(path(2.1), PrefillPath::kPrefillBusy);
  EXPECT_EQ(path(2.0), PrefillPath::kPrefill) << "that it is short is not asked";
  options.policy = LocalPrefillPolicy::kEither;
  EXPECT_EQ(path(0), PrefillPath::kShort);
  EXPECT_EQ(ChoosePath(Request(9000), options, {.prefill_there = true}), PrefillPath::kPrefill)
      << "nobody knows how busy they are";
}

TEST(PrefillPath, ABusyDecodeWorkerComputesNoPrompt) {
  const PrefillOptions options = {.conditional = true, .decode_busy_at = 1.0};
  const auto path = [&](std::optional<double> busy) {
    return ChoosePath(Request(1000), options,
                      {.prefill_there = true, .overlap_tokens = 900, .decode_busy = busy});
  };
  EXPECT_EQ(path(1.0), PrefillPath::kShort);
  EXPECT_EQ(path(1.1), PrefillPath::kPrefill);
  EXPECT_EQ(path(std::nullopt), PrefillPath::kPrefill);
}

}  // namespace
}  // namespace pixii::frontend
