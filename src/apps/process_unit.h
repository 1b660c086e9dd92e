// What every long-running command has: a loop, a network, a log, signals.
//
// Thread: one loop, that of the process.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "apps/option_structs.h"
#include "base/result.h"
#include "obs/log.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "rt/process.h"

namespace pixii::apps {

class ProcessUnit final {
 public:
  ProcessUnit() = default;

  /// Call once, before any other thread starts: they inherit the mask of signals. `on_signal` hears
  /// of SIGTERM, SIGINT, SIGUSR1 and SIGHUP.
  Result<void> Open(const ProcessFlags& flags, std::function<void(int signal)> on_signal);

  rt::Loop& loop() { return *loop_; }

  rt::Net& net() { return *net_; }

  obs::Log& log() { return *log_; }

 private:
  std::unique_ptr<rt::Loop> loop_;
  std::unique_ptr<rt::Net> net_;
  std::optional<obs::Log> log_;
  std::unique_ptr<rt::SignalWatch> signals_;
};

}  // namespace pixii::apps
