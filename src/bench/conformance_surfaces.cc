// The cases of routes beside chats and completions: Responses, embeddings, images, and Anthropic's
// messages. A server that lacks one of them is asked no more of it.
#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>

#include "bench/conformance_judges.h"
#include "wire/base64.h"

namespace pixii::bench {

namespace {

using Answers = std::span<const ServerAnswer>;
using wire::Json;

constexpr const char* kResponses = "/v1/responses";
constexpr const char* kEmbeddings = "/v1/embeddings";
constexpr const char* kImages = "/v1/images/generations";
constexpr const char* kMessages = "/v1/messages";
constexpr const char* kResponseReference = "OpenAI API reference, Create a model response";
constexpr const char* kResponseEvents = "OpenAI API reference, Responses streaming events";
constexpr const char* kEmbeddingReference = "OpenAI API reference, Create embeddings";
constexpr const char* kImageReference = "OpenAI API reference, Create image";
constexpr const char* kMessageReference = "Anthropic API reference, Messages";

// What stands at the end of a path of members and indices; null: nothing does.
const Json* At(const Json& json, std::initializer_list<std::string_view> path) {
  const Json* now = &json;
  for (const std::string_view step : path) {
    if (now->is_array()) {
      const std::size_t index = static_cast<std::size_t>(step.front() - '0');
      now = index < now->array().size() ? &now->array()[index] : nullptr;
    } else {
      now = now->Find(step);
    }
    if (now == nullptr) {
      return nullptr;
    }
  }
  return now;
}

std::string TextAt(const Json& json, std::initializer_list<std::string_view> path) {
  const Json* found = At(json, path);
  return found != nullptr && found->is_string() ? found->string() : std::string();
}

std::string Said(const ServerAnswer& answer) {
  return answer.failure.empty()
             ? fmt::format("status {}: {}", answer.status, answer.body.substr(0, 200))
             : answer.failure;
}

// Every answer is 200 and JSON, or the route, or what it needs of the model, is not there.
Judge Read(Verdict (*judge)(std::span<const Json>)) {
  return [judge](Answers answers) {
    std::vector<Json> read;
    for (const ServerAnswer& answer : answers) {
      const bool refused = (answer.status >= 400 && answer.status < 500) || answer.status == 501;
      if (refused) {
        return NotSupported(Said(answer));
      }
      Result<Json> json = wire::ParseJson(answer.body);
      if (answer.status != 200 || !answer.failure.empty() || !json) {
        return Failed(Said(answer));
      }
      read.push_back(std::move(*json));
    }
    return judge(read);
  };
}

// An error of the field, where there is such a route.
Judge RefusedThere(std::string param) {
  return [param = std::move(param)](Answers answers) {
    const int status = answers.front().status;
    if (status == 404 || status == 405 || status == 501) {
      return NotSupported(Said(answers.front()));
    }
    return Refused({400, 422}, param)(answers);
  };
}

// The events of a stream as JSON.
std::vector<Json> EventsOf(const ServerAnswer& answer) {
  std::vector<Json> out;
  std::string_view rest = answer.body;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.starts_with("data: ") && line != "data: [DONE]") {
      line.remove_prefix(6);
      Result<Json> json = wire::ParseJson(line);
      out.push_back(json ? std::move(*json) : Json());
    }
  }
  return out;
}

std::string ResponseText(const Json& response) {
  std::string text;
  const Json* output = response.Find("output");
  for (const Json& item :
       output != nullptr && output->is_array() ? output->array() : Json::Array{}) {
    const Json* content = item.Find("content");
    for (const Json& part :
         content != nullptr && content->is_array() ? content->array() : Json::Array{}) {
      text += TextAt(part, {"type"}) == "output_text" ? TextAt(part, {"text"}) : "";
    }
  }
  return text;
}

Verdict IsResponse(std::span<const Json> answers) {
  const Json& one = answers.front();
  const std::string status = TextAt(one, {"status"});
  if (TextAt(one, {"object"}) != "response" || TextAt(one, {"id"}).empty()) {
    return Failed("object is not \"response\", or there is no id");
  }
  if (status != "completed" && status != "incomplete") {
    return Failed(fmt::format("status is \"{}\"", status));
  }
  return At(one, {"output", "0", "type"}) != nullptr ? Passed() : Failed("output is empty");
}

Verdict SameResponses(std::span<const Json> answers) {
  const std::string first = ResponseText(answers.front());
  for (const Json& answer : answers) {
    if (ResponseText(answer) != first) {
      return Failed(fmt::format("\"{}\" is not \"{}\"", ResponseText(answer), first));
    }
  }
  return Passed();
}

