#include "apps/process_unit.h"

#include <csignal>
#include <string>
#include <utility>

#include "rt/child_process.h"

namespace pixii::apps {

namespace {

// What a burst of requests took and gave back stays with the allocator, which after enough bursts
// looks like a leak.
constexpr rt::Duration kTrimPeriod = std::chrono::seconds(10);

}  // namespace

ProcessUnit::~ProcessUnit() {
  if (loop_) {
    loop_->CancelTimer(trim_);
  }
}

Result<void> ProcessUnit::Open(const ProcessFlags& flags, SignalHandlers handlers) {
  handlers_ = std::move(handlers);
  if (flags.parent_pid > 0) {
    PX_CHECK_OK(rt::EndWithParent(static_cast<std::int32_t>(flags.parent_pid)));
  }
  PX_TRY(loop_, rt::MakeLoop());
  net_ = rt::MakeNet(*loop_);
  PX_TRY(obs::LogOptions options, obs::ParseLogLevels(flags.log_level));
  const bool json = flags.log_jsonl || flags.log_format.starts_with("json");
  options.format = json ? obs::LogFormat::kJson : obs::LogFormat::kLogfmt;
  log_.emplace(
      std::move(options), [this] { return loop_->WallNow(); },
      [this, written = obs::StderrSink()](obs::Severity severity, std::string_view line) {
        written(severity, line);
        if (log_exporter_) {
          log_exporter_->Take(severity, line, loop_->WallNow());
        }
      });
  if (handlers_.drain) {  // else signals are somebody else's: of an interpreter around this, say
    PX_TRY(signals_, rt::WatchSignals(*loop_, {SIGTERM, SIGINT, SIGUSR1, SIGHUP, SIGCHLD},
                                      [this](int signal) { OnSignal(signal); }));
  }
  if (flags.otel_export) {
    PX_TRY(OtelTarget target, OtelTargetOf(flags));
    log_exporter_ =
        std::make_unique<LogExporter>(std::move(target));  // its thread: behind the mask
  }
  TrimLater();
  return {};
}

void ProcessUnit::TrimLater() {
  trim_ = loop_->RunAt(loop_->Now() + kTrimPeriod, [this] {
    rt::TrimMemory();
    TrimLater();
  });
}

void ProcessUnit::OnSignal(int signal) {
  if (signal == SIGCHLD) {
    if (handlers_.child) {
      handlers_.child();
    }
  } else if (signal == SIGUSR1) {
    handlers_.dump();
  } else if (signal == SIGHUP) {
    if (handlers_.reload) {
      handlers_.reload();
    }
  } else if (!draining_ && handlers_.drain()) {
    draining_ = true;
  } else {
    loop_->Stop();
  }
}

}  // namespace pixii::apps
