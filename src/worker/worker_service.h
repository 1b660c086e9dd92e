// The worker's side of every message: a WorkerLink served to frontends in other processes.
//
// Thread: one loop, that of the link. docs/formats/messages.md
// A request whose caller is gone is cancelled. Frames for a caller that reads slowly are joined, so
// that a stream costs no more memory than its tokens; a caller that lets too much wait gets nothing
// more to do.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "control/engine_watch.h"
#include "control/event_plane.h"
#include "control/mux_server.h"
#include "control/worker_link.h"
#include "obs/log.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "worker/kv_event_log.h"
#include "worker/request_meter.h"

namespace pixii::worker {

struct WorkerServiceOptions {
  control::MuxOptions mux;
  /// Of a stream, given to its connection and not taken by it yet: above, what follows is joined
  /// until it is taken. 0: tokens that wait together travel together, and each alone where they
  /// come no faster than they leave.
  std::size_t stream_bytes_max = 0;
  /// What frontends ask for to read and write the model's texts; empty: there is nothing.
  std::function<Result<wire::ModelFiles>()> files = {};
  /// The same of a connection's streams together: above, requests are refused (kResourceExhausted).
  std::size_t connection_bytes_max = 32U << 20U;
  std::size_t kv_blocks_max = 1024;  // of one message of KV events; one event may have more
  /// From a change of the cache to its telling: with what changes meanwhile, for each message wakes
  /// a process.
  rt::Duration kv_events_delay = std::chrono::milliseconds(4);
  KvEventLogOptions kv_log = {};
  /// The link's KV events are watched from the start on; else once a frontend asks. For those that
  /// cannot be told again.
  bool watches_kv_events = false;
  rt::Duration report_period = std::chrono::milliseconds(100);  // between two that tell of load
  /// All who listen there hear of KV events and load, under the name of `mux`; null: nobody does.
  /// It outlives the service.
  control::EventPlane* plane = nullptr;
  rt::Duration plane_period = std::chrono::seconds(1);  // between two that say how far events are
  /// An engine that does not answer is told of: it gets no requests, and what it has goes
  /// elsewhere.
  std::optional<control::ReadinessOptions> health = {};
  /// Counts the requests of frontends, test requests apart; null: nobody does. It outlives the
  /// service.
  RequestMeter* meter = nullptr;
  /// Hears of each request that came and ended; null: nobody does. It outlives the service.
  obs::Log* log = nullptr;
  /// Hears when it stops or begins to answer; it may not destroy the service.
  std::function<void(bool healthy, const std::string& why)> on_health = {};
};

/// Since the start.
struct WorkerCounts {
  std::uint64_t requests = 0;    // that frontends sent
  std::uint64_t unreadable = 0;  // of them, refused: the message cannot be read
  std::uint64_t refused = 0;     // likewise, by the engine or a limit
  std::uint64_t faults = 0;      // that ended with an error
  std::uint64_t cancelled = 0;   // whose caller wanted no more
};

class WorkerService final : private control::MuxService {
 public:
  /// All outlive it.
  WorkerService(rt::Loop& loop, rt::Net& net, control::WorkerLink& link,
                WorkerServiceOptions options);

  WorkerService(const WorkerService&) = delete;
  WorkerService& operator=(const WorkerService&) = delete;
  /// Cancels what runs for its callers.
  ~WorkerService();

  Result<rt::Address> Start(const rt::Address& address) { return server_.Start(address); }

  /// The card changed: everybody hears of it.
  void Announce();

  /// Takes no new requests; what runs goes on.
  void Drain();

  std::size_t request_count() const { return running_.size(); }

  const WorkerCounts& counts() const { return counts_; }

  /// Whether frontends are told to send requests.
  bool takes_requests() { return Report().load.state == wire::WorkerState::kAwake; }

  /// A sentence: ready, or what is in the way.
  std::string Describe();

  /// Nothing is asked where health is not watched.
  control::CanaryCounts canaries() const {
    return watch_ ? watch_->canaries() : control::CanaryCounts();
  }

  /// Those that callers of this name sent, by the ids that the link knows.
  std::vector<RequestId> RequestsOf(std::string_view caller) const;

