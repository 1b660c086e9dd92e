#include "apps/trace_exporter.h"

#include <optional>
#include <utility>
#include <vector>

namespace pixii::apps {

TraceExporter::TraceExporter(OtelTarget target, obs::Log& log)
    : sender_(std::move(target)),
      log_(log),
      queue_(
          {.name = "otel", .length_max = kWaitingMax, .batch_max = kBatchMax, .pause = kBatchPause},
          [this](const BackgroundBatch<frontend::EndedTrace>& batch) { return Send(batch); }) {}

void TraceExporter::Take(const frontend::EndedTrace& trace) {
  if (trace->context.sampled) {
    queue_.Push(trace);
  }
}

void TraceExporter::CountLost(std::size_t count, std::string_view why) {
  if (count > 0) {
    obs::Event(log_, obs::EventId::kTraceLost).kv("traces", count).kv("why", why);
  }
}

// Where a process ends, a collector that did not take these will not take the rest.
bool TraceExporter::Send(const BackgroundBatch<frontend::EndedTrace>& batch) {
  CountLost(batch.lost, "the collector is too slow");
  if (batch.items.empty()) {
    return true;
  }
  std::vector<obs::SpanTree> trees;
  trees.reserve(batch.items.size());
  for (const frontend::EndedTrace& trace : batch.items) {
    trees.push_back(frontend::SpansOf(*trace));
  }
  const OtelTarget& target = sender_.target();
  const bool sent = sender_.Send(target.traces_url, obs::EncodeTraces(target.resource, trees),
                                 [this](rt::Duration pause) { return queue_.Sleep(pause); });
  if (!sent) {
    CountLost(trees.size(), "the collector did not take them");
  }
  return sent || !batch.stopping;
}

namespace {

// Numbers of OpenTelemetry's log data model.
std::uint32_t NumberOf(obs::Severity severity) {
  constexpr std::uint32_t kOf[] = {5, 9, 13, 17, 17};  // DEBUG, INFO, WARN, ERROR
  return kOf[static_cast<std::size_t>(severity)];
}

/// The value behind `trace_id` in a line of either form.
std::string_view TraceIdIn(std::string_view line) {
  constexpr std::size_t kSize = 32;
  for (const std::string_view mark : {" trace_id=", "\"trace_id\":\""}) {
    const std::size_t at = line.find(mark);
    if (at != line.npos && at + mark.size() + kSize <= line.size()) {
      return line.substr(at + mark.size(), kSize);
    }
  }
  return {};
}

}  // namespace

LogExporter::LogExporter(OtelTarget target)
    : sender_(std::move(target)),
      queue_({.name = "otel-logs",
              .length_max = kWaitingMax,
              .batch_max = kBatchMax,
              .pause = TraceExporter::kBatchPause},
             [this](const BackgroundBatch<obs::OtlpLogRecord>& batch) { return Send(batch); }) {}

void LogExporter::Take(obs::Severity severity, std::string_view line, rt::WallTime now) {
  while (line.ends_with('\n')) {
    line.remove_suffix(1);
  }
  queue_.Push({.unix_ns = now.unix_seconds * 1'000'000'000 + now.nanoseconds,
               .severity = NumberOf(severity),
               .body = std::string(line),
               .trace_id = std::string(TraceIdIn(line))});
}

bool LogExporter::Send(const BackgroundBatch<obs::OtlpLogRecord>& batch) {
  if (batch.items.empty()) {
    return true;
  }
  const OtelTarget& target = sender_.target();
  const bool sent = sender_.Send(target.logs_url, obs::EncodeLogs(target.resource, batch.items),
                                 [this](rt::Duration pause) { return queue_.Sleep(pause); });
  return sent || !batch.stopping;
}

}  // namespace pixii::apps
