#include "engine/row_rules.h"

#include <algorithm>
#include <limits>
#include <utility>

#pragma clang fp contract(off)

namespace pixii::engine {

namespace {

constexpr float kExcluded = -std::numeric_limits<float>::infinity();
constexpr std::uint32_t kInPrompt = 1U << 31;
constexpr double kPenaltyMax = 1e30;  // a penalty is a finite number

void Exclude(std::span<const TokenId> ids, std::span<float> logits) {
  for (TokenId id : ids) {
    if (id >= 0 && static_cast<std::size_t>(id) < logits.size()) {
      logits[static_cast<std::size_t>(id)] = kExcluded;
    }
  }
}

bool HasPenalties(const wire::SamplingParams& params) {
  return params.presence_penalty != 0.0F || params.frequency_penalty != 0.0F ||
         params.repetition_penalty != 1.0F;
}

void ExcludeBadWords(const SampleInput& input, std::span<float> logits) {
  for (const std::vector<TokenId>& word : input.params->bad_words) {
    std::span<const TokenId> head(word.data(), word.size() - 1);
    if (input.generated.size() >= head.size() &&
        std::ranges::equal(input.generated.last(head.size()), head)) {
      Exclude({&word.back(), 1}, logits);
    }
  }
}

// multiplier x base ^ excess, by multiplications whose bits no library decides.
float DryPenalty(const wire::DryParams& dry, std::uint32_t excess) {
  double penalty = double{dry.multiplier};
  for (; excess > 0 && penalty < kPenaltyMax && dry.base > 1.0F; --excess) {
    penalty *= double{dry.base};
  }
  return static_cast<float>(std::min(penalty, kPenaltyMax));
}

// lengths[k]: how many tokens `text` and its tail from k on have in common (the Z function).
void CommonLengths(std::span<const TokenId> text, std::vector<std::uint32_t>& lengths) {
  lengths.assign(text.size(), 0);
  std::size_t left = 0;
  std::size_t right = 0;  // [left, right) equals the beginning and reaches furthest
  for (std::size_t k = 1; k < text.size(); ++k) {
    std::size_t length =
        k < right ? std::min<std::size_t>(lengths[k - left], right - k) : std::size_t{0};
    while (k + length < text.size() && text[length] == text[k + length]) {
      ++length;
    }
    if (k + length > right) {
      left = k;
      right = k + length;
    }
    lengths[k] = static_cast<std::uint32_t>(length);
  }
}

}  // namespace

void RowRules::Apply(const SampleInput& input, std::span<float> logits) {
  const wire::SamplingParams& params = *input.params;
  if (input.generated.size() < input.stop->min_tokens) {
    Exclude(input.stop->stop_token_ids, logits);
    if (!input.stop->ignore_eos) {
      Exclude(input.stop->eos_token_ids, logits);
    }
  }
  if (!params.allowed_token_ids.empty()) {
    KeepAllowed(params.allowed_token_ids, logits);
  }
  for (const auto& [id, bias] : params.logit_bias) {
    logits[static_cast<std::size_t>(id)] += bias;
  }
  ExcludeBadWords(input, logits);
  if (HasPenalties(params)) {
    Penalize(input, logits);
  }
  if (params.dry.multiplier > 0.0F) {
    PenalizeRepetitions(input, logits);
  }
}

void RowRules::KeepAllowed(std::span<const TokenId> allowed, std::span<float> logits) {
  kept_.clear();
  for (TokenId id : allowed) {
    kept_.push_back(logits[static_cast<std::size_t>(id)]);
  }
  std::ranges::fill(logits, kExcluded);
  for (std::size_t i = 0; i < allowed.size(); ++i) {
    logits[static_cast<std::size_t>(allowed[i])] = kept_[i];
  }
}

void RowRules::Penalize(const SampleInput& input, std::span<float> logits) {
  const wire::SamplingParams& params = *input.params;
  counts_.resize(std::max(counts_.size(), logits.size()), 0);
  touched_.clear();
  auto count = [&](TokenId id, std::uint32_t amount) {
    std::uint32_t& entry = counts_[static_cast<std::size_t>(id)];
    if (entry == 0) {
      touched_.push_back(id);
    }
    entry = amount == kInPrompt ? entry | kInPrompt : entry + amount;
  };
  for (TokenId id : input.generated) {
    count(id, 1);
  }
  if (params.repetition_penalty != 1.0F) {
    for (TokenId id : input.prompt) {
      count(id, kInPrompt);
    }
  }
  for (TokenId id : touched_) {
    float& logit = logits[static_cast<std::size_t>(id)];
    std::uint32_t generated = std::exchange(counts_[static_cast<std::size_t>(id)], 0) & ~kInPrompt;
    if (params.repetition_penalty != 1.0F) {
      logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    }
    if (generated > 0) {
      logit -= params.frequency_penalty * static_cast<float>(generated);
      logit -= params.presence_penalty;
    }
  }
}

void RowRules::Raise(TokenId id, std::uint32_t value) {
  std::uint32_t& entry = counts_[static_cast<std::size_t>(id)];
  if (entry == 0) {
    touched_.push_back(id);
  }
  entry = std::max(entry, value);
}

// Every earlier place whose last tokens equal those of the context was followed by some token: that
// token would make the repetition longer. Read backwards, the common lengths are one Z function,
// and the token that followed place k stands at k - 1.
void RowRules::PenalizeRepetitions(const SampleInput& input, std::span<float> logits) {
  const wire::DryParams& dry = input.params->dry;
  std::size_t size = input.prompt.size() + input.generated.size();
  if (dry.range > 0) {
    size = std::min<std::size_t>(size, dry.range);
  }
  auto is_breaker = [&](TokenId id) {
    return std::ranges::find(dry.breakers, id) != dry.breakers.end();
  };
  backwards_.clear();
  for (std::size_t i = 0; i < size; ++i) {
    backwards_.push_back(
        i < input.generated.size()
            ? input.generated[input.generated.size() - 1 - i]
            : input.prompt[input.prompt.size() - 1 - (i - input.generated.size())]);
  }
  auto reach =
      static_cast<std::uint32_t>(std::ranges::find_if(backwards_, is_breaker) - backwards_.begin());
  if (reach < dry.allowed_length) {
    return;
  }
  CommonLengths(backwards_, matches_);
  counts_.resize(std::max(counts_.size(), logits.size()), 0);
  touched_.clear();
  for (std::size_t k = 1; k < size; ++k) {
    std::uint32_t length = std::min(matches_[k], reach);
    if (length >= dry.allowed_length && !is_breaker(backwards_[k - 1])) {
      Raise(backwards_[k - 1], length);
    }
  }
  for (TokenId id : touched_) {
    std::uint32_t length = std::exchange(counts_[static_cast<std::size_t>(id)], 0);
    logits[static_cast<std::size_t>(id)] -= DryPenalty(dry, length - dry.allowed_length);
  }
}

}  // namespace pixii::engine
