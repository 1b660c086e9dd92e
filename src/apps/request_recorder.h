// Writes records of ended requests, and of agents' tools, to whoever wants them, on a thread of its
// own. docs/agents.md
//
// Thread: Take from any; the rest on the loop. The destructor writes what waits and ends.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/background_queue.h"
#include "apps/option_structs.h"
#include "apps/record_sinks.h"
#include "base/result.h"
#include "control/zmq_pull.h"
#include "frontend/request_trace.h"
#include "obs/log.h"
#include "obs/metrics.h"
#include "rt/loop.h"
#include "rt/net.h"

namespace pixii::apps {

class RequestRecorder final {
 public:
  static constexpr std::size_t kBatchMax = 256;  // records handed to sinks at a time
  static constexpr rt::Duration kBatchPause = std::chrono::milliseconds(500);

  struct Environment {
    rt::Loop& loop;
    rt::Net& net;
    obs::Log& log;
    obs::Registry& registry;
    const ProcessFlags& process;
    const HttpFlags& flags;
  };

  /// Opens what --request-trace names; null if it is off. What `environment` names outlives it.
  /// Errors: those of the sinks, of the endpoint, and words that are none.
  static Result<std::unique_ptr<RequestRecorder>> Open(const Environment& environment);

  explicit RequestRecorder(const Environment& environment);

  RequestRecorder(const RequestRecorder&) = delete;
  RequestRecorder& operator=(const RequestRecorder&) = delete;

  /// Whether it wants to see what was asked.
  bool wants_bodies() const { return payloads_; }

  /// Does not block. What was asked by nobody is left out.
  void Take(const frontend::EndedTrace& trace,
            const std::shared_ptr<const frontend::TracePayload>& payload);

 private:
  struct Item {
    frontend::EndedTrace trace;  // null: `tool` is all
    std::shared_ptr<const frontend::TracePayload> payload;
    std::string tool;
    std::int64_t unix_ns = 0;
  };

  Result<void> OpenSinks();
  Result<void> OpenTools();
  void OnTool(const wire::ZmtpMessage& message);
  bool Write(const BackgroundBatch<Item>& batch);
  void AddLines(const Item& item, std::vector<RecordLine>& out) const;
  void Count(std::string_view sink, const RecordCounts& counts);
  std::int64_t UnixNow() const;

  const Environment environment_;
  bool ends_ = false;  // which records are written
  bool payloads_ = false;
  bool tools_ = false;
  std::vector<std::unique_ptr<RecordSink>> sinks_;  // of the thread
  std::unique_ptr<control::ZmqPull> pull_;          // null: nobody sends tools' events
  std::optional<BackgroundQueue<Item>> queue_;      // last: its thread uses what stands above
};

}  // namespace pixii::apps
