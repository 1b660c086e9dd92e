// The error cases: a table of request fields, and for each what is missing, null, of another type,
// below, at and above its limits.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "bench/conformance_judges.h"

namespace pixii::bench {

namespace {

enum class Surface : std::uint8_t { kChat, kCompletion };

// Values are JSON as text; an empty one is not asked.
struct FieldRow {
  Surface surface;
  std::string_view field;
  bool needed;              // missing and null are errors
  std::string_view wrong;   // of another type
  std::string_view below;   // the least below the limit
  std::string_view lowest;  // at it
  std::string_view highest;
  std::string_view above;
  std::string_view with = {};  // another member that it needs, as key:value
};

constexpr Surface kChat = Surface::kChat;
constexpr Surface kCompletion = Surface::kCompletion;

// Limits are those of OpenAI's reference; where ours are wider, the value is outside both.
constexpr FieldRow kFields[] = {
    {kChat, "model", true, "7", "\"no-such-model-anywhere\"", "$MODEL", "", ""},
    {kChat, "messages", true, "\"hello\"", "[]", R"([{"role":"user","content":"a"}])", "", ""},
    {kChat, "max_tokens", false, "\"5\"", "0", "1", "", "9223372036854775807"},
    {kChat, "max_completion_tokens", false, "1.5", "0", "1", "", "9223372036854775807"},
    {kChat, "temperature", false, "\"1\"", "-0.01", "0", "2", "2.01"},
    {kChat, "top_p", false, "\"1\"", "-0.01", "0.01", "1", "1.01"},
    {kChat, "n", false, "\"1\"", "0", "1", "4", "129"},
    {kChat, "presence_penalty", false, "\"1\"", "-2.01", "-2", "2", "2.01"},
    {kChat, "frequency_penalty", false, "[]", "-2.01", "-2", "2", "2.01"},
    {kChat, "seed", false, "\"7\"", "", "0", "9223372036854775807", ""},
    {kChat, "stop", false, "7", "", "\"zzz\"", R"(["a1","b2","c3","d4"])", ""},
    {kChat, "logit_bias", false, "[1]", R"({"1":-101})", R"({"1":-100})", R"({"1":100})",
     R"({"1":101})"},
    {kChat, "logprobs", false, "\"yes\"", "", "true", "", ""},
    {kChat, "top_logprobs", false, "\"2\"", "-1", "0", "20", "21", "logprobs:true"},
    {kChat, "stream", false, "\"yes\"", "", "false", "", ""},
    {kChat, "stream_options", false, "7", "", R"({"include_usage":true})", "", "", "stream:true"},
    {kChat, "response_format", false, "\"json\"", R"({"type":"no_such_type"})",
     R"({"type":"text"})", "", ""},
    {kChat, "tools", false, "{}", R"([{"type":"no_such_type"}])",
     R"([{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}])", "",
     R"([{"type":"function","function":{"name":"not a valid name!!"}}])"},
    {kChat, "tool_choice", false, "7", "\"no_such_choice\"", "\"none\"", "",
     R"({"type":"function","function":{"name":"nobody"}})",
     R"(tools:[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}])"},
    {kChat, "parallel_tool_calls", false, "\"yes\"", "", "true", "", "",
     R"(tools:[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}])"},
    {kChat, "user", false, "7", "", "\"someone\"", "", ""},
    {kChat, "service_tier", false, "7", "\"no_such_tier\"", "\"auto\"", "", ""},
    {kChat, "metadata", false, "\"a\"", "", R"({"a":"b"})", "", ""},
    {kCompletion, "model", true, "[]", "\"no-such-model-anywhere\"", "$MODEL", "", ""},
    {kCompletion, "prompt", true, "7", "[-1]", "\"a\"", R"(["a","b"])", "[9007199254740993]"},
    {kCompletion, "max_tokens", false, "true", "-1", "1", "", "9223372036854775807"},
    {kCompletion, "temperature", false, "{}", "-0.01", "0", "2", "2.01"},
    {kCompletion, "top_p", false, "{}", "-0.01", "0.01", "1", "1.01"},
    {kCompletion, "n", false, "1.5", "0", "1", "4", "129"},
    {kCompletion, "best_of", false, "\"2\"", "0", "1", "4", "100000"},
    {kCompletion, "logprobs", false, "\"2\"", "-1", "0", "5", "2147483647"},
    {kCompletion, "echo", false, "\"yes\"", "", "true", "", ""},
    {kCompletion, "presence_penalty", false, "\"1\"", "-2.01", "-2", "2", "2.01"},
    {kCompletion, "frequency_penalty", false, "\"1\"", "-2.01", "-2", "2", "2.01"},
    {kCompletion, "seed", false, "1.5", "", "0", "9223372036854775807", ""},
    {kCompletion, "stop", false, "[7]", "", "\"zzz\"", R"(["a1","b2","c3","d4"])", ""},
    {kCompletion, "stream", false, "1", "", "false", "", ""},
    {kCompletion, "user", false, "7", "", "\"someone\"", "", ""},
};

Judge Accepted(bool needed) {
  return [needed](std::span<const ServerAnswer> answers) {
    const ServerAnswer& answer = answers.front();
    const std::string said = answer.status == 0 ? answer.failure
                                                : fmt::format("status {}: {}", answer.status,
                                                              answer.body.substr(0, 200));
    if (answer.status == 200) {
      return answer.failure.empty() ? Passed("200") : Failed(answer.failure);
    }
    const bool refused = answer.status == 400 || answer.status == 422 || answer.status == 501;
    return !needed && refused ? NotSupported(said) : Failed(said);
  };
}

// Who has but one model may take it unnamed.
Judge RefusedOrOnlyModel() {
  return [](std::span<const ServerAnswer> answers) {
    return answers.front().status == 200 ? Passed("200: the only model answers")
                                         : Refused({400}, "model")(answers);
  };
}

class FieldTable final {
 public:
  std::vector<ConformanceCase> Take() && { return std::move(cases_); }

