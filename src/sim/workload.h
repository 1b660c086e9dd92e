// What the simulations have in common: what a seed draws, what must come of it, and what a run
// says.
//
// Thread: one.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"
#include "engine/mock_executor.h"
#include "engine/options.h"
#include "rt/random.h"
#include "rt/sim_world.h"
#include "sim/sim_client.h"
#include "wire/messages/generate.h"

namespace pixii::sim {

template <class T>
T Pick(rt::Random& random, std::initializer_list<T> values) {
  return values.begin()[random.Below(values.size())];
}

/// The stream of one choice if nothing ends it early.
struct Expected {
  std::vector<TokenId> tokens;
  wire::FinishReason finish = wire::FinishReason::kLength;
};

using Expectation =
    std::function<Expected(const wire::GenerateRequest& request, std::uint32_t choice)>;

struct SimResult {
  std::uint64_t seed = 0;
  std::uint64_t state_hash = 0;
  std::uint64_t events = 0;
  std::uint64_t requests = 0;   // sent
  std::uint64_t finished = 0;   // answered whole and as expected
  std::uint64_t cancelled = 0;  // given up by their client on purpose
  std::uint64_t refused = 0;    // 503 and 529, and connections refused while draining
  std::uint64_t failed = 0;     // ended by a typed error that a fault explains
  std::uint64_t tokens = 0;     // received
  std::uint64_t preemptions = 0;
  std::uint64_t prefix_hit_tokens = 0;
  std::uint64_t moves = 0;                         // of requests to another worker
  std::map<std::string, std::uint64_t> handovers;  // of KV blocks, by side and end
  std::map<std::string, std::uint64_t> faults;     // that happened, by name
  std::map<std::string, std::uint64_t> left;       // that is held at the end, by name
  /// Explained ones, by their code and the faults that explain them.
  std::map<std::string, std::uint64_t> errors;
  double load_seconds = 0;  // virtual ones, from the first request to the last
  double virtual_seconds = 0;
  std::uint64_t unexplained = 0;        // errors for which no fault is known to be why: violations
  std::vector<std::string> violations;  // of the oracles; empty: the run passed
};

/// Keeps the first violations.
void AddViolation(SimResult& result, std::string text);

/// Speeds and sizes of the network.
rt::SimOptions DrawWorldOptions(std::uint64_t seed);

struct MockSetup {
  engine::MockOptions mock;
  engine::EngineOptions options;
};

/// Sizes, timing and limits of a mock engine.
MockSetup DrawMockSetup(std::uint64_t seed);

/// What engine::MockStream says.
Expectation MockExpectation(const engine::ExecutorLimits& limits);

/// What requests of a model may be.
struct RequestBounds {
  std::uint32_t vocab_size = 0;
  std::uint32_t context_tokens_max = 0;
  std::uint32_t output_tokens_max = 60;
  std::vector<TokenId> eos_token_ids;
};

/// A prompt's beginning that requests share: it makes the prefix cache matter.
std::vector<TokenId> DrawSharedPrompt(rt::Random& random, std::uint32_t vocab_size);

/// One client: its request and its behaviour.
ClientPlan DrawPlan(rt::Random& random, const std::vector<TokenId>& shared,
                    const RequestBounds& bounds);

/// Compares what a client got with the expectation: all of it, or its beginning.
void JudgeTokens(std::size_t index, const ClientPlan& plan, const ClientReport& report,
                 const Expectation& expect, bool whole, SimResult& result);

}  // namespace pixii::sim
