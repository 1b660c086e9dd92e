#include "engine/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "base/assert.h"
#include "base/checked.h"
#include "engine/philox.h"
#include "engine/row_math.h"

#pragma clang fp contract(off)

namespace pixii::engine {

namespace {

constexpr float kExcluded = -std::numeric_limits<float>::infinity();
constexpr std::uint32_t kInPrompt = 1U << 31;
constexpr std::uint32_t kOneBits = std::bit_cast<std::uint32_t>(1.0F);
constexpr int kBucketShift = 20;  // exponent and 3 bits of the mantissa

// Weights lie in [0, 1]; bucket 0 holds the largest, and float bits order as the floats do.
std::uint32_t BucketOf(float weight) {
  return (kOneBits - std::bit_cast<std::uint32_t>(weight)) >> kBucketShift;
}

constexpr std::size_t kBucketCount = (kOneBits >> kBucketShift) + 1;

bool HasPenalties(const wire::SamplingParams& params) {
  return params.presence_penalty != 0.0F || params.frequency_penalty != 0.0F ||
         params.repetition_penalty != 1.0F;
}

void MaskIds(std::span<const TokenId> ids, std::span<float> logits) {
  for (TokenId id : ids) {
    if (id >= 0 && static_cast<std::size_t>(id) < logits.size()) {
      logits[static_cast<std::size_t>(id)] = kExcluded;
    }
  }
}

}  // namespace

TokenId Argmax(std::span<const float> logits) {
  PX_DASSERT(!logits.empty());
  float max = RowMax(logits);
  auto found = std::ranges::find(logits, max);
  return found == logits.end() ? 0 : static_cast<TokenId>(found - logits.begin());
}

TokenId Sampler::Sample(const SampleInput& input, std::span<float> logits) {
  const wire::SamplingParams& params = *input.params;
  if (input.generated.size() < input.stop->min_tokens) {
    MaskIds(input.stop->stop_token_ids, logits);
    if (!input.stop->ignore_eos) {
      MaskIds(input.stop->eos_token_ids, logits);
    }
  }
  for (const auto& [id, bias] : params.logit_bias) {
    logits[static_cast<std::size_t>(id)] += bias;
  }
  if (HasPenalties(params)) {
    Penalize(input, logits);
  }
  if (params.temperature < kTemperatureMin || params.top_k == 1) {
    return Argmax(logits);
  }
  return Draw(input, logits);
}

void Sampler::Penalize(const SampleInput& input, std::span<float> logits) {
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

TokenId Sampler::Draw(const SampleInput& input, std::span<float> logits) {
  const wire::SamplingParams& params = *input.params;
  float max = RowMax(logits);
  if (!std::isfinite(max)) {
    return Argmax(logits);
  }
  weights_.resize(logits.size());
  block_sums_.resize(CeilDiv(logits.size(), kRowBlock));
  double total = RowWeights(logits, max, params.temperature, weights_, block_sums_);
  bool filtered = false;
  if (params.min_p > 0.0F) {
    for (float& weight : weights_) {
      weight = weight < params.min_p ? 0.0F : weight;
    }
    filtered = true;
  }
  if (params.top_k > 0 && static_cast<std::size_t>(params.top_k) < logits.size()) {
    KeepBest(logits, static_cast<std::uint32_t>(params.top_k),
             std::numeric_limits<double>::infinity());
    filtered = true;
  }
  if (params.top_p < 1.0F) {
    if (filtered) {
      total = SumWeights();
    }
    KeepBest(logits, std::numeric_limits<std::uint32_t>::max(), total * double{params.top_p});
    filtered = true;
  }
  if (filtered) {
    total = SumWeights();
  }
  return Pick(UniformDraw(input.params->seed, input.choice,
                          static_cast<std::uint32_t>(input.generated.size())) *
              total);
}

// Zeroes every weight but the best ones: at most `count_max`, and no more than needed to reach
// `mass`. Only the bucket in which the limit falls is sorted.
void Sampler::KeepBest(std::span<const float> logits, std::uint32_t count_max, double mass) {
  buckets_.assign(kBucketCount, Bucket{});
  for (float weight : weights_) {
    if (weight > 0) {
      Bucket& bucket = buckets_[BucketOf(weight)];
      ++bucket.count;
      bucket.mass += double{weight};
    }
  }
  std::uint32_t boundary = 0;
  std::uint64_t count = 0;
  double sum = 0;
  while (boundary < kBucketCount && count + buckets_[boundary].count < count_max &&
         sum + buckets_[boundary].mass < mass) {
    count += buckets_[boundary].count;
    sum += buckets_[boundary].mass;
    ++boundary;
  }
  candidates_.clear();
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i] <= 0) {
      continue;
    }
    std::uint32_t bucket = BucketOf(weights_[i]);
    if (bucket < boundary) {
      continue;
    }
    if (bucket == boundary) {
      candidates_.push_back({weights_[i], logits[i], static_cast<TokenId>(i)});
    }
    weights_[i] = 0;
  }
  std::ranges::sort(candidates_, [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight
           : a.logit != b.logit ? a.logit > b.logit
                                : a.id < b.id;
  });
  for (const Candidate& candidate : candidates_) {
    if (count >= count_max || sum >= mass) {
      break;
    }
    ++count;
    sum += double{candidate.weight};
    weights_[static_cast<std::size_t>(candidate.id)] = candidate.weight;
  }
}

