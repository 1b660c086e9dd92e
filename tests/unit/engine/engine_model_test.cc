// Random requests, cancels and faults in tiny pools: every stream is what a pure function of its
// request says.
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>
#include <vector>

#include "engine_harness.h"

namespace pixii::engine::testing {
namespace {

struct WorldOptions {
  std::uint64_t seed = 0;
  int requests = 60;
};

// What the seeds must have exercised, all together.
struct Seen {
  std::uint64_t preemptions = 0;
  std::uint64_t cached_tokens = 0;
  std::uint64_t cancelled = 0;
  std::uint64_t failed = 0;
  std::uint64_t streams = 0;
  std::uint64_t faults = 0;
  std::uint64_t steps = 0;
  std::uint64_t steps_ahead = 0;
  std::uint64_t swapped_in = 0;
  std::uint64_t swap_refusals = 0;
  std::uint64_t swap_failures = 0;
  std::uint64_t prefix_waits = 0;
  std::uint64_t drafted = 0;
  std::uint64_t accepted = 0;
};

class World {
 public:
  explicit World(const WorldOptions& options)
      : options_(options), random_(options.seed), harness_(Draw()) {}

  void Run(Seen& seen) {
    while ((submitted_ < options_.requests || harness_.engine().has_work()) &&
           !::testing::Test::HasFailure()) {
      while (submitted_ < options_.requests && Below(4) == 0) {
        Submit();
      }
      if (!requests_.empty() && Below(12) == 0) {
        Cancel(seen);
      }
      const Scheduler& scheduler = harness_.engine().scheduler();
      std::uint64_t swap_failures = scheduler.counters().swap_failures;
      StepReport report = harness_.Step();
      harness_.engine().CheckInvariants();
      // What should have come back and did not takes its chunk out of the step.
      EXPECT_TRUE(report.ran || scheduler.running_count() == 0 ||
                  scheduler.counters().swap_failures > swap_failures)
          << "a step that does nothing";
      EXPECT_TRUE(harness_.engine().has_work() || !harness_.engine().in_flight());
      EXPECT_LE(report.tokens, batch_tokens_max_);
      ++seen.steps;
    }
    harness_.RunDry();
    for (const wire::GenerateRequest& request : requests_) {
      Check(request, seen);
    }
    const Scheduler& scheduler = harness_.engine().scheduler();
    seen.preemptions += scheduler.counters().preemptions;
    seen.cached_tokens += scheduler.counters().cached_tokens;
    seen.faults += harness_.engine().counters().faults;
    seen.steps_ahead += harness_.engine().counters().steps_ahead;
    seen.swapped_in += scheduler.counters().swapped_in_blocks;
    seen.swap_refusals += scheduler.counters().swap_refusals;
    seen.swap_failures += scheduler.counters().swap_failures;
    seen.prefix_waits += scheduler.counters().prefix_waits;
    seen.drafted += harness_.engine().counters().drafted_tokens;
    seen.accepted += harness_.engine().counters().accepted_tokens;
    EXPECT_EQ(scheduler.host_slots_used(), 0U);
  }

 private:
  std::uint32_t Below(std::uint32_t bound) { return static_cast<std::uint32_t>(random_() % bound); }

  std::uint32_t Between(std::uint32_t low, std::uint32_t high) {
    return low + Below(high - low + 1);
  }

  HarnessOptions Draw() {
    HarnessOptions options;
    options.limits.vocab_size = 40;
    options.limits.block_tokens = Between(1, 5);
    options.limits.block_count = Between(6, 40);
    options.limits.context_tokens_max = Between(20, 60);
    options.limits.step_logit_rows_max = Between(9, 16);
    options.engine.batch_sequences_max = Between(1, 8);
    options.engine.batch_tokens_max = batch_tokens_max_ = Between(1, 30);
    options.engine.queue_length_max = Between(4, 40);
    if (Below(3) == 0) {
      options.faults.fail_call = Below(60);
      has_fault_ = true;
    }
    constexpr Admission kAdmissions[] = {Admission::kEager, Admission::kEager, Admission::kForecast,
                                         Admission::kGuaranteed};
    options.engine.admission = kAdmissions[Below(4)];
    options.engine.output_tokens_forecast = Between(1, 20);
    options.engine.prefix_wait_plans_max = Below(2) * Between(1, 20);
    options.engine.priority_head_start_tokens = Between(0, 300);
    options.engine.reuse_blocks = Below(8) != 0;
    options.engine.preemption = Below(2) == 0 ? Preemption::kRecompute : Preemption::kSwap;
    options.limits.host_block_count = Between(0, 30);
    if (Below(3) == 0) {
      options.faults.corrupt_copy = Below(10);
    }
    options.overlaps = Below(2) == 0;
    if (Below(3) == 0) {
      options.draft_right_percent = Below(101);
      options.engine.draft_tokens_max = Between(1, 6);
    }
    options.threaded = Below(8) == 0;
    return options;
  }

