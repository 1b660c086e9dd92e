#include "engine/constraint.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "base/assert.h"

namespace pixii::engine {

namespace {

using text::grammar::Grammar;
using text::grammar::GrammarMatcher;
using text::grammar::GrammarRuntime;
using text::grammar::GrammarVocabulary;

constexpr float kExcluded = -std::numeric_limits<float>::infinity();
constexpr std::size_t kRuntimesMax = 32;
constexpr std::size_t kRuntimeBytesMax = 134'217'728;  // of all of them together
constexpr std::uint64_t kSharedPart = 2;               // of a choice's budget, that all may spend
constexpr std::size_t kAloneMaskBytesMax = 2'097'152;
constexpr std::size_t kWordBits = 32;
constexpr std::size_t kStyleTokens = 48;  // looked at for how the answer uses white space
constexpr std::size_t kJoinBytes = 48;    // in front of a guess, that the tokenizer sees
constexpr std::size_t kGuessBytes = 12;   // of one guessed token

void ApplyMask(std::span<const std::uint32_t> mask, std::span<float> logits) {
  for (std::size_t begin = 0; begin < logits.size(); begin += kWordBits) {
    const std::size_t word = begin / kWordBits;
    const std::uint32_t bits = word < mask.size() ? mask[word] : 0;
    const std::size_t count = std::min(kWordBits, logits.size() - begin);
    if (bits == 0) {
      std::fill_n(logits.data() + begin, count, kExcluded);
      continue;
    }
    for (std::size_t i = 0; bits != 0xFFFFFFFF && i < count; ++i) {
      if ((bits >> i & 1U) == 0) {
        logits[begin + i] = kExcluded;
      }
    }
  }
}

Error NotAllowed(std::uint32_t choice, std::size_t index) {
  return {Code::kInvalidArgument,
          fmt::format("generated: token {} of choice {} is not what the grammar of the answer "
                      "allows there",
                      index, choice),
          "generated"};
}

}  // namespace

RequestConstraint::RequestConstraint(std::shared_ptr<GrammarRuntime> runtime,
                                     std::uint32_t choice_count, text::grammar::TextEncoder encode,
                                     const ConstraintBudget& budget)
    : runtime_(std::move(runtime)),
      encode_(std::move(encode)),
      matchers_(choice_count, GrammarMatcher(runtime_)),
      alone_(choice_count),
      errors_(choice_count),
      ready_(choice_count),
      budget_(budget),
      mask_(runtime_->vocabulary().mask_words()) {
  const std::uint32_t count = std::max(choice_count, 1U);
  budget_.steps_max = std::max(budget_.steps_max / count, budget_.choice_steps_min);
  budget_.bytes_max = std::max(budget_.bytes_max / count, budget_.choice_bytes_min);
}

Result<void> RequestConstraint::Follow(std::uint32_t choice, std::span<const TokenId> generated) {
  GrammarMatcher& matcher = matchers_[choice];
  // Who walks alone judges the tokens on the way.
  for (std::size_t i = matcher.accepted();
       !alone_[choice] && !SharedCostsTooMuch() && i < generated.size(); ++i) {
    // Past its end an answer holds end tokens only: the request ignores them.
    if (!matcher.ended() && !matcher.Accept(generated[i]) && !matcher.exhausted()) {
      return Fail(NotAllowed(choice, i));
    }
    if (matcher.ended()) {
      break;
    }
  }
  return {};
}

Result<void> RequestConstraint::Resume(std::uint32_t choice, std::span<const TokenId> generated) {
  PX_CHECK_OK(Follow(choice, generated));
  if (!generated.empty()) {
    StartAlone(choice);
  }
  return {};
}

bool RequestConstraint::SharedCostsTooMuch() const {
  return matchers_[0].exhausted() || runtime_->steps_spent() > budget_.steps_max / kSharedPart ||
         runtime_->grown_bytes() > budget_.bytes_max / kSharedPart;
}

void RequestConstraint::StartAlone(std::uint32_t choice) {
  std::shared_ptr<GrammarRuntime> runtime =
      runtime_->Fresh({.mask_cache_bytes_max = kAloneMaskBytesMax});
  alone_[choice].emplace(Alone{.runtime = runtime, .matcher = GrammarMatcher(runtime)});
  ready_[choice].count = 0;
}

bool RequestConstraint::MakeReady(std::uint32_t choice, std::span<const TokenId> generated,
                                  std::uint64_t& work) {
  if (errors_[choice] || Find(choice, generated) != nullptr) {
    return true;
  }
  if (!alone_[choice] && !SharedCostsTooMuch()) {
    if (work == 0) {
      return false;
    }
    if (Result<void> followed = Follow(choice, generated); !followed) {
      errors_[choice] = followed.error();
      return true;
    }
    const bool done = Fill(matchers_[choice], mask_, work);
    if (!SharedCostsTooMuch()) {
      if (done) {
        Keep(choice, generated.size());
      }
      return done;
    }
  }
  if (!alone_[choice]) {
    StartAlone(choice);
  }
  return MakeReadyAlone(choice, generated, work);
}

// An attempt always has a whole slice, whatever is left of the work: where attempts end is part of
// what they cost.
bool RequestConstraint::MakeReadyAlone(std::uint32_t choice, std::span<const TokenId> generated,
                                       std::uint64_t& work) {
  Alone& alone = *alone_[choice];
  while (work > 0) {
    const bool done = Fill(alone.matcher, mask_, work);
    errors_[choice] = PastBudget(alone);
    if (errors_[choice]) {
      alone_[choice].reset();  // with its memory
      return true;
    }
    const std::size_t at = alone.matcher.accepted();
    if (done && (at >= generated.size() || alone.matcher.ended())) {
      Keep(choice, generated.size());
      return true;
    }
    if (done && !alone.matcher.Accept(generated[at])) {
      errors_[choice] = PastBudget(alone).value_or(NotAllowed(choice, at));
      alone_[choice].reset();
      return true;
    }
  }
  return false;
}

// The same request would end the same way: nothing to try again.
std::optional<Error> RequestConstraint::PastBudget(const Alone& alone) const {
  const std::uint64_t steps_max =
      budget_.steps_max + budget_.steps_of_token * alone.matcher.accepted();
  if (alone.runtime->exhausted() || alone.runtime->steps_spent() > steps_max) {
    return Error(
        Code::kInvalidArgument,
        fmt::format("response_format: the grammar of the answer costs more than the {} "
                    "steps, and {} for each token, that the grammar of one choice may take",
                    budget_.steps_max, budget_.steps_of_token),
        "response_format");
  }
  if (alone.runtime->grown_bytes() > budget_.bytes_max) {
    return Error(Code::kInvalidArgument,
                 fmt::format("response_format: the grammar of the answer grows past the {} bytes "
                             "that the grammar of one choice may take",
                             budget_.bytes_max),
                 "response_format");
  }
  return std::nullopt;
}

// mask_ is that of the row behind `begin` tokens.
void RequestConstraint::Keep(std::uint32_t choice, std::size_t begin) {
  Ready& ready = ready_[choice];
  ready.begin = begin;
  ready.guesses.clear();
  ready.masks.resize(std::max<std::size_t>(ready.masks.size(), 1));
  ready.masks[0] = mask_;
  ready.count = 1;
}

Result<void> RequestConstraint::Apply(std::uint32_t choice, std::span<const TokenId> generated,
                                      std::span<float> logits) {
  std::uint64_t work = text::grammar::kNoStop;
  while (!MakeReady(choice, generated, work)) {
  }
  if (errors_[choice]) {
    return Fail(*errors_[choice]);
  }
  const Mask* mask = Find(choice, generated);
  PX_ASSERT(mask != nullptr);
  if (std::ranges::all_of(*mask, [](std::uint32_t word) { return word == 0; })) {
    return Fail(Code::kInternal, fmt::format("a dead end of the grammar: no token of the "
                                             "vocabulary follows the {} tokens of choice {}, "
                                             "though the grammar of the answer allowed them",
                                             generated.size(), choice));
  }
  ApplyMask(*mask, logits);
  return {};
}

// Past its end an answer holds end tokens only.
bool RequestConstraint::Fill(GrammarMatcher& matcher, Mask& mask, std::uint64_t& work) {
  mask.resize(runtime_->vocabulary().mask_words());
  if (!matcher.ended()) {
    const std::uint64_t before = matcher.steps_spent();
    const bool done = matcher.FillMask(mask, budget_.slice_steps);
    // At least one: calls that cost nothing end, too.
    work -= std::min(work, matcher.steps_spent() - before + 1);
    return done;
  }
  std::ranges::fill(mask, 0U);
  for (const TokenId end : runtime_->vocabulary().eos_ids()) {
    mask[static_cast<std::size_t>(end) / kWordBits] |=
        1U << (static_cast<std::size_t>(end) % kWordBits);
  }
  return true;
}

void RequestConstraint::Prepare(std::uint32_t choice, std::span<const TokenId> generated,
                                std::span<const TokenId> guesses, std::uint64_t& work) {
  Ready& ready = ready_[choice];
  if (alone_[choice] || SharedCostsTooMuch()) {
    MakeReady(choice, generated, work);
    return;
  }
  ready.count = 0;
  GrammarMatcher& matcher = matchers_[choice];
  if (work == 0 || !Follow(choice, generated)) {
    return;  // Apply says so
  }
  ready.begin = generated.size();
  ready.guesses.assign(guesses.begin(), guesses.end());
  ready.masks.resize(std::max(ready.masks.size(), guesses.size() + 1));
  std::size_t taken = 0;
  while (work > 0 && Fill(matcher, ready.masks[ready.count], work)) {
    ++ready.count;
    if (taken == guesses.size() || matcher.ended() || !matcher.Accept(guesses[taken])) {
      break;
    }
    ++taken;
  }
  matcher.Rollback(taken);
  if (matcher.exhausted()) {
    ready.count = 0;
  }
}

const RequestConstraint::Mask* RequestConstraint::Find(std::uint32_t choice,
                                                       std::span<const TokenId> generated) const {
  const Ready& ready = ready_[choice];
  if (generated.size() < ready.begin || generated.size() - ready.begin >= ready.count) {
    return nullptr;
  }
  const std::span<const TokenId> since = generated.subspan(ready.begin);
  return std::ranges::equal(since, std::span(ready.guesses).first(since.size()))
             ? &ready.masks[since.size()]
             : nullptr;
}

void RequestConstraint::Guess(std::uint32_t choice, std::span<const TokenId> generated,
                              std::uint32_t count_max, std::vector<TokenId>& guesses) {
  GrammarMatcher& matcher = matchers_[choice];
  if (!encode_ || alone_[choice] || SharedCostsTooMuch() || !Follow(choice, generated) ||
      matcher.ended() || SharedCostsTooMuch()) {
    return;
  }
  const GrammarVocabulary& vocabulary = runtime_->vocabulary();
  std::string before;
  for (const TokenId token : generated.last(std::min(generated.size(), kStyleTokens))) {
    before += vocabulary.Bytes(token);
  }
  const std::string likely = matcher.Likely(before, count_max * kGuessBytes);
  if (likely.empty()) {
    return;
  }
  std::string_view left = likely;
  std::size_t taken = 0;
  for (const TokenId token : Encoded(before, likely)) {
    const bool known = token >= 0 && static_cast<std::uint32_t>(token) < vocabulary.vocab_size();
    const std::string_view bytes = known ? vocabulary.Bytes(token) : std::string_view();
    if (taken == count_max || bytes.empty() || !left.starts_with(bytes) || !matcher.Accept(token)) {
      break;
    }
    left.remove_prefix(bytes.size());
    guesses.push_back(token);
    ++taken;
  }
  matcher.Rollback(taken);
}

// `text` as it is written behind `before`, if no token spans both; else as it is written alone.
std::vector<TokenId> RequestConstraint::Encoded(std::string_view before,
                                                const std::string& text) const {
  std::size_t begin = before.size() - std::min(before.size(), kJoinBytes);
  while (begin < before.size() && (static_cast<std::uint8_t>(before[begin]) & 0xC0) == 0x80) {
    ++begin;
  }
  const std::string_view join = before.substr(begin);
  const Result<std::vector<TokenId>> first = encode_(join);
  Result<std::vector<TokenId>> both = encode_(std::string(join) + text);
  if (first && both && both->size() > first->size() &&
      std::ranges::equal(*first, std::span(*both).first(first->size()))) {
    both->erase(both->begin(), both->begin() + static_cast<std::ptrdiff_t>(first->size()));
    return std::move(*both);
  }
  return encode_(text).value_or(std::vector<TokenId>());
}

Constraints::Constraints(std::shared_ptr<text::grammar::GrammarLibrary> library,
                         const ConstraintBudget& budget)
    : library_(std::move(library)), budget_(budget) {}

// Half of what requests may share is gone: the next begin anew.
bool Constraints::IsWornOut(const GrammarRuntime& runtime) const {
  constexpr std::uint64_t kPart = 2 * kSharedPart;
  return runtime.exhausted() || runtime.steps_spent() > budget_.steps_max / kPart ||
         runtime.grown_bytes() > budget_.bytes_max / kPart;
}

Result<std::unique_ptr<RequestConstraint>> Constraints::Open(const wire::Constraint& constraint,
                                                             std::uint32_t choice_count) {
  if (!library_) {
    return Fail(Code::kUnsupported,
                "response_format: this model has no tokenizer to constrain answers with",
                "response_format");
  }
  std::string key = text::grammar::KeyOf(constraint);
  auto found = std::ranges::find(kept_, key, &Kept::key);
  if (found != kept_.end() && IsWornOut(*found->runtime)) {
    kept_.erase(found);  // what filled it up may not come again
    found = kept_.end();
  }
  if (found != kept_.end()) {
    kept_.splice(kept_.begin(), kept_, found);
    return std::make_unique<RequestConstraint>(kept_.front().runtime, choice_count,
                                               library_->encode(), budget_);
  }
  PX_TRY(const std::shared_ptr<const GrammarVocabulary> vocabulary, library_->Vocabulary());
  PX_TRY(const std::shared_ptr<const Grammar> grammar, library_->Get(constraint));
  kept_.push_front({std::move(key), std::make_shared<GrammarRuntime>(grammar, vocabulary)});
  std::size_t bytes = 0;
  std::size_t count = 0;
  // Requests that run keep theirs alive.
  std::erase_if(kept_, [&](const Kept& kept) {
    bytes += kept.runtime->size_bytes();
    return ++count > kRuntimesMax || (count > 1 && bytes > kRuntimeBytesMax);
  });
  return std::make_unique<RequestConstraint>(kept_.front().runtime, choice_count,
                                             library_->encode(), budget_);
}

}  // namespace pixii::engine
