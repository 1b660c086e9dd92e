// A request as the router sees it.
//
// Thread: values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "router/rank.h"

namespace pixii::router {

/// Of one request, instead of the router's options.
struct RouteOverride {
  std::optional<double> overlap_credit;
  std::optional<double> prefill_load_scale;
  std::optional<double> temperature;
  std::optional<bool> assume_kv_reuse;
  std::optional<bool> track_prefill_tokens;
  std::optional<double> shared_cache_multiplier;
};

struct PreferredTaint {
  std::string taint;
  double weight = 0;  // above 0: rather there; below: rather not
};

struct RouteRequest {
  RequestId id{};               // of this attempt, unique among those that run
  std::vector<TokenId> tokens;  // prompt and what is generated already
  std::string adapter;
  std::string salt;                          // tenant's and client's own
  std::optional<InstanceId> pinned;          // this worker and no other
  std::optional<std::uint32_t> rank;         // and this rank of it
  std::vector<InstanceId> excluded;          // where it failed already
  std::vector<std::string> required_taints;  // a worker must have all of them
  std::vector<PreferredTaint> preferred_taints;
  std::string session;                       // empty: none
  std::string policy_class;                  // empty: the default one
  double priority_jump_s = 0;                // arrival is made earlier by so many seconds
  std::int32_t strict_priority = 0;          // higher first, whatever the arrival
  std::uint32_t expected_output_tokens = 0;  // 0: nobody knows
  RouteOverride instead;
};

}  // namespace pixii::router
