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
                                     std::uint32_t choice_count)
    : runtime_(std::move(runtime)),
      matchers_(choice_count, GrammarMatcher(runtime_)),
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
  if (matcher.ended()) {
    std::ranges::fill(mask_, 0U);
    for (const TokenId end : runtime_->vocabulary().eos_ids()) {
      mask_[static_cast<std::size_t>(end) / kWordBits] |=
          1U << (static_cast<std::size_t>(end) % kWordBits);
    }
  } else {
    matcher.FillMask(mask_);
  }
  if (matcher.exhausted()) {
    return Fail(Code::kResourceExhausted,
                "the grammar of the answer needs more memory than one grammar may have");
  }
  ApplyMask(mask_, logits);
  return {};
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
    return std::make_unique<RequestConstraint>(kept_.front().runtime, choice_count);
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
  return std::make_unique<RequestConstraint>(kept_.front().runtime, choice_count);
}

}  // namespace pixii::engine
