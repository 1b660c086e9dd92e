// Sends traces of ended requests, and log lines, to a collector of OpenTelemetry, each on a thread
// of its own.
//
// Thread: Take from any; the destructors send what waits, for a while, and end.
// docs/observability.md
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "apps/background_queue.h"
#include "apps/otlp_sender.h"
#include "frontend/request_trace.h"
#include "obs/log.h"
#include "rt/time.h"

namespace pixii::apps {

class TraceExporter final {
 public:
  static constexpr std::size_t kWaitingMax = 8192;  // traces; what finds no room is lost
  static constexpr std::size_t kBatchMax = 256;     // of one export
  static constexpr rt::Duration kBatchPause = std::chrono::milliseconds(500);

  /// `log` outlives it.
  TraceExporter(OtelTarget target, obs::Log& log);

  /// Does not block; those that are not sampled are left out.
  void Take(const frontend::EndedTrace& trace);

 private:
  bool Send(const BackgroundBatch<frontend::EndedTrace>& batch);
  void CountLost(std::size_t count, std::string_view why);

  OtlpSender sender_;  // of the thread
  obs::Log& log_;
  BackgroundQueue<frontend::EndedTrace> queue_;  // last: its thread uses what stands above
};

/// Lines of a log, as they are written elsewhere, too.
class LogExporter final {
 public:
  static constexpr std::size_t kWaitingMax = 8192;  // lines; what finds no room is lost
  static constexpr std::size_t kBatchMax = 512;     // of one export

  explicit LogExporter(OtelTarget target);

  /// Does not block. What cannot be sent is lost: whoever wants all lines reads them where they are
  /// written.
  void Take(obs::Severity severity, std::string_view line, rt::WallTime now);

 private:
  bool Send(const BackgroundBatch<obs::OtlpLogRecord>& batch);

  OtlpSender sender_;  // of the thread
  BackgroundQueue<obs::OtlpLogRecord> queue_;
};

}  // namespace pixii::apps