Verdict ResponseUsageAdds(std::span<const Json> answers) {
  const Json* usage = answers.front().Find("usage");
  const auto count = [&](std::string_view key) {
    const Json* found = usage != nullptr ? usage->Find(key) : nullptr;
    return found != nullptr ? found->AsInt().value_or(-1) : -1;
  };
  return count("input_tokens") > 0 &&
                 count("input_tokens") + count("output_tokens") == count("total_tokens")
             ? Passed()
             : Failed(fmt::format("{} and {} are not {}", count("input_tokens"),
                                  count("output_tokens"), count("total_tokens")));
}

// A whole answer, then the same as a stream.
Verdict ResponseStreams(Answers answers) {
  const Verdict whole = Read(IsResponse)(answers.first(1));
  if (whole.outcome != Outcome::kPass) {
    return whole;
  }
  const Result<Json> expected = wire::ParseJson(answers[0].body);
  const std::vector<Json> events = EventsOf(answers[1]);
  if (answers[1].status != 200 || events.empty()) {
    return Failed(Said(answers[1]));
  }
  std::string text;
  for (const Json& event : events) {
    text += TextAt(event, {"type"}) == "response.output_text.delta" ? TextAt(event, {"delta"}) : "";
  }
  const std::string first = TextAt(events.front(), {"type"});
  const std::string last = TextAt(events.back(), {"type"});
  if (first != "response.created" ||
      (last != "response.completed" && last != "response.incomplete")) {
    return Failed(fmt::format("the first event is {}, the last one {}", first, last));
  }
  return text == ResponseText(*expected)
             ? Passed()
             : Failed(fmt::format("\"{}\" is not \"{}\"", text, ResponseText(*expected)));
}

Verdict EventsCount(Answers answers) {
  const int status = answers.front().status;
  if (status >= 400 && status != 500) {
    return NotSupported(Said(answers.front()));
  }
  std::int64_t next = 0;
  for (const Json& event : EventsOf(answers.front())) {
    const Json* number = event.Find("sequence_number");
    if (number == nullptr || number->AsInt().value_or(-1) != next) {
      return Failed(fmt::format("event {} has another number", next));
    }
    ++next;
  }
  return next > 0 ? Passed() : Failed("there are no events");
}

std::optional<std::vector<double>> VectorOf(const Json& answer, std::string_view index) {
  const Json* list = At(answer, {"data", index, "embedding"});
  if (list == nullptr) {
    return std::nullopt;
  }
  std::vector<double> out;
  if (list->is_string()) {
    const std::optional<std::string> bytes = wire::DecodeBase64(list->string());
    if (!bytes || bytes->size() % sizeof(float) != 0) {
      return std::nullopt;
    }
    for (std::size_t i = 0; i < bytes->size(); i += sizeof(float)) {
      float value = 0;
      std::memcpy(&value, bytes->data() + i, sizeof(value));
      out.push_back(static_cast<double>(value));
    }
    return out;
  }
  for (const Json& value : list->is_array() ? list->array() : Json::Array{}) {
    out.push_back(value.AsDouble().value_or(NAN));
  }
  return out;
}

bool Near(const std::vector<double>& a, const std::vector<double>& b) {
  constexpr double kShareMax = 1e-3;  // of the longer one: sums in another order
  double apart = 0;
  double length = 0;
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) {
    apart += (a[i] - b[i]) * (a[i] - b[i]);
    length += a[i] * a[i];
  }
  return a.size() == b.size() && !a.empty() && length > 0 && apart <= kShareMax * length;
}

Verdict IsEmbedding(std::span<const Json> answers) {
  const Json& one = answers.front();
  const auto vector = VectorOf(one, "0");
  return TextAt(one, {"object"}) == "list" && TextAt(one, {"data", "0", "object"}) == "embedding" &&
                 vector && Near(*vector, *vector)
             ? Passed(fmt::format("{} values", vector->size()))
             : Failed("no list of embeddings");
}

// Each prompt alone, then both at once.
Verdict BatchIsTheTexts(std::span<const Json> answers) {
  for (const std::size_t i : {std::size_t{0}, std::size_t{1}}) {
    const auto alone = VectorOf(answers[i], "0");
    const auto together = VectorOf(answers[2], i == 0 ? "0" : "1");
    if (!alone || !together || !Near(*alone, *together)) {
      return Failed(fmt::format("prompt {} has another vector in a batch", i));
    }
  }
  return Passed();
}

