// What the engines of a simulated cluster have in common beyond sizes: grammars over a vocabulary
// of letters and adapters; and what any of them must answer.
//
// Thread: one, but for the grammars, which all simulations of a process share.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"
#include "rt/random.h"
#include "sim/direct_call.h"
#include "sim/workload.h"

namespace pixii::sim {

/// Grammars and adapters besides what `setup` has.
void AddGrammarsAndAdapters(MockSetup& setup);

/// An engine of `setup` with its adapters loaded.
Result<std::unique_ptr<engine::Engine>> MakeFleetEngine(
    const MockSetup& setup, std::unique_ptr<kv::Connector> connector = nullptr);

/// A request that asks for anything that engines of `setup` can do. `id` is also what sets apart
/// the cache salts of those that have one. `poison_share`: of those that kill workers.
DirectPlan DrawDirectPlan(rt::Random& random, const std::vector<TokenId>& shared,
                          const RequestBounds& bounds, RequestId id, double poison_share);

/// Runs each request alone, in an engine of its own kind.
class ReferenceEngine final {
 public:
  explicit ReferenceEngine(MockSetup setup);

  DirectReport Run(wire::GenerateRequest request);

 private:
  std::unique_ptr<engine::Engine> engine_;
  std::uint64_t last_id_ = 0;
};

}  // namespace pixii::sim
