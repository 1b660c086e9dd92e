#include "engine/candidates.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <iterator>

#include "base/checked.h"
#include "engine/row_math.h"

#pragma clang fp contract(off)

namespace pixii::engine {

namespace {

constexpr std::uint32_t kOneBits = std::bit_cast<std::uint32_t>(1.0F);
constexpr int kBucketShift = 20;  // exponent and 3 bits of the mantissa

// Weights lie in [0, 1]; bucket 0 holds the largest, and float bits order as the floats do.
std::uint32_t BucketOf(float weight) {
  return (kOneBits - std::bit_cast<std::uint32_t>(weight)) >> kBucketShift;
}

constexpr std::size_t kBucketCount = (kOneBits >> kBucketShift) + 1;

}  // namespace

bool Candidates::IsBetter(const Candidate& a, const Candidate& b) {
  if (a.weight != b.weight) {
    return a.weight > b.weight;
  }
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

double Candidates::Weigh(std::span<const float> logits, float temperature) {
  block_max_.resize(CeilDiv(logits.size(), kRowBlock));
  float max = RowMax(logits, block_max_);
  if (!std::isfinite(max)) {
    return 0;
  }
  weights_.resize(logits.size());
  block_sums_.resize(block_max_.size());
  return RowWeights(logits, max, temperature, weights_, block_sums_);
}

void Candidates::Find(std::span<const float> logits, const CandidateFloor& floor) {
  float weight_floor = std::max(floor.weight, std::numeric_limits<float>::denorm_min());
  float logit_floor = -std::numeric_limits<float>::infinity();
  if (floor.top_k > 0 && floor.top_k <= block_max_.size()) {
    // At least top_k blocks have a token this large, so the best top_k are not smaller.
    auto kth = block_max_.begin() + (floor.top_k - 1);
    std::ranges::nth_element(block_max_, kth, std::ranges::greater{});
    logit_floor = *kth;
  }
  if (floor.tail_mass > 0) {
    double least = floor.tail_mass / static_cast<double>(logits.size());
    weight_floor = std::max(weight_floor, static_cast<float>(least * 0.999));
  }
  list_.clear();
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i] >= weight_floor && logits[i] >= logit_floor) {
      list_.push_back({weights_[i], logits[i], static_cast<TokenId>(i)});
    }
  }
}

// Only the bucket in which the limit falls is sorted.
void Candidates::KeepBest(std::uint32_t count_max, double mass) {
  buckets_.assign(kBucketCount, Bucket{});
  for (const Candidate& candidate : list_) {
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
  std::ranges::copy_if(list_, std::back_inserter(edge_), [&](const Candidate& candidate) {
    return BucketOf(candidate.weight) == boundary;
  });
  std::ranges::sort(edge_, IsBetter);
  std::size_t kept = 0;
  while (kept < edge_.size() && count < count_max && sum < mass) {
    ++count;
    sum += double{edge_[kept++].weight};
  }
  std::erase_if(list_, [&](const Candidate& candidate) {
    std::uint32_t bucket = BucketOf(candidate.weight);
    return bucket > boundary ||
           (bucket == boundary && kept < edge_.size() && !IsBetter(candidate, edge_[kept]));
  });
}

void Candidates::KeepTypical(double share) {
  double mass = Mass();
  double log_mass = Ln(mass);
  auto surprise = [&](const Candidate& candidate) {
    return log_mass - Ln(double{candidate.weight});
  };
  double entropy = 0;
  for (const Candidate& candidate : list_) {
    entropy += double{candidate.weight} / mass * surprise(candidate);
  }
  typical_.clear();
  for (std::size_t i = 0; i < list_.size(); ++i) {
    typical_.emplace_back(static_cast<float>(std::abs(surprise(list_[i]) - entropy)),
                          static_cast<std::uint32_t>(i));
  }
  std::ranges::sort(
      typical_);  // equally typical: the lower id first, as the list is in their order
  std::size_t kept = 0;
  for (double sum = 0; kept < typical_.size() && sum < mass * share; ++kept) {
    sum += double{list_[typical_[kept].second].weight};
  }
  typical_.resize(std::max<std::size_t>(kept, 1));
  std::ranges::sort(typical_, {}, [](const auto& entry) { return entry.second; });
  for (std::size_t i = 0; i < typical_.size(); ++i) {
    list_[i] = list_[typical_[i].second];
  }
  list_.resize(typical_.size());
}

void Candidates::DropTop(double threshold) {
  double least = threshold * Mass();
  const Candidate* worst = nullptr;
  for (const Candidate& candidate : list_) {
    if (double{candidate.weight} >= least && (worst == nullptr || IsBetter(*worst, candidate))) {
      worst = &candidate;
    }
  }
  if (worst == nullptr) {
    return;
  }
  TokenId spared = worst->id;
  std::erase_if(list_, [&](const Candidate& candidate) {
    return double{candidate.weight} >= least && candidate.id != spared;
  });
}

double Candidates::Mass() const {
  double total = 0;
  for (const Candidate& candidate : list_) {
    total += double{candidate.weight};
  }
  return total;
}

// The last one if rounding keeps the sum below the target.
TokenId Candidates::Pick(double target) const {
  double sum = 0;
  for (const Candidate& candidate : list_) {
    sum += double{candidate.weight};
    if (sum > target) {
      return candidate.id;
    }
  }
  return list_.back().id;
}

TokenId Candidates::PickFromAll(double target) const {
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

}  // namespace pixii::engine
