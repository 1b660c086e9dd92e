#include "engine/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <iterator>
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

bool Sampler::IsBetter(const Candidate& a, const Candidate& b) {
  if (a.weight != b.weight) {
    return a.weight > b.weight;
  }
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

TokenId Argmax(std::span<const float> logits) {
  PX_DASSERT(!logits.empty());
  return static_cast<TokenId>(RowArgmax(logits));
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

TokenId Sampler::Draw(const SampleInput& input, std::span<const float> logits) {
  const wire::SamplingParams& params = *input.params;
  block_max_.resize(CeilDiv(logits.size(), kRowBlock));
  float max = RowMax(logits, block_max_);
  if (!std::isfinite(max)) {
    return Argmax(logits);
  }
  weights_.resize(logits.size());
  block_sums_.resize(block_max_.size());
  double total = RowWeights(logits, max, params.temperature, weights_, block_sums_);
  double uniform =
      UniformDraw(params.seed, input.choice, static_cast<std::uint32_t>(input.generated.size()));
  bool has_top_k = params.top_k > 0 && static_cast<std::size_t>(params.top_k) < logits.size();
  bool has_top_p = params.top_p < 1.0F;
  if (params.min_p <= 0.0F && !has_top_k && !has_top_p) {
    return PickFromAll(uniform * total);
  }
  FindCandidates(params, logits, total, has_top_k);
  if (has_top_k) {
    KeepBest(static_cast<std::uint32_t>(params.top_k), std::numeric_limits<double>::infinity());
  }
  if (has_top_p) {
    // What the floor left out counts too, unless another filter took it away.
    double mass = has_top_k || params.min_p > 0.0F ? CandidateMass() : total;
    KeepBest(std::numeric_limits<std::uint32_t>::max(), mass * double{params.top_p});
  }
  return PickCandidate(uniform * CandidateMass());
}

// Lists, in the order of ids, every token that the filters could keep, and as few others as is
// cheap.
void Sampler::FindCandidates(const wire::SamplingParams& params, std::span<const float> logits,
                             double total, bool has_top_k) {
  float weight_floor = std::max(params.min_p, std::numeric_limits<float>::denorm_min());
  float logit_floor = kExcluded;
  if (has_top_k && static_cast<std::size_t>(params.top_k) <= block_max_.size()) {
    // At least top_k blocks have a token this large, so the best top_k are not smaller.
    auto kth = block_max_.begin() + (params.top_k - 1);
    std::ranges::nth_element(block_max_, kth, std::ranges::greater{});
    logit_floor = *kth;
  } else if (!has_top_k && params.min_p <= 0.0F) {
    // All tokens below this weigh less together than what top_p leaves out.
    double tail = (1.0 - double{params.top_p}) * total / static_cast<double>(logits.size());
    weight_floor = std::max(weight_floor, static_cast<float>(tail * 0.999));
  }
  candidates_.clear();
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i] >= weight_floor && logits[i] >= logit_floor) {
      candidates_.push_back({weights_[i], logits[i], static_cast<TokenId>(i)});
    }
  }
}

// Keeps the best candidates: at most `count_max`, and no more than needed to reach `mass`. Only the
// bucket in which the limit falls is sorted.
void Sampler::KeepBest(std::uint32_t count_max, double mass) {
  buckets_.assign(kBucketCount, Bucket{});
  for (const Candidate& candidate : candidates_) {
    Bucket& bucket = buckets_[BucketOf(candidate.weight)];
    ++bucket.count;
    bucket.mass += double{candidate.weight};
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
  if (boundary == kBucketCount) {
    return;
  }
  edge_.clear();
  std::ranges::copy_if(candidates_, std::back_inserter(edge_), [&](const Candidate& candidate) {
    return BucketOf(candidate.weight) == boundary;
  });
  std::ranges::sort(edge_, IsBetter);
  std::size_t kept = 0;
  while (kept < edge_.size() && count < count_max && sum < mass) {
    ++count;
    sum += double{edge_[kept++].weight};
  }
  std::erase_if(candidates_, [&](const Candidate& candidate) {
    std::uint32_t bucket = BucketOf(candidate.weight);
    return bucket > boundary ||
           (bucket == boundary && kept < edge_.size() && !IsBetter(candidate, edge_[kept]));
  });
}

double Sampler::CandidateMass() const {
  double total = 0;
  for (const Candidate& candidate : candidates_) {
    total += double{candidate.weight};
  }
  return total;
}

// The first candidate at which the running sum passes `target`; the last if rounding keeps the sum
// below it.
TokenId Sampler::PickCandidate(double target) const {
  double sum = 0;
  for (const Candidate& candidate : candidates_) {
    sum += double{candidate.weight};
    if (sum > target) {
      return candidate.id;
    }
  }
  return candidates_.back().id;
}

// The same over all tokens, block by block.
TokenId Sampler::PickFromAll(double target) const {
  std::size_t block = 0;
  double sum = 0;
  while (block + 1 < block_sums_.size() && sum + block_sums_[block] <= target) {
    sum += block_sums_[block++];
  }
  std::size_t last = block * kRowBlock;
  std::size_t end = std::min(weights_.size(), last + kRowBlock);
  for (std::size_t i = last; i < end && sum <= target; ++i) {
    sum += double{weights_[i]};
    last = weights_[i] > 0 ? i : last;
  }
  return static_cast<TokenId>(last);
}

wire::TokenLogprob Sampler::Logprob(std::span<const float> logits, TokenId token,
                                    std::uint32_t top_count) {
  PX_ASSERT(top_count <= kTopLogprobsMax);
  block_max_.resize(CeilDiv(logits.size(), kRowBlock));
  double log_sum = LogSumExp(logits, RowMax(logits, block_max_));
  auto logprob = [&](float logit) { return static_cast<float>(double{logit} - log_sum); };
  wire::TokenLogprob out;
  out.logprob = logprob(logits[static_cast<std::size_t>(token)]);
  if (top_count == 0) {
    return out;
  }
  top_count = std::min(top_count, static_cast<std::uint32_t>(logits.size()));
  out.top.reserve(top_count);
  // Insertion into a short sorted list; nearly every block fails the first comparison.
  for (std::size_t block = 0; block < block_max_.size(); ++block) {
    if (out.top.size() == top_count && block_max_[block] <= out.top.back().second) {
      continue;
    }
    std::size_t end = std::min(logits.size(), (block + 1) * kRowBlock);
    for (std::size_t i = block * kRowBlock; i < end; ++i) {
      if (out.top.size() == top_count) {
        if (!(logits[i] > out.top.back().second)) {
          continue;
        }
        out.top.pop_back();
      }
      auto place = std::ranges::find_if(
          out.top, [&](const auto& entry) { return entry.second < logits[i]; });
      out.top.insert(place, {static_cast<TokenId>(i), logits[i]});
    }
  }
  for (auto& [id, value] : out.top) {
    value = logprob(value);
  }
  return out;
}

}  // namespace pixii::engine
