// What a planner asks for and what whoever changes the fleet answers, as two keys of discovery's
// store. docs/formats/scaling.md
//
// Thread: values.
// Source: spec/dynamo-core.md F.3 (a decision with an id, done when its id was told back).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pixii::control {

/// Of a component of a graph.
struct ScaleCount {
  std::string component;
  std::uint32_t replicas = 0;

  friend bool operator==(const ScaleCount&, const ScaleCount&) = default;
};

/// The planner's key.
struct ScaleOrder {
  std::int64_t decision = 0;       // rises; milliseconds since 1970 or one more than before
  std::int64_t done = 0;           // the highest decision that the planner knows to be done
  std::vector<ScaleCount> counts;  // that there shall be
  std::string reason;

  friend bool operator==(const ScaleOrder&, const ScaleOrder&) = default;
};

/// The key of whoever changes the fleet.
struct ScaleReport {
  std::int64_t decision = 0;       // the highest one that is done
  std::vector<ScaleCount> counts;  // that are asked for there now; empty: it does not say
  std::string error;               // why the last decision could not be done; empty: it was

  friend bool operator==(const ScaleReport&, const ScaleReport&) = default;
};

inline constexpr std::int64_t kScaleReplicasMax = 1 << 20;

std::string ScaleOrderKey(std::string_view ns);
std::string ScaleReportKey(std::string_view ns);
/// Of both.
std::string ScalePrefix(std::string_view ns);

std::string EncodeScaleOrder(const ScaleOrder& order);
std::string EncodeScaleReport(const ScaleReport& report);

/// Errors: kInvalidArgument naming the member.
Result<ScaleOrder> DecodeScaleOrder(std::string_view text);
Result<ScaleReport> DecodeScaleReport(std::string_view text);

}  // namespace pixii::control
