// One picture of `pixii top`, of what a frontend answered.
//
// Thread: functions.
#pragma once

#include <string>
#include <string_view>

#include "rt/terminal.h"
#include "wire/json.h"

namespace pixii::apps {

struct TopInput {
  std::string url;
  wire::Json cluster;    // of GET /v1/cluster
  std::string metrics;   // of GET /metrics
  std::string trouble;   // why there is nothing newer; empty: this is new
  bool colours = false;  // else plain text
};

/// Lines that fit `size`, each with its end.
std::string TopFrame(const TopInput& input, rt::TerminalSize size);

/// The sum of all series of a metric whose labels contain `label`, for example `tier="host"`.
double MetricSum(std::string_view metrics, std::string_view name, std::string_view label = {});

}  // namespace pixii::apps
