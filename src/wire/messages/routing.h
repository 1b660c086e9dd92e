// What a request wants of whoever picks its worker.
//
// Thread: values. Source: names of spec/dynamo-core.md A.9, A.10, B.2.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace pixii::wire {

/// Of one request, instead of the router's options.
struct RouteOverride {
  std::optional<double> overlap_credit = {};
  std::optional<double> prefill_load_scale = {};
  std::optional<double> temperature = {};
  std::optional<bool> assume_kv_reuse = {};
  std::optional<bool> track_prefill_tokens = {};
  std::optional<double> shared_cache_multiplier = {};
};

struct PreferredTaint {
  std::string taint;
  double weight = 0;  // above 0: rather there; below: rather not
};

/// What goes with a request from its client to whoever decides, wherever that is.
struct RouteWishes {
  bool anywhere = false;  // any worker will do, also where requests must name theirs
  std::vector<std::string> required_taints = {};  // a worker must have all of them
  std::vector<PreferredTaint> preferred_taints = {};
  std::string policy_class = {};             // empty: the default one
  std::int64_t strict_priority = 0;          // higher first, whatever the arrival
  std::uint32_t expected_output_tokens = 0;  // 0: nobody knows
  RouteOverride instead = {};
};

/// What a client says about its worker. A worker itself never reads it.
struct RoutingHints : RouteWishes {
  std::optional<std::uint64_t> worker = {};  // this one and no other
};

/// A rank of a worker.
struct WorkerRank {
  std::uint64_t worker = 0;
  std::uint32_t rank = 0;

  friend bool operator==(const WorkerRank&, const WorkerRank&) = default;
};

}  // namespace pixii::wire
