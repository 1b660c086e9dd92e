#include "frontend/openai_response.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "base/utf8.h"
#include "frontend/error_body.h"
#include "wire/json.h"
#include "wire/sse.h"

namespace pixii::frontend {

namespace {

using wire::AppendJsonString;

// OpenAI's stand-in for minus infinity, which JSON has not.
constexpr float kLeastLogprob = -9999.0F;

void AppendFloat(std::string& out, float value) {
  fmt::format_to(std::back_inserter(out), "{}",
                 std::isfinite(value) ? std::max(value, kLeastLogprob) : kLeastLogprob);
}

void AppendIds(std::string& out, std::span<const TokenId> ids) {
  out += '[';
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) {
      out += ',';
    }
    fmt::format_int digits(ids[i]);
    out.append(digits.data(), digits.size());
  }
  out += ']';
}

void AppendBytes(std::string& out, std::string_view bytes) {
  out += '[';
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i > 0) {
      out += ',';
    }
    fmt::format_int digits(static_cast<unsigned>(static_cast<unsigned char>(bytes[i])));
    out.append(digits.data(), digits.size());
  }
  out += ']';
}

void AppendStopReason(std::string& out, const ChoiceFinish& finish) {
  if (const auto* text = std::get_if<std::string>(&finish.stop_reason)) {
    out += R"(,"stop_reason":)";
    AppendJsonString(out, *text);
  } else if (const auto* token = std::get_if<TokenId>(&finish.stop_reason)) {
    fmt::format_to(std::back_inserter(out), R"(,"stop_reason":{})", *token);
  }
}

// "id" to "system_fingerprint", without a brace at either end.
void AppendCommon(std::string& out, const ResponseShape& shape, std::string_view object) {
  out += R"("id":)";
  AppendJsonString(out, shape.id);
  fmt::format_to(std::back_inserter(out), R"(,"object":"{}","created":{},"model":)", object,
                 shape.created);
  AppendJsonString(out, shape.model);
  out += R"(,"system_fingerprint":)";
  AppendJsonString(out, shape.system_fingerprint);
}

// One element of tool_calls, without its index and braces. An id is the response's own id, with the
// choice and the call: no other call has it.
void AppendCall(std::string& out, const ResponseShape& shape, std::size_t choice, std::size_t index,
                const text::parsers::ParsedCall& call) {
  out += R"("id":)";
  std::size_t dash = shape.id.find('-');
  AppendJsonString(
      out, call.id.empty()
               ? fmt::format("call_{}{:02x}{:02x}",
                             dash == std::string::npos ? shape.id : shape.id.substr(dash + 1),
                             choice, index)
               : call.id);
  out += R"(,"type":"function","function":{"name":)";
  AppendJsonString(out, call.name);
  out += R"(,"arguments":)";
  AppendJsonString(out, call.arguments);
  out += '}';
}

// "content", and what stands beside it in a message.
void AppendMessage(std::string& out, const ResponseShape& shape, std::size_t index,
                   const FinishedChoice& choice) {
  out += R"("message":{"role":"assistant","content":)";
  if (choice.text.empty() && !choice.calls.empty()) {
    out += "null";
  } else {
    AppendJsonString(out, choice.text);
  }
  if (!choice.reasoning.empty() && shape.include_reasoning) {
    fmt::format_to(std::back_inserter(out), R"(,"{}":)", shape.reasoning_field);
    AppendJsonString(out, choice.reasoning);
  }
  for (std::size_t i = 0; i < choice.calls.size(); ++i) {
    out += i == 0 ? R"(,"tool_calls":[{)" : ",{";
    AppendCall(out, shape, index, i, choice.calls[i]);
    out += i + 1 == choice.calls.size() ? "}]" : "}";
  }
  out += R"(,"refusal":null})";
}

void Separate(std::string& list) {
  if (!list.empty()) {
    list += ',';
  }
}

}  // namespace

std::string_view FinishName(FinishKind kind) {
  return kind == FinishKind::kLength      ? "length"
         : kind == FinishKind::kToolCalls ? "tool_calls"
                                          : "stop";
}

std::string LogprobWriter::Token(TokenId token) const {
  return text_ == nullptr ? fmt::format("token_id:{}", token) : text_->TokenBytes(token);
}

