// `pixii simulate --scenario trace`: a trace of requests on many workers in virtual time.
#pragma once

#include <cstdint>

#include "apps/option_structs.h"
#include "config/parse.h"

namespace pixii::apps {

/// Runs it and prints its figures; the exit status.
int SimulateTrace(const TraceFlags& flags, std::uint64_t seed, bool json,
                  const config::Parsed& parsed);

}  // namespace pixii::apps
