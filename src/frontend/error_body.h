// How an error looks on the wire: one body that OpenAI's clients and Dynamo's clients both read.
//
// {"error":{"message","type","param","code"},"message":…,"type":…,"code":…}
// The inner object is OpenAI's; the outer message, type (the status' reason phrase) and code (the
// status) are Dynamo's.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "frontend/exchange.h"

namespace pixii::frontend {

/// HTTP status of `error` for a client: a field that is too large is a bad request (400), a body is
/// 413.
int ClientStatus(const Error& error);

/// OpenAI's `code` of `error`, for example "model_not_found".
std::string_view OpenAiCode(const Error& error);

/// Label of the error class in metrics: "", validation, not_found, overload, cancelled, internal,
/// not_implemented, unavailable. A closed set.
std::string_view MetricClass(const Error& error);

/// The JSON body. Details of errors that are ours (5xx without a retry) stay in the log.
std::string ErrorBody(const Error& error);

/// A whole response; with Retry-After where a retry may help.
Response ErrorResponse(const Error& error, std::uint32_t retry_after_seconds);

/// The same for statuses below the application (414, 431, 505, ...).
Response FaultResponse(const wire::HttpFault& fault, std::uint32_t retry_after_seconds);

}  // namespace pixii::frontend
