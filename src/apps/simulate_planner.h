// `pixii simulate --scenario planner`: a planner against an oracle and static fleets, in virtual
// time.
#pragma once

#include <cstdint>

#include "apps/option_structs.h"
#include "config/parse.h"

namespace pixii::apps {

/// Runs it and prints its figures; the exit status: 1 if a bar of docs/planner.md is missed.
int SimulatePlanner(const TraceFlags& flags, std::uint64_t seed, bool json,
                    const config::Parsed& parsed);

}  // namespace pixii::apps
