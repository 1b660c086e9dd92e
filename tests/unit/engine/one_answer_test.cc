// One answer: a request gives the same tokens and logprobs, bit for bit, alone and in any company.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/builtin_processors.h"
#include "engine/engine.h"
#include "engine/model_executor.h"
#include "engine/threaded_executor.h"
#include "kernels/operators.h"
#include "model/language_model.h"
#include "support/golden.h"

namespace pixii::engine {
namespace {

constexpr std::uint64_t kSeed = 20260101;
constexpr std::uint32_t kRequests = 200;
constexpr std::uint32_t kVocab = 512;

struct Answer {
  std::vector<TokenId> tokens;
  std::vector<wire::TokenLogprob> logprobs;
  std::vector<wire::TokenLogprob> prompt_logprobs;
  std::optional<wire::FinishReason> finish;
  std::optional<TokenId> stop_token;
  std::vector<std::string> states;  // [tokens] what the frame of each token carried
};

using Answers = std::map<std::pair<RequestId, std::uint32_t>, Answer>;

void Take(std::vector<wire::TokenFrame>& frames, Answers& answers) {
  for (wire::TokenFrame& frame : frames) {
    Answer& answer = answers[{frame.id, frame.choice}];
    EXPECT_FALSE(answer.finish);
    answer.tokens.insert(answer.tokens.end(), frame.tokens.begin(), frame.tokens.end());
    answer.states.resize(answer.tokens.size(), frame.state);
    std::ranges::move(frame.logprobs, std::back_inserter(answer.logprobs));
    if (!frame.prompt_logprobs.empty()) {
      answer.prompt_logprobs = std::move(frame.prompt_logprobs);
    }
    answer.finish = frame.finish;
    answer.stop_token = frame.stop_token;
    EXPECT_FALSE(frame.error) << frame.error->ToString();
  }
  frames.clear();
}

bool SameBits(const std::vector<wire::TokenLogprob>& a, const std::vector<wire::TokenLogprob>& b) {
  return std::ranges::equal(a, b, [](const wire::TokenLogprob& x, const wire::TokenLogprob& y) {
    return x.logprob == y.logprob && x.top == y.top;
  });
}

// Filters, rules and processors, each in some of the requests and several in one.
void AddExtras(std::uint64_t id, std::mt19937_64& random, wire::GenerateRequest& request) {
  wire::SamplingParams& sampling = request.sampling;
  auto token = [&] { return static_cast<TokenId>(random() % kVocab); };
  if (id % 4 == 1) {
    sampling.mirostat = {.on = true, .tau = 3.0F, .eta = 0.2F};
    sampling.temperature = 0.9F;
    sampling.top_k = 0;
  } else if (id % 4 == 3) {
    sampling.typical_p = 0.8F;
    sampling.top_a = id % 8 == 3 ? 0.1F : 0.0F;
    sampling.xtc = {.probability = 0.5F, .threshold = 0.05F};
  }
  if (id % 5 == 2) {
    sampling.dry = {.multiplier = 0.8F,
                    .base = 1.75F,
                    .allowed_length = 1,
                    .range = id % 2 == 0 ? 64U : 0U,
                    .breakers = {token(), token()}};
    sampling.bad_words = {{token()}, {token(), token()}};
  }
  if (id % 13 == 4) {
    for (int i = 0; i < 200; ++i) {
      sampling.allowed_token_ids.push_back(token());
    }
  }
  const char* kCalls[][2] = {
      {"bans", "{\"tokens\": [5, 6, 7]}"},
      {"watermark", ""},
      {"remembering", ""},
      {"forced_sequence", "{\"tokens\": [9, 10]}"},
      {"guidance", "{\"scale\": 1.7, \"negative_tokens\": [11, 12, 13, 14, 15, 16, 17, 18, 19]}"},
      {"temperature_schedule", "{\"points\": [[0, 1.5], [20, 0.7]]}"},
      {"thinking_budget", "{\"budget\": 6, \"end_tokens\": [8, 9]}"}};
  for (std::uint64_t i = 0; i < std::size(kCalls) && id % 3 != 0; ++i) {
    if ((id + i * i) % 5 == 0) {
      request.processors.push_back({kCalls[i][0], kCalls[i][1]});
    }
  }
  request.processed_logprobs = id % 2 == 0;
}

wire::GenerateRequest DrawRequest(std::uint64_t id, std::mt19937_64& random) {
  auto between = [&](std::uint32_t low, std::uint32_t high) {
    return low + static_cast<std::uint32_t>(random() % (high - low + 1));
  };
  wire::GenerateRequest request;
  request.id = RequestId{id};
  // Some share long beginnings, some a block, some nothing.
  std::mt19937_64 text(between(1, 6));
  for (std::uint32_t i = between(0, 2) * between(0, 60); i > 0; --i) {
    request.prompt.push_back(static_cast<TokenId>(3 + text() % (kVocab - 3)));
  }
  for (std::uint32_t i = between(1, 40); i > 0; --i) {
    request.prompt.push_back(static_cast<TokenId>(3 + random() % (kVocab - 3)));
  }
  request.stop.max_tokens = id % 20 == 0 ? between(100, 200) : between(1, 40);
  request.stop.eos_token_ids = {2};
  request.stop.ignore_eos = id % 5 == 0;
  request.choice_count = id % 10 == 3 ? 3 : 1;
  request.sampling.seed = random();
  request.sampling.temperature = id % 2 == 0 ? 0.0F : 0.2F * static_cast<float>(between(1, 8));
  request.sampling.top_p = id % 3 == 0 ? 0.9F : 1.0F;
  request.sampling.top_k = id % 7 == 0 ? 40 : 0;
  request.sampling.min_p = id % 11 == 0 ? 0.02F : 0.0F;
  request.sampling.repetition_penalty = id % 6 == 0 ? 1.2F : 1.0F;
  request.sampling.frequency_penalty = id % 9 == 0 ? 0.5F : 0.0F;
  request.top_logprobs = id % 3 == 0 ? static_cast<std::int32_t>(between(0, 20)) : -1;
  request.prompt_logprobs = id % 17 == 0;
  request.priority = static_cast<std::int32_t>(id % 3);
  AddExtras(id, random, request);
  return request;
}

/// A processor whose row depends on state of its own: it remembers a hash of the tokens it saw.
class Remembering final : public LogitsProcessor {
 public:
  std::string_view name() const override { return "remembering"; }

