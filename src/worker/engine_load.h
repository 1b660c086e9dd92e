// How busy an outside engine is, as its metrics say.
//
// Thread: values; no I/O.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "worker/engine_dialect.h"

namespace pixii::worker {

struct EngineLoad {
  std::optional<std::uint32_t> running;  // sequences in the batch
  std::optional<std::uint32_t> queued;   // sequences waiting
  std::optional<double> cache_used;      // part of the blocks that running sequences pin, 0 .. 1
  std::optional<std::uint32_t> block_tokens;
  std::optional<std::uint32_t> block_count;
};

/// Where an engine tells of its load; also says whether it is there.
std::string_view LoadTarget(EngineKind kind);

/// What the answer of LoadTarget says; what is not in it stays unknown. Errors: kDataCorrupt.
Result<EngineLoad> ReadEngineLoad(EngineKind kind, std::string_view body);

}  // namespace pixii::worker
