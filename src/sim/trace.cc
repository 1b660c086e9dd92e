#include "sim/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>
#include <utility>

#include "rt/random.h"
#include "wire/json.h"

namespace pixii::sim {

namespace {

constexpr double kMillisecondsMax = 1e11;  // some three years

Error Wrong(std::size_t line, std::string_view what) {
  return Error(Code::kInvalidArgument, fmt::format("trace: line {}: {}", line, what), "trace");
}

/// The first of `names` that the object has.
const wire::Json* FindAny(const wire::Json& json, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    if (const wire::Json* found = json.Find(name)) {
      return found;
    }
  }
  return nullptr;
}

Result<std::uint32_t> ReadCount(const wire::Json* json, std::string_view name, std::size_t line,
                                std::int64_t least) {
  const std::optional<std::int64_t> value = json == nullptr ? std::nullopt : json->AsInt();
  if (!value || *value < least || *value > kTraceTokensMax) {
    return Fail(
        Wrong(line, fmt::format("{} must be {} to {} tokens", name, least, kTraceTokensMax)));
  }
  return static_cast<std::uint32_t>(std::max<std::int64_t>(*value, 1));
}

Result<TraceRequest> ReadMooncakeLine(std::string_view text, std::size_t line,
                                      std::uint32_t block_tokens) {
  const Result<wire::Json> json = wire::ParseJson(text);
  if (!json || !json->is_object()) {
    return Fail(Wrong(line, json ? "is no JSON object" : json.error().detail()));
  }
  TraceRequest out;
  const wire::Json* at = FindAny(*json, {"timestamp", "created_time"});
  const std::optional<double> milliseconds = at == nullptr ? std::nullopt : at->AsDouble();
  if (!milliseconds || *milliseconds < 0 || *milliseconds > kMillisecondsMax) {
    return Fail(Wrong(line, "timestamp must be milliseconds from the beginning"));
  }
  out.at = std::chrono::duration_cast<rt::Duration>(
      std::chrono::duration<double, std::milli>(*milliseconds));
  PX_TRY(out.input_tokens,
         ReadCount(FindAny(*json, {"input_length", "input_tokens"}), "input_length", line, 1));
  PX_TRY(out.output_tokens,
         ReadCount(FindAny(*json, {"output_length", "output_tokens"}), "output_length", line, 0));
  const wire::Json* ids = json->Find("hash_ids");
  if (ids == nullptr) {
    return out;
  }
  if (!ids->is_array() || ids->array().size() > std::size_t{out.input_tokens} / block_tokens + 1) {
    return Fail(Wrong(
        line, fmt::format("hash_ids must be one for each {} tokens of the prompt", block_tokens)));
  }
  for (const wire::Json& one : ids->array()) {
    const std::optional<std::int64_t> id = one.AsInt();
    if (!id) {
      return Fail(Wrong(line, "hash_ids must be integers"));
    }
    out.hash_ids.push_back(static_cast<std::uint64_t>(*id));
  }
  return out;
}

template <class Number>
bool TakeNumber(std::string_view text, Number& out) {
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), out);
  return failed == std::errc() && end == text.data() + text.size();
}

/// Days from 1970 of a date of the Gregorian calendar. Source: Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms".
std::int64_t DaysOf(std::int64_t year, unsigned month, unsigned day) {
  const std::chrono::sys_days days =
      std::chrono::year(static_cast<int>(year)) / std::chrono::month(month) / std::chrono::day(day);
  return days.time_since_epoch().count();
}

/// "2023-11-16 18:17:03.9799600" as nanoseconds of 1970.
std::optional<std::int64_t> ReadDate(std::string_view text) {
  constexpr std::size_t kSecondsSize = 19;  // without the fraction
  unsigned fields[6] = {};
  constexpr std::pair<std::size_t, std::size_t> kPlaces[6] = {{0, 4},  {5, 2},  {8, 2},
                                                              {11, 2}, {14, 2}, {17, 2}};
  if (text.size() < kSecondsSize) {
    return std::nullopt;
  }
  for (std::size_t i = 0; i < 6; ++i) {
    if (!TakeNumber(text.substr(kPlaces[i].first, kPlaces[i].second), fields[i])) {
      return std::nullopt;
    }
  }
  if (fields[1] < 1 || fields[1] > 12 || fields[2] < 1 || fields[2] > 31 || fields[3] > 23 ||
      fields[4] > 59 || fields[5] > 60) {
    return std::nullopt;
  }
  double fraction = 0;
  if (text.size() > kSecondsSize && !TakeNumber(text.substr(kSecondsSize), fraction)) {
    return std::nullopt;
  }
  const std::int64_t seconds =
      ((DaysOf(fields[0], fields[1], fields[2]) * 24 + fields[3]) * 60 + fields[4]) * 60 +
      fields[5];
  return seconds * 1'000'000'000 + static_cast<std::int64_t>(std::llround(fraction * 1e9));
}

