// Log events by table: a name and key-value pairs, as JSON lines or logfmt. Prose and prompt texts
// have no place here.
//
// Thread: any; lines are written whole under a lock. Each event has its own limit per second; what
// is dropped is counted and told by the next line of that event.
// Severity: debug is off in production, info is life cycle, warn is degraded, error is a bug or
// lost data. Any error event fails a simulation run (error_count()).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/result.h"
#include "rt/thread.h"
#include "rt/time.h"

namespace pixii::obs {

enum class Severity : std::uint8_t { kDebug, kInfo, kWarn, kError, kOff };

enum class EventId : std::uint16_t {
#define PX_EVENT(id, severity, name, per_second_max, help) id,
#include "obs/events.def"
#undef PX_EVENT
};

inline constexpr std::size_t kEventCount = 0
#define PX_EVENT(id, severity, name, per_second_max, help) +1
#include "obs/events.def"
#undef PX_EVENT
    ;

enum class LogFormat : std::uint8_t { kLogfmt, kJson };

struct LogTarget {
  std::string name;  // "router": of events whose names begin with "router."
  Severity severity_min = Severity::kInfo;
};

struct LogOptions {
  Severity severity_min = Severity::kInfo;
  LogFormat format = LogFormat::kLogfmt;
  std::vector<LogTarget> targets = {};  // the longest that fits counts
};

/// "info,router=debug". Errors: kInvalidArgument naming the part. A target with :: is of another
/// program, and trace is debug: both as DYN_LOG may have them.
Result<LogOptions> ParseLogLevels(std::string_view text);

class Log final {
 public:
  using Sink = std::function<void(Severity severity, std::string_view line)>;

  /// `sink` gets lines with their line end; `wall_now` stamps them.
  Log(LogOptions options, std::function<rt::WallTime()> wall_now, Sink sink);

  bool enabled(EventId id) const;

  std::uint64_t error_count() const { return error_count_; }

 private:
  friend class Event;
  void Write(EventId id, const std::string& json_fields, const std::string& logfmt_fields);

  struct Limit {
    std::int64_t second = 0;
    std::uint32_t written = 0;
    std::uint64_t dropped = 0;
  };

  LogOptions options_;
  std::array<Severity, kEventCount> severity_min_{};  // of each event
  std::function<rt::WallTime()> wall_now_;
  Sink sink_;
  rt::Mutex mutex_;
  std::array<Limit, kEventCount> limits_ PX_GUARDED_BY(mutex_){};
  std::atomic<std::uint64_t> error_count_{0};
};

/// obs::Event(log, EventId::kServeReady).kv("port", port); written when it dies.
class [[nodiscard]] Event final {
 public:
  Event(Log& log, EventId id) : log_(log), id_(id), enabled_(log.enabled(id)) {}

  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event();

  Event& kv(std::string_view key, std::string_view value);

  template <class Number>
    requires std::is_arithmetic_v<Number>
  Event& kv(std::string_view key, Number value) {
    if constexpr (std::is_same_v<Number, bool>) {
      return Raw(key, value ? "true" : "false");
    } else if constexpr (std::is_floating_point_v<Number>) {
      return Real(key, static_cast<double>(value));
    } else {
      return Raw(key, std::to_string(value));
    }
  }

 private:
  Event& Raw(std::string_view key, std::string_view text);
  Event& Real(std::string_view key, double value);

  Log& log_;
  EventId id_;
  bool enabled_;
  std::string json_;
  std::string logfmt_;
};

/// A sink on standard error.
Log::Sink StderrSink();

/// docs/reference/events.md and errors.md.
std::string EventsReference();
std::string ErrorsReference();

}  // namespace pixii::obs
