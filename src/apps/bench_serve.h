// `pixii bench serve`: a server under load. docs/benchmarking.md
#pragma once

#include <vector>

#include "apps/option_structs.h"
#include "base/result.h"
#include "bench/report.h"

namespace pixii::apps {

/// Errors: kUnavailable if nobody answers; those of wrong flags.
Result<std::vector<bench::Figure>> MeasureServe(const BenchServeFlags& flags);

}  // namespace pixii::apps
