// What an operator can set of the router.
//
// Thread: values. Source: names and defaults of spec/dynamo-core.md B.2, B.6, B.10, 12.2, 12.3,
// C.6.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "rt/time.h"

namespace pixii::router {

enum class RouterMode : std::uint8_t {
  kRoundRobin,
  kRandom,
  kPowerOfTwo,   // of two random workers the one with fewer requests
  kLeastLoaded,  // fewest requests
  kKv,           // least cost by what is cached and what runs
  kDirect,       // the request names its worker
};

enum class SelectionPolicy : std::uint8_t {
  kCost,     // the sum of docs/subsystems/router.md
  kLmetric,  // prefill that is left times (decode blocks + 1)
};

enum class ApproximatePolicy : std::uint8_t {
  kTtl,  // a routed prompt is cached for so long
  kLru,  // a rank keeps what was used last, up to its number of blocks
};

enum class AffinityMode : std::uint8_t {
  kHard,  // a session's worker or none, while that worker is there
  kSoft,  // another one while that worker is busy
};

enum class QueuePolicy : std::uint8_t {
  kFcfs,  // first come, first served
  kLcfs,  // last come, first served
  kWspt,  // the shorter the work, the earlier
};

/// The terms of the cost of a worker. These defaults are the published formula; what the program
/// does unless told otherwise stands with its flags (docs/adr/0021-what-a-missing-block-costs.md).
struct CostOptions {
  double overlap_credit = 1.0;        // blocks for each block on the device; 0: no index is kept
  double overlap_credit_decay = 0.0;  // 1 halves it at a request's worth more load than the least
  double prefill_load_scale = 1.0;
  double recompute_weight = 0.0;  // blocks more for each block that the rank lacks
  double host_hit_weight = 0.75;  // blocks for each block in host memory
  double disk_hit_weight = 0.25;  // blocks for each block on disk
  double shared_cache_multiplier = 0.0;
  double active_request_weight = 0.0;  // blocks for each request that runs
  bool track_prefill_tokens = true;
  bool decode_pool = false;  // workers that get prompts already computed
  SelectionPolicy policy = SelectionPolicy::kCost;
};

/// Requests that wait together, and what each class may use.
struct PolicyClass {
  std::string name;
  std::string family;  // with `bucket`, or neither: then a request must name the class
  std::string cache_bucket;
  QueuePolicy queue_policy = QueuePolicy::kFcfs;
  std::uint64_t quantum = 1;                         // uncached tokens a round
  std::optional<double> prefill_busy_fraction;       // of a worker's tokens of a step
  std::optional<std::uint64_t> prefill_busy_tokens;  // either one: a worker is busy
  std::optional<std::uint64_t> requests_per_worker;  // that wait
  std::optional<std::uint64_t> tokens_per_worker;    // of prompts that wait
  std::optional<std::uint64_t> cached_tokens_per_worker;
};

struct CacheBucket {
  std::uint64_t tokens_min = 0;  // uncached tokens of a prompt
  std::string name;
};

/// Empty: one class, in which whoever can go at once passes those who wait.
struct PolicyConfig {
  std::string default_family;
  std::vector<CacheBucket> buckets;
  std::vector<PolicyClass> classes;
};

inline constexpr std::size_t kPolicyClassCountMax = 64;

/// Errors: kInvalidArgument naming what is wrong: floors of buckets that do not start at 0 and
/// rise, a class with only one of family and bucket, a pair without a class or with two, a quantum
/// of 0.
Result<void> CheckPolicyConfig(const PolicyConfig& config);

struct RouterOptions {
  RouterMode mode = RouterMode::kRoundRobin;

  CostOptions cost;
  double temperature = 0.0;  // 0: always the least cost

  bool use_kv_events = true;  // false: what is cached is guessed from what was routed
  ApproximatePolicy approximate_policy = ApproximatePolicy::kTtl;
  rt::Duration approximate_ttl = std::chrono::seconds(120);
  std::optional<rt::Duration> predicted_ttl;  // what was routed counts as cached at once, so long
  std::uint64_t index_bytes_max = std::uint64_t{4} << 30;
  std::uint32_t approximate_blocks_max = 4'000'000;  // blocks that are guessed to be cached

  bool track_active_blocks = true;
  bool track_output_blocks = false;
  bool assume_kv_reuse = true;        // equal prefixes at one rank are kept once
  bool credit_coming_blocks = false;  // what running requests use counts as cached; with the above
  rt::Duration active_request_expiry = std::chrono::seconds(300);  // without any sign of life

  std::optional<double> queue_threshold;  // of a worker's tokens of a step; nothing: nobody waits
  QueuePolicy queue_policy = QueuePolicy::kFcfs;
  std::uint32_t queue_requests_max = 100'000;  // that wait in all classes
  PolicyConfig policy;

  // A worker beyond any of these takes nothing new.
  std::optional<double> active_decode_blocks_threshold;  // of its blocks
  std::optional<std::uint64_t> active_prefill_tokens_threshold;
  std::optional<double> active_prefill_tokens_threshold_frac;  // of its tokens of a step
  rt::Duration overloaded_hint = std::chrono::seconds(1);      // how long its word counts

  std::optional<rt::Duration> session_affinity_ttl;  // nothing: sessions mean nothing
  AffinityMode session_affinity_mode = AffinityMode::kHard;
  std::uint32_t session_count_max = 1'000'000;

  bool tells_terms = false;        // dispatches have their candidates, for logs
  bool tell_load_changes = false;  // whoever sets it takes them (Router::TakeLoadChanges)
};

}  // namespace pixii::router
