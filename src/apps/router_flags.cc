#include "apps/router_flags.h"

#include <string_view>

#include "rt/file.h"

namespace pixii::apps {

namespace {

constexpr std::uint64_t kPolicyFileBytesMax = 1U << 20U;

router::RouterMode ModeOf(std::string_view word) {
  using router::RouterMode;
  return word == "random"         ? RouterMode::kRandom
         : word == "power-of-two" ? RouterMode::kPowerOfTwo
         : word == "least-loaded" ? RouterMode::kLeastLoaded
         : word == "kv"           ? RouterMode::kKv
         : word == "direct"       ? RouterMode::kDirect
                                  : RouterMode::kRoundRobin;
}

router::QueuePolicy QueuePolicyOf(std::string_view word) {
  using router::QueuePolicy;
  return word == "lcfs"   ? QueuePolicy::kLcfs
         : word == "wspt" ? QueuePolicy::kWspt
                          : QueuePolicy::kFcfs;
}

// Below 0 a threshold is off.
std::optional<double> Threshold(double value) {
  return value < 0 ? std::nullopt : std::optional<double>(value);
}

// 0 is off.
std::optional<rt::Duration> Span(std::int64_t nanoseconds) {
  return nanoseconds == 0 ? std::nullopt : std::optional<rt::Duration>(rt::Duration(nanoseconds));
}

}  // namespace

router::RouterOptions RouterOptionsOf(const RouterFlags& flags) {
  router::RouterOptions out;
  out.mode = ModeOf(flags.mode);
  out.cost = {.overlap_credit = flags.overlap_credit,
              .overlap_credit_decay = flags.overlap_credit_decay,
              .prefill_load_scale = flags.prefill_load_scale,
              .recompute_weight = flags.recompute_weight,
              .host_hit_weight = flags.host_hit_weight,
              .disk_hit_weight = flags.disk_hit_weight,
              .shared_cache_multiplier = flags.shared_cache_multiplier,
              .active_request_weight = flags.active_request_weight,
              .track_prefill_tokens = flags.track_prefill_tokens};
  out.temperature = flags.temperature;
  out.use_kv_events = flags.kv_events;
  out.approximate_policy = flags.approximate_policy == "lru" ? router::ApproximatePolicy::kLru
                                                             : router::ApproximatePolicy::kTtl;
  out.approximate_ttl = rt::Duration(flags.ttl);
  out.predicted_ttl = Span(flags.predicted_ttl);
  out.index_bytes_max = static_cast<std::uint64_t>(flags.index_bytes);
  out.track_active_blocks = flags.track_active_blocks;
  out.track_output_blocks = flags.track_output_blocks;
  out.assume_kv_reuse = flags.assume_kv_reuse;
  out.credit_coming_blocks = flags.credit_coming_blocks;
  out.active_request_expiry = rt::Duration(flags.request_expiry);
  out.queue_threshold = Threshold(flags.queue_threshold);
  out.queue_policy = QueuePolicyOf(flags.queue_policy);
  out.active_decode_blocks_threshold = Threshold(flags.decode_blocks_threshold);
  if (flags.prefill_tokens_threshold >= 0) {
    out.active_prefill_tokens_threshold =
        static_cast<std::uint64_t>(flags.prefill_tokens_threshold);
  }
  out.active_prefill_tokens_threshold_frac = Threshold(flags.prefill_tokens_fraction);
  out.session_affinity_ttl = Span(flags.session_ttl);
  out.session_affinity_mode =
      flags.session_mode == "soft" ? router::AffinityMode::kSoft : router::AffinityMode::kHard;
  if (flags.load_aware) {
    out.mode = router::RouterMode::kKv;
    out.cost.overlap_credit = 0;
    out.cost.recompute_weight = 0;
    out.credit_coming_blocks = false;
    out.cost.shared_cache_multiplier = 0;
    out.cost.track_prefill_tokens = true;
    out.use_kv_events = false;
    out.assume_kv_reuse = false;
    out.track_active_blocks = true;
  }
  return out;
}

Result<router::PolicyFile> ReadPolicies(const RouterFlags& flags) {
  if (flags.policy_config.empty()) {
    return router::PolicyFile();
  }
  PX_TRY(const std::string text, rt::ReadFile(flags.policy_config, kPolicyFileBytesMax));
  return router::ReadPolicyFile(text, flags.policy_config);
}

}  // namespace pixii::apps
