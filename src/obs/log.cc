#include "obs/log.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <optional>
#include <utility>

#include "base/result.h"
#include "base/utf8.h"

namespace pixii::obs {

namespace {

struct Row {
  Severity severity;
  std::string_view name;
  std::uint32_t per_second_max;
  std::string_view help;
};

constexpr Row kRows[] = {
#define PX_EVENT(id, severity, name, per_second_max, help) \
  {Severity::severity, name, per_second_max, help},
#include "obs/events.def"
#undef PX_EVENT
};

const Row& RowOf(EventId id) { return kRows[static_cast<std::size_t>(id)]; }

std::string_view SeverityName(Severity severity) {
  switch (severity) {
    case Severity::kDebug:
      return "debug";
    case Severity::kInfo:
      return "info";
    case Severity::kWarn:
      return "warn";
    case Severity::kError:
      return "error";
    case Severity::kOff:
      break;
  }
  return "off";
}

constexpr std::pair<std::string_view, Severity> kLevels[] = {
    {"debug", Severity::kDebug}, {"trace", Severity::kDebug}, {"info", Severity::kInfo},
    {"warn", Severity::kWarn},   {"error", Severity::kError}, {"off", Severity::kOff}};

std::optional<Severity> LevelOf(std::string_view word) {
  for (const auto& [name, severity] : kLevels) {
    if (name == word) {
      return severity;
    }
  }
  return std::nullopt;
}

bool IsOf(std::string_view event, std::string_view target) {
  return event.starts_with(target) &&
         (event.size() == target.size() || event[target.size()] == '.');
}

void AppendAscii(std::string& out, char c) {
  auto byte = static_cast<unsigned char>(c);
  if (c == '"' || c == '\\') {
    out += '\\';
    out += c;
  } else if (c == '\n') {
    out += "\\n";
  } else if (byte < 0x20 || byte == 0x7F) {
    out += fmt::format("\\u{:04x}", static_cast<unsigned>(byte));
  } else {
    out += c;
  }
}

// Quotes are those of JSON. A byte that is no UTF-8 becomes U+FFFD: a peer's bytes must not make
// the line unreadable.
void AppendQuoted(std::string& out, std::string_view text) {
  out += '"';
  while (!text.empty()) {
    std::size_t size = Utf8SequenceLength(text);
    if (size == 1) {
      AppendAscii(out, text[0]);
    } else if (size == 0) {
      AppendUtf8(out, U'\uFFFD');
    } else {
      out += text.substr(0, size);
    }
    text.remove_prefix(std::max<std::size_t>(size, 1));
  }
  out += '"';
}

std::string Timestamp(rt::WallTime now) {
  auto seconds = static_cast<std::time_t>(now.unix_seconds);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z", parts.tm_year + 1900,
                     parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                     now.nanoseconds / 1000);
}

bool IsPlainWord(std::string_view text) {
  if (text.empty()) {
    return false;
  }
  for (char c : text) {
    if (c <= ' ' || c == '"' || c == '=' || c == '\\' || static_cast<unsigned char>(c) >= 0x7F) {
      return false;
    }
  }
  return true;
}

}  // namespace

Result<LogOptions> ParseLogLevels(std::string_view text) {
  LogOptions out;
  const auto bad = [](std::string_view part, std::string_view why) {
    return Fail(Code::kInvalidArgument,
                fmt::format("log-level: \"{}\" {}", part.substr(0, 100), why), "log-level");
  };
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(','), text.size());
    const std::string_view part = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::size_t mark = part.find('=');
    const std::string_view target = part.substr(0, mark == part.npos ? 0 : mark);
    const std::optional<Severity> level = LevelOf(part.substr(mark == part.npos ? 0 : mark + 1));
    if (!level) {
      return bad(part, "has no level; levels are debug, info, warn, error and off");
    }
    if (mark == part.npos) {
      out.severity_min = *level;
      continue;
    }
    if (target.find("::") != target.npos) {
      continue;
    }
    if (std::ranges::none_of(kRows, [&](const Row& row) { return IsOf(row.name, target); })) {
      return bad(part, "names no event and no beginning of one; docs/reference/events.md has them");
    }
    out.targets.push_back({.name = std::string(target), .severity_min = *level});
  }
  return out;
}

