#include "frontend/session_headers.h"

#include <fmt/format.h>

#include <algorithm>

#include "frontend/field_error.h"
#include "frontend/openai_request.h"

namespace pixii::frontend {

namespace {

constexpr std::string_view kSessionOfClaude = "x-claude-code-session-id";
constexpr std::string_view kAgentOfClaude = "x-claude-code-agent-id";
constexpr std::string_view kParentOfClaude = "x-claude-code-parent-agent-id";

/// Empty: the request has none of them.
Result<std::string> First(const wire::HttpRequest& headers,
                          std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    if (const std::optional<std::string_view> value = headers.Field(name)) {
      return ReadLabel(name, *value);
    }
  }
  return std::string();
}

// Agents of two conversations may have one name.
Result<SessionIdentity> ReadClaudeAgent(const wire::HttpRequest& headers, std::string agent) {
  PX_TRY(const std::string conversation, First(headers, {kSessionOfClaude}));
  PX_TRY(const std::string parent, First(headers, {kParentOfClaude}));
  const std::string prefix = conversation.empty() ? std::string() : conversation + ":";
  return SessionIdentity{.id = prefix + std::move(agent),
                         .parent = parent.empty() ? conversation : prefix + parent};
}

Result<bool> ReadFinal(const wire::HttpRequest& headers) {
  constexpr std::string_view kName = "x-dynamo-session-final";
  const std::optional<std::string_view> value = headers.Field(kName);
  if (!value) {
    return false;
  }
  if (wire::EqualsIgnoreCase(*value, "true") || *value == "1") {
    return true;
  }
  if (wire::EqualsIgnoreCase(*value, "false") || *value == "0") {
    return false;
  }
  return Bad(kName,
             fmt::format("{} is neither true nor false", wire::Json(value->substr(0, 60)).Dump()));
}

}  // namespace

Result<std::string> ReadLabel(std::string_view name, std::string_view value) {
  const bool printable = std::ranges::all_of(value, [](char c) { return c > ' ' && c < 0x7F; });
  if (value.empty() || value.size() > kLabelBytesMax || !printable) {
    return Bad(name, fmt::format("{} bytes; allowed are 1 to {} printable ASCII characters without "
                                 "spaces",
                                 value.size(), kLabelBytesMax));
  }
  return std::string(value);
}

Result<SessionIdentity> ReadSession(const wire::HttpRequest& headers) {
  SessionIdentity out;
  PX_TRY(out.id, First(headers, {"x-dynamo-session-id"}));
  if (out.id.empty()) {
    PX_TRY(std::string agent, First(headers, {kAgentOfClaude}));
    if (!agent.empty()) {
      PX_TRY(out, ReadClaudeAgent(headers, std::move(agent)));
    } else {
      PX_TRY(out.id, First(headers, {kSessionOfClaude, "session-id", "x-session-id"}));
    }
  }
  if (out.id.empty()) {
    return out;
  }
  PX_TRY(const std::string parent,
         First(headers, {"x-dynamo-parent-session-id", "x-parent-session-id"}));
  if (!parent.empty()) {
    out.parent = parent;
  }
  PX_TRY(out.is_final, ReadFinal(headers));
  return out;
}

}  // namespace pixii::frontend
