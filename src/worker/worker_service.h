// The worker's side of every message: a WorkerLink served to frontends in other processes.
//
// Thread: one loop, that of the link. docs/formats/messages.md
// A request whose caller is gone is cancelled. Frames for a caller that reads slowly are joined, so
// that a stream costs no more memory than its tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "control/mux_server.h"
#include "control/worker_link.h"
#include "rt/loop.h"
#include "rt/net.h"

namespace pixii::worker {

struct WorkerServiceOptions {
  control::MuxOptions mux;
  std::size_t stream_bytes_max = 64 * 1024;  // sent and not yet read; what follows is joined
  /// What frontends ask for to read and write the model's texts; empty: there is nothing.
  std::function<Result<wire::ModelFiles>()> files = {};
  rt::Duration report_period = std::chrono::milliseconds(100);  // between two that tell of load
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

 private:
  enum class Kind : std::uint8_t {
    kUnknown,
    kGenerate,
    kReport,
    kMemory,
    kClear,
    kLoad,
    kUnload,
    kFiles
  };

  struct Call {
    Kind kind = Kind::kUnknown;
    bool begun = false;  // its first message was taken
    RequestId request{};
    std::uint32_t live_choices = 0;
    wire::WorkerLoad told;               // with the last report
    std::vector<wire::TokenFrame> held;  // [choice] joined frames that wait for the caller
  };

  // control::MuxService
  void OnCall(control::CallId id, std::string_view method, rt::Duration deadline_left) override;
  void OnMessage(control::CallId id, std::string message) override;
  void OnGone(control::CallId id) override;
  void OnDrained(control::CallId id) override;

  void Begin(control::CallId id, Call& call, const std::string& message);
  Result<void> BeginGenerate(control::CallId id, Call& call, const std::string& message);
  Result<void> BeginMemory(control::CallId id, const std::string& message);
  Result<void> BeginLoad(control::CallId id, const std::string& message);
  Result<void> BeginFiles(control::CallId id);
  Result<void> BeginUnload(control::CallId id, const std::string& message);
  void OnFrame(control::CallId id, wire::TokenFrame frame);
  bool SendFrame(control::CallId id, const wire::TokenFrame& frame);
  void Finish(control::CallId id, std::optional<Error> error);
  control::WorkerLink::MemoryHandler FinishWith(control::CallId id);
  control::WorkerLink::AdapterHandler AnswerWith(control::CallId id);
  void SendReport(control::CallId id, Call& call, bool with_card);
  void SendReports();
  wire::WorkerLoad Load() const;
  rt::Task<void> ReportLoop();

  rt::Loop& loop_;
  control::WorkerLink& link_;
  WorkerServiceOptions options_;
  std::map<control::CallId, Call> calls_;
  std::unordered_map<RequestId, control::CallId> running_;
  std::uint64_t last_request_ = 0;
  bool draining_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // on the loop alone
  control::MuxServer server_;
  rt::SpawnedTasks tasks_;  // last: their frames use what stands above
};

}  // namespace pixii::worker
