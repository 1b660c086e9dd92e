#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/assert.h"
#include "base/checked.h"
#include "engine/philox.h"
#include "engine/row_math.h"

#pragma clang fp contract(off)

namespace pixii::engine {

namespace {

constexpr double kLn2 = 0.69314718055994531;
constexpr double kUnlimited = std::numeric_limits<double>::infinity();
constexpr std::uint32_t kAnyCount = std::numeric_limits<std::uint32_t>::max();

double DrawOf(const SampleInput& input, DrawPurpose purpose) {
  return UniformDraw(input.params->seed, input.choice,
                     static_cast<std::uint32_t>(input.generated.size()), purpose);
}

}  // namespace

TokenId Argmax(std::span<const float> logits) {
  PX_DASSERT(!logits.empty());
  return static_cast<TokenId>(RowArgmax(logits));
}

TokenId Sampler::Sample(const SampleInput& input, std::span<float> logits) {
  Prepare(input, logits);
  return Draw(input, logits);
}

void Sampler::Prepare(const SampleInput& input, std::span<float> logits) {
  rules_.Apply(input, logits);
}

TokenId Sampler::Draw(const SampleInput& input, std::span<const float> logits) {
  const wire::SamplingParams& params = *input.params;
  if (params.temperature < kTemperatureMin || params.top_k == 1) {
    TokenId best = Argmax(logits);
    float logit = logits[static_cast<std::size_t>(best)];
    return logit > -std::numeric_limits<float>::infinity() ? best : kNoToken;
  }
  double total = candidates_.Weigh(logits, params.temperature);
  if (total <= 0) {
    return RowMax(logits) > 0 ? Argmax(logits) : kNoToken;  // an infinite logit wins
  }
  if (params.mirostat.on) {
    return DrawMirostat(input, logits, total);
  }
  bool has_top_k = params.top_k > 0 && static_cast<std::size_t>(params.top_k) < logits.size();
  bool has_top_p = params.top_p < 1.0F;
  bool has_typical = params.typical_p < 1.0F;
  bool has_xtc = params.xtc.probability > 0.0F;
  double uniform = DrawOf(input, DrawPurpose::kToken);
  // p >= top_a p_max^2, where p = weight / total and the best weighs 1.
  float floor = std::max(params.min_p, static_cast<float>(double{params.top_a} / total));
  if (floor <= 0.0F && !has_top_k && !has_top_p && !has_typical && !has_xtc) {
    return candidates_.PickFromAll(uniform * total);
  }
  CandidateFloor bounds{.weight = floor};
  if (has_top_k) {
    bounds.top_k = static_cast<std::uint32_t>(params.top_k);
  } else if (floor <= 0.0F) {
    bounds.tail_mass = (1.0 - double{params.top_p}) * total;
  }
  candidates_.Find(logits, bounds);
  if (has_top_k) {
    candidates_.KeepBest(bounds.top_k, kUnlimited);
  }
  if (has_top_p) {
    // What Find left out counts too, unless another filter took it away.
    double mass = has_top_k || floor > 0.0F ? candidates_.Mass() : total;
    candidates_.KeepBest(kAnyCount, mass * double{params.top_p});
  }
  if (has_typical) {
    candidates_.KeepTypical(double{params.typical_p});
  }
  if (has_xtc && DrawOf(input, DrawPurpose::kXtc) < double{params.xtc.probability}) {
    candidates_.DropTop(double{params.xtc.threshold});
  }
  return candidates_.Pick(uniform * candidates_.Mass());
}

// Tokens whose surprise is above the mean go; the mean then moves towards tau by what the drawn one
// surprised among those that stayed.
TokenId Sampler::DrawMirostat(const SampleInput& input, std::span<const float> logits,
                              double total) {
  const wire::MirostatParams& mirostat = input.params->mirostat;
  float& mean = *input.mirostat_mean;
  double limit = std::max(0.0, double{mean}) * kLn2;
  // surprise <= mean, as a weight; the best token stays whatever its surprise.
  double floor = total * double{ExpNegative(static_cast<float>(-limit))};
  candidates_.Find(logits, {.weight = static_cast<float>(std::min(floor, 1.0))});
  if (floor > 1.0) {
    candidates_.KeepBest(1, kUnlimited);
  }
  double mass = candidates_.Mass();
  TokenId token = candidates_.Pick(DrawOf(input, DrawPurpose::kToken) * mass);
  double surprise = (Ln(mass) - Ln(double{candidates_.weight(token)})) / kLn2;
  mean -= static_cast<float>(double{mirostat.eta} * (surprise - double{mirostat.tau}));
  return token;
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