double Sampler::SumWeights() {
  double total = 0;
  for (std::size_t block = 0; block < block_sums_.size(); ++block) {
    std::size_t end = std::min(weights_.size(), (block + 1) * kRowBlock);
    double sum = 0;
    for (std::size_t i = block * kRowBlock; i < end; ++i) {
      sum += double{weights_[i]};
    }
    block_sums_[block] = sum;
    total += sum;
  }
  return total;
}

// The first token at which the running sum of weights passes `target`; the last one with a weight
// if rounding keeps the sum below it.
TokenId Sampler::Pick(double target) const {
  std::size_t block = 0;
  double sum = 0;
  std::size_t last_block = 0;
  for (; block < block_sums_.size() && sum + block_sums_[block] <= target; ++block) {
    sum += block_sums_[block];
    last_block = block_sums_[block] > 0 ? block : last_block;
  }
  block = block == block_sums_.size() ? last_block : block;
  std::size_t last = 0;
  std::size_t end = std::min(weights_.size(), (block + 1) * kRowBlock);
  for (std::size_t i = block * kRowBlock; i < end; ++i) {
    if (weights_[i] > 0) {
      last = i;
      sum += double{weights_[i]};
      if (sum > target) {
        break;
      }
    }
  }
  return static_cast<TokenId>(last);
}

wire::TokenLogprob Sampler::Logprob(std::span<const float> logits, TokenId token,
                                    std::uint32_t top_count) {
  PX_ASSERT(top_count <= kTopLogprobsMax);
  double log_sum = LogSumExp(logits, RowMax(logits));
  auto logprob = [&](float logit) { return static_cast<float>(double{logit} - log_sum); };
  wire::TokenLogprob out;
  out.logprob = logprob(logits[static_cast<std::size_t>(token)]);
  if (top_count == 0) {
    return out;
  }
  top_count = std::min(top_count, static_cast<std::uint32_t>(logits.size()));
  out.top.reserve(top_count);
  // Insertion into a short sorted list; nearly every element fails the first comparison.
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (out.top.size() == top_count) {
      if (!(logits[i] > out.top.back().second)) {
        continue;
      }
      out.top.pop_back();
    }
    auto place =
        std::ranges::find_if(out.top, [&](const auto& entry) { return entry.second < logits[i]; });
    out.top.insert(place, {static_cast<TokenId>(i), logits[i]});
  }
  for (auto& [id, value] : out.top) {
    value = logprob(value);
  }
  return out;
}

}  // namespace pixii::engine
