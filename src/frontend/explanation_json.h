// Why a request would go where it would go: the answer of /router/explain.
//
// Thread: functions.
#pragma once

#include <string>

#include "control/route_explanation.h"
#include "wire/json.h"

namespace pixii::frontend {

/// docs/router_service.md
std::string ExplanationJson(const control::RouteExplanation& from);

}  // namespace pixii::frontend
