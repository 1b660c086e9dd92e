#include "frontend/batch_journal.h"

#include <fmt/format.h>

#include "wire/json.h"

namespace pixii::frontend {

namespace {

std::string LineHead(std::string_view id, std::string_view custom_id) {
  std::string out = R"({"id":)";
  wire::AppendJsonString(out, id);
  out += R"(,"custom_id":)";
  wire::AppendJsonString(out, custom_id);
  return out;
}

}  // namespace

std::string BatchProblemLine(std::string_view id, std::string_view custom_id, std::string_view code,
                             std::string_view message) {
  std::string out = LineHead(id, custom_id);
  out += R"(,"response":null,"error":{"code":)";
  wire::AppendJsonString(out, code);
  out += R"(,"message":)";
  wire::AppendJsonString(out, message);
  out += "}}\n";
  return out;
}

// Bodies of answers are JSON of one line; should one not be, it becomes a text.
std::string BatchAnswerLine(std::string_view id, std::string_view custom_id,
                            const Response& response) {
  std::string out = LineHead(id, custom_id);
  fmt::format_to(std::back_inserter(out), R"(,"response":{{"status_code":{},"request_id":)",
                 response.status);
  wire::AppendJsonString(out, id);
  out += R"(,"body":)";
  if (response.body.find('\n') == std::string::npos && response.body.starts_with('{')) {
    out += response.body;
  } else {
    wire::AppendJsonString(out, response.body);
  }
  out += R"(},"error":null})";
  out += '\n';
  return out;
}

BatchJournal ReadBatchJournal(std::string_view text) {
  BatchJournal out;
  while (true) {
    const std::size_t end = text.find('\n', out.whole_bytes);
    if (end == std::string_view::npos) {
      return out;
    }
    const Result<wire::Json> line =
        wire::ParseJson(text.substr(out.whole_bytes, end - out.whole_bytes));
    const wire::Json* id = line ? line->Find("custom_id") : nullptr;
    if (id == nullptr || !id->is_string()) {
      return out;  // what a crash left
    }
    out.ids.insert(id->string());
    out.whole_bytes = end + 1;
  }
}

}  // namespace pixii::frontend