Log::Log(LogOptions options, std::function<rt::WallTime()> wall_now, Sink sink)
    : options_(std::move(options)), wall_now_(std::move(wall_now)), sink_(std::move(sink)) {
  for (std::size_t i = 0; i < kEventCount; ++i) {
    const LogTarget* best = nullptr;
    for (const LogTarget& target : options_.targets) {
      if (IsOf(kRows[i].name, target.name) &&
          (best == nullptr || best->name.size() <= target.name.size())) {
        best = &target;
      }
    }
    severity_min_[i] = best != nullptr ? best->severity_min : options_.severity_min;
  }
}

bool Log::enabled(EventId id) const {
  Severity severity = RowOf(id).severity;
  return severity >= severity_min_[static_cast<std::size_t>(id)] ||
         severity == Severity::kError;  // errors are counted even when off
}

void Log::Write(EventId id, const std::string& json_fields, const std::string& logfmt_fields) {
  const Row& row = RowOf(id);
  if (row.severity == Severity::kError) {
    error_count_.fetch_add(1, std::memory_order_relaxed);
  }
  if (row.severity < severity_min_[static_cast<std::size_t>(id)]) {
    return;
  }
  rt::WallTime now = wall_now_();
  rt::MutexLock lock(mutex_);
  Limit& limit = limits_[static_cast<std::size_t>(id)];
  if (limit.second != now.unix_seconds) {
    limit.second = now.unix_seconds;
    limit.written = 0;
  }
  if (limit.written >= row.per_second_max) {
    ++limit.dropped;
    return;
  }
  ++limit.written;
  bool json = options_.format == LogFormat::kJson;
  std::string line =
      json ? fmt::format("{{\"time\":\"{}\",\"severity\":\"{}\",\"event\":\"{}\"{}", Timestamp(now),
                         SeverityName(row.severity), row.name, json_fields)
           : fmt::format("time={} severity={} event={}{}", Timestamp(now),
                         SeverityName(row.severity), row.name, logfmt_fields);
  if (limit.dropped > 0) {
    line += json ? ",\"dropped_before\":" : " dropped_before=";
    line += fmt::format_int(limit.dropped).str();
    limit.dropped = 0;
  }
  line += json ? "}\n" : "\n";
  sink_(row.severity, line);
}

Event::~Event() {
  if (enabled_) {
    log_.Write(id_, json_, logfmt_);
  }
}

Event& Event::kv(std::string_view key, std::string_view value) {
  if (enabled_) {
    json_ += fmt::format(",\"{}\":", key);
    AppendQuoted(json_, value);
    logfmt_ += fmt::format(" {}=", key);
    if (IsPlainWord(value)) {
      logfmt_ += value;
    } else {
      AppendQuoted(logfmt_, value);
    }
  }
  return *this;
}

Event& Event::Raw(std::string_view key, std::string_view text) {
  if (enabled_) {
    json_ += fmt::format(",\"{}\":{}", key, text);
    logfmt_ += fmt::format(" {}={}", key, text);
  }
  return *this;
}

Event& Event::Real(std::string_view key, double value) {
  // JSON has no word for infinity or no number.
  return std::isfinite(value) ? Raw(key, fmt::format("{:.6g}", value)) : Raw(key, "null");
}

Log::Sink StderrSink() {
  return [](Severity, std::string_view line) { std::fwrite(line.data(), 1, line.size(), stderr); };
}

std::string EventsReference() {
  std::string out =
      "# Log events\n\nGenerated from `src/obs/events.def`.\n\n| event | severity | a second | "
      "meaning |\n|---|---|---|---|\n";
  for (const Row& row : kRows) {
    out += fmt::format("| `{}` | {} | {} | {} |\n", row.name, SeverityName(row.severity),
                       row.per_second_max, row.help);
  }
  return out;
}

std::string ErrorsReference() {
  std::string out =
      "# Error codes\n\nGenerated from `src/base/error_codes.def`.\n\n| code | HTTP status | may "
      "succeed later | meaning |\n|---|---|---|---|\n";
#define PX_ERROR(name, http, retryable, sentence)                           \
  out += fmt::format("| {} | {} | {} | {} |\n", CodeName(Code::name), http, \
                     (retryable) ? "yes" : "no", sentence);
#include "base/error_codes.def"
#undef PX_ERROR
  return out;
}

}  // namespace pixii::obs