void LogprobWriter::AppendChatEntry(std::string& out, TokenId token, float logprob) const {
  std::string bytes = Token(token);
  out += R"({"token":)";
  AppendJsonString(out, bytes);
  out += R"(,"logprob":)";
  AppendFloat(out, logprob);
  out += R"(,"bytes":)";
  if (text_ == nullptr) {
    out += "null";
  } else {
    AppendBytes(out, bytes);
  }
}

void LogprobWriter::AddChat(TokenId token, const wire::TokenLogprob& logprob) {
  Separate(first_);
  AppendChatEntry(first_, token, logprob.logprob);
  first_ += R"(,"top_logprobs":[)";
  for (std::size_t i = 0; i < std::min(logprob.top.size(), top_max_); ++i) {
    if (i > 0) {
      first_ += ',';
    }
    AppendChatEntry(first_, logprob.top[i].first, logprob.top[i].second);
    first_ += '}';
  }
  first_ += "]}";
}

void LogprobWriter::Add(TokenId token, const wire::TokenLogprob* logprob) {
  if (surface_ == Surface::kChat) {
    AddChat(token, logprob == nullptr ? wire::TokenLogprob{} : *logprob);
    return;
  }
  Separate(first_);
  std::string bytes = Token(token);
  AppendJsonString(first_, bytes);
  Separate(second_);
  Separate(third_);
  if (logprob == nullptr) {
    second_ += "null";
    third_ += "null";
  } else {
    AppendFloat(second_, logprob->logprob);
    third_ += '{';
    for (std::size_t i = 0; i < std::min(logprob->top.size(), top_max_); ++i) {
      if (i > 0) {
        third_ += ',';
      }
      AppendJsonString(third_, Token(logprob->top[i].first));
      third_ += ':';
      AppendFloat(third_, logprob->top[i].second);
    }
    third_ += '}';
  }
  Separate(fourth_);
  fmt::format_to(std::back_inserter(fourth_), "{}", offset_);
  // OpenAI counts characters; a token inside a character adds none.
  offset_ += static_cast<std::uint64_t>(std::count_if(bytes.begin(), bytes.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
  }));
}

std::string LogprobWriter::Take() {
  std::string out;
  if (surface_ == Surface::kChat) {
    out = fmt::format(R"({{"content":[{}],"refusal":null}})", first_);
  } else {
    out = fmt::format(
        R"({{"tokens":[{}],"token_logprobs":[{}],"top_logprobs":[{}],"text_offset":[{}]}})", first_,
        second_, third_, fourth_);
  }
  first_.clear();
  second_.clear();
  third_.clear();
  fourth_.clear();
  return out;
}

void AppendUsage(std::string& out, const Usage& usage) {
  fmt::format_to(std::back_inserter(out),
                 R"({{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},)"
                 R"("prompt_tokens_details":{{"cached_tokens":{}}}}})",
                 usage.prompt_tokens, usage.completion_tokens,
                 usage.prompt_tokens + usage.completion_tokens, usage.cached_tokens);
}

std::string PromptLogprobs(std::span<const TokenId> prompt,
                           std::span<const wire::TokenLogprob> logprobs, const ResponseShape& shape,
                           const TextProcessor* text) {
  std::string out = "[";
  const auto append = [&](TokenId token, float logprob, std::optional<std::size_t> rank) {
    fmt::format_to(std::back_inserter(out), R"("{}":{{"logprob":)", token);
    AppendFloat(out, logprob);
    out += rank ? fmt::format(R"(,"rank":{},"decoded_token":)", *rank + 1)
                : R"(,"rank":null,"decoded_token":)";
    AppendJsonString(out,
                     text == nullptr ? fmt::format("token_id:{}", token) : text->TokenBytes(token));
    out += '}';
  };
  for (std::size_t i = 0; i < prompt.size() && i < logprobs.size(); ++i) {
    if (i == 0) {
      out += "null";
      continue;
    }
    const wire::TokenLogprob& entry = logprobs[i];
    const std::size_t top_count = std::min(entry.top.size(), shape.prompt_top_logprobs);
    std::optional<std::size_t> rank;
    for (std::size_t k = 0; k < entry.top.size(); ++k) {
      rank = entry.top[k].first == prompt[i] ? k : rank;
    }
    out += ",{";
    append(prompt[i], entry.logprob, rank);
    for (std::size_t k = 0; k < top_count; ++k) {
      if (k != rank) {
        out += ',';
        append(entry.top[k].first, entry.top[k].second, k);
      }
    }
    out += '}';
  }
  out += ']';
  return out;
}

