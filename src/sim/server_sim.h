// One server and its clients under virtual time: random arrivals, cancels, slow readers, small
// pools, drains.
//
// Thread: one. A seed decides everything; equal seeds give equal events (state_hash).
// What runs is the product's own frontend, link and engine over simulated loops and sockets; only
// the model may be a mock. docs/subsystems/sim.md
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"
#include "sim/workload.h"

namespace pixii::sim {

/// An engine to simulate with, and what it must answer.
struct SimEngine {
  std::unique_ptr<engine::Engine> engine;
  std::uint32_t vocab_size = 0;
  std::vector<TokenId> eos_token_ids;

  Expectation expect;  // a pure function of the request
};

/// The mock engine of a seed: sizes, timing and limits are drawn from it.
Result<SimEngine> MakeMockEngine(std::uint64_t seed);

/// An engine over any model: expectations come from `lonely`, an engine of the same model that runs
/// each request alone.
SimEngine MakeModelEngine(std::unique_ptr<engine::Engine> engine,
                          std::shared_ptr<engine::Engine> lonely,
                          std::vector<TokenId> eos_token_ids);

/// Runs one seed to its end. Oracles:
///  1. every accepted request ends exactly once, with its whole answer or a typed error, before the
///  time limit;
///  2. every stream's tokens equal the expectation, or are a prefix of it where the client gave up;
///  3. blocks are free, cached or pinned and never two; at the end none is pinned and nothing is
///  left running.
SimResult RunServerSim(std::uint64_t seed, SimEngine engine);

}  // namespace pixii::sim
