// Requests in the router's words, and the router's decisions in everybody's.
//
// Thread: functions.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "control/route_explanation.h"
#include "router/router.h"
#include "wire/messages/generate.h"

namespace pixii::frontend {

/// As options name it: "kv", "round-robin".
std::string_view ModeName(router::RouterMode mode);

/// What the router needs to know of `request`. Its id is left to the caller.
router::RouteRequest RouteRequestOf(const wire::GenerateRequest& request);

control::RouteExplanation ExplanationOf(const router::Router& router,
                                        const router::Preview& preview,
                                        std::uint64_t prompt_tokens);

/// For the log: "WORKER:RANK standing prefill=... cost=...; ..." of at most 16 candidates.
std::string TermsText(std::span<const router::Candidate> candidates);

}  // namespace pixii::frontend
