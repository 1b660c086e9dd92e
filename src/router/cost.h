// What it would cost to send a request to a rank, in blocks, and the choice between costs.
//
// Thread: functions without state. Source: spec/dynamo-core.md B.1.
#pragma once

#include <cstdint>
#include <span>

#include "control/route_explanation.h"
#include "router/options.h"
#include "rt/random.h"

namespace pixii::router {

// They stand where they are shown (control/route_explanation.h).
using control::CostInput;
using control::CostTerms;

CostTerms CostOf(const CostOptions& options, const CostInput& input);

/// Tokens of the prompt that need not be computed at the rank.
std::uint64_t CachedTokens(const CostOptions& options, const CostInput& input);

/// Index of one of `costs`: the least (equal ones alike likely) at temperature 0, else at random,
/// the likelier the less. Pre: not empty.
std::size_t PickByCost(std::span<const double> costs, double temperature, rt::Random& random);

}  // namespace pixii::router