  Result<std::unique_ptr<ProcessorCall>> Open(const wire::Json&,
                                              const ProcessorContext&) const override {
    return std::make_unique<ProcessorCall>();
  }

  void Process(std::span<ProcessorRow> rows) override {
    for (ProcessorRow& row : rows) {
      std::uint32_t hash = 0;
      if (row.state->size() == sizeof hash) {
        std::memcpy(&hash, row.state->data(), sizeof hash);
      }
      hash = hash * 31 + 7 +
             static_cast<std::uint32_t>(row.generated.empty() ? 0 : row.generated.back());
      row.state->assign(reinterpret_cast<const char*>(&hash), sizeof hash);
      for (std::size_t id = hash % 3; id < row.logits.size(); id += 3) {
        row.logits[id] -= 2.0F;
      }
    }
  }
};

std::shared_ptr<ProcessorSet> AllProcessors() {
  auto set = std::make_shared<ProcessorSet>();
  for (const char* name :
       {"bans", "forced_sequence", "temperature_schedule", "thinking_budget", "guidance"}) {
    auto made = MakeBuiltinProcessor(name, wire::Json(wire::Json::Object{}));
    EXPECT_TRUE(made && set->Add(std::move(*made), {}));
  }
  wire::Json config(wire::Json::Object{});
  config.Set("key", "k");
  auto watermark = MakeBuiltinProcessor("watermark", config);
  EXPECT_TRUE(watermark && set->Add(std::move(*watermark), {}));
  EXPECT_TRUE(set->Add(std::make_unique<Remembering>(), {}));
  return set;
}

class OneAnswerTest : public ::testing::Test {
 protected:
  struct Size {
    std::uint32_t block_count = 0;
    std::uint32_t sequences = 0;
    std::uint32_t tokens = 0;
    std::uint64_t host_memory_bytes = 0;  // above 0: preempted blocks go there
    bool threaded = false;                // steps are planned ahead
  };

  std::unique_ptr<Engine> MakeEngine(const Size& size) {
    auto executor = ModelExecutor::Create(*model_, *operators_,
                                          {.block_tokens = 16,
                                           .block_count = size.block_count,
                                           .step_tokens_max = 256,
                                           .step_logit_rows_max = 128,
                                           .kv_dtype = kv_dtype_,
                                           .host_memory_bytes = size.host_memory_bytes});
    EXPECT_TRUE(executor) << executor.error().ToString();
    std::unique_ptr<StepExecutor> used = std::move(*executor);
    if (size.threaded) {
      used = std::make_unique<ThreadedExecutor>(std::move(used));
    }
    auto engine = Engine::Create({.batch_sequences_max = size.sequences,
                                  .batch_tokens_max = size.tokens,
                                  .queue_length_max = 1024,
                                  .admission = Admission::kEager,  // much is preempted
                                  .preemption = Preemption::kSwap},
                                 std::move(used), processors_);
    EXPECT_TRUE(engine) << engine.error().ToString();
    return std::move(*engine);
  }

