// Flags as deployments of Dynamo's worker for TensorRT-LLM write them.
//
// Source: names and defaults of spec 12.2 to 12.4; docs/migration_from_dynamo.md has what becomes
// of each.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/option_structs.h"
#include "base/result.h"
#include "config/parse.h"

namespace pixii::apps {

struct TrtllmFlags {
#define PX_BOOL(field, name, value, help) bool field = value;
#define PX_INT(field, name, value, min, max, unit, help) std::int64_t field = value;
#define PX_REAL(field, name, value, min, max, unit, help) double field = value;
#define PX_TEXT(field, name, value, help) std::string field = value;
#define PX_WORD(field, name, value, words, help) std::string field = value;
#include "apps/trtllm_options.def"
#undef PX_BOOL
#undef PX_INT
#undef PX_REAL
#undef PX_TEXT
#undef PX_WORD
};

/// Those that `options` has no flag of the same name for, behind them.
void AddRows(TrtllmFlags& flags, std::vector<config::Option>& options);

/// Does what `given` asks for, or says in `parsed` to whom it is to be said. Errors:
/// kInvalidArgument for flags that contradict one another, kUnsupported for what is not done; both
/// name flag and reason.
Result<void> Settle(const TrtllmFlags& given, config::Parsed& parsed);

/// What a worker's own flags say in Dynamo's words: dyn://NAMESPACE.COMPONENT.ENDPOINT, the role
/// pd. Errors: kInvalidArgument naming the flag, also for diffusion, which has no workers.
Result<void> Settle(const TrtllmFlags& given, WorkerFlags& worker);

}  // namespace pixii::apps
