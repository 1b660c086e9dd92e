// What the front end costs: a server with the mock engine beside plain HTTP, in turns, on the same
// cores as the load.
//
// Thread: one that runs `loop`; the servers are children, and a thread of this process.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "bench/report.h"
#include "rt/net.h"

namespace pixii::bench {

struct FrontendBenchOptions {
  std::string program;          // of ours
  std::string model;            // whose tokenizer and template are used
  std::string nginx = "nginx";  // the plain HTTP server; empty, or not there: without it
  std::string only;             // name of the one case that is run; empty: all
  double seconds = 0.5;         // of each case and round
  std::uint32_t repeats = 7;    // rounds
  std::uint32_t connections = 16;
  std::uint32_t output_tokens = 128;  // of each stream
};

struct FrontendBenchResult {
  std::vector<Figure> figures;
  std::string nginx_missing;  // why there are no figures of it; empty: there are
};

/// Errors: kInvalidArgument if there is no case `only`; kUnavailable if our server does not start
/// or an answer is not what it must be.
Result<FrontendBenchResult> BenchFrontend(const FrontendBenchOptions& options);

}  // namespace pixii::bench