namespace {

// One worker does both halves of the work.
void AppendWorkerId(std::string& out, const wire::WorkerRank& worker) {
  fmt::format_to(std::back_inserter(out),
                 R"("worker_id":{{"prefill_worker_id":{0},"prefill_dp_rank":{1},)"
                 R"("decode_worker_id":{0},"decode_dp_rank":{1}}})",
                 worker.worker, worker.rank);
}

}  // namespace

std::string QueryBody(const ResponseShape& shape, std::span<const TokenId> prompt,
                      const wire::WorkerRank& worker, bool stream) {
  const bool chat = shape.surface == Surface::kChat;
  std::string out = "{";
  AppendCommon(out, shape,
               !chat    ? "text_completion"
               : stream ? "chat.completion.chunk"
                        : "chat.completion");
  out += R"(,"choices":[],"usage":)";
  AppendUsage(out, {.prompt_tokens = prompt.size()});
  out += R"(,"nvext":{)";
  AppendWorkerId(out, worker);
  out += R"(,"token_ids":)";
  AppendIds(out, prompt);
  out += "}}";
  return out;
}

std::string RecomputedText(std::span<const Recomputation> recomputed) {
  std::vector<std::string_view> ids;
  for (const Recomputation& one : recomputed) {
    for (const ComputedPart& part : one.parts) {
      if (std::ranges::find(ids, part.numerics_id) == ids.end()) {
        ids.push_back(part.numerics_id);
      }
    }
  }
  return fmt::format("{}", fmt::join(ids, ", "));
}

void AppendRecomputed(std::string& out, std::span<const Recomputation> recomputed) {
  out += R"("recomputed":[)";
  for (std::size_t i = 0; i < recomputed.size(); ++i) {
    fmt::format_to(std::back_inserter(out), R"({}{{"index":{},"parts":)", i == 0 ? "" : ",",
                   recomputed[i].choice);
    AppendParts(out, recomputed[i].parts);
    out += '}';
  }
  out += ']';
}

std::string NvextMember(const ResponseShape& shape, const ChoiceFinish* finish,
                        const AnswerTiming& timing, const wire::WorkerRank& worker,
                        std::span<const Recomputation> recomputed) {
  if (!shape.nvext.shows_fields() && recomputed.empty()) {
    return {};
  }
  std::string out;
  if (!recomputed.empty()) {  // asked for or not: it is not the answer that one worker gives
    out += ',';
    AppendRecomputed(out, recomputed);
  }
  if (shape.nvext.worker_id) {
    out += ',';
    AppendWorkerId(out, worker);
  }
  if (shape.nvext.timing) {
    fmt::format_to(std::back_inserter(out),
                   R"(,"timing":{{"ttft_ms":{:.3f},"itl_ms":{:.3f},"total_time_ms":{:.3f}}})",
                   timing.first_token_ms, timing.between_tokens_ms, timing.total_ms);
  }
  if (shape.nvext.stop_reason && finish != nullptr) {
    const std::size_t before = out.size();
    AppendStopReason(out, *finish);
    out += out.size() == before ? R"(,"stop_reason":null)" : "";
  }
  return out.empty() ? out : fmt::format(R"(,"nvext":{{{}}})", std::string_view(out).substr(1));
}

void AppendAnnotations(std::string& out, const ResponseShape& shape,
                       std::span<const TokenId> prompt) {
  if (shape.nvext.request_id_event) {
    std::string id;
    AppendJsonString(id, shape.id);
    wire::AppendSseEvent(out, "request_id", id);
  }
  if (shape.nvext.token_ids_event) {
    std::string ids;
    AppendIds(ids, prompt);
    wire::AppendSseEvent(out, "token_ids", ids);
  }
}