  /// Of every kind, reports included, of which each connection of a frontend has one.
  std::size_t call_count() const { return calls_.size(); }

  std::size_t connection_count() const { return server_.connection_count(); }

 private:
  enum class Kind : std::uint8_t {
    kUnknown,
    kGenerate,
    kReport,
    kMemory,
    kClearTiers,
    kClear,
    kLoad,
    kUnload,
    kFiles,
    kKvEvents,
  };

  /// Where a caller is in the log of KV events.
  struct KvReader {
    std::uint64_t next_id = 0;
    std::vector<wire::KvEvent> dump;  // what is to be sent before
    std::size_t dump_sent = 0;        // of it
    bool in_dump = false;
  };

  struct Call {
    Kind kind = Kind::kUnknown;
    bool begun = false;  // its first message was taken
    RequestId request{};
    std::uint32_t live_choices = 0;
    std::string traceparent;  // of its caller, if somebody hears of requests
    std::string label;
    wire::WorkerReport told;  // last, but for the card
    bool card_due = false;    // with the next report
    KvReader kv;
    std::vector<wire::TokenFrame> held;  // joined by choice, errors apart, that wait for the caller
  };

  // control::MuxService
  void OnCall(control::CallId id, std::string_view method, rt::Duration deadline_left) override;
  void OnMessage(control::CallId id, std::string message) override;
  void OnGone(control::CallId id) override;
  void OnDrained(control::CallId id) override;

  void Begin(control::CallId id, Call& call, const std::string& message);
  Result<void> BeginGenerate(control::CallId id, Call& call, const std::string& message);
  Result<void> TakeRequest(control::CallId id, Call& call, const std::string& message);
  Result<void> BeginMemory(control::CallId id, const std::string& message);
  Result<void> BeginLoad(control::CallId id, const std::string& message);
  Result<void> BeginFiles(control::CallId id);
  Result<void> BeginUnload(control::CallId id, const std::string& message);
  Result<void> BeginKvEvents(control::CallId id, Call& call, const std::string& message);
  Result<void> WatchKvEvents();
  void OnKvEvents(std::vector<wire::KvEvent> events);
  void TellKvEvents();
  void SendKvEvents(control::CallId id, KvReader& reader);
  void PublishKvEvents();
  void PublishPosition();
  void PublishLoad(const wire::WorkerReport& report);
  wire::KvEventBatch NextBatch(KvReader& reader) const;
  void OnFrame(control::CallId id, wire::TokenFrame frame);
  void SayTook(Call& call, const wire::GenerateRequest& request) const;
  void SayEnded(const Call& call, const wire::TokenFrame& frame) const;
  bool SendFrame(control::CallId id, const wire::TokenFrame& frame);
  void Finish(control::CallId id, std::optional<Error> error);
  control::WorkerLink::MemoryHandler FinishWith(control::CallId id);
  control::WorkerLink::AdapterHandler AnswerWith(control::CallId id);
  void SendReport(control::CallId id, Call& call);
  void SendReports();
  wire::WorkerReport Report();
  rt::Task<void> ReportLoop();

  rt::Loop& loop_;
  control::WorkerLink& link_;
  WorkerServiceOptions options_;
  std::map<control::CallId, Call> calls_;
  std::unordered_map<RequestId, control::CallId> running_;
  std::uint64_t last_request_ = 0;
  WorkerCounts counts_;
  KvEventLog kv_log_;
  std::uint64_t kv_epoch_;  // of `kv_log_`: other starts of this worker have another
  bool kv_watched_ = false;
  std::uint64_t plane_next_id_ = 0;  // of the first event that the plane did not get
  rt::Time plane_due_{};             // it is to be said how far they are
  wire::WorkerReport plane_told_;
  bool kv_events_due_ = false;  // a timer runs
  bool draining_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // on the loop alone
  std::optional<control::EngineWatch> watch_;
  bool healthy_ = false;
  control::MuxServer server_;
  rt::SpawnedTasks tasks_;  // last: their frames use what stands above
};

}  // namespace pixii::worker
