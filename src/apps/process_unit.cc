#include "apps/process_unit.h"

#include <csignal>
#include <string>
#include <utility>

namespace pixii::apps {

namespace {

obs::Severity SeverityOf(const std::string& word) {
  return word == "debug"  ? obs::Severity::kDebug
         : word == "info" ? obs::Severity::kInfo
         : word == "warn" ? obs::Severity::kWarn
         : word == "off"  ? obs::Severity::kOff
                          : obs::Severity::kError;
}

}  // namespace

Result<void> ProcessUnit::Open(const ProcessFlags& flags,
                               std::function<void(int signal)> on_signal) {
  PX_TRY(loop_, rt::MakeLoop());
  net_ = rt::MakeNet(*loop_);
  const obs::LogOptions options{
      .severity_min = SeverityOf(flags.log_level),
      .format = flags.log_format == "json" ? obs::LogFormat::kJson : obs::LogFormat::kLogfmt};
  log_.emplace(options, [this] { return loop_->WallNow(); }, obs::StderrSink());
  PX_TRY(signals_,
         rt::WatchSignals(*loop_, {SIGTERM, SIGINT, SIGUSR1, SIGHUP}, std::move(on_signal)));
  return {};
}

}  // namespace pixii::apps
