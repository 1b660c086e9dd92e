// Anthropic's messages: its bodies as the common request, and its answers and events.
//
// Thread: reading on any, writing on the frontend's loop. Source: Anthropic's public API reference.
#pragma once

#include "frontend/answer_writer.h"
#include "frontend/options.h"

namespace pixii::frontend {

/// The body of /v1/messages. Errors: kInvalidArgument and kUnsupported with the field as param.
Result<SurfaceRequest> ReadAnthropicRequest(const wire::Json& body,
                                            const AnthropicOptions& options);

/// The body of /v1/messages/count_tokens: what is sent to the template. Errors: as above.
Result<SurfaceRequest> ReadAnthropicCount(const wire::Json& body, const AnthropicOptions& options);

}  // namespace pixii::frontend