Verdict Base64IsTheSame(std::span<const Json> answers) {
  const auto plain = VectorOf(answers[0], "0");
  const Json* coded = At(answers[1], {"data", "0", "embedding"});
  const auto read = VectorOf(answers[1], "0");
  return coded != nullptr && coded->is_string() && plain && read && Near(*plain, *read)
             ? Passed()
             : Failed("base64 is not the floats, little-endian");
}

Verdict IsImage(std::span<const Json> answers) {
  const std::string coded = TextAt(answers.front(), {"data", "0", "b64_json"});
  return !coded.empty() && wire::DecodeBase64(coded) ? Passed()
                                                     : Failed("data[0].b64_json is no base64");
}

std::string MessageText(const Json& message) {
  std::string text;
  const Json* content = message.Find("content");
  for (const Json& block :
       content != nullptr && content->is_array() ? content->array() : Json::Array{}) {
    text += TextAt(block, {"type"}) == "text" ? TextAt(block, {"text"}) : "";
  }
  return text;
}

Verdict IsMessage(std::span<const Json> answers) {
  const Json& one = answers.front();
  if (TextAt(one, {"type"}) != "message" || TextAt(one, {"role"}) != "assistant" ||
      At(one, {"content"}) == nullptr) {
    return Failed("no message of the assistant");
  }
  const Json* output = At(one, {"usage", "output_tokens"});
  return !TextAt(one, {"stop_reason"}).empty() && output != nullptr &&
                 output->AsInt().value_or(-1) >= 0
             ? Passed()
             : Failed("stop_reason or usage is missing");
}

Verdict MessageStreams(Answers answers) {
  const Verdict whole = Read(IsMessage)(answers.first(1));
  if (whole.outcome != Outcome::kPass) {
    return whole;
  }
  const Result<Json> expected = wire::ParseJson(answers[0].body);
  const std::vector<Json> events = EventsOf(answers[1]);
  if (answers[1].status != 200 || events.empty()) {
    return Failed(Said(answers[1]));
  }
  std::string text;
  for (const Json& event : events) {
    text +=
        TextAt(event, {"delta", "type"}) == "text_delta" ? TextAt(event, {"delta", "text"}) : "";
  }
  if (TextAt(events.front(), {"type"}) != "message_start" ||
      TextAt(events.back(), {"type"}) != "message_stop") {
    return Failed("events do not begin with message_start and end with message_stop");
  }
  return text == MessageText(*expected)
             ? Passed()
             : Failed(fmt::format("\"{}\" is not \"{}\"", text, MessageText(*expected)));
}

Verdict CountsTokens(std::span<const Json> answers) {
  const auto count = [](const Json& json) {
    const Json* found = json.Find("input_tokens");
    return found != nullptr ? found->AsInt().value_or(-1) : -1;
  };
  return count(answers[0]) > 0 && count(answers[1]) > count(answers[0])
             ? Passed()
             : Failed(fmt::format("{}, and of more {}", count(answers[0]), count(answers[1])));
}

// Adds cases of one group.
class Surface final {
 public:
  Surface(std::string group, Authority authority, std::vector<ConformanceCase>& out)
      : group_(std::move(group)), authority_(authority), out_(out) {}

  void Add(std::string name, const char* source, std::string asks,
           std::vector<std::vector<Ask>> steps, Judge judge) {
    out_.push_back({.group = group_,
                    .name = std::move(name),
                    .authority = authority_,
                    .source = source,
                    .asks = std::move(asks),
                    .steps = std::move(steps),
                    .judge = std::move(judge)});
  }

 private:
  std::string group_;
  Authority authority_;
  std::vector<ConformanceCase>& out_;
};

void AddResponses(std::vector<ConformanceCase>& out) {
  Surface table("responses", Authority::kOpenAi, out);
  const auto ask = [](std::string_view more) {
    return Post(kResponses, fmt::format(R"({{"model":$MODEL,"max_output_tokens":16,)"
                                        R"("temperature":0,{}}})",
                                        more));
  };
  const Ask whole = ask(R"("input":"Hello there")");
  table.Add("whole", kResponseReference, "an answer is a response with output and a status",
            {{whole}}, Read(IsResponse));
  table.Add(
      "parts", kResponseReference, "messages and parts are what a text is",
      {{whole},
       {ask(R"("input":[{"role":"user","content":"Hello there"}])")},
       {ask(
           R"("input":[{"role":"user","content":[{"type":"input_text","text":"Hello there"}]}])")}},
      Read(SameResponses));
  table.Add("usage", kResponseReference, "input and output make the total", {{whole}},
            Read(ResponseUsageAdds));
  table.Add("streamed", kResponseEvents,
            "a stream begins with response.created, ends with the response, and brings its text",
            {{whole}, {ask(R"("input":"Hello there","stream":true)")}}, ResponseStreams);
  table.Add("numbered", kResponseEvents, "events are numbered from 0",
            {{ask(R"("input":"Hello there","stream":true)")}}, EventsCount);
  table.Add("no_input", kResponseReference, "input is needed",
            {{Post(kResponses, R"({"model":$MODEL,"max_output_tokens":16})")}}, RefusedThere(""));
  table.Add("temperature", kResponseReference, "a temperature above 2 is an error",
            {{Post(kResponses, R"({"model":$MODEL,"input":"a","temperature":2.5})")}},
            RefusedThere("temperature"));
}

