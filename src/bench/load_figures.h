// What is made of the times of a load's requests: percentiles, goodput, AIPerf's file, and whether
// two loads differ.
//
// Thread: values. docs/benchmarking.md
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "bench/http_load.h"
#include "wire/json.h"

namespace pixii::bench {

/// Limits of a good request, in milliseconds, inclusive.
struct LoadGoals {
  double ttft_ms = std::numeric_limits<double>::infinity();
  double itl_ms = std::numeric_limits<double>::infinity();  // mean of its gaps
  double e2e_ms = std::numeric_limits<double>::infinity();
};

/// "ttft:500,itl:50,e2e:5000", each at most once. Errors: kInvalidArgument.
Result<LoadGoals> ParseGoals(std::string_view text);

/// From the second token on, the mean time of one; 0 if there is none.
double TokenGapMs(const RequestSample& sample);

/// A request that failed is never good.
bool IsGood(const RequestSample& sample, const LoadGoals& goals);

/// The JSON that AIPerf writes as profile_export_aiperf.json, of its names those that are measured,
/// and besides `pixii_requests`: each request's times, which CompareLoads reads.
wire::Json AiperfExport(const LoadResult& load, const LoadGoals& goals);

/// One measure of two loads.
struct LoadComparison {
  std::string name;  // "time_to_first_token p50"
  double first = 0;
  double second = 0;
  double ratio_low = 0;  // of second / first, 95 % of the resampled ones lie between
  double ratio_high = 0;

  /// "better", "worse" or "not told apart": all three measures are better when lower.
  std::string_view verdict() const;
};

/// Of two such files, by resampling each one's requests (bootstrap, percentile interval). Equal
/// input gives equal output. Errors: kInvalidArgument naming the file without requests.
Result<std::vector<LoadComparison>> CompareLoads(const wire::Json& first, const wire::Json& second);

}  // namespace pixii::bench
