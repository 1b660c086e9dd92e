// What a planner is told: the keys of Dynamo's planner, and a few of our own.
//
// Thread: values. docs/planner.md. Source: spec/dynamo-core.md F.1.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/option.h"

namespace pixii::control {

struct PlannerConfig {
#define PX_BOOL(field, value, help) bool field = value;
#define PX_INT(field, value, min, max, unit, help) std::int64_t field = value;
#define PX_REAL(field, value, min, max, unit, help) double field = value;
#define PX_WORD(field, value, words, help) std::string field = value;
#define PX_TEXT(field, value, help) std::string field = value;
#include "control/planner_config.def"
#undef PX_BOOL
#undef PX_INT
#undef PX_REAL
#undef PX_WORD
#undef PX_TEXT
};

/// Rows whose targets are the fields of the config, which outlives them.
std::vector<config::Option> RowsOf(PlannerConfig& config);

/// Of a JSON or YAML text, a flat mapping; `file` stands in errors. Keys left out keep their
/// default. Errors: kInvalidArgument naming line, key and value; kUnsupported for values that
/// Dynamo has and this planner has not.
Result<PlannerConfig> ReadPlannerConfig(const std::string& text, const std::string& file);

}  // namespace pixii::control
