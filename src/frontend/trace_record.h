// Records of requests for those who study or replay them: JSON lines in the form of Dynamo's
// request trace. docs/formats/trace_record.md
//
// Thread: pure functions. Source: schema dynamo.request.trace.v1.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "frontend/request_trace.h"

namespace pixii::frontend {

/// Event request_end: sizes, times, workers and how it ended; no text. `block_tokens`: of the
/// prompt that each of its hashes stands for.
std::string EndRecord(const RequestTrace& trace, const TracePayload* payload,
                      std::uint32_t block_tokens);

/// Event request_payload: what was asked and answered.
std::string PayloadRecord(const RequestTrace& trace, const TracePayload& payload);

/// The record that an agent sent of a tool of its own, checked and on one line. Errors:
/// kInvalidArgument naming the member, kTooLarge.
Result<std::string> ToolRecord(std::string_view json);

/// The same from MessagePack.
Result<std::string> ToolRecordOfMsgpack(std::string_view bytes);

}  // namespace pixii::frontend
