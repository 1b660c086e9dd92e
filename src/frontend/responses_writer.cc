#include <fmt/format.h>

#include <iterator>

#include "frontend/error_body.h"
#include "frontend/responses.h"
#include "wire/sse.h"

namespace pixii::frontend {

namespace {

using wire::AppendJsonString;
using wire::Json;
using Kind = AnswerPart::Kind;

std::string Quoted(std::string_view text) {
  std::string out;
  AppendJsonString(out, text);
  return out;
}

std::string TextContent(std::string_view text, std::string_view logprobs) {
  return fmt::format(R"({{"type":"output_text","text":{},"annotations":[],"logprobs":[{}]}})",
                     Quoted(text), logprobs);
}

std::string UsageObject(const Usage& usage) {
  return fmt::format(R"({{"input_tokens":{},"input_tokens_details":{{"cached_tokens":{},)"
                     R"("cache_write_tokens":0}},"output_tokens":{},"output_tokens_details":)"
                     R"({{"reasoning_tokens":{}}},"total_tokens":{}}})",
                     usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens,
                     usage.reasoning_tokens, usage.prompt_tokens + usage.completion_tokens);
}

// The answer as the next request's template sees it.
Json AnswerMessage(std::span<const AnswerPart> parts) {
  std::string text;
  std::string reasoning;
  Json::Array calls;
  for (const AnswerPart& part : parts) {
    if (part.kind == Kind::kText) {
      text += part.text;
    } else if (part.kind == Kind::kReasoning) {
      reasoning += part.text;
    } else {
      Json function{Json::Object{}};
      function.Set("name", part.name);
      function.Set("arguments", part.text);
      Json call{Json::Object{}};
      call.Set("id", part.id);
      call.Set("type", "function");
      call.Set("function", std::move(function));
      calls.push_back(std::move(call));
    }
  }
  Json message{Json::Object{}};
  message.Set("role", "assistant");
  message.Set("content", std::move(text));
  if (!reasoning.empty()) {
    message.Set("reasoning_content", std::move(reasoning));
  }
  if (!calls.empty()) {
    message.Set("tool_calls", std::move(calls));
  }
  return message;
}

}  // namespace

std::string_view ResponsesWriter::Name(Status status) {
  switch (status) {
    case Status::kInProgress:
      return "in_progress";
    case Status::kCompleted:
      return "completed";
    case Status::kIncomplete:
      return "incomplete";
    case Status::kFailed:
      return "failed";
  }
  return "failed";
}

// Calls without an id of the model's own get one that no other call has.
void ResponsesWriter::NameCalls() {
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    if (parts_[i].kind == Kind::kCall && parts_[i].id.empty()) {
      parts_[i].id = fmt::format("call_{}{:02}", head_.id, i);
    }
  }
}

std::string ResponsesWriter::ItemId(std::size_t index) const {
  const Kind kind = parts_[index].kind;
  return fmt::format("{}_{}{:02}",
                     kind == Kind::kText        ? "msg"
                     : kind == Kind::kReasoning ? "rs"
                                                : "fc",
                     head_.id, index);
}

// One item of `output`; `empty`: as it is when it begins.
std::string ResponsesWriter::Item(std::size_t index, Status status, bool empty) const {
  const AnswerPart& part = parts_[index];
  const std::string id = ItemId(index);
  switch (part.kind) {
    case Kind::kText:
      return fmt::format(
          R"({{"id":"{}","type":"message","role":"assistant","status":"{}","content":[{}]}})", id,
          Name(status), empty ? std::string() : TextContent(part.text, part.logprobs));
    case Kind::kReasoning:
      return fmt::format(
          R"({{"id":"{}","type":"reasoning","summary":[],"status":"{}","content":[{}]}})", id,
          Name(status),
          empty ? std::string()
                : fmt::format(R"({{"type":"reasoning_text","text":{}}})", Quoted(part.text)));
    case Kind::kCall:
      break;
  }
  return fmt::format(
      R"({{"id":"{}","type":"function_call","call_id":{},"name":{},"arguments":{},"status":"{}"}})",
      id, Quoted(part.id), Quoted(part.name), empty ? R"("")" : Quoted(part.text), Name(status));
}

std::string ResponsesWriter::Body(Status status, const Usage* usage, const Error* error) const {
  std::string out = fmt::format(
      R"({{"id":"resp_{}","object":"response","created_at":{},"status":"{}","background":false,)"
      R"("error":)",
      head_.id, head_.created, Name(status));
  if (error != nullptr) {
    out += fmt::format(R"({{"code":"{}","message":{}}})", ResponsesErrorCode(*error),
                       Quoted(ClientMessage(*error)));
  } else {
    out += "null";
  }
  out += status == Status::kIncomplete
             ? R"(,"incomplete_details":{"reason":"max_output_tokens"},"model":)"
             : R"(,"incomplete_details":null,"model":)";
  AppendJsonString(out, head_.model);
  out += R"(,"output":[)";
  for (std::size_t i = 0; i < parts_.size() && status != Status::kInProgress; ++i) {
    const bool last = i + 1 == parts_.size();
    const bool cut = last && status != Status::kCompleted;
    out += i == 0 ? "" : ",";
    out += Item(i, cut ? Status::kIncomplete : Status::kCompleted, false);
  }
  out += ']';
  for (const auto& [name, value] : echo_.fields.object()) {
    out += ',';
    AppendJsonString(out, name);
    out += ':';
    out += value.Dump();
  }
  if (usage != nullptr) {
    out += R"(,"usage":)";
    out += UsageObject(*usage);
  }
  out += '}';
  return out;
}

