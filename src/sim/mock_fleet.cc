#include "sim/mock_fleet.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <string>
#include <utility>

#include "rt/thread.h"
#include "sim/watched_link.h"
#include "text/grammar/grammar_library.h"

namespace pixii::sim {

namespace {

constexpr TokenId kEndToken = 2;
constexpr std::array<const char*, 3> kAdapters = {"red", "green", "blue"};
constexpr std::uint32_t kAdapterSlots = 2;  // one fewer: they take each other's

// Tokens of one letter, an end, then pairs of letters.
std::vector<std::string> LetterTokens(std::uint32_t vocab_size) {
  static constexpr std::string_view kLetters = "xy.abcdefgh01{}";
  std::vector<std::string> tokens;
  for (std::uint32_t i = 0; i < vocab_size; ++i) {
    if (i < kLetters.size()) {
      tokens.emplace_back(1, kLetters[i]);
    } else {
      tokens.push_back({static_cast<char>('a' + i % 8), static_cast<char>('a' + i / 8 % 8)});
    }
  }
  tokens[kEndToken].clear();
  return tokens;
}

struct Grammars {
  rt::Mutex mutex;
  std::map<std::uint32_t, std::shared_ptr<text::grammar::GrammarLibrary>> by_size
      PX_GUARDED_BY(mutex);
};

std::shared_ptr<text::grammar::GrammarLibrary> GrammarsOf(std::uint32_t vocab_size) {
  static Grammars grammars;
  const rt::MutexLock lock(grammars.mutex);
  auto& library = grammars.by_size[vocab_size];
  if (!library) {
    library = std::make_shared<text::grammar::GrammarLibrary>([vocab_size] {
      return text::grammar::GrammarVocabulary::FromBytes(
          LetterTokens(vocab_size), {.eos_ids = {kEndToken}, .vocab_size = vocab_size});
    });
  }
  return library;
}

wire::Constraint DrawConstraint(rt::Random& random) {
  wire::Constraint constraint;
  if (random.Chance(0.3)) {
    constraint.kind = wire::ConstraintKind::kChoice;
    constraint.choices = {"abcabcabcabcabcabc", "abdefghabdefghabdefgh", "01010101010101"};
    return constraint;
  }
  constraint.kind = wire::ConstraintKind::kRegex;
  constraint.text = Pick<const char*>(
      random, {"(ab|cd)+e[a-h]*", "[a-d]{5,60}", "(0|1){8,64}", "(a[b-d]*e){3,}f", "[a-h]{40}"});
  return constraint;
}

void DrawSampling(rt::Random& random, const RequestBounds& bounds, wire::SamplingParams& sampling) {
  sampling.frequency_penalty = Pick(random, {0.0F, 0.0F, 0.75F});
  sampling.min_p = Pick(random, {0.0F, 0.0F, 0.1F});
  if (random.Chance(0.15)) {
    sampling.mirostat.on = true;  // the one with a state that tokens cannot give back
    sampling.temperature = 1.0F;
  }
  if (random.Chance(0.15)) {
    sampling.dry.multiplier = 0.8F;
  }
  if (random.Chance(0.1)) {
    sampling.xtc.probability = 0.5F;
  }
  if (random.Chance(0.15)) {
    sampling.logit_bias = {{static_cast<TokenId>(random.Below(bounds.vocab_size)), 3.0F}};
  }
}

}  // namespace

void AddGrammarsAndAdapters(MockSetup& setup) {
  setup.options.grammars = GrammarsOf(setup.mock.limits.vocab_size);
  setup.mock.limits.adapter_slots = kAdapterSlots;
  setup.options.adapters.slot_count = kAdapterSlots;
}

Result<std::unique_ptr<engine::Engine>> MakeFleetEngine(const MockSetup& setup,
                                                        std::unique_ptr<kv::Connector> connector) {
  PX_TRY(std::unique_ptr<engine::Engine> engine,
         engine::Engine::Create(setup.options, std::make_unique<engine::MockExecutor>(setup.mock),
                                nullptr, nullptr, std::move(connector)));
  for (const char* name : kAdapters) {
    PX_CHECK_OK(engine->LoadAdapter(name, std::make_shared<engine::MockAdapter>(name), false));
  }
  return engine;
}

DirectPlan DrawDirectPlan(rt::Random& random, const std::vector<TokenId>& shared,
                          const RequestBounds& bounds, RequestId id, double poison_share) {
  DirectPlan plan;
  wire::GenerateRequest& request = plan.request;
  request = DrawPlan(random, shared, bounds).request;
  request.id = id;
  DrawSampling(random, bounds, request.sampling);
  request.top_logprobs = Pick<std::int32_t>(random, {-1, -1, 0, 3});
  request.prompt_logprobs = random.Chance(0.1);
  request.priority = Pick<std::int32_t>(random, {0, 0, 0, -2, 5});
  if (random.Chance(0.3)) {
    request.adapter = kAdapters[random.Below(kAdapters.size())];
  }
  if (random.Chance(0.2)) {
    request.cache_salt = fmt::format("salt {}", Raw(id));
  }
  if (poison_share > 0 && random.Chance(poison_share)) {
    request.cache_salt = fmt::format("{} {}", WatchedLink::kPoison, Raw(id));
    request.stop.ignore_eos = true;
  }
  if (random.Chance(0.25)) {
    request.constraint = DrawConstraint(random);
    request.stop.ignore_eos = false;
    request.stop.min_tokens = 0;
    request.stop.stop_token_ids.clear();
    request.sampling.logit_bias.clear();
  } else if (random.Chance(0.3)) {
    request.stop.min_tokens = static_cast<std::uint32_t>(random.Below(request.stop.max_tokens + 1));
  }
  if (random.Chance(0.1)) {
    request.deadline_left_ns = random.Between(1'000'000, 3'000'000'000);
  }
  const auto soon = [&] {
    return rt::Duration(static_cast<std::int64_t>(random.Exponential(Pick(random, {1e7, 3e8}))));
  };
  if (random.Chance(0.2)) {
    plan.cancel_after = soon();
  }
  if (random.Chance(0.1)) {
    plan.cancel_choice_after = soon();
  }
  return plan;
}

ReferenceEngine::ReferenceEngine(MockSetup setup) {
  engine::ExecutorLimits& limits = setup.mock.limits;
  limits.block_count = 8 * (limits.context_tokens_max / limits.block_tokens + 1);
  limits.host_block_count = 0;
  setup.options.batch_sequences_max = 4;
  setup.options.batch_tokens_max = 64;
  setup.options.jump_ahead = false;
  setup.options.reuse_blocks = false;
  setup.options.kv_event_count_max = 0;
  Result<std::unique_ptr<engine::Engine>> engine = MakeFleetEngine(setup);
  PX_ASSERT(engine);
  engine_ = std::move(*engine);
}

DirectReport ReferenceEngine::Run(wire::GenerateRequest request) {
  request.id = RequestId{++last_id_};
  request.deadline_left_ns = 0;
  DirectReport report;
  report.choices.resize(request.choice_count);
  if (Result<void> taken = engine_->Submit(std::move(request), rt::Time{}); !taken) {
    report.refusal = taken.error();
    return report;
  }
  std::vector<wire::TokenFrame> frames;
  while (engine_->has_work()) {
    engine_->Step(rt::Time{}, frames);
  }
  for (wire::TokenFrame& frame : frames) {
    DirectChoice& choice = report.choices[frame.choice];
    std::ranges::copy(frame.tokens, std::back_inserter(choice.tokens));
    std::ranges::move(frame.logprobs, std::back_inserter(choice.logprobs));
    std::ranges::move(frame.prompt_logprobs, std::back_inserter(report.prompt_logprobs));
    if (frame.finish) {
      choice.finish = frame.finish;
      choice.stop_token = frame.stop_token;
      choice.error = frame.error;
    }
  }
  return report;
}

}  // namespace pixii::sim