  wire::GenerateRequest DrawRequest() {
    wire::GenerateRequest request;
    request.id = RequestId{static_cast<std::uint64_t>(++submitted_)};
    std::uint32_t room = harness_.engine().context_tokens_max() - 1;
    // Few distinct beginnings: prefixes are shared.
    std::mt19937_64 text(Below(3));
    std::uint32_t shared = std::min(room, Between(0, 24));
    for (std::uint32_t i = 0; i < shared; ++i) {
      request.prompt.push_back(static_cast<TokenId>(text() % 40));
    }
    std::uint32_t own = Between(shared == 0 ? 1 : 0, 6);
    for (std::uint32_t i = 0; i < own && request.prompt.size() < room; ++i) {
      request.prompt.push_back(static_cast<TokenId>(Below(40)));
    }
    request.choice_count = Below(4) == 0 ? Between(2, 4) : 1;
    request.stop.max_tokens = Between(1, 30);
    request.stop.min_tokens = Below(3) == 0 ? Between(0, 10) : 0;
    request.stop.ignore_eos = Below(4) == 0;
    request.stop.eos_token_ids = {0};
    if (Below(2) == 0) {
      request.stop.stop_token_ids = {static_cast<TokenId>(Below(40)), 7};
    }
    request.priority = static_cast<std::int32_t>(Below(3)) - 1;
    request.tenant = Below(3) == 0 ? "other" : "";
    request.top_logprobs = static_cast<std::int32_t>(Below(4)) - 1;
    DrawSampling(request);
    if (Below(6) == 0) {
      request.prompt_logprobs = true;
      request.stop.max_tokens = Below(2) == 0 ? 0 : request.stop.max_tokens;
    }
    return request;
  }

  void DrawSampling(wire::GenerateRequest& request) {
    wire::SamplingParams& params = request.sampling;
    params.seed = random_();
    params.temperature = Below(3) == 0 ? 0.0F : 0.25F * static_cast<float>(Between(1, 8));
    params.top_p = Below(2) == 0 ? 0.8F : 1.0F;
    params.top_k = static_cast<std::int32_t>(Below(2) * Between(1, 40));
    params.min_p = Below(3) == 0 ? 0.05F : 0.0F;
    params.presence_penalty = Below(3) == 0 ? 0.7F : 0.0F;
    params.frequency_penalty = Below(3) == 0 ? -0.3F : 0.0F;
    params.repetition_penalty = Below(3) == 0 ? 1.3F : 1.0F;
    if (Below(4) == 0) {
      params.logit_bias = {{static_cast<TokenId>(Below(40)), 3.0F},
                           {static_cast<TokenId>(Below(40)), -50.0F}};
    }
  }

  void Submit() {
    wire::GenerateRequest request = DrawRequest();
    // Some arrive as another worker left them: with the first tokens of each choice.
    if (request.stop.max_tokens > 0 && Below(5) == 0) {
      std::vector<std::vector<TokenId>> generated;
      for (std::uint32_t choice = 0; choice < request.choice_count; ++choice) {
        MockChoice whole = MockStream(request, choice, 40, harness_.engine().context_tokens_max());
        whole.tokens.resize(Below(static_cast<std::uint32_t>(whole.tokens.size()) + 1));
        generated.push_back(std::move(whole.tokens));
      }
      request.generated = std::move(generated);
      request.prompt_logprobs = false;
    }
    Result<void> result = harness_.Submit(request);
    if (result) {
      requests_.push_back(std::move(request));
    } else {
      EXPECT_EQ(result.error().code(), Code::kResourceExhausted) << result.error().ToString();
    }
  }

