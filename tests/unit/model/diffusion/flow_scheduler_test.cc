#include "model/diffusion/flow_scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace pixii::model {
namespace {

using Kind = SchedulerConfig::Kind;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(UniPc, VisitsTheLevelsOfDiffusers) {
  const auto scheduler = MakeScheduler({.kind = Kind::kUniPc, .shift = 3.0}, 4);
  EXPECT_THAT(scheduler->timesteps(), ElementsAre(999.0F, 900.0F, 750.0F, 500.0F));
  EXPECT_FLOAT_EQ(scheduler->sigmas()[0], 0.999999F);  // not 1: a logarithm is taken
  EXPECT_FLOAT_EQ(scheduler->sigmas()[2], 0.750375F);
  EXPECT_EQ(scheduler->sigmas()[4], 0.0F);
}

TEST(FlowMatchEuler, ShiftsTwice) {
  const auto scheduler = MakeScheduler({.kind = Kind::kFlowMatchEuler, .shift = 3.0}, 3);
  const double low = 3 * 0.001 / (1 + 2 * 0.001);  // the schedule's end, shifted once
  const double middle = (1 + low) / 2;
  EXPECT_FLOAT_EQ(scheduler->sigmas()[0], 1.0F);
  EXPECT_FLOAT_EQ(scheduler->sigmas()[1], static_cast<float>(3 * middle / (1 + 2 * middle)));
  EXPECT_FLOAT_EQ(scheduler->sigmas()[2], static_cast<float>(3 * low / (1 + 2 * low)));
  EXPECT_EQ(scheduler->sigmas()[3], 0.0F);
  EXPECT_FLOAT_EQ(scheduler->timesteps()[1], scheduler->sigmas()[1] * 1000.0F);
}

/// Runs `scheduler` on the flow to a Gaussian of `mean` and `deviation`, whose velocity at x is
/// known: E[noise - picture | x]. Returns how far the end is from the exact flow's.
double Miss(const SchedulerConfig& config, std::int32_t steps, double mean, double deviation) {
  const auto scheduler = MakeScheduler(config, steps);
  const double first = scheduler->sigmas()[0];
  const double noise = 0.7;
  const auto spread = [&](double sigma) {
    return std::sqrt((1 - sigma) * (1 - sigma) * deviation * deviation + sigma * sigma);
  };
  std::vector<float> sample = {static_cast<float>((1 - first) * mean + spread(first) * noise)};
  for (std::int32_t i = 0; i < steps; ++i) {
    const double sigma = scheduler->sigmas()[static_cast<std::size_t>(i)];
    const double off = (sample[0] - (1 - sigma) * mean) / (spread(sigma) * spread(sigma));
    const std::vector<float> velocity = {
        static_cast<float>(sigma * off - mean - (1 - sigma) * deviation * deviation * off)};
    scheduler->Step(velocity, sample);
  }
  return std::abs(sample[0] - (mean + deviation * noise));
}

TEST(Schedulers, EndExactlyAtAPictureThatIsKnown) {
  for (const Kind kind : {Kind::kUniPc, Kind::kFlowMatchEuler}) {
    for (const std::int32_t steps : {1, 2, 3, 4, 30}) {
      EXPECT_LT(Miss({.kind = kind, .shift = 3.0}, steps, 0.4, 0.0), 2e-5) << steps;
    }
  }
}

TEST(Schedulers, ComeNearerToTheFlowByTheirOrder) {
  const auto rate = [](const SchedulerConfig& config) {
    return std::log2(Miss(config, 20, 0.4, 0.5) / Miss(config, 40, 0.4, 0.5));
  };
  EXPECT_NEAR(rate({.kind = Kind::kFlowMatchEuler, .shift = 1.0}), 1.0, 0.35);
  EXPECT_GT(rate({.kind = Kind::kUniPc, .shift = 3.0, .solver_order = 2}), 1.4);
  const SchedulerConfig second = {.kind = Kind::kUniPc, .shift = 3.0, .solver_order = 2};
  const SchedulerConfig first = {.kind = Kind::kUniPc, .shift = 3.0, .solver_order = 1};
  EXPECT_LT(Miss(second, 20, 0.4, 0.5), 0.5 * Miss(first, 20, 0.4, 0.5));
  SchedulerConfig plain = second;
  for (std::int64_t i = 0; i < 20; ++i) {
    plain.uncorrected_steps.push_back(i);
  }
  EXPECT_LT(Miss(second, 20, 0.4, 0.5), Miss(plain, 20, 0.4, 0.5));
}

TEST(Schedulers, MoveElementsApartFromEachOther) {
  for (const SchedulerConfig& config :
       {SchedulerConfig{.kind = Kind::kUniPc, .shift = 5.0, .solver_order = 3},
        SchedulerConfig{.kind = Kind::kUniPc, .shift = 5.0, .bh2 = false},
        SchedulerConfig{.kind = Kind::kFlowMatchEuler, .shift = 5.0}}) {
    const auto both = MakeScheduler(config, 6);
    const auto alone = MakeScheduler(config, 6);
    std::vector<float> two = {0.3F, -1.7F};
    std::vector<float> one = {-1.7F};
    for (int i = 0; i < 6; ++i) {
      both->Step(std::vector<float>{two[0] * 0.5F + 1.0F, two[1] * 0.5F + 1.0F}, two);
      alone->Step(std::vector<float>{one[0] * 0.5F + 1.0F}, one);
      ASSERT_EQ(two[1], one[0]) << i;
    }
  }
}

std::vector<float> TokenSigmas(const char* json, const TokenSteps& steps) {
  const SchedulerConfig config = *ParseSchedulerConfig(*wire::ParseJson(json), "s.json");
  const auto scheduler = MakeTokenScheduler(config, steps);
  for (std::size_t i = 0; i < scheduler->timesteps().size(); ++i) {
    EXPECT_EQ(scheduler->timesteps()[i], scheduler->sigmas()[i] * 1000.0F);
  }
  return {scheduler->sigmas().begin(), scheduler->sigmas().end()};
}

TEST(TokenScheduler, ShiftsMoreTheMoreTokensThereAre) {
  constexpr char kDynamic[] =
      R"({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": true, "shift": 3.0})";
  const std::vector<float> small = TokenSigmas(kDynamic, {.steps = 4, .tokens = 256});
  const std::vector<float> large = TokenSigmas(kDynamic, {.steps = 4, .tokens = 4096});
  ASSERT_EQ(small.size(), 5U);
  EXPECT_EQ(small[0], 1.0F);
  EXPECT_FLOAT_EQ(small[2], static_cast<float>(std::exp(0.5) / (std::exp(0.5) + 1.0)));
  EXPECT_FLOAT_EQ(large[3], static_cast<float>(std::exp(1.15) / (std::exp(1.15) + 3.0)));
  EXPECT_EQ(large[4], 0.0F);
  constexpr char kLinear[] =
      R"({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": true, "time_shift_type": "linear"})";
  EXPECT_FLOAT_EQ(TokenSigmas(kLinear, {.steps = 4, .tokens = 4096})[3], 1.15F / (1.15F + 3.0F));
}