std::string UnaryBody(const ResponseShape& shape, std::span<const FinishedChoice> choices,
                      const Usage& usage, const Receipt* receipt, std::string_view more) {
  bool chat = shape.surface == Surface::kChat;
  std::string out = "{";
  AppendCommon(out, shape, chat ? "chat.completion" : "text_completion");
  out += R"(,"choices":[)";
  for (std::size_t i = 0; i < choices.size(); ++i) {
    const FinishedChoice& choice = choices[i];
    fmt::format_to(std::back_inserter(out), R"({}{{"index":{},)", i == 0 ? "" : ",", i);
    if (chat) {
      AppendMessage(out, shape, i, choice);
    } else {
      out += R"("text":)";
      AppendJsonString(out, choice.text);
    }
    out += R"(,"logprobs":)";
    out += choice.logprobs.empty() ? "null" : choice.logprobs;
    fmt::format_to(std::back_inserter(out), R"(,"finish_reason":"{}")",
                   FinishName(choice.finish.kind));
    AppendStopReason(out, choice.finish);
    if (!chat && !choice.prompt_logprobs.empty()) {
      out.append(R"(,"prompt_logprobs":)").append(choice.prompt_logprobs);
    }
    if (shape.token_ids) {
      if (!chat) {
        out += R"(,"prompt_token_ids":)";
        AppendIds(out, choice.prompt);
      }
      out += R"(,"token_ids":)";
      AppendIds(out, choice.tokens);
    }
    out += '}';
  }
  out += ']';
  if (shape.token_ids && !choices.empty()) {
    out += R"(,"prompt_token_ids":)";
    AppendIds(out, choices[0].prompt);
  }
  if (chat && !choices.empty() && !choices[0].prompt_logprobs.empty()) {
    out.append(R"(,"prompt_logprobs":)").append(choices[0].prompt_logprobs);
  }
  out += R"(,"usage":)";
  AppendUsage(out, usage);
  if (receipt != nullptr) {
    out += R"(,"receipt":)";
    AppendReceipt(out, *receipt);
  }
  out += more;
  out += '}';
  return out;
}

StreamWriter::StreamWriter(ResponseShape shape, std::uint32_t choice_count)
    : shape_(std::move(shape)) {
  head_ = "data: {";
  AppendCommon(head_, shape_,
               shape_.surface == Surface::kChat ? "chat.completion.chunk" : "text_completion");
  end_ = shape_.include_usage ? std::string_view("}],\"usage\":null}\n\n")
                              : std::string_view("}]}\n\n");
  openings_.reserve(choice_count);
  reasoning_.resize(shape_.reasoning_dispatch ? choice_count : 0);
  for (std::uint32_t i = 0; i < choice_count; ++i) {
    openings_.push_back(fmt::format(R"({},"choices":[{{"index":{},)", head_, i));
  }
}

void StreamWriter::Begin(std::string& out, std::uint32_t choice) const { out += openings_[choice]; }

void StreamWriter::AppendFields(std::string& out, std::string_view logprobs,
                                std::span<const TokenId> tokens) const {
  if (logprobs.empty()) {
    out += R"(,"logprobs":null,"finish_reason":null)";
  } else {
    out += R"(,"logprobs":)";
    out += logprobs;
    out += R"(,"finish_reason":null)";
  }
  if (shape_.token_ids) {
    out += R"(,"token_ids":)";
    AppendIds(out, tokens);
  }
}

void StreamWriter::AppendStart(std::string& out, std::uint32_t choice,
                               std::span<const TokenId> prompt) {
  bool chat = shape_.surface == Surface::kChat;
  if (!chat && !shape_.token_ids) {
    return;
  }
  Begin(out, choice);
  out += chat ? R"("delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null)"
              : R"("text":"","logprobs":null,"finish_reason":null)";
  if (shape_.token_ids) {
    out += R"(,"prompt_token_ids":)";
    AppendIds(out, prompt);
    out += R"(,"token_ids":[])";
  }
  if (shape_.token_ids && chat) {
    out += "}]";
    out += R"(,"prompt_token_ids":)";  // vLLM has it beside the choices
    AppendIds(out, prompt);
    out += end_.substr(2);
    return;
  }
  out += end_;
}

void StreamWriter::AppendDelta(std::string& out, std::uint32_t choice, const ChoiceDelta& delta,
                               std::string_view logprobs) {
  Begin(out, choice);
  if (shape_.surface == Surface::kChat) {
    out += R"("delta":{"content":)";
    AppendJsonString(out, delta.text);
    out += '}';
  } else {
    out += R"("text":)";
    AppendJsonString(out, delta.text);
  }
  AppendFields(out, logprobs, delta.tokens);
  out += end_;
}

