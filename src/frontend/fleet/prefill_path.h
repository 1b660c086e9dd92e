// Whether a request's prompt is computed by a prefill worker or by the one that decodes.
//
// Thread: pure functions. docs/kv_transfer.md
// Source: policies and thresholds of spec/dynamo-core.md B.8.
#pragma once

#include <cstdint>
#include <optional>

#include "control/route_explanation.h"
#include "wire/messages/generate.h"

namespace pixii::frontend {

/// What makes it worth computing a prompt where it is decoded.
enum class LocalPrefillPolicy : std::uint8_t {
  kShort,        // there is little to compute there, as much of it is cached
  kPrefillBusy,  // prefill workers have too much to do
  kEither,
};

struct PrefillOptions {
  bool conditional = false;  // else every prompt goes to a prefill worker
  LocalPrefillPolicy policy = LocalPrefillPolicy::kShort;
  std::uint32_t short_tokens = 2048;           // to compute: below and
  double short_ratio = 0.7;                    // of the prompt: below, it is short
  std::optional<double> prefill_busy_at = {};  // of a step's tokens that wait there
  std::optional<double> decode_busy_at = {};   // beyond, nothing is computed there
  /// The worker that decodes is chosen first, and prompts are computed elsewhere only for what it
  /// lacks; else the prefill worker is, and who decodes later.
  bool decode_first = false;
  bool fallback = true;  // without a prefill worker, or if it fails, the decode worker computes
};

/// How a request went.
enum class PrefillPath : std::uint8_t {
  kPrefill,      // a prefill worker computes its prompt
  kNothingToDo,  // no whole block to hand over, or no second token
  kShort,        // little to compute
  kPrefillBusy,  // see LocalPrefillPolicy
  kNoWorker,     // no prefill worker is there
  kUnavailable,  // it failed: gone, or none takes it
  kOverloaded,   // it failed: full
  kNoRecord,     // it computed the prompt and kept nothing
};

inline constexpr std::size_t kPrefillPathCount = 8;

/// In metrics.
const char* NameOf(PrefillPath path);

/// A worker's share of a step's tokens that wait to be computed there; nothing: nobody knows.
std::optional<double> BusyShareOf(const control::RouteExplanation& route,
                                  std::uint32_t batch_tokens_max);

/// What the decision rests on.
struct PrefillOutlook {
  std::uint32_t block_tokens = 1;           // only whole blocks are handed over
  bool decode_there = true;                 // else there is nobody to hand over to
  bool prefill_there = false;               // a prefill worker that requests can be sent to
  std::uint64_t overlap_tokens = 0;         // that the decode worker should have cached
  bool all_there = false;                   // every whole block, as it said itself
  std::optional<double> prefill_busy = {};  // BusyShareOf
  std::optional<double> decode_busy = {};
};

PrefillPath ChoosePath(const wire::GenerateRequest& request, const PrefillOptions& options,
                       const PrefillOutlook& outlook);

}  // namespace pixii::frontend