  void SetUp() override {
    std::string folder = pixii::testing::OwnGoldenDir() + "/models/llama-gqa";
    auto made = kernels::MakeCpuOperators({.thread_count = 1});
    operators_ = made ? std::move(*made) : kernels::MakeReferenceOperators();
    auto model = model::LanguageModel::Load(folder, *operators_,
                                            {.compute = kernels::ComputeType::kBf16,
                                             .context_tokens_max = 0,
                                             .step_tokens_max = 256,
                                             .step_logit_rows_max = 128});
    ASSERT_TRUE(model) << model.error().ToString();
    model_ = std::move(*model);
    std::mt19937_64 random(kSeed);
    for (std::uint64_t id = 1; id <= kRequests; ++id) {
      requests_.push_back(DrawRequest(id, random));
    }
  }

  // Each request alone in an empty engine, its prompt in one piece.
  Answers RunAlone() {
    Answers answers;
    std::vector<wire::TokenFrame> frames;
    for (const wire::GenerateRequest& request : requests_) {
      std::unique_ptr<Engine> engine =
          MakeEngine({.block_count = 128, .sequences = 4, .tokens = 256});
      EXPECT_TRUE(engine->Submit(request, rt::Time{}));
      while (engine->has_work()) {
        engine->Step(rt::Time{}, frames);
        Take(frames, answers);
      }
    }
    return answers;
  }

  // 32 at a time with cut prompts and too few blocks; others come, share prefixes and are
  // cancelled.
  Answers RunTogether(Engine& engine) {
    std::mt19937_64 random(kSeed + 1);
    Answers answers;
    std::vector<wire::TokenFrame> frames;
    std::size_t next = 0;
    std::uint64_t next_other = 1'000'000;
    rt::Time now{};
    while (next < requests_.size() || engine.has_work()) {
      now += rt::Duration(1'000'000);
      while (next < requests_.size() && engine.request_count() < 40) {
        EXPECT_TRUE(engine.Submit(requests_[next++], now));
      }
      if (next < requests_.size() && random() % 4 == 0) {
        wire::GenerateRequest other = DrawRequest(next_other++, random);
        EXPECT_TRUE(engine.Submit(other, now));
        cancels_.push_back(other.id);
      }
      if (!cancels_.empty() && random() % 6 == 0) {
        engine.Cancel({.id = cancels_[random() % cancels_.size()], .choice = std::nullopt});
      }
      engine.Step(now, frames);
      Take(frames, answers);
    }
    return answers;
  }

  void ExpectSame(const Answers& alone, const Answers& together) {
    for (const auto& [key, expected] : alone) {
      SCOPED_TRACE("request " + std::to_string(Raw(key.first)) + " choice " +
                   std::to_string(key.second));
      ASSERT_TRUE(together.contains(key));
      const Answer& answer = together.at(key);
      EXPECT_EQ(answer.tokens, expected.tokens);
      EXPECT_EQ(answer.states, expected.states);
      EXPECT_EQ(answer.finish, expected.finish);
      EXPECT_EQ(answer.stop_token, expected.stop_token);
      EXPECT_TRUE(SameBits(answer.logprobs, expected.logprobs));
      EXPECT_TRUE(SameBits(answer.prompt_logprobs, expected.prompt_logprobs));
    }
  }

