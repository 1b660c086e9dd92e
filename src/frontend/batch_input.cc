#include "frontend/batch_input.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <unordered_map>
#include <utility>

#include "frontend/openai_request.h"
#include "wire/json.h"

namespace pixii::frontend {

using wire::Json;

namespace {

constexpr auto kEndpoints = std::to_array<std::string_view>(
    {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"});
constexpr std::size_t kCustomIdBytesMax = 512;
constexpr wire::JsonLimits kLineLimits{.depth_max = 130, .values_max = 2'000'000};

class Reader {
 public:
  Reader(std::string_view file, std::string_view endpoint) : rest_(file), endpoint_(endpoint) {}

  BatchInput Read() && {
    while (!rest_.empty()) {
      ++number_;
      const std::size_t end = std::min(rest_.find('\n'), rest_.size());
      std::string_view text = rest_.substr(0, end);
      rest_.remove_prefix(std::min(end + 1, rest_.size()));
      if (text.ends_with('\r')) {
        text.remove_suffix(1);
      }
      if (text.find_first_not_of(" \t") != std::string_view::npos) {
        ReadLine(text);
      }
    }
    if (number_taken_ == 0 && errors_ == 0) {
      out_.errors.push_back({.code = "empty_file", .message = "the file has no line", .param = {}});
    }
    if (number_taken_ > kBatchLinesMax) {
      out_.errors.push_back({.code = "too_many_lines",
                             .message = fmt::format("the file has {} lines, allowed are {}",
                                                    number_taken_, kBatchLinesMax),
                             .param = {}});
    }
    if (errors_ > kBatchErrorsMax) {
      out_.errors.push_back(
          {.code = "more_errors",
           .message = fmt::format("and {} more lines with errors", errors_ - kBatchErrorsMax),
           .param = {}});
    }
    return std::move(out_);
  }

 private:
  void Refuse(std::string_view code, std::string message, std::string_view param) {
    if (++errors_ <= kBatchErrorsMax) {
      out_.errors.push_back({.code = std::string(code),
                             .message = fmt::format("line {}: {}", number_, message),
                             .param = std::string(param),
                             .line = number_});
    }
  }

  void ReadLine(std::string_view text) {
    Result<Json> line = wire::ParseJson(text, kLineLimits);
    if (!line || !line->is_object()) {
      Refuse("invalid_json_line",
             line ? "it is no JSON object" : "it is no JSON: " + line.error().detail(), {});
      return;
    }
    const Json* id = line->Find("custom_id");
    if (id == nullptr || !id->is_string() || id->string().empty() ||
        id->string().size() > kCustomIdBytesMax) {
      Refuse("invalid_custom_id",
             fmt::format("custom_id must be a string of 1 to {} bytes", kCustomIdBytesMax),
             "custom_id");
      return;
    }
    if (!CheckFields(*line)) {
      return;
    }
    const auto [known, is_new] = seen_.emplace(id->string(), number_);
    if (!is_new) {
      Refuse("duplicate_custom_id",
             fmt::format("custom_id {} stands in line {} too", Shown(*id), known->second),
             "custom_id");
      return;
    }
    if (++number_taken_ <= kBatchLinesMax) {
      out_.lines.push_back({.custom_id = id->string(), .text = text});
    }
  }

  bool CheckFields(const Json& line) {
    for (const auto& [name, value] : line.object()) {
      if (name != "custom_id" && name != "method" && name != "url" && name != "body") {
        Refuse("unknown_field", fmt::format("unknown field {}", Shown(Json(name))),
               name.substr(0, 100));
        return false;
      }
    }
    const Json* method = line.Find("method");
    if (method == nullptr || *method != Json("POST")) {
      Refuse("invalid_method", "method must be \"POST\"", "method");
      return false;
    }
    const Json* url = line.Find("url");
    if (url == nullptr || *url != Json(endpoint_)) {
      Refuse("mismatched_url", fmt::format("url must be the batch's endpoint, {}", endpoint_),
             "url");
      return false;
    }
    const Json* body = line.Find("body");
    if (body == nullptr || !body->is_object()) {
      Refuse("invalid_body", "body must be an object", "body");
      return false;
    }
    const Json* stream = body->Find("stream");
    if (stream != nullptr && !stream->is_null() && *stream != Json(false)) {
      Refuse("invalid_body", "a batch gives no streams", "body.stream");
      return false;
    }
    return true;
  }

  std::string_view rest_;
  const std::string_view endpoint_;
  BatchInput out_;
  std::unordered_map<std::string, std::uint64_t> seen_;  // custom id -> its line
  std::uint64_t number_ = 0;
  std::uint64_t number_taken_ = 0;
  std::uint64_t errors_ = 0;
};

}  // namespace

bool IsBatchEndpoint(std::string_view endpoint) {
  return std::ranges::find(kEndpoints, endpoint) != kEndpoints.end();
}

BatchInput ReadBatchInput(std::string_view file, std::string_view endpoint) {
  return Reader(file, endpoint).Read();
}

std::string BatchLineBody(const BatchLine& line) {
  const Result<Json> parsed = wire::ParseJson(line.text, kLineLimits);
  const Json* body = parsed ? parsed->Find("body") : nullptr;
  return body == nullptr ? "{}" : body->Dump();
}

}  // namespace pixii::frontend
