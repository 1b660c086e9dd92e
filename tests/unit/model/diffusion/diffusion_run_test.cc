#include "model/diffusion/diffusion_run.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "unit/model/diffusion/tiny_wan.h"

namespace pixii::model {
namespace {

using testing::CpuOperators;
using testing::TinyWan;
using Phase = RunProgress::Phase;

struct Loaded {
  TinyWan folder;
  std::unique_ptr<kernels::Operators> operators;
  std::unique_ptr<DiffusionPipeline> pipeline;

  explicit Loaded(int threads = 1)
      : operators(CpuOperators(threads)),
        pipeline(std::move(*DiffusionPipeline::Load(folder.path(), *operators, {}))) {}

  VideoRequest Request(std::string prompt, std::uint64_t seed) const {
    VideoRequest request = pipeline->defaults().request;
    request.prompt = std::move(prompt);
    request.seed = seed;
    return request;
  }

  std::unique_ptr<DiffusionRun> Start(std::vector<VideoRequest> requests,
                                      const StepCacheOptions& cache = {}) const {
    return std::move(*pipeline->Start(std::move(requests), cache));
  }
};

void Finish(DiffusionRun& run) {
  while (!run.done()) {
    ASSERT_TRUE(run.Advance().has_value());
  }
}

std::vector<float> Copy(std::span<const float> values) { return {values.begin(), values.end()}; }

TEST(DiffusionRun, GivesEqualBitsForEqualSeedsWhateverIsComputedBesideIt) {
  const Loaded loaded;
  const auto alone = loaded.Start({loaded.Request("red circle", 5)});
  Finish(*alone);
  ASSERT_EQ(alone->pictures(0).size(), 5U * 8 * 16 * 3);
  const auto beside = loaded.Start(
      {loaded.Request("blue", 1), loaded.Request("red circle", 5), loaded.Request("left", 5)});
  Finish(*beside);
  EXPECT_EQ(Copy(beside->latents(1)), Copy(alone->latents(0)));
  EXPECT_EQ(Copy(beside->pictures(1)), Copy(alone->pictures(0)));
  EXPECT_NE(Copy(beside->latents(2)), Copy(alone->latents(0))) << "the prompt";
  EXPECT_NE(Copy(beside->latents(0)), Copy(alone->latents(0)));
  const Loaded threads(3);
  const auto again = threads.Start({threads.Request("red circle", 5)});
  Finish(*again);
  EXPECT_EQ(Copy(again->pictures(0)), Copy(alone->pictures(0)));
}

TEST(DiffusionRun, MayTakeTurnsWithOthersBetweenAnyTwoPieces) {
  const Loaded loaded;
  const auto plain = loaded.Start({loaded.Request("red circle", 5)});
  Finish(*plain);
  const auto first = loaded.Start({loaded.Request("red circle", 5)});
  VideoRequest larger = loaded.Request("blue moves", 6);
  larger.width = 24;
  larger.frames = 7;
  const auto second = loaded.Start({larger});
  while (!first->done()) {
    ASSERT_TRUE(first->Advance().has_value());
    if (!second->done()) {
      ASSERT_TRUE(second->Advance().has_value());
    }
  }
  EXPECT_EQ(Copy(first->pictures(0)), Copy(plain->pictures(0)));
}

TEST(DiffusionRun, StopsWithinAStepAndLeavesThePipelineAsItWas) {
  const Loaded loaded;
  const auto plain = loaded.Start({loaded.Request("red", 5)});
  Finish(*plain);
  {
    const auto dropped = loaded.Start({loaded.Request("blue", 9)});
    while (dropped->progress().block == 0) {
      ASSERT_TRUE(dropped->Advance().has_value());
    }
    EXPECT_LT(dropped->progress().block, dropped->progress().blocks);
  }
  const auto after = loaded.Start({loaded.Request("red", 5)});
  Finish(*after);
  EXPECT_EQ(Copy(after->pictures(0)), Copy(plain->pictures(0)));
}

TEST(DiffusionRun, TellsHowFarItIsAndNeverGoesBack) {
  const Loaded loaded;
  const auto run = loaded.Start({loaded.Request("red", 5), loaded.Request("blue", 6)});
  double fraction = run->progress().fraction();
  EXPECT_EQ(fraction, 0.0);
  int pieces = 0;
  std::vector<std::int32_t> steps;
  while (!run->done()) {
    ASSERT_TRUE(run->Advance().has_value());
    ++pieces;
    EXPECT_GE(run->progress().fraction(), fraction);
    fraction = run->progress().fraction();
    if (run->progress().phase == Phase::kDenoise && run->progress().block == 0) {
      steps.push_back(run->progress().step);
    }
  }
  EXPECT_EQ(fraction, 1.0);
  // The texts; of three steps their begin, two blocks and their end; three latent frames of each.
  EXPECT_EQ(pieces, 1 + 3 * 4 + 2 * 3);
  EXPECT_TRUE(std::is_sorted(steps.begin(), steps.end()));
}

TEST(DiffusionRun, BeginsWithGivenLatentsAndIgnoresTheSeedThen) {
  const Loaded loaded;
  VideoRequest request = loaded.Request("red", 5);
  const auto noise = loaded.Start({request});
  request.latents = Copy(noise->latents(0));
  request.seed = 77;
  const auto given = loaded.Start({request});
  Finish(*noise);
  Finish(*given);
  EXPECT_EQ(Copy(given->latents(0)), Copy(noise->latents(0)));
}

TEST(DiffusionRun, FollowsTheNegativePromptOnlyWhereItIsGuided) {
  const Loaded loaded;
  const auto run = [&](double guidance, std::string negative) {
    VideoRequest request = loaded.Request("red", 5);
    request.guidance_scale = guidance;
    request.negative_prompt = std::move(negative);
    const auto started = loaded.Start({request});
    Finish(*started);
    return Copy(started->latents(0));
  };
  EXPECT_NE(run(4.0, "blue"), run(4.0, "left"));
  EXPECT_EQ(run(1.0, "blue"), run(1.0, "left"));
  EXPECT_EQ(run(0.0, "blue"), run(1.0, "blue"));
}

TEST(DiffusionRun, ReusesStepsWhereTheCacheSaysSo) {
  const Loaded loaded;
  VideoRequest request = loaded.Request("red", 5);
  request.steps = 8;
  const auto plain = loaded.Start({request});
  const auto never = loaded.Start({request}, {.threshold = 1e-9});
  const auto often = loaded.Start({request}, {.threshold = 10.0});
  Finish(*plain);
  Finish(*never);
  Finish(*often);
  EXPECT_EQ(never->progress().steps_reused, 0);
  EXPECT_EQ(Copy(never->latents(0)), Copy(plain->latents(0)));
  EXPECT_EQ(often->progress().steps_reused, 6);  // all but the first and the last
  EXPECT_NE(Copy(often->latents(0)), Copy(plain->latents(0)));
  const auto again = loaded.Start({request}, {.threshold = 10.0});
  Finish(*again);
  EXPECT_EQ(Copy(again->latents(0)), Copy(often->latents(0)));
}

TEST(DiffusionRun, FailsWhereValuesAreNoLongerFinite) {
  const Loaded loaded;
  VideoRequest request = loaded.Request("red", 5);
  request.latents.assign(loaded.Start({request})->latents(0).size(), 3e38F);
  const auto run = loaded.Start({request});
  Result<void> last;
  while (last && !run->done()) {
    last = run->Advance();
  }
  ASSERT_FALSE(last.has_value());
  EXPECT_EQ(last.error().code(), Code::kModelFault);
}

}  // namespace
}  // namespace pixii::model
