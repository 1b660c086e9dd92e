// How an error looks on the wire: one body that OpenAI's clients and Dynamo's clients both read.
//
// {"error":{"message","type","param","code"},"message":…,"type":…,"code":…}
// The inner object is OpenAI's; the outer message, type (the status' reason phrase) and code (the
// status) are Dynamo's.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "frontend/exchange.h"

namespace pixii::frontend {

/// In whose form a route's errors are. Statuses are the same in all.
enum class Dialect : std::uint8_t {
  kOpenAi,     // the body above
  kAnthropic,  // {"type":"error","error":{"type","message"}}
  kKserve,     // {"error": message}, as /busy_threshold has it too
};

/// The status of an overload unless an operator wants another.
inline constexpr int kOverloadStatus = 529;

/// HTTP status of `error` for a client: a field that is too large is a bad request (400), a body is
/// 413.
int ClientStatus(const Error& error);

/// OpenAI's `code` of `error`, for example "model_not_found".
std::string_view OpenAiCode(const Error& error);

/// Label of the error class in metrics: "", validation, not_found, overload, cancelled, internal,
/// not_implemented, unavailable. A closed set.
std::string_view MetricClass(const Error& error);

/// The JSON body. Details of errors that are ours (5xx without a retry) stay in the log.
std::string ErrorBody(const Error& error, Dialect dialect = Dialect::kOpenAi,
                      int overload_status = kOverloadStatus);

/// A whole response; with Retry-After where a retry may help.
Response ErrorResponse(const Error& error, std::uint32_t retry_after_seconds,
                       Dialect dialect = Dialect::kOpenAi, int overload_status = kOverloadStatus);

/// The code of a response of /v1/responses that failed: rate_limit_exceeded, invalid_prompt,
/// server_error.
std::string_view ResponsesErrorCode(const Error& error);
/// What a client may read of `error`.
std::string_view ClientMessage(const Error& error);

/// The same for statuses below the application (414, 431, 505, ...).
Response FaultResponse(const wire::HttpFault& fault, std::uint32_t retry_after_seconds);

}  // namespace pixii::frontend