  void Add(const FieldRow& row) {
    row_ = &row;
    if (row.field == "model") {
      const std::string_view asks = "unnamed is an error that says so, or the server has but one";
      Put("missing", "", asks, RefusedOrOnlyModel());
      Put("null", "null", asks, RefusedOrOnlyModel());
    } else if (row.needed) {
      Refuse("missing", "", "is an error that names it if it is missing");
      Refuse("null", "null", "is an error that names it if it is null");
    } else {
      Accept("null", "null", "may be null, as if it were missing");
    }
    Refuse("wrong_type", row.wrong, "is an error that names it if it is of another type");
    Refuse("below", row.below, "is an error that names it below its limit or out of its set");
    Accept("lowest", row.lowest, "is taken at its lowest value or as the reference has it");
    Accept("highest", row.highest, "is taken at its highest value");
    Refuse("above", row.above, "is an error that names it above its limit or of a wrong form");
  }

 private:
  void Refuse(std::string_view kind, std::string_view value, std::string_view asks) {
    if (value.empty() && kind != "missing") {
      return;
    }
    const bool unknown_model = row_->field == "model" && kind == "below";
    Put(kind, value, asks,
        Refused(unknown_model ? std::vector{404} : std::vector{400},
                std::string(unknown_model ? "" : row_->field)));
  }

  void Accept(std::string_view kind, std::string_view value, std::string_view asks) {
    if (!value.empty()) {
      Put(kind, value, asks, Accepted(row_->needed));
    }
  }

  void Put(std::string_view kind, std::string_view value, std::string_view asks, Judge judge) {
    const bool chat = row_->surface == Surface::kChat;
    Members members = chat ? ChatMembers() : CompletionMembers();
    if (const std::size_t colon = row_->with.find(':'); colon != row_->with.npos) {
      members.emplace_back(row_->with.substr(0, colon), row_->with.substr(colon + 1));
    }
    if (row_->field == "max_completion_tokens") {
      std::erase_if(members, [](const auto& member) { return member.first == "max_tokens"; });
    }
    ConformanceCase asked;
    asked.group = "errors";
    asked.name = fmt::format("{}.{}.{}", chat ? "chat" : "completion", row_->field, kind);
    asked.authority = Authority::kOpenAi;
    asked.source = fmt::format("OpenAI API reference, Create {}: {}",
                               chat ? "chat completion" : "completion", row_->field);
    asked.asks = fmt::format("{} {}", row_->field, asks);
    asked.steps = {{Post(chat ? "/v1/chat/completions" : "/v1/completions",
                         BodyWith(std::move(members), row_->field, value))}};
    asked.judge = std::move(judge);
    cases_.push_back(std::move(asked));
  }

  const FieldRow* row_ = nullptr;
  std::vector<ConformanceCase> cases_;
};

}  // namespace

std::vector<ConformanceCase> FieldCases() {
  FieldTable table;
  for (const FieldRow& row : kFields) {
    table.Add(row);
  }
  return std::move(table).Take();
}

}  // namespace pixii::bench
