#include "frontend/error_body.h"

#include <fmt/format.h>

#include "wire/json.h"

namespace pixii::frontend {

namespace {

struct Spoken {
  int status;
  std::string_view message;
  std::string_view type;   // OpenAI's
  std::string_view param;  // empty: null
  std::string_view code;   // OpenAI's
  bool overload = false;
};

std::string Body(const Spoken& spoken) {
  std::string out = R"({"error":{"message":)";
  wire::AppendJsonString(out, spoken.message);
  out += R"(,"type":)";
  wire::AppendJsonString(out, spoken.type);
  out += R"(,"param":)";
  if (spoken.param.empty()) {
    out += "null";
  } else {
    wire::AppendJsonString(out, spoken.param);
  }
  out += R"(,"code":)";
  wire::AppendJsonString(out, spoken.code);
  out += R"(},"message":)";
  wire::AppendJsonString(out, spoken.message);
  out += R"(,"type":)";
  wire::AppendJsonString(out, spoken.overload ? "Overloaded" : wire::HttpReason(spoken.status));
  fmt::format_to(std::back_inserter(out), R"(,"code":{}}})", spoken.status);
  return out;
}

std::string_view OpenAiType(int status) {
  if (status == 529) {
    return "overloaded_error";
  }
  if (status == 429) {
    return "rate_limit_error";
  }
  if (status == 403) {
    return "permission_error";
  }
  if (status == 401) {
    return "authentication_error";
  }
  if (status == 404) {
    return "not_found_error";
  }
  return status < 500 ? "invalid_request_error" : "server_error";
}

std::string_view AnthropicType(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 504:
      return "timeout_error";
    case 529:
      return "overloaded_error";
    default:
      return status < 500 ? "invalid_request_error" : "api_error";
  }
}

// What is wrong inside is for the log; the client learns that it was not its fault.
bool IsOurs(Code code) { return code == Code::kInternal || code == Code::kDataCorrupt; }

}  // namespace

int ClientStatus(const Error& error) {
  if (error.code() == Code::kTooLarge && !error.param().empty()) {
    return 400;
  }
  return HttpStatus(error.code());
}

std::string_view OpenAiCode(const Error& error) {
  switch (error.code()) {
    case Code::kInvalidArgument:
      return error.detail().starts_with("unknown field") ? "unknown_field" : "invalid_value";
    case Code::kUnsupported:
      return "unsupported_value";
    case Code::kUnauthenticated:
      return "invalid_api_key";
    case Code::kForbidden:
      return "permission_denied";
    case Code::kQuotaExceeded:
      return "rate_limit_exceeded";
    case Code::kNotFound:
      return error.param() == "model" ? "model_not_found" : "not_found";
    case Code::kMethodNotAllowed:
      return "method_not_allowed";
    case Code::kTooLarge:
      return error.param().empty() ? "request_too_large" : "context_length_exceeded";
    case Code::kUnsupportedMediaType:
      return "unsupported_media_type";
    case Code::kCancelled:
      return "cancelled";
    case Code::kModelFault:
      return "model_fault";
    case Code::kProcessorFault:
      return "processor_fault";
    case Code::kUnimplemented:
      return "not_implemented";
    case Code::kRequestPoisoned:
      return "request_poisoned";
    case Code::kUnavailable:
      return "unavailable";
    case Code::kDisconnected:
      return "disconnected";
    case Code::kShuttingDown:
      return "shutting_down";
    case Code::kDeadlineExceeded:
      return "deadline_exceeded";
    case Code::kResourceExhausted:
      return "overloaded";
    default:
      return "internal_error";
  }
}

std::string_view MetricClass(const Error& error) {
  switch (error.code()) {
    case Code::kInvalidArgument:
    case Code::kUnsupported:
    case Code::kTooLarge:
    case Code::kUnsupportedMediaType:
    case Code::kUnauthenticated:
    case Code::kForbidden:
    case Code::kMethodNotAllowed:
      return "validation";
    case Code::kNotFound:
      return "not_found";
    case Code::kResourceExhausted:
    case Code::kQuotaExceeded:
      return "overload";
    case Code::kCancelled:
    case Code::kDeadlineExceeded:
      return "cancelled";
    case Code::kUnimplemented:
      return "not_implemented";
    case Code::kUnavailable:
    case Code::kDisconnected:
    case Code::kShuttingDown:
      return "unavailable";
    default:
      return "internal";
  }
}

std::string_view ClientMessage(const Error& error) {
  return IsOurs(error.code()) ? std::string_view("internal server error") : error.detail();
}

std::string_view ResponsesErrorCode(const Error& error) {
  const int status = ClientStatus(error);
  return status == 429 ? "rate_limit_exceeded" : status < 500 ? "invalid_prompt" : "server_error";
}

std::string ErrorBody(const Error& error, Dialect dialect, int overload_status) {
  const int own = ClientStatus(error);
  const bool overload = own == kOverloadStatus;
  const int status = overload ? overload_status : own;
  const std::string_view message = ClientMessage(error);
  std::string out;
  switch (dialect) {
    case Dialect::kOpenAi:
      return Body({status, message, OpenAiType(own), error.param(), OpenAiCode(error), overload});
    case Dialect::kAnthropic:
      out = R"({"type":"error","error":{"type":")";
      out += AnthropicType(own);
      out += R"(","message":)";
      wire::AppendJsonString(out, message);
      out += "}}";
      return out;
    case Dialect::kKserve:
      out = R"({"error":)";
      wire::AppendJsonString(out, message);
      out += '}';
      return out;
  }
  return out;
}

Response ErrorResponse(const Error& error, std::uint32_t retry_after_seconds, Dialect dialect,
                       int overload_status) {
  const int own = ClientStatus(error);
  Response out{.status = own == kOverloadStatus ? overload_status : own,
               .body = ErrorBody(error, dialect, overload_status),
               .fields = {}};
  if (IsRetryable(error.code())) {
    out.fields.push_back({"Retry-After", fmt::format("{}", retry_after_seconds)});
  }
  if (error.code() == Code::kUnauthenticated) {
    out.fields.push_back({"WWW-Authenticate", "Bearer"});
  }
  return out;
}

Response FaultResponse(const wire::HttpFault& fault, std::uint32_t retry_after_seconds) {
  Response out{.status = fault.status,
               .body = Body({fault.status, fault.detail, OpenAiType(fault.status), {}, "bad_http"}),
               .fields = {},
               .close = true};
  if (fault.status == 503) {
    out.fields.push_back({"Retry-After", fmt::format("{}", retry_after_seconds)});
  }
  return out;
}

}  // namespace pixii::frontend
