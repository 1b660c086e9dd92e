#include "frontend/anthropic_writer.h"

#include <fmt/format.h>

#include <iterator>

#include "frontend/error_body.h"
#include "wire/sse.h"

namespace pixii::frontend {

namespace {

using wire::AppendJsonString;
using Kind = AnswerPart::Kind;

// Arguments that are no JSON object have no place in a whole block; they are given as text.
std::string InputOf(const AnswerPart& call) {
  Result<wire::Json> parsed = wire::ParseJson(call.text);
  if (parsed && parsed->is_object()) {
    return call.text;
  }
  wire::Json raw{wire::Json::Object{}};
  raw.Set("arguments", call.text);
  return raw.Dump();
}

void AppendBlock(std::string& out, const AnswerPart& part, std::string_view call_id) {
  switch (part.kind) {
    case Kind::kText:
      out += R"({"type":"text","text":)";
      AppendJsonString(out, part.text);
      break;
    case Kind::kReasoning:
      out += R"({"type":"thinking","thinking":)";
      AppendJsonString(out, part.text);
      out += R"(,"signature":"")";
      break;
    case Kind::kCall:
      out += R"({"type":"tool_use","id":)";
      AppendJsonString(out, call_id);
      out += R"(,"name":)";
      AppendJsonString(out, part.name);
      out += R"(,"input":)";
      out += InputOf(part);
      break;
  }
  out += '}';
}

}  // namespace

// The model's own, or one that no other call of any answer has.
std::string AnthropicWriter::CallId(const AnswerPart& part, std::size_t index) const {
  return part.id.empty() ? fmt::format("toolu_{}{:02}", head_.id, index) : part.id;
}

void AnthropicWriter::AppendHead(std::string& out) const {
  out += R"("id":"msg_)";
  out += head_.id;
  out += R"(","type":"message","role":"assistant","model":)";
  AppendJsonString(out, head_.model);
}

void AnthropicWriter::AppendUsage(std::string& out, const Usage& usage,
                                  std::uint64_t output_tokens) const {
  const std::uint64_t cached = cache_control_ ? usage.cached_tokens : 0;
  fmt::format_to(std::back_inserter(out),
                 R"({{"input_tokens":{},"cache_creation_input_tokens":0,)"
                 R"("cache_read_input_tokens":{},"output_tokens":{}}})",
                 usage.prompt_tokens - cached, cached, output_tokens);
}

void AnthropicWriter::AppendStop(std::string& out, const ChoiceFinish& finish) const {
  const auto* stop = std::get_if<std::string>(&finish.stop_reason);
  std::string_view reason = finish.kind == FinishKind::kLength ? "max_tokens"
                            : called_                          ? "tool_use"
                            : stop != nullptr                  ? "stop_sequence"
                                                               : "end_turn";
  out += R"("stop_reason":")";
  out += reason;
  out += R"(","stop_sequence":)";
  if (stop != nullptr) {
    AppendJsonString(out, *stop);
  } else {
    out += "null";
  }
}

void AnthropicWriter::AppendStart(std::string& out, const Usage& usage) {
  std::string data = R"({"type":"message_start","message":{)";
  AppendHead(data);
  data += R"(,"content":[],"stop_reason":null,"stop_sequence":null,"usage":)";
  AppendUsage(data, usage, 0);
  data += "}}";
  wire::AppendSseEvent(out, "message_start", data);
  wire::AppendSseEvent(out, "ping", R"({"type":"ping"})");
}

void AnthropicWriter::OpenBlock(std::string& out, const AnswerPart& part) {
  AnswerPart empty{.kind = part.kind, .text = {}, .name = part.name, .id = part.id};
  if (part.kind == Kind::kCall) {
    empty.text = "{}";
  }
  std::string data =
      fmt::format(R"({{"type":"content_block_start","index":{},"content_block":)", block_count_);
  AppendBlock(data, empty, CallId(part, block_count_));
  data += '}';
  wire::AppendSseEvent(out, "content_block_start", data);
  open_ = part.kind;
}

void AnthropicWriter::CloseBlock(std::string& out) {
  if (!open_) {
    return;
  }
  if (open_ == Kind::kReasoning) {
    wire::AppendSseEvent(out, "content_block_delta",
                         fmt::format(R"({{"type":"content_block_delta","index":{},)"
                                     R"("delta":{{"type":"signature_delta","signature":""}}}})",
                                     block_count_));
  }
  wire::AppendSseEvent(out, "content_block_stop",
                       fmt::format(R"({{"type":"content_block_stop","index":{}}})", block_count_));
  open_.reset();
  ++block_count_;
}

void AnthropicWriter::AppendPart(std::string& out, const AnswerPart& part) {
  const bool call = part.kind == Kind::kCall;
  if (open_ != part.kind || (call && part.begins)) {
    CloseBlock(out);
    OpenBlock(out, part);
  }
  std::string data =
      fmt::format(R"({{"type":"content_block_delta","index":{},"delta":{{"type":)", block_count_);
  data += part.kind == Kind::kText        ? R"("text_delta","text":)"
          : part.kind == Kind::kReasoning ? R"("thinking_delta","thinking":)"
                                          : R"("input_json_delta","partial_json":)";
  const bool whole = call && part.begins && part.ends;
  AppendJsonString(data, whole ? InputOf(part) : part.text);
  data += "}}";
  wire::AppendSseEvent(out, "content_block_delta", data);
  called_ = called_ || call;
  if (call && part.ends) {
    CloseBlock(out);
  }
}

void AnthropicWriter::AppendEnd(std::string& out, const ChoiceFinish& finish, const Usage& usage) {
  CloseBlock(out);
  std::string data = R"({"type":"message_delta","delta":{)";
  AppendStop(data, finish);
  data += R"(},"usage":)";
  AppendUsage(data, usage, usage.completion_tokens);
  data += '}';
  wire::AppendSseEvent(out, "message_delta", data);
  wire::AppendSseEvent(out, "message_stop", R"({"type":"message_stop"})");
}

void AnthropicWriter::AppendError(std::string& out, const Error& error) {
  wire::AppendSseEvent(out, "error", ErrorBody(error, Dialect::kAnthropic));
}

std::string AnthropicWriter::Unary(std::span<const Answer> answers, const Usage& usage) {
  const Answer& answer = answers.front();
  std::string out = "{";
  AppendHead(out);
  out += R"(,"content":[)";
  for (std::size_t i = 0; i < answer.parts.size(); ++i) {
    called_ = called_ || answer.parts[i].kind == Kind::kCall;
    out += i == 0 ? "" : ",";
    AppendBlock(out, answer.parts[i], CallId(answer.parts[i], i));
  }
  out += "],";
  AppendStop(out, answer.finish);
  out += R"(,"usage":)";
  AppendUsage(out, usage, usage.completion_tokens);
  out += '}';
  return out;
}

}  // namespace pixii::frontend
