// Sends traces of ended requests to a collector of OpenTelemetry, on a thread of its own.
//
// Thread: Take from any; the destructor sends what waits, for a while, and ends.
// docs/observability.md
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/option_structs.h"
#include "base/result.h"
#include "frontend/request_trace.h"
#include "obs/log.h"
#include "obs/otlp.h"
#include "rt/http_client.h"
#include "rt/thread.h"
#include "rt/time.h"

namespace pixii::apps {

struct OtelTarget {
  std::string traces_url;
  std::vector<std::pair<std::string, std::string>> headers;
  obs::OtlpResource resource;
};

/// Errors: kInvalidArgument, kUnsupported (grpc), naming the flag.
Result<OtelTarget> OtelTargetOf(const HttpFlags& flags);

class TraceExporter final {
 public:
  static constexpr std::size_t kWaitingMax = 8192;  // traces; what finds no room is lost
  static constexpr std::size_t kBatchMax = 256;     // of one export
  static constexpr rt::Duration kBatchPause = std::chrono::milliseconds(500);
  static constexpr std::uint32_t kTries = 4;  // of one export, with pauses that double
  static constexpr rt::Duration kRetryPause = std::chrono::milliseconds(250);

  /// `log` outlives it.
  TraceExporter(OtelTarget target, obs::Log& log);

  TraceExporter(const TraceExporter&) = delete;
  TraceExporter& operator=(const TraceExporter&) = delete;
  ~TraceExporter();

  /// Does not block; those that are not sampled are left out.
  void Take(const frontend::EndedTrace& trace);

 private:
  void Serve();
  bool Send(const std::string& url, const std::string& body);
  void CountLost(std::size_t count, std::string_view why);

  const OtelTarget target_;
  obs::Log& log_;
  std::unique_ptr<rt::HttpClient> client_;  // of the thread
  rt::Mutex mutex_;
  rt::CondVar wake_;
  std::vector<frontend::EndedTrace> waiting_ PX_GUARDED_BY(mutex_);
  std::size_t lost_ PX_GUARDED_BY(mutex_) = 0;
  bool stopping_ PX_GUARDED_BY(mutex_) = false;
  rt::Thread thread_;  // last: it uses what stands above
};

}  // namespace pixii::apps
