// The HTTP port of a process that clients do not ask: whether it lives, whether it is ready, its
// metrics, and what an operator may do to its engine. A frontend with the routes for clients
// switched off.
//
// Thread: one loop.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "apps/access_log_writer.h"
#include "apps/option_structs.h"
#include "apps/process_unit.h"
#include "base/result.h"
#include "control/instance.h"
#include "frontend/frontend.h"
#include "obs/metrics.h"
#include "worker/announcing_link.h"
#include "worker/worker_service.h"

namespace pixii::apps {

class SystemPort final {
 public:
  /// All outlive it.
  SystemPort(ProcessUnit& process, const WorkerFlags& flags, obs::Registry& registry)
      : process_(process), flags_(flags), registry_(registry) {}

  SystemPort(const SystemPort&) = delete;
  SystemPort& operator=(const SystemPort&) = delete;

  /// Listens, if the flags say where; from now on it answers that the worker starts. Errors: those
  /// of listening, of reading keys and of writing the port file.
  Result<void> Start(bool adapter_api);

  bool listens() const { return frontend_.has_value(); }

  /// From now on it answers for this worker, until it is destroyed. All outlive it.
  /// `export_engine` writes the engine's figures to the registry; empty: it has none.
  void Show(worker::WorkerService& service, control::WorkerLink& link,
            const control::Instance& instance, std::function<void()> export_engine);

  /// Why it does not take requests yet.
  void SetWaiting(std::string why) { waiting_ = std::move(why); }

  /// Opens the access log anew.
  void Reload() {
    if (access_log_) {
      access_log_->Reopen();
    }
  }

  /// Answers nobody any more. Pre: the loop does not run.
  void Close() { frontend_.reset(); }

 private:
  frontend::SystemHealth Health();
  void Export();

  ProcessUnit& process_;
  const WorkerFlags& flags_;
  obs::Registry& registry_;
  rt::Time begun_{};
  std::string waiting_ = "the worker starts: its engine is not there yet";
  worker::WorkerService* service_ = nullptr;  // null: there is none yet
  std::optional<worker::AnnouncingLink> link_;
  control::Instance instance_;
  std::function<void()> export_engine_;
  std::unique_ptr<AccessLogWriter> access_log_;  // null: there is none
  std::optional<frontend::Frontend> frontend_;
};

}  // namespace pixii::apps
