#include "router/cost.h"

#include <algorithm>
#include <cmath>

namespace pixii::router {

CostTerms CostOf(const CostOptions& options, const CostInput& input) {
  CostTerms out;
  const auto block_tokens = static_cast<double>(input.block_tokens);
  if (options.track_prefill_tokens) {
    out.raw_prefill_blocks =
        static_cast<double>(input.active_prefill_tokens + input.prompt_tokens) / block_tokens;
    const std::uint64_t excess_tokens =
        input.active_prefill_tokens -
        std::min(input.active_prefill_tokens_least, input.active_prefill_tokens);
    if (options.overlap_credit_decay > 0 && excess_tokens > 0) {
      const double request_blocks = std::max<double>(
          static_cast<double>((input.prompt_tokens + input.block_tokens - 1) / input.block_tokens),
          1);
      const double excess = static_cast<double>(excess_tokens) / block_tokens / request_blocks;
      out.decay = 1 / (1 + options.overlap_credit_decay * excess);
    }
  }
  const std::uint32_t beyond =
      input.shared_blocks - std::min(input.shared_blocks, input.device_blocks);
  out.credit = options.overlap_credit * out.decay * input.device_blocks +
               options.host_hit_weight * input.host_blocks +
               options.disk_hit_weight * input.disk_blocks +
               options.shared_cache_multiplier * beyond;
  out.adjusted_prefill = std::max(out.raw_prefill_blocks - out.credit, 0.0);
  if (options.track_prefill_tokens && options.policy == SelectionPolicy::kCost) {
    // A block that n others use is worth a copy: its price is shared among them.
    out.recompute =
        options.recompute_weight *
        std::max(input.prompt_price - options.overlap_credit * out.decay * input.held_price, 0.0);
    out.adjusted_prefill += out.recompute;
  }
  out.decode_blocks = input.active_decode_blocks + input.added_decode_blocks;
  out.active_requests = options.active_request_weight * input.active_requests;
  if (options.policy == SelectionPolicy::kLmetric) {
    out.cost = out.adjusted_prefill * (out.decode_blocks + 1);
  } else if (options.decode_pool && !options.track_prefill_tokens && options.overlap_credit > 0) {
    out.cost = std::max(out.decode_blocks - out.credit, 0.0) + out.active_requests;
  } else {
    out.cost =
        options.prefill_load_scale * out.adjusted_prefill + out.decode_blocks + out.active_requests;
  }
  out.taint_factor = input.preferred_taints == 0 ? 1 : std::exp(-std::tanh(input.preferred_taints));
  out.cost *= out.taint_factor;
  return out;
}

std::uint64_t CachedTokens(const CostOptions& options, const CostInput& input) {
  const double blocks = input.device_blocks +
                        std::min(options.host_hit_weight, 1.0) * input.host_blocks +
                        std::min(options.disk_hit_weight, 1.0) * input.disk_blocks;
  return std::min(static_cast<std::uint64_t>(blocks * input.block_tokens), input.prompt_tokens);
}

std::size_t PickByCost(std::span<const double> costs, double temperature, rt::Random& random) {
  const auto [least, most] = std::ranges::minmax(costs);
  if (temperature <= 0) {
    const auto ties = static_cast<std::uint64_t>(std::ranges::count(costs, least));
    std::uint64_t before = ties > 1 ? random.Below(ties) : 0;  // equal ones to pass
    std::size_t best = 0;
    while (costs[best] != least || before-- > 0) {
      ++best;
    }
    return best;
  }
  if (least == most) {
    return random.Below(costs.size());
  }
  const double scale = (most - least) * temperature;
  double sum = 0;
  for (const double cost : costs) {
    sum += std::exp(-(cost - least) / scale);
  }
  double left = random.Unit() * sum;
  for (std::size_t i = 0; i < costs.size(); ++i) {
    left -= std::exp(-(costs[i] - least) / scale);
    if (left < 0) {
      return i;
    }
  }
  return static_cast<std::size_t>(std::ranges::min_element(costs) - costs.begin());
}

}  // namespace pixii::router