  std::shared_ptr<ProcessorSet> processors_ = AllProcessors();
  std::unique_ptr<kernels::Operators> operators_;
  std::unique_ptr<model::LanguageModel> model_;
  kernels::KvDType kv_dtype_ = kernels::KvDType::kBf16;
  std::vector<wire::GenerateRequest> requests_;
  std::vector<RequestId> cancels_;
};

TEST_F(OneAnswerTest, TwoHundredRequestsAnswerTheSameAloneAndInACrowd) {
  std::printf("seed %llu on %s\n", static_cast<unsigned long long>(kSeed),
              std::string(operators_->name()).c_str());
  Answers alone = RunAlone();
  EXPECT_GE(alone.size(), kRequests);
  for (bool swap_and_ahead : {false, true}) {
    Size size{.block_count = 64, .sequences = 32, .tokens = 96};
    size.host_memory_bytes = swap_and_ahead ? 200'000 : 0;
    size.threaded = swap_and_ahead;
    std::unique_ptr<Engine> engine = MakeEngine(size);
    ExpectSame(alone, RunTogether(*engine));
    // Again, with a cache that knows all the prompts.
    ExpectSame(alone, RunTogether(*engine));
    const SchedulerCounters& counters = engine->scheduler().counters();
    EXPECT_GT(counters.preemptions, 10U);
    EXPECT_GT(counters.cached_tokens, 1000U);
    EXPECT_EQ(counters.swapped_in_blocks > 0, swap_and_ahead);
    EXPECT_EQ(engine->counters().steps_ahead > 0, swap_and_ahead);
    engine->CheckInvariants();
    EXPECT_EQ(engine->cache().pool().pinned_count(), 0U);
    std::printf("%llu preemptions, %llu tokens from the cache, %llu computed, %llu blocks back\n",
                static_cast<unsigned long long>(counters.preemptions),
                static_cast<unsigned long long>(counters.cached_tokens),
                static_cast<unsigned long long>(counters.computed_tokens),
                static_cast<unsigned long long>(counters.swapped_in_blocks));
  }
}

class OneAnswerOfCodes : public OneAnswerTest,
                         public ::testing::WithParamInterface<kernels::KvDType> {
 protected:
  void SetUp() override {
    OneAnswerTest::SetUp();
    kv_dtype_ = GetParam();
    requests_.resize(80);
  }
};

TEST_P(OneAnswerOfCodes, AWarmCacheAndARecomputedOneHoldTheCodesOfTheFirst) {
  const Answers alone = RunAlone();
  std::unique_ptr<Engine> engine = MakeEngine({.block_count = 48, .sequences = 32, .tokens = 96});
  ExpectSame(alone, RunTogether(*engine));
  ExpectSame(alone, RunTogether(*engine));
  EXPECT_GT(engine->scheduler().counters().preemptions, 0U);
  EXPECT_GT(engine->scheduler().counters().cached_tokens, 0U);
}

INSTANTIATE_TEST_SUITE_P(Dtypes, OneAnswerOfCodes,
                         ::testing::Values(kernels::KvDType::kF16, kernels::KvDType::kFp8E4m3,
                                           kernels::KvDType::kInt8),
                         [](const auto& test) {
                           return std::string(kernels::KvDTypeName(test.param));
                         });

TEST_F(OneAnswerTest, ARequestCutAtAnyTokenGoesOnExactlyInAnotherEngine) {
  std::mt19937_64 random(kSeed + 2);
  std::vector<wire::TokenFrame> frames;
  Answers alone;
  Answers resumed;
  for (std::size_t i = 0; i < 60; ++i) {
    wire::GenerateRequest request = requests_[i];
    request.prompt_logprobs = false;
    std::unique_ptr<Engine> engine =
        MakeEngine({.block_count = 128, .sequences = 4, .tokens = 256});
    ASSERT_TRUE(engine->Submit(request, rt::Time{}));
    while (engine->has_work()) {
      engine->Step(rt::Time{}, frames);
      Take(frames, alone);
    }
    for (std::uint32_t choice = 0; choice < request.choice_count; ++choice) {
      Answer& whole = alone.at({request.id, choice});
      std::size_t cut = random() % (whole.tokens.size() + 1);
      request.generated.emplace_back(whole.tokens.begin(),
                                     whole.tokens.begin() + static_cast<std::ptrdiff_t>(cut));
      request.states.push_back(cut > 0 ? whole.states[cut - 1] : "");
      Answer& before = resumed[{request.id, choice}];
      before.tokens = request.generated.back();
      before.states.assign(whole.states.begin(),
                           whole.states.begin() + static_cast<std::ptrdiff_t>(cut));
      if (request.top_logprobs >= 0) {
        before.logprobs.assign(whole.logprobs.begin(),
                               whole.logprobs.begin() + static_cast<std::ptrdiff_t>(cut));
      }
    }
    engine = MakeEngine({.block_count = 128, .sequences = 4, .tokens = 24});
    ASSERT_TRUE(engine->Submit(request, rt::Time{}));
    while (engine->has_work()) {
      engine->Step(rt::Time{}, frames);
      Take(frames, resumed);
    }
  }
  ExpectSame(alone, resumed);
}

}  // namespace
}  // namespace pixii::engine
