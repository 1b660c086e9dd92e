// What simulations and benches read of a trace's flags.
#pragma once

#include <cstdint>
#include <string>

#include "apps/option_structs.h"
#include "base/result.h"
#include "engine/mock_timing.h"
#include "sim/trace.h"

namespace pixii::apps {

/// `block_tokens`: as sim::ReadTrace. Errors: those of the file and of what is in it.
Result<sim::Trace> ReadTraceFile(const std::string& path, std::int64_t block_tokens);

/// How long the steps of simulated engines take: the polynomial, or the profile of --mock-profile.
/// Errors: those of that file.
Result<engine::MockTiming> SimulatedTiming(const TraceFlags& flags);

}  // namespace pixii::apps
