// One answer, whatever the other ranks do: each request gets from one of several data-parallel
// ranks, beside the requests of the others, the tokens and logprobs that it gets alone from an
// engine of one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/model_executor.h"
#include "engine/rank_group.h"
#include "kernels/operators.h"
#include "model/language_model.h"
#include "rt/thread.h"
#include "support/golden.h"

namespace pixii::engine {
namespace {

constexpr std::uint32_t kRanks = 3;
constexpr std::uint32_t kRequests = 45;
constexpr std::uint32_t kStepTokens = 48;  // of a rank
constexpr std::uint32_t kBlocks = 30;      // of a rank

struct Answer {
  std::vector<TokenId> tokens;
  std::vector<wire::TokenLogprob> logprobs;
  std::vector<wire::TokenLogprob> prompt_logprobs;
};

using Answers = std::map<RequestId, Answer>;

void Take(std::vector<wire::TokenFrame>& frames, Answers& answers) {
  for (wire::TokenFrame& frame : frames) {
    Answer& answer = answers[frame.id];
    EXPECT_FALSE(frame.error) << frame.error->ToString();
    answer.tokens.insert(answer.tokens.end(), frame.tokens.begin(), frame.tokens.end());
    std::ranges::move(frame.logprobs, std::back_inserter(answer.logprobs));
    std::ranges::move(frame.prompt_logprobs, std::back_inserter(answer.prompt_logprobs));
  }
  frames.clear();
}

bool SameBits(const std::vector<wire::TokenLogprob>& a, const std::vector<wire::TokenLogprob>& b) {
  return std::ranges::equal(a, b, [](const wire::TokenLogprob& x, const wire::TokenLogprob& y) {
    return x.logprob == y.logprob && x.top == y.top;
  });
}

class RankAnswerTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    auto made = kernels::MakeCpuOperators({.thread_count = 2});
    operators_ = made ? std::move(*made) : kernels::MakeReferenceOperators();
    auto model = model::LanguageModel::Load(
        pixii::testing::OwnGoldenDir() + "/models/" + GetParam(), *operators_,
        {.compute = kernels::ComputeType::kBf16,
         .context_tokens_max = 128,
         .step_tokens_max = static_cast<std::int32_t>(kRanks * kStepTokens),
         .step_logit_rows_max = static_cast<std::int32_t>(kRanks * kStepTokens)});
    ASSERT_TRUE(model) << model.error().ToString();
    model_ = std::move(*model);
    std::mt19937_64 random(7);
    for (std::uint64_t id = 1; id <= kRequests; ++id) {
      requests_.push_back(Draw(id, random));
    }
  }

  wire::GenerateRequest Draw(std::uint64_t id, std::mt19937_64& random) const {
    wire::GenerateRequest request;
    request.id = RequestId{id};
    const auto vocab = static_cast<std::uint64_t>(model_->spec().vocab_size);
    std::mt19937_64 text(random() % 3);  // some begin the same
    for (std::uint64_t i = random() % 40; i > 0; --i) {
      request.prompt.push_back(static_cast<TokenId>(text() % vocab));
    }
    for (std::uint64_t i = 1 + random() % 20; i > 0; --i) {
      request.prompt.push_back(static_cast<TokenId>(random() % vocab));
    }
    request.sampling.temperature = id % 2 == 0 ? 0.0F : 0.9F;
    request.sampling.seed = random();
    request.stop.max_tokens = 1 + static_cast<std::uint32_t>(random() % 30);
    request.stop.ignore_eos = true;
    request.top_logprobs = 3;
    request.prompt_logprobs = id % 7 == 0;
    return request;
  }

  std::unique_ptr<ModelExecutor> MakeExecutor(std::uint32_t ranks) {
    auto executor = ModelExecutor::Create(*model_, *operators_,
                                          {.block_tokens = 8,
                                           .block_count = ranks * kBlocks,
                                           .step_tokens_max = ranks * kStepTokens,
                                           .step_logit_rows_max = ranks * kStepTokens});
    EXPECT_TRUE(executor) << executor.error().ToString();
    return std::move(*executor);
  }

  static std::unique_ptr<Engine> MakeEngine(std::unique_ptr<StepExecutor> executor) {
    auto engine = Engine::Create({.batch_sequences_max = 8,
                                  .batch_tokens_max = kStepTokens,
                                  .queue_length_max = 256,
                                  .admission = Admission::kEager},
                                 std::move(executor));
    EXPECT_TRUE(engine) << engine.error().ToString();
    return std::move(*engine);
  }

  static void RunDry(Engine& engine, Answers& answers) {
    std::vector<wire::TokenFrame> frames;
    while (engine.has_work()) {
      engine.Step(rt::Time{rt::Duration(1)}, frames);
      Take(frames, answers);
    }
  }

  std::unique_ptr<kernels::Operators> operators_;
  std::unique_ptr<model::LanguageModel> model_;
  std::vector<wire::GenerateRequest> requests_;
};

TEST_P(RankAnswerTest, ARequestGetsWhatItGetsAlone) {
  Answers alone;
  for (const wire::GenerateRequest& request : requests_) {
    const std::unique_ptr<Engine> engine = MakeEngine(MakeExecutor(1));
    ASSERT_TRUE(engine->Submit(request, rt::Time{}));
    RunDry(*engine, alone);
  }
  for (const bool overlap : {false, true}) {
    auto group =
        RankGroup::Create(MakeExecutor(kRanks), {.rank_count = kRanks, .overlap = overlap});
    ASSERT_TRUE(group) << group.error().ToString();
    std::vector<std::unique_ptr<Engine>> engines;
    std::vector<Answers> answers(kRanks);
    for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
      engines.push_back(MakeEngine((*group)->MakeExecutor(rank)));
    }
    for (const wire::GenerateRequest& request : requests_) {
      // One rank has more than the others, and idles last.
      const std::uint64_t rank = Raw(request.id) % 4 % kRanks;
      ASSERT_TRUE(engines[rank]->Submit(request, rt::Time{}));
    }
    std::vector<rt::Thread> threads;
    for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
      threads.emplace_back("rank", [&, rank] { RunDry(*engines[rank], answers[rank]); });
    }
    threads.clear();
    for (const auto& [id, expected] : alone) {
      SCOPED_TRACE("request " + std::to_string(Raw(id)));
      const Answers& where = answers[Raw(id) % 4 % kRanks];
      ASSERT_TRUE(where.contains(id));
      EXPECT_EQ(where.at(id).tokens, expected.tokens);
      EXPECT_TRUE(SameBits(where.at(id).logprobs, expected.logprobs));
      EXPECT_TRUE(SameBits(where.at(id).prompt_logprobs, expected.prompt_logprobs));
    }
    const RankGroupCounters counters = (*group)->counters();
    std::uint64_t steps = 0;
    for (const std::unique_ptr<Engine>& engine : engines) {
      steps += engine->counters().steps;
      EXPECT_GT(engine->scheduler().counters().cached_tokens, 0U);
    }
    EXPECT_LT(counters.joint_steps, steps);
    std::printf("%llu steps of %u ranks were %llu joint ones\n",
                static_cast<unsigned long long>(steps), kRanks,
                static_cast<unsigned long long>(counters.joint_steps));
  }
}

INSTANTIATE_TEST_SUITE_P(Families, RankAnswerTest,
                         ::testing::Values("deepseek-v2", "deepseek-v3", "deepseek-v3-mla",
                                           "deepseek-v2-groups", "qwen3-moe", "llama-gqa"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace pixii::engine
