#include "sim/record_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "sim/trace.h"
#include "wire/json.h"

namespace pixii::sim {

namespace {

using wire::Json;

constexpr std::uint32_t kBlockTokensMax = 65536;

struct Place {
  std::string_view file;
  std::size_t line = 0;

  Error Wrong(std::string_view what) const {
    return Error(Code::kInvalidArgument, fmt::format("{}: line {}: {}", file, line, what));
  }
};

std::string TextOf(const Json* object, std::string_view name) {
  const Json* value = object != nullptr && object->is_object() ? object->Find(name) : nullptr;
  return value != nullptr && value->is_string() ? value->string() : std::string();
}

Result<std::int64_t> CountOf(const Json& object, std::string_view name, std::int64_t max,
                             const Place& place) {
  const Json* value = object.Find(name);
  const std::optional<std::int64_t> count = value == nullptr ? std::nullopt : value->AsInt();
  if (!count || *count < 0 || *count > max) {
    return Fail(place.Wrong(fmt::format("{} must be a number from 0 to {}", name, max)));
  }
  return *count;
}

/// A hash is 64 bits, and may be past what a signed number holds.
std::optional<std::uint64_t> HashOf(const Json& value) {
  if (const std::optional<std::int64_t> number = value.AsInt()) {
    return static_cast<std::uint64_t>(*number);
  }
  if (!value.is_number()) {
    return std::nullopt;
  }
  std::uint64_t out = 0;
  const std::string& digits = value.digits();
  const auto [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
  return failed == std::errc() && end == digits.data() + digits.size()
             ? std::optional<std::uint64_t>(out)
             : std::nullopt;
}

Result<void> ReadReplay(const Json& replay, const Place& place, Records& records,
                        RecordedRequest& out) {
  PX_TRY(const std::int64_t block, CountOf(replay, "trace_block_size", kBlockTokensMax, place));
  if (block == 0 || (records.block_tokens != 0 && records.block_tokens != block)) {
    return Fail(
        place.Wrong(fmt::format("trace_block_size is {}, before it was {}: records of one "
                                "trace have one",
                                block, records.block_tokens)));
  }
  records.block_tokens = static_cast<std::uint32_t>(block);
  PX_TRY(const std::int64_t input, CountOf(replay, "input_length", kTraceTokensMax, place));
  out.input_tokens = static_cast<std::uint32_t>(std::max<std::int64_t>(input, 1));
  const Json* hashes = replay.Find("input_sequence_hashes");
  const auto wanted = static_cast<std::size_t>((input + block - 1) / block);
  if (hashes == nullptr || !hashes->is_array() || hashes->array().size() != wanted) {
    return Fail(place.Wrong(
        fmt::format("input_sequence_hashes must be {}, one for each {} tokens", wanted, block)));
  }
  for (const Json& one : hashes->array()) {
    const std::optional<std::uint64_t> hash = HashOf(one);
    if (!hash) {
      return Fail(place.Wrong("input_sequence_hashes must be 64-bit numbers"));
    }
    out.hashes.push_back(*hash);
  }
  return {};
}

Result<void> AddRequest(const Json& record, const Place& place, Records& records) {
  const Json* request = record.Find("request");
  if (request == nullptr || !request->is_object()) {
    return Fail(place.Wrong("request is missing"));
  }
  const Json* replay = request->Find("replay");
  if (replay == nullptr || !replay->is_object()) {
    ++records.left_out;
    return {};
  }
  constexpr std::int64_t kTimeMax = std::int64_t{1} << 52;
  const Json* context = record.Find("agent_context");
  RecordedRequest out{.id = TextOf(request, "request_id"),
                      .session = TextOf(context, "session_id"),
                      .parent = TextOf(context, "parent_session_id"),
                      .hashes = {}};
  PX_TRY(out.received_ms, CountOf(*request, "request_received_ms", kTimeMax, place));
  PX_TRY(out.ended_ms, CountOf(record, "event_time_unix_ms", kTimeMax, place));
  PX_TRY(const std::int64_t output, CountOf(*request, "output_tokens", kTraceTokensMax, place));
  out.output_tokens = static_cast<std::uint32_t>(output);
  PX_CHECK_OK(ReadReplay(*replay, place, records, out));
  records.requests.push_back(std::move(out));
  return {};
}

// Whoever lost its beginning still knows how long it took.
void AddTool(const Json& record, Records& records) {
  const Json* tool = record.Find("tool");
  const auto number = [&](std::string_view name) {
    const Json* value = tool != nullptr && tool->is_object() ? tool->Find(name) : nullptr;
    return value != nullptr ? value->AsDouble() : std::nullopt;
  };
  const Json* at = record.Find("event_time_unix_ms");
  const double reported = at != nullptr ? at->AsDouble().value_or(0) : 0;
  const double ended = number("ended_at_unix_ms").value_or(reported);
  const std::optional<double> begun = number("started_at_unix_ms");
  const double took = number("duration_ms").value_or(begun ? ended - *begun : 0);
  if (took >= 0) {
    records.tools.push_back({.session = TextOf(record.Find("agent_context"), "session_id"),
                             .ended_ms = static_cast<std::int64_t>(ended),
                             .took_ms = took});
  }
}

}  // namespace

Result<void> AddRecords(std::string_view text, std::string_view file, Records& records) {
  Place place{.file = file};
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++place.line;
    if (line.find_first_not_of(" \r\t") == line.npos) {
      continue;
    }
    const Result<Json> json = wire::ParseJson(line);
    if (!json || !json->is_object()) {
      return Fail(place.Wrong(json ? "is no JSON object" : json.error().detail()));
    }
    const Json* event = json->Find("event");
    const Json& record = event != nullptr && event->is_object() ? *event : *json;
    const std::string type = TextOf(&record, "event_type");
    if (type == "request_end") {
      PX_CHECK_OK(AddRequest(record, place, records));
    } else if (type == "tool_end" || type == "tool_error") {
      AddTool(record, records);
    } else if (type.empty()) {
      return Fail(place.Wrong("event_type is missing: it is no record of a request trace"));
    }
  }
  return {};
}

namespace {

/// Requests of each session, by their numbers, in the order in which they came.
using Sessions = std::unordered_map<std::string_view, std::vector<std::size_t>>;

/// Of a session's requests that had ended when `own` came, the one that ended last.
const RecordedRequest* LastEnded(const std::vector<RecordedRequest>& requests,
                                 const Sessions& sessions, std::string_view session,
                                 const RecordedRequest& own) {
  const RecordedRequest* out = nullptr;
  const auto found = sessions.find(session);
  if (session.empty() || found == sessions.end()) {
    return out;
  }
  for (const std::size_t index : found->second) {
    const RecordedRequest& other = requests[index];
    if (&other != &own && other.ended_ms <= own.received_ms &&
        (out == nullptr || out->ended_ms <= other.ended_ms)) {
      out = &other;
    }
  }
  return out;
}

/// Who it waits for: the turn before it or, of a session's first, one of who began the session.
const RecordedRequest* Before(const std::vector<RecordedRequest>& requests,
                              const Sessions& sessions, const RecordedRequest& own) {
  const RecordedRequest* of_session = LastEnded(requests, sessions, own.session, own);
  return of_session != nullptr ? of_session : LastEnded(requests, sessions, own.parent, own);
}

// Tools that ran between two turns, at most all the time that lies there: several at once count by
// the longest.
double ToolWait(const Records& records, const RecordedRequest& before, const RecordedRequest& own) {
  double out = 0;
  for (const RecordedTool& tool : records.tools) {
    if (tool.session == own.session && tool.ended_ms >= before.ended_ms &&
        tool.ended_ms <= own.received_ms) {
      out = std::max(out, tool.took_ms);
    }
  }
  return std::min(out, static_cast<double>(own.received_ms - before.ended_ms));
}

}  // namespace

Result<std::string> ToMooncake(Records records, bool agentic) {
  std::vector<RecordedRequest>& requests = records.requests;
  if (requests.empty()) {
    return Fail(Code::kInvalidArgument, "the records hold no request that could be replayed");
  }
  std::ranges::sort(requests, {}, [](const RecordedRequest& request) {
    return std::tie(request.received_ms, request.ended_ms, request.id);
  });
  Sessions sessions;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    sessions[requests[i].session].push_back(i);
  }
  std::unordered_map<std::uint64_t, std::uint64_t> ids;  // of hashes, from 0 on
  std::string out;
  for (const RecordedRequest& request : requests) {
    Json line(Json::Object{});
    line.Set("timestamp", request.received_ms - requests.front().received_ms);
    line.Set("input_length", std::int64_t{request.input_tokens});
    line.Set("output_length", std::int64_t{request.output_tokens});
    Json::Array hash_ids;
    for (const std::uint64_t hash : request.hashes) {
      hash_ids.emplace_back(ids.try_emplace(hash, ids.size()).first->second);
    }
    line.Set("hash_ids", std::move(hash_ids));
    if (agentic) {
      if (request.session.empty()) {
        return Fail(Code::kInvalidArgument,
                    fmt::format("agentic: the request \"{}\" is of no session", request.id),
                    "agentic");
      }
      line.Set("request_id", request.id);
      line.Set("session_id", request.session);
      if (!request.parent.empty()) {
        line.Set("parent_session_id", request.parent);
      }
      if (const RecordedRequest* before = Before(requests, sessions, request)) {
        const double tools = ToolWait(records, *before, request);
        line.Set("wait_for", Json::Array{Json(before->id)});
        line.Set("delay", static_cast<double>(request.received_ms - before->ended_ms) - tools);
        line.Set("tool_wait_ms", tools);
      }
    }
    out += line.Dump();
    out += '\n';
  }
  return out;
}

}  // namespace pixii::sim