  void Cancel(Seen& seen) {
    const wire::GenerateRequest& request =
        requests_[Below(static_cast<std::uint32_t>(requests_.size()))];
    wire::CancelRequest cancel{.id = request.id, .choice = std::nullopt};
    if (Below(2) == 0) {
      cancel.choice = Below(request.choice_count + 1);
    }
    for (std::uint32_t choice = 0; choice < request.choice_count; ++choice) {
      if (!cancel.choice || *cancel.choice == choice) {
        cancelled_.insert({request.id, choice});
      }
    }
    std::uint32_t pinned = harness_.engine().cache().pool().pinned_count();
    harness_.engine().Cancel(cancel);
    EXPECT_LE(harness_.engine().cache().pool().pinned_count(), pinned);
    ++seen.cancelled;
  }

  void Check(const wire::GenerateRequest& request, Seen& seen) {
    std::uint32_t context = harness_.engine().context_tokens_max();
    for (std::uint32_t choice = 0; choice < request.choice_count; ++choice) {
      SCOPED_TRACE("request " + std::to_string(Raw(request.id)) + " choice " +
                   std::to_string(choice));
      ASSERT_TRUE(harness_.streams().has(Raw(request.id), choice));
      const Stream& stream = harness_.streams().at(Raw(request.id), choice);
      MockChoice expected = MockStream(request, choice, 40, context);
      ASSERT_TRUE(stream.finish);
      ++seen.streams;
      // The injected fault is survived by all, unless it met a sequence alone in its step.
      bool failed = stream.error && stream.error->code() == Code::kModelFault && has_fault_;
      if (stream.finish == wire::FinishReason::kCancelled || failed) {
        EXPECT_TRUE(failed || cancelled_.contains({request.id, choice}));
        seen.failed += failed && choice == 0 ? 1 : 0;
        ASSERT_LE(stream.tokens.size(), expected.tokens.size());
        expected.tokens.resize(stream.tokens.size());
        expected.logprobs.resize(stream.logprobs.size());
      } else {
        EXPECT_EQ(stream.finish, expected.finish);
        EXPECT_EQ(stream.stop_token, expected.stop_token);
        if (request.prompt_logprobs && choice == 0) {
          EXPECT_TRUE(SameLogprobs(stream.prompt_logprobs, MockPromptLogprobs(request, 40)));
        }
      }
      EXPECT_EQ(stream.tokens, expected.tokens);
      EXPECT_TRUE(SameLogprobs(stream.logprobs, expected.logprobs));
      EXPECT_LT(stream.cached_tokens, request.prompt.size() + (request.generated.empty() ? 0 : 1));
    }
  }

  WorldOptions options_;
  std::mt19937_64 random_;
  std::uint32_t batch_tokens_max_ = 0;
  bool has_fault_ = false;
  Harness harness_;
  int submitted_ = 0;
  std::vector<wire::GenerateRequest> requests_;
  std::set<StreamKey> cancelled_;
};

TEST(EngineModel, EveryStreamIsAPureFunctionOfItsRequest) {
  Seen seen;
  for (std::uint64_t seed = 1; seed <= 300 && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    World({.seed = seed}).Run(seen);
  }
  EXPECT_GT(seen.preemptions, 300U);
  EXPECT_GT(seen.cached_tokens, 3000U);
  EXPECT_GT(seen.cancelled, 300U);
  EXPECT_GT(seen.faults, 20U);
  EXPECT_EQ(seen.failed, 0U);  // each fault passes: whoever is run again succeeds
  EXPECT_GT(seen.steps_ahead, 3000U);
  EXPECT_GT(seen.swapped_in, 300U);
  EXPECT_GT(seen.swap_refusals, 10U);
  EXPECT_GT(seen.swap_failures, 3U);
  EXPECT_GT(seen.prefix_waits, 30U);
  EXPECT_GT(seen.accepted, 1000U);
  EXPECT_GT(seen.drafted, seen.accepted + 1000U);
  RecordProperty("steps", static_cast<int>(seen.steps));
  std::printf(
      "%llu steps, %llu streams, %llu preemptions, %llu cached tokens, %llu planned ahead, "
      "%llu blocks swapped in, %llu refused, %llu failed, %llu prefix waits\n",
      static_cast<unsigned long long>(seen.steps), static_cast<unsigned long long>(seen.streams),
      static_cast<unsigned long long>(seen.preemptions),
      static_cast<unsigned long long>(seen.cached_tokens),
      static_cast<unsigned long long>(seen.steps_ahead),
      static_cast<unsigned long long>(seen.swapped_in),
      static_cast<unsigned long long>(seen.swap_refusals),
      static_cast<unsigned long long>(seen.swap_failures),
      static_cast<unsigned long long>(seen.prefix_waits));
}

}  // namespace
}  // namespace pixii::engine::testing
