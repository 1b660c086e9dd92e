// An endpoint of handlers as a member of a cluster: a thread with a loop, discovery, the worker's
// service and a HandlerLink.
//
// Thread: made, asked and destroyed on any one thread, which never waits for the loop but in Start
// and Join. The loop's thread never takes a lock of the handlers' language.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/option_structs.h"
#include "apps/plane_unit.h"
#include "apps/process_unit.h"
#include "apps/system_port.h"
#include "base/result.h"
#include "control/discovery.h"
#include "frontend/text_processor.h"
#include "handler_link.h"
#include "obs/metrics.h"
#include "rt/thread.h"
#include "worker/worker_service.h"

namespace pixii::python {

/// What is said of the model; 0 and empty: as its files say, or a usual value.
struct ModelFacts {
  std::string model = {};  // folder, bundled name or hub name: whose texts and sizes are used
  std::string name = {};   // in the API
  std::int64_t context_tokens = 0;
  std::int64_t block_tokens = 0;
  std::int64_t block_count = 0;
  std::int64_t batch_sequences = 0;
  std::int64_t batch_tokens = 0;
};

struct EndpointOptions {
  std::vector<std::string> arguments;  // flags of `pixii worker`
  ModelFacts model;
  std::uint32_t choices_max = 4096;
  double silence_s = 120;
  bool proves = false;
  double prove_interval_s = 10;
  double prove_timeout_s = 10;
};

class EndpointHost final {
 public:
  /// `wake`: of Inbox, called on the host's thread.
  EndpointHost(EndpointOptions options, std::function<void()> wake);

  EndpointHost(const EndpointHost&) = delete;
  EndpointHost& operator=(const EndpointHost&) = delete;
  /// Ends what runs.
  ~EndpointHost();

  /// Until frontends can find it. Errors: those of the flags, of the model's files, of listening.
  Result<void> Start();

  /// Nothing new is taken; what runs may end within --drain-timeout, then goes on elsewhere.
  /// `patiently` false: at once.
  void Stop(bool patiently);

  /// Waits for its end.
  void Join() { thread_.Join(); }

  /// No effect once it ended.
  void Give(std::vector<Output> outputs);
  void TellKvEvents(std::vector<wire::KvEvent> events);

  Inbox& inbox() { return inbox_; }

  bool stopped() const { return stopped_; }

  // What stands below is there from Start on and does not change.

  const wire::ModelCard& card() const { return card_; }

  const frontend::TextProcessor* text() const { return text_.get(); }

  std::uint64_t instance() const { return instance_; }

 private:
  Result<void> Open();
  Result<void> Read();
  Result<void> MakeCard(const std::string& folder);
  void Close();
  rt::Task<void> DrainAndStop(bool patiently);

  EndpointOptions options_;
  Inbox inbox_;
  apps::WorkerFlags flags_;
  apps::EngineFlags engine_flags_;
  wire::ModelCard card_;
  std::string folder_;
  std::shared_ptr<const frontend::TextProcessor> text_;
  std::uint64_t instance_ = 0;
  std::optional<obs::Registry> registry_;
  std::optional<apps::ProcessUnit> process_;
  std::unique_ptr<rt::Net> tls_net_;
  std::unique_ptr<control::Discovery> discovery_;
  std::unique_ptr<apps::PlaneUnit> plane_;
  std::optional<HandlerLink> link_;
  std::optional<worker::WorkerService> service_;
  std::unique_ptr<control::Registration> registration_;
  std::optional<apps::SystemPort> system_;
  rt::Mutex mutex_;
  rt::CondVar begun_;
  std::optional<Result<void>> opened_ PX_GUARDED_BY(mutex_);
  rt::Loop* loop_ PX_GUARDED_BY(mutex_) = nullptr;  // null: it does not run
  std::atomic<bool> stopped_ = false;
  bool draining_ = false;  // on the loop
  rt::Thread thread_;
};

}  // namespace pixii::python
