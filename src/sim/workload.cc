#include "sim/workload.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace pixii::sim {

namespace {

constexpr std::size_t kViolationsMax = 20;

}  // namespace

void AddViolation(SimResult& result, std::string text) {
  if (result.violations.size() < kViolationsMax) {
    result.violations.push_back(std::move(text));
  }
}

rt::SimOptions DrawWorldOptions(std::uint64_t seed) {
  rt::SimOptions options;
  options.seed = seed;
  rt::Random random(seed ^ 0x5157);
  options.window_size_bytes_max = Pick<std::uint32_t>(random, {512, 4096, 65536, 262144});
  options.latency_max =
      Pick<rt::Duration>(random, {std::chrono::microseconds(50), std::chrono::milliseconds(2)});
  options.partial_read_probability = random.Unit() * 0.5;
  options.partial_write_probability = random.Unit() * 0.5;
  return options;
}

MockSetup DrawMockSetup(std::uint64_t seed) {
  rt::Random random(seed ^ 0xE1161E);
  engine::MockOptions mock;
  mock.limits.vocab_size = Pick<std::uint32_t>(random, {16, 64, 300});
  mock.limits.context_tokens_max = Pick<std::uint32_t>(random, {80, 128, 256});
  mock.limits.block_tokens = Pick<std::uint32_t>(random, {4, 8, 16});
  std::uint32_t context_blocks = mock.limits.context_tokens_max / mock.limits.block_tokens + 1;
  // From one context, where everything preempts everything, to plenty.
  mock.limits.block_count = context_blocks * Pick<std::uint32_t>(random, {1, 2, 8, 40});
  mock.limits.step_tokens_max = 256;
  mock.limits.step_logit_rows_max = 64;
  mock.timing.step_ns = Pick<std::int64_t>(random, {1'000, 100'000, 2'000'000});
  mock.timing.token_ns = Pick<std::int64_t>(random, {0, 1'000, 50'000});
  engine::EngineOptions options;
  options.batch_sequences_max = Pick<std::uint32_t>(random, {1, 4, 32});
  options.batch_tokens_max =
      std::max(options.batch_sequences_max, Pick<std::uint32_t>(random, {4, 16, 64}));
  options.queue_length_max = Pick<std::uint32_t>(random, {8, 64, 1024});
  options.admission = Pick(random, {engine::Admission::kEager, engine::Admission::kForecast,
                                    engine::Admission::kGuaranteed});
  options.preemption = Pick(random, {engine::Preemption::kRecompute, engine::Preemption::kSwap});
  mock.limits.host_block_count = Pick<std::uint32_t>(random, {0, 4, 64});
  options.model_fingerprint = "mock";
  options.numerics_id = "mock";
  options.kv_dtype = "mock";
  options.identity_key = fmt::format("key of seed {}", seed);
  return {.mock = mock, .options = options};
}

Expectation MockExpectation(const engine::ExecutorLimits& limits) {
  return [limits](const wire::GenerateRequest& request, std::uint32_t choice) {
    engine::MockChoice expected =
        engine::MockStream(request, choice, limits.vocab_size, limits.context_tokens_max);
    return Expected{.tokens = std::move(expected.tokens), .finish = expected.finish};
  };
}

std::vector<TokenId> DrawSharedPrompt(rt::Random& random, std::uint32_t vocab_size) {
  std::vector<TokenId> shared(random.Below(48) + 1);
  for (TokenId& token : shared) {
    token = static_cast<TokenId>(random.Below(vocab_size));
  }
  return shared;
}