TEST(TokenScheduler, TakesTheShiftAsItIsWhereThatIsNotDynamic) {
  constexpr char kPlain[] = R"({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 1.0})";
  const std::vector<float> sigmas = TokenSigmas(kPlain, {.steps = 4, .tokens = 4096});
  EXPECT_EQ(sigmas, (std::vector<float>{1.0F, 0.75F, 0.5F, 0.25F, 0.0F}));
  constexpr char kShifted[] = R"({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0})";
  EXPECT_FLOAT_EQ(TokenSigmas(kShifted, {.steps = 4, .tokens = 1})[2], 0.75F);
}

struct Refused {
  const char* json;
  const char* said;
};

TEST(ParseSchedulerConfig, RefusesWhatIsNotBuiltByName) {
  constexpr Refused kRefused[] = {
      {R"({})", "_class_name"},
      {R"({"_class_name": "DDIMScheduler"})", "DDIMScheduler"},
      {R"({"_class_name": "UniPCMultistepScheduler"})", "prediction_type"},
      {R"({"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction"})",
       "use_flow_sigmas"},
      {R"({"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": true, "solver_order": 4})",
       "solver_order"},
      {R"({"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": true, "thresholding": true})",
       "thresholding"},
      {R"({"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": true, "final_sigmas_type": "sigma_min"})",
       "final_sigmas_type"},
      {R"({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_beta_sigmas": true})",
       "use_beta_sigmas"},
      {R"({"_class_name": "FlowMatchEulerDiscreteScheduler", "time_shift_type": "cubic"})",
       "time_shift_type"},
      {R"({"_class_name": "FlowMatchEulerDiscreteScheduler", "max_image_seq_len": 256})",
       "max_image_seq_len"},
      {R"({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 0})", "shift"},
      {R"({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift_terminal": 0.1})",
       "shift_terminal"}};
  for (const Refused& refused : kRefused) {
    const auto config = ParseSchedulerConfig(*wire::ParseJson(refused.json), "s.json");
    ASSERT_FALSE(config.has_value()) << refused.json;
    EXPECT_THAT(config.error().detail(), HasSubstr(refused.said));
    EXPECT_THAT(config.error().detail(), HasSubstr("s.json"));
  }
}

}  // namespace
}  // namespace pixii::model