void AddEmbeddings(std::vector<ConformanceCase>& out) {
  Surface table("embeddings", Authority::kOpenAi, out);
  const auto ask = [](std::string_view more) {
    return Post(kEmbeddings, fmt::format(R"({{"model":$MODEL,{}}})", more));
  };
  table.Add("whole", kEmbeddingReference, "a text has a vector", {{ask(R"("input":"Hello")")}},
            Read(IsEmbedding));
  table.Add(
      "batch", kEmbeddingReference, "prompts of a list have the vectors that each has alone",
      {{ask(R"("input":[5,6,7])")}, {ask(R"("input":[8,9])")}, {ask(R"("input":[[5,6,7],[8,9]])")}},
      Read(BatchIsTheTexts));
  table.Add("base64", kEmbeddingReference, "base64 has the same values",
            {{ask(R"("input":[5,6,7])")}, {ask(R"("input":[5,6,7],"encoding_format":"base64")")}},
            Read(Base64IsTheSame));
  table.Add("no_input", kEmbeddingReference, "input is needed",
            {{Post(kEmbeddings, R"({"model":$MODEL})")}}, RefusedThere(""));
}

void AddImages(std::vector<ConformanceCase>& out) {
  Surface table("images", Authority::kOpenAi, out);
  table.Add("whole", kImageReference, "a prompt has a picture",
            {{Post(kImages, R"({"model":$MODEL,"prompt":"a lamp","response_format":"b64_json"})")}},
            Read(IsImage));
  table.Add("no_prompt", kImageReference, "a prompt is needed",
            {{Post(kImages, R"({"model":$MODEL})")}}, RefusedThere(""));
}

void AddMessages(std::vector<ConformanceCase>& out) {
  Surface table("messages", Authority::kOurs, out);
  const auto ask = [](std::string_view more) {
    Ask out = Post(kMessages,
                   fmt::format(R"({{"model":$MODEL,"max_tokens":16,"temperature":0,{}}})", more));
    out.fields.push_back({"anthropic-version", "2023-06-01"});
    return out;
  };
  constexpr std::string_view kHello = R"("messages":[{"role":"user","content":"Hello there"}])";
  table.Add("whole", kMessageReference, "an answer is a message with stop_reason and usage",
            {{ask(kHello)}}, Read(IsMessage));
  table.Add("streamed", kMessageReference,
            "a stream goes from message_start to message_stop and brings the same text",
            {{ask(kHello)}, {ask(std::string(kHello) + R"(,"stream":true)")}}, MessageStreams);
  table.Add("count_tokens", kMessageReference, "tokens are counted, more of more",
            {{Post("/v1/messages/count_tokens", R"({"model":$MODEL,"messages":[{"role":"user",)"
                                                R"("content":"Hello"}]})")},
             {Post("/v1/messages/count_tokens", R"({"model":$MODEL,"messages":[{"role":"user",)"
                                                R"("content":"Hello there, and on and on"}]})")}},
            Read(CountsTokens));
  table.Add(
      "no_max_tokens", kMessageReference, "max_tokens is needed",
      {{Post(kMessages, R"({"model":$MODEL,"messages":[{"role":"user","content":"Hello"}]})")}},
      [](Answers answers) {
        const ServerAnswer& answer = answers.front();
        if (answer.status == 404 || answer.status == 405 || answer.status == 501) {
          return NotSupported(Said(answer));
        }
        const Result<Json> json = wire::ParseJson(answer.body);
        return answer.status == 400 && json && TextAt(*json, {"type"}) == "error" &&
                       !TextAt(*json, {"error", "message"}).empty()
                   ? Passed()
                   : Failed(Said(answer));
      });
}

}  // namespace

std::vector<ConformanceCase> SurfaceCases() {
  std::vector<ConformanceCase> out;
  AddResponses(out);
  AddEmbeddings(out);
  AddImages(out);
  AddMessages(out);
  return out;
}

}  // namespace pixii::bench