void ResponsesWriter::Store(const std::string& body) {
  if (!echo_.store || store_ == nullptr) {
    return;
  }
  StoredResponse stored{.body = body, .messages = std::move(echo_.messages)};
  stored.messages.push_back(AnswerMessage(parts_));
  stored.size_bytes = body.size();
  for (const Json& message : stored.messages) {
    stored.size_bytes += message.Dump().size() + 256;  // of its nodes
  }
  store_->Put(head_.tenant, "resp_" + head_.id, std::move(stored), head_.now);
}

// `rest`: the members behind type and sequence_number, with a comma in front.
void ResponsesWriter::Event(std::string& out, std::string_view type, std::string_view rest) {
  wire::AppendSseEvent(
      out, type, fmt::format(R"({{"type":"{}","sequence_number":{}{}}})", type, sequence_++, rest));
}

void ResponsesWriter::AppendStart(std::string& out, const Usage& /*usage*/) {
  const std::string rest =
      fmt::format(R"(,"response":{})", Body(Status::kInProgress, nullptr, nullptr));
  Event(out, "response.created", rest);
  Event(out, "response.in_progress", rest);
}

void ResponsesWriter::OpenItem(std::string& out, const AnswerPart& part) {
  parts_.push_back({.kind = part.kind, .text = {}, .name = part.name, .id = part.id});
  NameCalls();
  const std::size_t index = parts_.size() - 1;
  open_ = true;
  Event(out, "response.output_item.added",
        fmt::format(R"(,"output_index":{},"item":{})", index,
                    Item(index, Status::kInProgress, true)));
  if (part.kind != Kind::kCall) {
    Event(out, "response.content_part.added",
          fmt::format(R"(,"item_id":"{}","output_index":{},"content_index":0,"part":{})",
                      ItemId(index), index,
                      part.kind == Kind::kText ? TextContent("", "")
                                               : R"({"type":"reasoning_text","text":""})"));
  }
}

void ResponsesWriter::AppendPart(std::string& out, const AnswerPart& part) {
  if (!open_ || parts_.back().kind != part.kind || (part.kind == Kind::kCall && part.begins)) {
    CloseItem(out);
    OpenItem(out, part);
  }
  const std::size_t index = parts_.size() - 1;
  AnswerPart& whole = parts_.back();
  whole.text += part.text;
  whole.logprobs += whole.logprobs.empty() || part.logprobs.empty() ? "" : ",";
  whole.logprobs += part.logprobs;
  if (part.kind == Kind::kCall) {
    Event(out, "response.function_call_arguments.delta",
          fmt::format(R"(,"item_id":"{}","output_index":{},"delta":{})", ItemId(index), index,
                      Quoted(part.text)));
    if (part.ends) {
      CloseItem(out);
    }
    return;
  }
  const bool text = part.kind == Kind::kText;
  Event(out, text ? "response.output_text.delta" : "response.reasoning_text.delta",
        fmt::format(R"(,"item_id":"{}","output_index":{},"content_index":0,"delta":{}{})",
                    ItemId(index), index, Quoted(part.text),
                    text ? fmt::format(R"(,"logprobs":[{}])", part.logprobs) : std::string()));
}

void ResponsesWriter::CloseItem(std::string& out) {
  if (!open_) {
    return;
  }
  open_ = false;
  const std::size_t index = parts_.size() - 1;
  const AnswerPart& part = parts_.back();
  const std::string id = ItemId(index);
  if (part.kind == Kind::kCall) {
    Event(out, "response.function_call_arguments.done",
          fmt::format(R"(,"item_id":"{}","output_index":{},"name":{},"arguments":{})", id, index,
                      Quoted(part.name), Quoted(part.text)));
  } else {
    const bool text = part.kind == Kind::kText;
    Event(out, text ? "response.output_text.done" : "response.reasoning_text.done",
          fmt::format(R"(,"item_id":"{}","output_index":{},"content_index":0,"text":{}{})", id,
                      index, Quoted(part.text),
                      text ? fmt::format(R"(,"logprobs":[{}])", part.logprobs) : std::string()));
    Event(out, "response.content_part.done",
          fmt::format(
              R"(,"item_id":"{}","output_index":{},"content_index":0,"part":{})", id, index,
              text ? TextContent(part.text, part.logprobs)
                   : fmt::format(R"({{"type":"reasoning_text","text":{}}})", Quoted(part.text))));
  }
  Event(out, "response.output_item.done",
        fmt::format(R"(,"output_index":{},"item":{})", index, Item(index, ended_, false)));
}

void ResponsesWriter::AppendEnd(std::string& out, const ChoiceFinish& finish, const Usage& usage) {
  ended_ = finish.kind == FinishKind::kLength ? Status::kIncomplete : Status::kCompleted;
  CloseItem(out);
  const std::string body = Body(ended_, &usage, nullptr);
  Event(out, ended_ == Status::kIncomplete ? "response.incomplete" : "response.completed",
        fmt::format(R"(,"response":{})", body));
  Store(body);
}

void ResponsesWriter::AppendError(std::string& out, const Error& error) {
  ended_ = Status::kIncomplete;
  CloseItem(out);
  Event(out, "response.failed",
        fmt::format(R"(,"response":{})", Body(Status::kFailed, nullptr, &error)));
}

std::string ResponsesWriter::Unary(std::span<const Answer> answers, const Usage& usage) {
  const Answer& answer = answers.front();
  parts_ = answer.parts;
  NameCalls();
  std::string body =
      Body(answer.finish.kind == FinishKind::kLength ? Status::kIncomplete : Status::kCompleted,
           &usage, nullptr);
  Store(body);
  return body;
}

}  // namespace pixii::frontend