ClientPlan DrawPlan(rt::Random& random, const std::vector<TokenId>& shared,
                    const RequestBounds& bounds) {
  ClientPlan plan;
  wire::GenerateRequest& request = plan.request;
  if (random.Chance(0.6)) {
    request.prompt.assign(
        shared.begin(),
        shared.begin() + random.Between(1, static_cast<std::int64_t>(shared.size())));
  }
  std::int64_t own = random.Between(request.prompt.empty() ? 1 : 0, 24);
  for (std::int64_t i = 0; i < own; ++i) {
    request.prompt.push_back(static_cast<TokenId>(random.Below(bounds.vocab_size)));
  }
  auto room = static_cast<std::int64_t>(bounds.context_tokens_max - request.prompt.size());
  request.stop.max_tokens = static_cast<std::uint32_t>(
      random.Between(1, std::min<std::int64_t>(room, bounds.output_tokens_max)));
  request.stop.ignore_eos = random.Chance(0.7);
  request.stop.eos_token_ids = bounds.eos_token_ids;
  request.choice_count = Pick<std::uint32_t>(random, {1, 1, 1, 2, 4});
  request.sampling.seed = random.Below(1 << 30);
  if (random.Chance(0.5)) {
    request.sampling.temperature = 0;
  } else {
    request.sampling.temperature = Pick(random, {0.5F, 1.0F, 1.5F});
    request.sampling.top_p = Pick(random, {1.0F, 0.75F});
    request.sampling.top_k = Pick(random, {0, 5});
    request.sampling.presence_penalty = Pick(random, {0.0F, 0.5F});
    request.sampling.repetition_penalty = Pick(random, {1.0F, 1.25F});
  }
  if (random.Chance(0.2)) {
    request.stop.stop_token_ids = {static_cast<TokenId>(random.Below(bounds.vocab_size))};
    request.stop.min_tokens =
        std::min<std::uint32_t>(request.stop.max_tokens, Pick<std::uint32_t>(random, {0, 3}));
  }
  while (random.Chance(0.12)) {
    std::vector<TokenId>& prompt = plan.more_prompts.emplace_back();
    prompt.assign(request.prompt.begin(),
                  request.prompt.begin() +
                      random.Between(1, static_cast<std::int64_t>(request.prompt.size())));
    prompt.back() = static_cast<TokenId>(random.Below(bounds.vocab_size));
  }
  plan.stream = random.Chance(0.7);
  plan.behaviour = Pick(random, {Behaviour::kPatient, Behaviour::kPatient, Behaviour::kSlowReader,
                                 Behaviour::kHangsUp, Behaviour::kHangsUpEarly});
  plan.pause = rt::Duration(random.Between(1'000, 5'000'000));
  plan.hang_up_after = rt::Duration(static_cast<std::int64_t>(random.Exponential(5e6)));
  return plan;
}

void JudgeTokens(std::size_t index, const ClientPlan& plan, const ClientReport& report,
                 const Expectation& expect, bool whole, SimResult& result) {
  for (std::size_t at = 0; at < report.tokens.size(); ++at) {
    wire::GenerateRequest request = plan.request;
    const std::size_t prompt = at / request.choice_count;
    if (prompt > 0) {
      request.prompt = plan.more_prompts[prompt - 1];
    }
    const auto choice = static_cast<std::uint32_t>(at % request.choice_count);
    Expected expected = expect(request, choice);
    const std::vector<TokenId>& got = report.tokens[at];
    bool begins = got.size() <= expected.tokens.size() &&
                  std::equal(got.begin(), got.end(), expected.tokens.begin());
    // What ended has ended where it had to, whatever became of other choices.
    const std::string& reason = report.finish_reasons[at];
    const bool ended = whole || !reason.empty();
    if (!begins || (ended && got.size() != expected.tokens.size())) {
      AddViolation(result, fmt::format("request {} choice {}: got [{}], expected [{}]", index, at,
                                       fmt::join(got, " "), fmt::join(expected.tokens, " ")));
    }
    std::string_view expected_reason =
        expected.finish == wire::FinishReason::kStop ? "stop" : "length";
    if (ended && reason != expected_reason) {
      AddViolation(result, fmt::format("request {} choice {}: finish_reason {}, expected {}", index,
                                       at, reason, expected_reason));
    }
  }
}

}  // namespace pixii::sim
