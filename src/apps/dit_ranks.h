// Ranks of a diffusion pipeline's transformer as flags spell them.
//
// Thread: any.
#pragma once

#include <memory>

#include "apps/option_structs.h"
#include "base/result.h"
#include "kernels/operators.h"
#include "model/diffusion/wan_ranks.h"

namespace pixii::apps {

/// As --dit-cfg-size, --dit-ulysses-size and --tensor-parallel-size spell them; the ranks share the
/// threads.
model::WanRankOptions DitRanksOf(const EngineFlags& flags);

/// Operators of the pipeline's other parts, which have all threads. `gate`: as MakeOperators.
Result<std::unique_ptr<kernels::Operators>> MakePipelineOperators(
    const EngineFlags& flags, kernels::WorkGate* gate = nullptr);

}  // namespace pixii::apps
