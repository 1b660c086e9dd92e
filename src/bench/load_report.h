// One HTML file, without outside requests or scripts, that shows runs of bench serve.
//
// Thread: values. docs/benchmarking.md
#pragma once

#include <span>
#include <string>

#include "base/result.h"
#include "wire/json.h"

namespace pixii::bench {

struct ReportedLoad {
  std::string name;  // of the file
  wire::Json load;   // as AiperfExport writes it
};

/// Distributions of the times, each request over time, a table, and throughput against latency of
/// all `loads`. Errors: kInvalidArgument naming the load that has no requests.
Result<std::string> LoadReportHtml(std::span<const ReportedLoad> loads);

}  // namespace pixii::bench
