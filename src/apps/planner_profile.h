// profile.json: what pixii profile measured of an engine, and a planner plans with.
// docs/formats/profile.md
//
// Thread: functions and values.
#pragma once

#include <string>

#include "base/result.h"
#include "control/planner_model.h"
#include "engine/mock_timing.h"
#include "wire/json.h"

namespace pixii::apps {

struct EngineProfile {
  engine::MockProfile times;
  double kv_tokens = 1 << 20;      // that its cache holds
  double sequences_max = 256;      // of a step
  double batch_tokens_max = 8192;  // new ones, of a step
};

/// Errors: kInvalidArgument naming what is wrong.
Result<EngineProfile> ParseEngineProfile(const std::string& text);
/// Of a file, or of profile.json in a folder. Errors: also those of reading it.
Result<EngineProfile> ReadEngineProfile(const std::string& path);

/// The members of the file that ParseEngineProfile reads.
wire::Json ProfileJson(const EngineProfile& profile);

/// The same engine, as a planner sees it.
control::EngineModel PlannedEngine(const EngineProfile& profile);

}  // namespace pixii::apps
