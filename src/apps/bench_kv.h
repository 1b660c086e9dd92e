// How much sooner a conversation goes on if its KV blocks come back from a slower tier.
//
// Thread: the caller's, and those of the engine. Takes the machine for itself.
#pragma once

#include <vector>

#include "apps/option_structs.h"
#include "base/result.h"
#include "bench/report.h"

namespace pixii::apps {

/// Conversations whose tokens are several times the device's cache take turns: with no tier, with
/// one in host memory, and with one on disk. Figures: ttft_none, ttft_host and ttft_disk in ms, the
/// two ratios host_speedup and disk_speedup, tokens a second that prefill computes (prefill) and
/// that the tiers bring (host_tokens, disk_tokens), the ratios of those, bytes of a block; and
/// those of BenchKvSlowdown. Errors: those of the flags, and kInternal if an answer is not the same
/// in all three.
Result<std::vector<bench::Figure>> BenchKv(const BenchKvFlags& flags);

}  // namespace pixii::apps
