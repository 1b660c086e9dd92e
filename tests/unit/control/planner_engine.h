// An engine whose figures can be worked out by hand.
#pragma once

#include "control/planner_model.h"

namespace pixii::control {

/// A step: 10 ms and 0.01 ms a token of prompts; 20 ms and 1 ms for each 1000 tokens of context.
inline EngineModel MakeEngine() {
  EngineModel out;
  out.prefill_ms = [](double tokens) { return 10 + 0.01 * tokens; };
  out.decode_ms = [](double kv, double) { return 20 + kv / 1000; };
  out.kv_tokens = 100'000;
  out.sequences_max = 64;
  out.batch_tokens_max = 4000;
  return out;
}

}  // namespace pixii::control
