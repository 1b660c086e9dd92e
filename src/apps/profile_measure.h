// Step times of an engine on this host, measured at points that a planner's profile wants.
//
// Thread: the caller's; the engine has threads of its own.
// Source: spec/dynamo-core.md F.4 (TTFT over prompt lengths one at a time, ITL over cache and
// context with a warm cache), 13.4 F9 (points held out).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "apps/bench_kv_engine.h"
#include "apps/planner_profile.h"
#include "base/result.h"

namespace pixii::apps {

struct ProfilePlan {
  std::uint32_t prefill_points = 16;
  std::uint32_t decode_points = 6;
  std::uint32_t context_max = 0;  // 0: what the engine holds, at most 16384
  std::uint32_t repeats = 3;
  std::uint64_t seed = 1;
};

/// A point that the profile does not have, beside what it says of it.
struct HeldOut {
  std::string what;  // "prefill", "prompt" or "decode"
  double tokens = 0;
  double context = 0;  // of decode
  double measured_ms = 0;
  double predicted_ms = 0;

  double error() const;  // relative
};

struct MeasuredProfile {
  EngineProfile profile;
  std::vector<HeldOut> held_out;

  /// Largest of a kind; 0 if there is none.
  double ErrorMax(std::string_view what) const;
};

/// `progress`: 0 .. 1, and what is measured. Errors: those of the engine.
Result<MeasuredProfile> MeasureProfile(
    BenchedEngine& engine, const ProfilePlan& plan,
    const std::function<void(double done, const std::string& what)>& progress);

/// Counts from `low` to `high`, in about equal ratios, rising, each once.
std::vector<std::uint32_t> GeometricCounts(std::uint32_t low, std::uint32_t high,
                                           std::uint32_t count);

}  // namespace pixii::apps