struct AzureLine {
  std::int64_t at_ns = 0;
  TraceRequest request;
};

Result<AzureLine> ReadAzureLine(std::string_view text, std::size_t line) {
  const std::size_t first = text.find(',');
  const std::size_t second = first == text.npos ? text.npos : text.find(',', first + 1);
  if (second == text.npos) {
    return Fail(Wrong(line, "must be TIMESTAMP,ContextTokens,GeneratedTokens"));
  }
  const std::optional<std::int64_t> at = ReadDate(text.substr(0, first));
  AzureLine out;
  TraceRequest& request = out.request;
  if (!at || !TakeNumber(text.substr(first + 1, second - first - 1), request.input_tokens) ||
      !TakeNumber(text.substr(second + 1), request.output_tokens) ||
      request.input_tokens > kTraceTokensMax || request.output_tokens > kTraceTokensMax) {
    return Fail(Wrong(line, "a date and two numbers of tokens are wanted"));
  }
  out.at_ns = *at;
  request.input_tokens = std::max(request.input_tokens, 1U);
  request.output_tokens = std::max(request.output_tokens, 1U);
  return out;
}

// Those of one time stay in the order of their lines; the first one comes at 0.
void SortByTime(std::vector<TraceRequest>& requests) {
  std::vector<std::pair<rt::Duration, std::size_t>> order;
  for (const TraceRequest& request : requests) {
    order.emplace_back(request.at, order.size());
  }
  std::ranges::sort(order);
  std::vector<TraceRequest> sorted;
  for (const auto& [at, index] : order) {
    sorted.push_back(std::move(requests[index]));
    sorted.back().at -= order.front().first;
  }
  requests = std::move(sorted);
}

}  // namespace

Result<Trace> ReadTrace(std::string_view text, std::uint32_t block_tokens) {
  Trace out;
  out.block_tokens = block_tokens;
  const bool mooncake = text.starts_with('{');
  std::size_t number = 0;
  std::optional<std::int64_t> begin_ns;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    line = line.ends_with('\r') ? line.substr(0, line.size() - 1) : line;
    ++number;
    if (line.empty() || (!mooncake && number == 1)) {
      continue;
    }
    if (mooncake) {
      PX_TRY(TraceRequest request, ReadMooncakeLine(line, number, block_tokens));
      out.requests.push_back(std::move(request));
    } else {
      PX_TRY(AzureLine read, ReadAzureLine(line, number));
      begin_ns = begin_ns.value_or(read.at_ns);
      read.request.at = rt::Duration(read.at_ns - *begin_ns);
      out.requests.push_back(std::move(read.request));
    }
  }
  if (out.requests.empty()) {
    return Fail(Code::kInvalidArgument, "trace: it has no requests", "trace");
  }
  SortByTime(out.requests);
  return out;
}

std::vector<TokenId> TracePrompt(const TraceRequest& request, std::uint64_t index,
                                 std::uint32_t block_tokens, std::uint64_t copy,
                                 std::uint32_t vocab_size) {
  constexpr std::uint64_t kOwn = std::uint64_t{1} << 63;  // of a block that nobody shares
  std::vector<TokenId> out;
  out.reserve(request.input_tokens);
  for (std::size_t block = 0; out.size() < request.input_tokens; ++block) {
    const bool named = block < request.hash_ids.size();
    const std::uint64_t id = named ? request.hash_ids[block] : kOwn | index << 24 | block;
    rt::Random tokens(id * 0x9e3779b97f4a7c15 ^ (copy + 1) * 0xd6e8feb86659fd93);
    const std::size_t end = std::min<std::size_t>(out.size() + block_tokens, request.input_tokens);
    while (out.size() < end) {
      // One draw for four tokens: their low bits are not looked at.
      const std::uint64_t draw = tokens.Next();
      for (int part = 0; part < 4 && out.size() < end; ++part) {
        const std::uint64_t bits = draw >> (16 * part) & 0xffff;
        out.push_back(static_cast<TokenId>(bits * vocab_size >> 16));
      }
    }
  }
  return out;
}

}  // namespace pixii::sim
