#include "engine/constraint.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

namespace pixii::engine {

namespace {

using text::grammar::Grammar;
using text::grammar::GrammarMatcher;
using text::grammar::GrammarRuntime;
using text::grammar::GrammarVocabulary;

constexpr float kExcluded = -std::numeric_limits<float>::infinity();
constexpr std::size_t kRuntimesMax = 32;
constexpr std::size_t kRuntimeBytesMax = 268'435'456;  // of all of them together
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

}  // namespace

RequestConstraint::RequestConstraint(std::shared_ptr<GrammarRuntime> runtime,
                                     std::uint32_t choice_count, text::grammar::TextEncoder encode)
    : runtime_(std::move(runtime)),
      encode_(std::move(encode)),
      matchers_(choice_count, GrammarMatcher(runtime_)),
      ready_(choice_count),
      mask_(runtime_->vocabulary().mask_words()) {}

Result<void> RequestConstraint::Follow(std::uint32_t choice, std::span<const TokenId> generated) {
  GrammarMatcher& matcher = matchers_[choice];
  for (std::size_t i = matcher.accepted(); i < generated.size(); ++i) {
    // Past its end an answer holds end tokens only: the request ignores them.
    if (!matcher.ended() && !matcher.Accept(generated[i])) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("generated: token {} of choice {} is not what the grammar of the "
                              "answer allows there",
                              i, choice),
                  "generated");
    }
    if (matcher.ended()) {
      break;
    }
  }
  return {};
}

Result<void> RequestConstraint::Apply(std::uint32_t choice, std::span<const TokenId> generated,
                                      std::span<float> logits) {
  PX_CHECK_OK(Follow(choice, generated));
  GrammarMatcher& matcher = matchers_[choice];
  const Mask* mask = Find(choice, generated);
  if (mask == nullptr) {
    Fill(matcher, mask_);
    mask = &mask_;
  }
  if (matcher.exhausted()) {
    // The same request would end the same way: nothing to try again.
    return Fail(Code::kInvalidArgument,
                "the grammar of the answer costs more time or memory than one grammar may take");
  }
  ApplyMask(*mask, logits);
  return {};
}

// Past its end an answer holds end tokens only.
void RequestConstraint::Fill(GrammarMatcher& matcher, Mask& mask) {
  mask.resize(runtime_->vocabulary().mask_words());
  if (!matcher.ended()) {
    matcher.FillMask(mask);
    return;
  }
  std::ranges::fill(mask, 0U);
  for (const TokenId end : runtime_->vocabulary().eos_ids()) {
    mask[static_cast<std::size_t>(end) / kWordBits] |=
        1U << (static_cast<std::size_t>(end) % kWordBits);
  }
}

void RequestConstraint::Prepare(std::uint32_t choice, std::span<const TokenId> generated,
                                std::span<const TokenId> guesses) {
  Ready& ready = ready_[choice];
  ready.count = 0;
  GrammarMatcher& matcher = matchers_[choice];
  if (!Follow(choice, generated)) {
    return;  // Apply says so
  }
  ready.begin = generated.size();
  ready.guesses.assign(guesses.begin(), guesses.end());
  ready.masks.resize(std::max(ready.masks.size(), guesses.size() + 1));
  std::size_t taken = 0;
  for (;;) {
    Fill(matcher, ready.masks[ready.count++]);
    if (taken == guesses.size() || matcher.ended() || !matcher.Accept(guesses[taken])) {
      break;
    }
    ++taken;
  }
  matcher.Rollback(taken);
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
  if (!encode_ || !Follow(choice, generated) || matcher.ended()) {
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

Constraints::Constraints(std::shared_ptr<text::grammar::GrammarLibrary> library)
    : library_(std::move(library)) {}

Result<std::unique_ptr<RequestConstraint>> Constraints::Open(const wire::Constraint& constraint,
                                                             std::uint32_t choice_count) {
  if (!library_) {
    return Fail(Code::kUnsupported,
                "response_format: this model has no tokenizer to constrain answers with",
                "response_format");
  }
  std::string key = text::grammar::KeyOf(constraint);
  auto found = std::ranges::find(kept_, key, &Kept::key);
  if (found != kept_.end() && GrammarMatcher(found->runtime).exhausted()) {
    kept_.erase(found);  // what filled it up may not come again
    found = kept_.end();
  }
  if (found != kept_.end()) {
    kept_.splice(kept_.begin(), kept_, found);
    return std::make_unique<RequestConstraint>(kept_.front().runtime, choice_count,
                                               library_->encode());
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
                                             library_->encode());
}

}  // namespace pixii::engine
