// Whose turn a request is: the headers of agents' harnesses as one identity. docs/agents.md
//
// Thread: pure functions. Source: names of spec/dynamo-core.md A.9.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "wire/http.h"

namespace pixii::frontend {

struct SessionIdentity {
  std::string id;         // empty: the request is nobody's turn
  std::string parent;     // the session that began this one; empty: none
  bool is_final = false;  // no further turn follows
};

/// X-Dynamo-Session-ID and its like win over those of Claude Code, whose agents are sessions of
/// their own below that of their conversation ("CONVERSATION:AGENT"), of Codex and of OpenCode.
/// Errors: kInvalidArgument naming the header.
Result<SessionIdentity> ReadSession(const wire::HttpRequest& headers);

/// A header of a client as a label. Errors: kInvalidArgument naming it.
Result<std::string> ReadLabel(std::string_view name, std::string_view value);

}  // namespace pixii::frontend
