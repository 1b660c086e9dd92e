// Classifier-free guidance through the engine: two sequences, one token.
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/builtin_processors.h"
#include "unit/engine/engine_harness.h"

namespace pixii::engine {
namespace {

using testing::Harness;
using testing::HarnessOptions;
using testing::MakeRequest;

constexpr std::uint32_t kVocab = 64;

std::shared_ptr<ProcessorSet> WithGuidance() {
  auto set = std::make_shared<ProcessorSet>();
  auto guidance = MakeBuiltinProcessor("guidance", wire::Json(wire::Json::Object{}));
  EXPECT_TRUE(guidance && set->Add(std::move(*guidance), {}));
  return set;
}

HarnessOptions Options(std::uint32_t blocks) {
  HarnessOptions options;
  options.limits.vocab_size = kVocab;
  options.limits.block_count = blocks;
  options.processors = WithGuidance();
  return options;
}

wire::GenerateRequest Guided(std::uint64_t id, std::uint32_t prompt_size, std::uint32_t max_tokens,
                             const std::vector<TokenId>& negative) {
  wire::GenerateRequest request =
      MakeRequest(id, prompt_size, max_tokens, static_cast<TokenId>(id % 50));
  wire::Json::Array ids;
  for (TokenId token : negative) {
    ids.emplace_back(std::int64_t{token});
  }
  wire::Json arguments(wire::Json::Object{});
  arguments.Set("scale", 2.0);
  if (!negative.empty()) {
    arguments.Set("negative_tokens", std::move(ids));
  }
  request.processors.push_back({"guidance", arguments.Dump()});
  return request;
}

// Greedy tokens by the formula, from the mock's logits of both contexts.
std::vector<TokenId> Expected(const wire::GenerateRequest& request, std::vector<TokenId> negative) {
  std::vector<TokenId> context = request.prompt;
  if (negative.empty()) {
    negative.push_back(context.back());
  }
  std::vector<TokenId> out;
  while (out.size() < request.stop.max_tokens) {
    std::vector<float> with(kVocab);
    std::vector<float> without(kVocab);
    MockLogits(context, with, request.adapter);
    MockLogits(negative, without, request.adapter);
    for (std::size_t i = 0; i < kVocab; ++i) {
      with[i] = without[i] + 2.0F * (with[i] - without[i]);
    }
    out.push_back(Argmax(with));
    context.push_back(out.back());
    negative.push_back(out.back());
  }
  return out;
}

TEST(Guidance, DrawsFromTheLogitsOfBothPrompts) {
  Harness harness(Options(256));
  std::vector<TokenId> negative = {9, 8, 7};
  wire::GenerateRequest request = Guided(1, 10, 20, negative);
  request.choice_count = 2;
  ASSERT_TRUE(harness.Submit(request));
  wire::GenerateRequest unconditional = Guided(2, 10, 20, {});
  ASSERT_TRUE(harness.Submit(unconditional));
  wire::GenerateRequest plain = MakeRequest(3, 10, 20);
  ASSERT_TRUE(harness.Submit(plain));
  harness.RunDry();
  EXPECT_EQ(harness.streams().at(1, 0).tokens, Expected(request, negative));
  EXPECT_EQ(harness.streams().at(1, 1).tokens, Expected(request, negative));
  EXPECT_EQ(harness.streams().at(2).tokens, Expected(unconditional, {}));
  harness.ExpectOracle(plain);
  EXPECT_NE(harness.streams().at(1).tokens, harness.streams().at(3).tokens);
}

TEST(Guidance, BothPromptsAreComputedWithTheRequestsAdapter) {
  HarnessOptions options = Options(256);
  options.limits.adapter_slots = 1;
  options.engine.adapters.slot_count = 1;
  Harness harness(options);
  std::vector<wire::GenerateRequest> requests;
  const std::vector<TokenId> negative = {9, 8, 7};
  for (std::uint64_t id = 1; id <= 3; ++id) {
    requests.push_back(Guided(id, 10, 20, negative));
    requests.back().prompt = requests.front().prompt;
    if (id > 1) {
      requests.back().adapter = id == 2 ? "a" : "b";
      ASSERT_TRUE(harness.engine().LoadAdapter(
          requests.back().adapter, std::make_shared<MockAdapter>(requests.back().adapter), false));
    }
    ASSERT_TRUE(harness.Submit(requests.back()));
  }
  harness.RunDry();
  for (const wire::GenerateRequest& request : requests) {
    EXPECT_EQ(harness.streams().at(Raw(request.id)).tokens, Expected(request, negative));
  }
}

// A pool, a batch and an executor of every kind, by chance.
HarnessOptions RandomOptions(std::mt19937_64& random) {
  HarnessOptions options = Options(static_cast<std::uint32_t>(15 + random() % 6));
  options.engine.batch_tokens_max = static_cast<std::uint32_t>(3 + random() % 20);
  options.engine.batch_sequences_max = static_cast<std::uint32_t>(1 + random() % 8);
  options.engine.admission = random() % 2 == 0 ? Admission::kEager : Admission::kForecast;
  options.engine.preemption = Preemption::kSwap;
  options.limits.host_block_count = static_cast<std::uint32_t>(random() % 30);
  options.overlaps = random() % 2 == 0;
  options.threaded = random() % 4 == 0;
  if (random() % 3 == 0) {
    options.draft_right_percent = 70;
  }
  if (random() % 2 == 0) {
    options.faults.fail_call = random() % 40;
  }
  return options;
}

struct Asked {
  wire::GenerateRequest request;
  std::vector<TokenId> negative;
  bool is_guided = false;
  bool is_cancelled = false;
};

Asked RandomRequest(std::uint64_t id, std::mt19937_64& random) {
  auto prompt_size = static_cast<std::uint32_t>(1 + random() % 30);
  auto max_tokens = static_cast<std::uint32_t>(1 + random() % 25);
  Asked asked;
  asked.is_guided = id % 4 != 0;
  for (std::uint64_t i = random() % 30; i > 0 && asked.is_guided; --i) {
    asked.negative.push_back(static_cast<TokenId>(random() % 60));
  }
  asked.request = asked.is_guided ? Guided(id, prompt_size, max_tokens, asked.negative)
                                  : MakeRequest(id, prompt_size, max_tokens);
  asked.request.priority = static_cast<std::int32_t>(random() % 3);
  return asked;
}

TEST(Guidance, IsTheSameInChunksInTinyPoolsAndAmongCancelsFaultsAndGuesses) {
  std::mt19937_64 random(31);
  SchedulerCounters seen;
  EngineCounters steps;
  for (int round = 0; round < 80; ++round) {
    SCOPED_TRACE(round);
    Harness harness(RandomOptions(random));
    std::vector<Asked> all;
    for (std::uint64_t id = 1; id <= 8; ++id) {
      Asked asked = RandomRequest(id, random);
      ASSERT_TRUE(harness.Submit(asked.request));
      for (std::uint64_t count = random() % 4; count > 0; --count) {
        harness.Step();
        harness.engine().CheckInvariants();
      }
      if (random() % 6 == 0) {
        harness.engine().Cancel({.id = asked.request.id, .choice = std::nullopt});
        asked.is_cancelled = true;
      }
      all.push_back(std::move(asked));
    }
    harness.RunDry(20'000);
    for (const Asked& asked : all) {
      if (asked.is_guided && !asked.is_cancelled) {
        EXPECT_EQ(harness.streams().at(Raw(asked.request.id)).tokens,
                  Expected(asked.request, asked.negative));
      } else if (!asked.is_cancelled) {
        harness.ExpectOracle(asked.request);
      }
    }
    seen.preemptions += harness.engine().scheduler().counters().preemptions;
    seen.swapped_in_blocks += harness.engine().scheduler().counters().swapped_in_blocks;
    steps.steps_ahead += harness.engine().counters().steps_ahead;
    steps.retried_chunks += harness.engine().counters().retried_chunks;
    steps.accepted_tokens += harness.engine().counters().accepted_tokens;
  }
  EXPECT_GT(seen.preemptions, 20U);
  EXPECT_GT(seen.swapped_in_blocks, 20U);
  EXPECT_GT(steps.steps_ahead, 100U);
  EXPECT_GT(steps.retried_chunks, 20U);
  EXPECT_GT(steps.accepted_tokens, 20U);
}

TEST(Guidance, APairThatFitsKeepsBothItsPlacesInTheBatch) {
  for (bool overlaps : {false, true}) {
    HarnessOptions options = Options(256);
    options.overlaps = overlaps;
    Harness harness(options);
    wire::GenerateRequest request = Guided(1, 10, 30, {9, 8, 7});
    ASSERT_TRUE(harness.Submit(request));
    harness.RunDry();
    EXPECT_EQ(harness.streams().at(1).tokens, Expected(request, {9, 8, 7}));
    // Both prompts in one step, then one step a token: nobody was parked and computed again.
    EXPECT_EQ(harness.engine().counters().steps, 30U);
    EXPECT_EQ(harness.engine().scheduler().counters().computed_tokens, 10U + 3U + 2U * 29U);
    // The tenant pays for both, and has one account.
    EXPECT_EQ(harness.engine().scheduler().shares().tenant_count(), 1U);
  }
}

TEST(Guidance, ANegativePromptBeyondTheContextIsRefused) {
  Harness harness(Options(256));
  Result<void> refused = harness.Submit(
      Guided(1, 4, 5, std::vector<TokenId>(harness.engine().context_tokens_max(), 1)));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().param(), "nvext.logits_processors");
  // One that leaves room for three tokens ends with them.
  std::vector<TokenId> negative(harness.engine().context_tokens_max() - 3, 1);
  ASSERT_TRUE(harness.Submit(Guided(2, 4, 50, negative)));
  harness.RunDry();
  EXPECT_EQ(harness.streams().at(2).tokens.size(), 3U);
  EXPECT_EQ(harness.streams().at(2).finish, wire::FinishReason::kLength);
}

}  // namespace
}  // namespace pixii::engine
