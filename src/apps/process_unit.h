// What every long-running command has: a loop, a network, a log, signals.
//
// Thread: one loop, that of the process.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "apps/option_structs.h"
#include "apps/trace_exporter.h"
#include "base/result.h"
#include "obs/log.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "rt/process.h"

namespace pixii::apps {

/// What signals ask of a command.
struct SignalHandlers {
  std::function<void()> dump;    // SIGUSR1: its state to the log
  std::function<void()> reload;  // SIGHUP: its files anew; empty: it has none
  /// SIGTERM, SIGINT: ends what runs and stops the loop. False: there is nothing to end yet.
  std::function<bool()> drain;
  std::function<void()> child = {};  // SIGCHLD: one that this process started has ended
};

class ProcessUnit final {
 public:
  ProcessUnit() = default;

  ProcessUnit(const ProcessUnit&) = delete;
  ProcessUnit& operator=(const ProcessUnit&) = delete;
  ~ProcessUnit();

  /// Call once, before any other thread starts: they inherit the mask of signals. Who is asked to
  /// end twice, or before there is anything to end, stops at once.
  Result<void> Open(const ProcessFlags& flags, SignalHandlers handlers);

  rt::Loop& loop() { return *loop_; }

  rt::Net& net() { return *net_; }

  obs::Log& log() { return *log_; }

 private:
  void OnSignal(int signal);
  void TrimLater();

  SignalHandlers handlers_;
  bool draining_ = false;
  std::unique_ptr<rt::Loop> loop_;
  std::unique_ptr<rt::Net> net_;
  std::unique_ptr<LogExporter> log_exporter_;  // null: nobody collects lines
  std::optional<obs::Log> log_;
  std::unique_ptr<rt::SignalWatch> signals_;
  rt::TimerId trim_ = rt::TimerId::kNone;
};

}  // namespace pixii::apps
