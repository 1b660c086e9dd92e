// The lines that a batch writes: its output and error files, which are its journal too.
//
// Thread: pure.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <unordered_set>

#include "frontend/exchange.h"

namespace pixii::frontend {

/// {"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error": null} and a
/// line end.
std::string BatchAnswerLine(std::string_view id, std::string_view custom_id,
                            const Response& response);

/// The same of a request without an answer: {…, "response": null, "error": {"code", "message"}}.
std::string BatchProblemLine(std::string_view id, std::string_view custom_id, std::string_view code,
                             std::string_view message);

struct BatchJournal {
  std::size_t whole_bytes = 0;          // of lines that are whole; what a crash left is behind
  std::unordered_set<std::string> ids;  // custom ids that they are about
};

BatchJournal ReadBatchJournal(std::string_view text);

}  // namespace pixii::frontend