void StreamWriter::AppendPart(std::string& out, std::uint32_t choice,
                              const text::parsers::ParseEvent& part, const ChoiceDelta* delta,
                              std::string_view logprobs) {
  using Kind = text::parsers::ParseEvent::Kind;
  AppendDispatch(out, choice, part);
  bool silent = part.kind == Kind::kReasoningEnd ||
                (part.kind == Kind::kReasoning && !shape_.include_reasoning);
  if (silent && delta == nullptr) {
    return;
  }
  Begin(out, choice);
  out += R"("delta":{)";
  if (silent) {
    out += R"("content":"")";
  } else if (part.kind == Kind::kCall) {
    fmt::format_to(std::back_inserter(out), R"("tool_calls":[{{"index":{},)", part.index);
    AppendCall(out, shape_, choice, part.index, part.call);
    out += "}]";
  } else if (part.kind == Kind::kCallPiece) {
    fmt::format_to(std::back_inserter(out), R"("tool_calls":[{{"index":{},)", part.index);
    if (part.begins) {
      AppendCall(out, shape_, choice, part.index, part.call);
    } else {
      out += R"("function":{"arguments":)";
      AppendJsonString(out, part.call.arguments);
      out += '}';
    }
    out += "}]";
  } else {
    fmt::format_to(std::back_inserter(out), R"("{}":)",
                   part.kind == Kind::kContent ? "content" : shape_.reasoning_field);
    AppendJsonString(out, part.text);
  }
  out += '}';
  AppendFields(out, logprobs, delta == nullptr ? std::span<const TokenId>() : delta->tokens);
  out += end_;
}

void StreamWriter::AppendDispatch(std::string& out, std::uint32_t choice,
                                  const text::parsers::ParseEvent& part) {
  using Kind = text::parsers::ParseEvent::Kind;
  if (part.kind == Kind::kCall && shape_.tool_call_dispatch) {
    fmt::format_to(std::back_inserter(out),
                   "event: tool_call_dispatch\ndata: {{\"choice_index\":{},\"tool_call\":{{"
                   "\"index\":{},",
                   choice, part.index);
    AppendCall(out, shape_, choice, part.index, part.call);
    out += "}}\n\n";
  }
  if (!shape_.reasoning_dispatch || !shape_.include_reasoning) {
    return;
  }
  if (part.kind == Kind::kReasoning) {
    reasoning_[choice] += part.text;
  } else if (part.kind == Kind::kReasoningEnd) {
    fmt::format_to(std::back_inserter(out),
                   "event: reasoning_dispatch\ndata: {{\"choice_index\":{},\"{}\":", choice,
                   shape_.reasoning_field);
    AppendJsonString(out, std::exchange(reasoning_[choice], {}));
    out += "}\n\n";
  }
}

void StreamWriter::AppendFinish(std::string& out, std::uint32_t choice, const ChoiceFinish& finish,
                                std::string_view more) {
  Begin(out, choice);
  out += shape_.surface == Surface::kChat ? R"("delta":{})" : R"("text":"")";
  fmt::format_to(std::back_inserter(out), R"(,"logprobs":null,"finish_reason":"{}")",
                 FinishName(finish.kind));
  AppendStopReason(out, finish);
  if (shape_.token_ids) {
    out += R"(,"token_ids":[])";
  }
  if (!more.empty()) {
    out += "}]";
    out += more;
    out += end_.substr(2);
    return;
  }
  out += end_;
}

void StreamWriter::AppendEnd(std::string& out, const Usage& usage, const Receipt* receipt) const {
  if (receipt != nullptr) {
    out += head_;
    out += R"(,"choices":[],"receipt":)";
    AppendReceipt(out, *receipt);
    out += shape_.include_usage ? ",\"usage\":null}\n\n" : "}\n\n";
  }
  if (shape_.include_usage) {
    out += head_;
    out += R"(,"choices":[],"usage":)";
    AppendUsage(out, usage);
    out += "}\n\n";
  }
  out += wire::kSseDone;
}

void StreamWriter::AppendError(std::string& out, const Error& error) {
  wire::AppendSseData(out, ErrorBody(error));
}

}  // namespace pixii::frontend
