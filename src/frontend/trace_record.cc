#include "frontend/trace_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "frontend/openai_request.h"
#include "wire/json.h"
#include "wire/msgpack.h"
#include "wire/public_hash.h"

namespace pixii::frontend {

namespace {

using wire::Json;
using Phase = wire::RequestLeg::Phase;

constexpr std::string_view kSchema = "dynamo.request.trace.v1";
constexpr std::size_t kToolBytesMax = 64 << 10;
constexpr std::uint32_t kToolDepthMax = 16;
constexpr wire::JsonLimits kToolLimits{.depth_max = kToolDepthMax, .values_max = 4096};
constexpr wire::JsonLimits kBodyLimits{.depth_max = 128, .values_max = 2'000'000};

double Milliseconds(rt::Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

std::int64_t UnixMilliseconds(const RequestTrace& trace, rt::Time at) {
  const std::int64_t begun = trace.wall.unix_seconds * 1000 + trace.wall.nanoseconds / 1'000'000;
  return begun + std::chrono::duration_cast<std::chrono::milliseconds>(at - trace.begun).count();
}

Json Head(std::string_view event, std::int64_t unix_ms) {
  Json out(Json::Object{});
  out.Set("schema", kSchema);
  out.Set("event_type", event);
  out.Set("event_time_unix_ms", unix_ms);
  out.Set("event_source", "dynamo");
  return out;
}

void SetSession(const SessionIdentity& session, Json& out) {
  if (session.id.empty()) {
    return;
  }
  Json context(Json::Object{});
  context.Set("session_id", session.id);
  if (!session.parent.empty()) {
    context.Set("parent_session_id", session.parent);
  }
  if (session.is_final) {
    context.Set("session_final", true);
  }
  out.Set("agent_context", std::move(context));
}

// Blocks of all the prompt, the last one in part; each hash says all before it, too.
Json ReplayOf(const std::vector<TokenId>& prompt, std::uint32_t block_tokens) {
  Json::Array hashes;
  std::uint64_t chain = 0;
  for (std::size_t begin = 0; begin < prompt.size(); begin += block_tokens) {
    const std::size_t count = std::min<std::size_t>(block_tokens, prompt.size() - begin);
    const std::uint64_t block =
        wire::PublicBlockHash(std::span(prompt).subspan(begin, count), wire::kPublicHashSeed);
    chain = begin == 0 ? block : wire::PublicChainHash(chain, block);
    hashes.emplace_back(chain);
  }
  Json out(Json::Object{});
  out.Set("trace_block_size", std::int64_t{block_tokens});
  out.Set("input_length", static_cast<std::int64_t>(prompt.size()));
  out.Set("input_sequence_hashes", std::move(hashes));
  return out;
}

// The last attempt of each kind is who did it.
Json WorkersOf(const RequestTrace& trace) {
  Json out(Json::Object{});
  for (const wire::RequestLeg& leg : trace.legs) {
    if (leg.worker == 0 || leg.phase == Phase::kFetch) {
      continue;
    }
    for (const auto& [kind, wanted] : {std::pair("prefill", leg.phase != Phase::kDecode),
                                       std::pair("decode", leg.phase != Phase::kPrefill)}) {
      if (wanted) {
        out.Set(fmt::format("{}_worker_id", kind), leg.worker);
        out.Set(fmt::format("{}_dp_rank", kind), std::int64_t{leg.rank});
      }
    }
  }
  return out;
}

Json FinishOf(const RequestTrace& trace, const TracePayload* payload) {
  Json out(Json::Object{});
  out.Set("finish_reason", trace.finish_reasons.empty() ? Json() : trace.finish_reasons.front());
  Json::Array calls;
  if (payload != nullptr) {
    for (const TraceAnswer& answer : payload->answers) {
      for (const TraceAnswer::Call& call : answer.calls) {  // arguments are nobody's business here
        Json one(Json::Object{});
        one.Set("id", call.id);
        one.Set("name", call.name);
        calls.push_back(std::move(one));
      }
    }
  }
  out.Set("tool_calls", std::move(calls));
  return out;
}

/// Spans of the answer that clients see, and of the worker that computed the prompt.
void SetTimes(const RequestTrace& trace, Json& out) {
  out.Set("request_received_ms", UnixMilliseconds(trace, trace.begun));
  out.Set("total_time_ms", Milliseconds(trace.answered - trace.begun));
  if (trace.first_token != rt::kNever) {
    out.Set("ttft_ms", Milliseconds(trace.first_token - trace.begun));
    if (trace.output_tokens > 1 && trace.last_frame != rt::kNever) {
      out.Set("avg_itl_ms", Milliseconds(trace.last_frame - trace.first_token) /
                                static_cast<double>(trace.output_tokens - 1));
    }
  }
  for (const wire::RequestLeg& leg : trace.legs) {
    const wire::WorkerTimes& times = leg.times;
    const auto set = [&](std::string_view name, std::int64_t from, std::int64_t to) {
      if (from >= 0 && to >= from) {
        out.Set(std::string(name), static_cast<double>(to - from) / 1e6);
      }
    };
    if (leg.phase != Phase::kDecode && leg.phase != Phase::kFetch) {
      set("prefill_wait_time_ms", times.queued_ns, times.scheduled_ns);
      set("prefill_time_ms", times.scheduled_ns, times.first_token_ns);
    }
    if (times.awaited_blocks) {
      set("kv_transfer_estimated_latency_ms", 0, times.queued_ns);
    }
  }
}

Json ErrorOf(const Error& error) {
  Json out(Json::Object{});
  out.Set("code", CodeName(error.code()));
  out.Set("message", error.detail());
  return out;
}

void SetIds(const RequestTrace& trace, Json& out) {
  out.Set("request_id", trace.id);
  if (!trace.label.empty()) {
    out.Set("x_request_id", trace.label);
  }
  out.Set("trace_id", obs::ToHex(trace.context.trace));
  out.Set("model", trace.model);
}

}  // namespace

std::string EndRecord(const RequestTrace& trace, const TracePayload* payload,
                      std::uint32_t block_tokens) {
  Json out = Head("request_end", UnixMilliseconds(trace, trace.answered));
  SetSession(trace.session, out);
  Json request(Json::Object{});
  SetIds(trace, request);
  request.Set("path", trace.path);
  request.Set("stream", trace.stream);
  request.Set("input_tokens", trace.prompt_tokens);
  request.Set("cached_tokens", trace.cached_tokens);
  request.Set("output_tokens", trace.output_tokens);
  if (trace.prompt_tokens > 0) {
    request.Set("kv_hit_rate", static_cast<double>(trace.cached_tokens) /
                                   static_cast<double>(trace.prompt_tokens));
  }
  SetTimes(trace, request);
  if (Json workers = WorkersOf(trace); !workers.object().empty()) {
    request.Set("worker", std::move(workers));
  }
  request.Set("finish_reason_metadata", FinishOf(trace, payload));
  if (trace.error) {
    request.Set("error", ErrorOf(*trace.error));
  }
  if (payload != nullptr && !payload->prompt.empty()) {
    request.Set("replay", ReplayOf(payload->prompt, block_tokens));
  }
  out.Set("request", std::move(request));
  return out.Dump();
}

std::string PayloadRecord(const RequestTrace& trace, const TracePayload& payload) {
  Json out = Head("request_payload", UnixMilliseconds(trace, trace.answered));
  SetSession(trace.session, out);
  Json request(Json::Object{});
  SetIds(trace, request);
  out.Set("request", std::move(request));
  Json all(Json::Object{});
  Result<Json> body = wire::ParseJson(payload.body, kBodyLimits);  // its own lines are no records
  all.Set("request", body ? std::move(*body) : Json());
  Json::Array choices;
  for (const TraceAnswer& answer : payload.answers) {
    Json message(Json::Object{});
    message.Set("role", "assistant");
    message.Set("content", answer.text);
    if (!answer.reasoning.empty()) {
      message.Set("reasoning_content", answer.reasoning);
    }
    Json::Array calls;
    for (const TraceAnswer::Call& call : answer.calls) {
      Json one(Json::Object{});
      one.Set("id", call.id);
      one.Set("name", call.name);
      one.Set("arguments", call.arguments);
      calls.push_back(std::move(one));
    }
    if (!calls.empty()) {
      message.Set("tool_calls", std::move(calls));
    }
    Json choice(Json::Object{});
    choice.Set("message", std::move(message));
    choice.Set("finish_reason", answer.finish.empty() ? Json() : Json(answer.finish));
    choices.push_back(std::move(choice));
  }
  Json response(Json::Object{});
  response.Set("choices", std::move(choices));
  all.Set("response", std::move(response));
  all.Set("payload_complete", !trace.error.has_value());
  out.Set("payload", std::move(all));
  return out.Dump();
}

namespace {

Result<const Json*> Member(const Json& from, const char* field, std::string_view name) {
  const Json* value = from.Find(name);
  if (value == nullptr) {
    return Fail(Code::kInvalidArgument, fmt::format("{}: it is missing", field), field);
  }
  return value;
}

Result<void> CheckText(const Json& from, const char* field, std::string_view name) {
  PX_TRY(const Json* value, Member(from, field, name));
  if (!value->is_string() || value->string().empty()) {
    return Fail(Code::kInvalidArgument, fmt::format("{}: it is no text", field), field);
  }
  return {};
}

constexpr std::array<std::string_view, 3> kToolEvents = {"tool_start", "tool_end", "tool_error"};

Result<std::string> CheckedTool(Json record) {
  if (!record.is_object()) {
    return Fail(Code::kInvalidArgument, "the event is no object");
  }
  PX_CHECK_OK(CheckText(record, "event_type", "event_type"));
  const std::string& type = record.Find("event_type")->string();
  if (std::ranges::find(kToolEvents, type) == kToolEvents.end()) {
    return Fail(Code::kInvalidArgument,
                fmt::format("event_type: {} is none of {}", Shown(*record.Find("event_type")),
                            fmt::join(kToolEvents, ", ")),
                "event_type");
  }
  PX_TRY(const Json* at, Member(record, "event_time_unix_ms", "event_time_unix_ms"));
  if (!at->AsInt() || *at->AsInt() < 0) {
    return Fail(Code::kInvalidArgument, "event_time_unix_ms: it is no time", "event_time_unix_ms");
  }
  PX_TRY(const Json* context, Member(record, "agent_context", "agent_context"));
  PX_CHECK_OK(CheckText(*context, "agent_context.session_id", "session_id"));
  PX_TRY(const Json* tool, Member(record, "tool", "tool"));
  PX_CHECK_OK(CheckText(*tool, "tool.tool_call_id", "tool_call_id"));
  PX_CHECK_OK(CheckText(*tool, "tool.tool_class", "tool_class"));
  record.Set("schema", kSchema);
  record.Set("event_source", "harness");
  return record.Dump();
}

Result<Json> ReadValue(wire::MsgpackReader& reader, std::uint32_t depth) {
  using Kind = wire::MsgpackReader::Kind;
  if (depth > kToolDepthMax) {
    return Fail(Code::kInvalidArgument,
                fmt::format("the event is nested deeper than {}", kToolDepthMax));
  }
  switch (reader.Peek()) {
    case Kind::kNil:
      reader.TakeNil();
      return Json();
    case Kind::kBool: {
      PX_TRY(const bool value, reader.Bool());
      return Json(value);
    }
    case Kind::kInteger: {
      PX_TRY(const std::int64_t value, reader.Int());
      return Json(value);
    }
    case Kind::kFloat: {
      PX_TRY(const double value, reader.Double());
      return std::isfinite(value) ? Json(value) : Json();
    }
    case Kind::kText:
    case Kind::kBytes: {
      PX_TRY(const std::string_view value, reader.Text());
      return Json(value);
    }
    case Kind::kArray: {
      PX_TRY(const std::uint32_t count, reader.Array());
      Json::Array out;
      for (std::uint32_t i = 0; i < count; ++i) {
        PX_TRY(Json value, ReadValue(reader, depth + 1));
        out.push_back(std::move(value));
      }
      return Json(std::move(out));
    }
    case Kind::kMap: {
      PX_TRY(const std::uint32_t count, reader.Map());
      Json::Object out;
      for (std::uint32_t i = 0; i < count; ++i) {
        PX_TRY(const std::string_view name, reader.Text());
        PX_TRY(Json value, ReadValue(reader, depth + 1));
        out.emplace_back(std::string(name), std::move(value));
      }
      return Json(std::move(out));
    }
    default:
      return Fail(Code::kInvalidArgument, "the event holds what JSON has not");
  }
}

Result<void> CheckSize(std::string_view bytes) {
  if (bytes.size() > kToolBytesMax) {
    return Fail(Code::kTooLarge,
                fmt::format("the event has {} bytes, allowed are {}", bytes.size(), kToolBytesMax));
  }
  return {};
}

}  // namespace

Result<std::string> ToolRecord(std::string_view json) {
  PX_CHECK_OK(CheckSize(json));
  PX_TRY(Json record, wire::ParseJson(json, kToolLimits));
  return CheckedTool(std::move(record));
}

Result<std::string> ToolRecordOfMsgpack(std::string_view bytes) {
  PX_CHECK_OK(CheckSize(bytes));
  wire::MsgpackReader reader(bytes);
  PX_TRY(Json record, ReadValue(reader, 0));
  if (!reader.at_end()) {
    return Fail(Code::kInvalidArgument, "the event has bytes behind its end");
  }
  return ToolRecord(record.Dump());  // what is no text, or there twice, is found there
}

}  // namespace pixii::frontend
