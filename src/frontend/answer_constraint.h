// What the answer to one request must look like: the caller's constraint, calls that must come or
// must be valid, and the reasoning that may stand before both.
//
// Thread: any. docs/structured_output.md, docs/tool_calls.md
#pragma once

#include <optional>

#include "base/result.h"
#include "frontend/chat_answer.h"
#include "frontend/openai_request.h"
#include "frontend/served_model.h"
#include "wire/messages/constraint.h"

namespace pixii::frontend {

/// Checks tool_choice against the tools of the request and what else its answer must look like.
/// Errors: kInvalidArgument and kUnsupported with the field.
Result<void> CheckToolUse(const OpenAiRequest& request);

/// Nothing if any text will do. `parsing`: how the answer will be read, null if it will not be
/// taken apart. The grammar is compiled here, where the client can still be told; the engine finds
/// it in the model's library. Errors: kUnsupported and kInvalidArgument naming the field, and the
/// keyword of a schema that cannot be enforced.
Result<std::optional<wire::Constraint>> PlanConstraint(const OpenAiRequest& request,
                                                       const ServedModel& model,
                                                       const ChatParsing* parsing);

}  // namespace pixii::frontend
