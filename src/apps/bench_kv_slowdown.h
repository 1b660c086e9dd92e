// How much a stream that decodes is slowed by KV blocks that come and go for others.
//
// Thread: the caller's, and those of the engines. Takes the machine for itself.
#pragma once

#include <string>
#include <vector>

#include "apps/option_structs.h"
#include "base/result.h"
#include "bench/report.h"

namespace pixii::apps {

/// One stream decodes while conversations go on beside it, at the same pace and with the same
/// computing in three engines: their blocks are on the device (device); they come from host memory
/// as fast as they can (free); or within `flags.tier_share` of the memory's bandwidth (paced).
/// Figures: gap_... between the stream's tokens, slowdown_... of it against device, in percent,
/// the share as configured and as used, the bandwidth as measured.
Result<std::vector<bench::Figure>> BenchKvSlowdown(const BenchKvFlags& flags,
                                                   const std::string& folder);

}  // namespace pixii::apps
