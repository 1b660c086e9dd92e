#include "apps/request_recorder.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "control/zmq_kv_source.h"
#include "frontend/trace_record.h"

namespace pixii::apps {

namespace {

std::vector<std::string_view> WordsOf(std::string_view list) {
  std::vector<std::string_view> out;
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(','), list.size());
    std::string_view word = list.substr(0, end);
    list.remove_prefix(std::min(end + 1, list.size()));
    while (word.starts_with(' ')) {
      word.remove_prefix(1);
    }
    while (word.ends_with(' ')) {
      word.remove_suffix(1);
    }
    if (!word.empty() && std::ranges::find(out, word) == out.end()) {
      out.push_back(word);
    }
  }
  return out;
}

}  // namespace

RequestRecorder::RequestRecorder(const Environment& environment) : environment_(environment) {}

Result<std::unique_ptr<RequestRecorder>> RequestRecorder::Open(const Environment& environment) {
  const HttpFlags& flags = environment.flags;
  if (!flags.request_trace) {
    return std::unique_ptr<RequestRecorder>();
  }
  auto out = std::make_unique<RequestRecorder>(environment);
  for (const std::string_view word : WordsOf(flags.request_trace_records)) {
    if (word != "request_end" && word != "request_payload" && word != "tool") {
      return Fail(Code::kInvalidArgument,
                  fmt::format("request-trace-records: \"{}\" is none of request_end, "
                              "request_payload, tool",
                              word.substr(0, 60)),
                  "request-trace-records");
    }
    out->ends_ = out->ends_ || word == "request_end";
    out->payloads_ = out->payloads_ || word == "request_payload";
    out->tools_ = out->tools_ || word == "tool";
  }
  PX_CHECK_OK(out->OpenSinks());
  out->queue_.emplace(
      BackgroundQueueOptions{.name = "records",
                             .length_max = static_cast<std::size_t>(flags.request_trace_capacity),
                             .batch_max = kBatchMax,
                             .pause = kBatchPause},
      [raw = out.get()](const BackgroundBatch<Item>& batch) { return raw->Write(batch); });
  PX_CHECK_OK(out->OpenTools());
  return out;
}

Result<void> RequestRecorder::OpenSinks() {
  const SinkPlace place{.flags = environment_.flags,
                        .process = environment_.process,
                        .wall_now = [this] { return environment_.loop.WallNow(); },
                        .sleep = [this](rt::Duration pause) { return queue_->Sleep(pause); }};
  for (const std::string_view name : WordsOf(environment_.flags.request_trace_sinks)) {
    PX_TRY(std::unique_ptr<RecordSink> sink, MakeRecordSink(name, place));
    Count(sink->name(), {});  // the series stand at zero
    sinks_.push_back(std::move(sink));
  }
  if (sinks_.empty()) {
    return Fail(Code::kInvalidArgument, "request-trace-sinks: none is named",
                "request-trace-sinks");
  }
  return {};
}

Result<void> RequestRecorder::OpenTools() {
  const std::string& endpoint = environment_.flags.tool_events;
  if (endpoint.empty() || !tools_) {
    return {};
  }
  const auto named = [](const Error& error) {
    return Fail(error.code(), "request-trace-tool-events: " + error.detail(),
                "request-trace-tool-events");
  };
  const Result<rt::Address> address = control::ParseZmqEndpoint(endpoint);
  if (!address) {
    return named(address.error());
  }
  pull_ = std::make_unique<control::ZmqPull>(
      environment_.loop, environment_.net,
      [this](const wire::ZmtpMessage& message) { OnTool(message); });
  const Result<rt::Address> bound = pull_->Start(*address);
  return bound ? Result<void>() : named(bound.error());
}

std::int64_t RequestRecorder::UnixNow() const {
  const rt::WallTime now = environment_.loop.WallNow();
  return now.unix_seconds * 1'000'000'000 + now.nanoseconds;
}

void RequestRecorder::Take(const frontend::EndedTrace& trace,
                           const std::shared_ptr<const frontend::TracePayload>& payload) {
  if (!trace->ahead) {
    queue_->Push({.trace = trace, .payload = payload, .tool = {}, .unix_ns = UnixNow()});
  }
}

// [topic, sequence number, record], or a record alone; MessagePack, or JSON.
void RequestRecorder::OnTool(const wire::ZmtpMessage& message) {
  const std::string& topic = environment_.flags.tool_events_topic;
  Result<std::string> record =
      Fail(Code::kInvalidArgument, fmt::format("its first frame is not the topic \"{}\"", topic));
  if (!message.empty() && (topic.empty() || message.front() == topic)) {
    record = message.back().starts_with('{') ? frontend::ToolRecord(message.back())
                                             : frontend::ToolRecordOfMsgpack(message.back());
  }
  environment_.registry.GetCounter(obs::MetricId::kToolEventsTotal, {record ? "taken" : "refused"})
      .Add();
  if (!record) {
    obs::Event(environment_.log, obs::EventId::kToolEventRefused)
        .kv("why", record.error().detail());
    return;
  }
  queue_->Push(
      {.trace = nullptr, .payload = nullptr, .tool = std::move(*record), .unix_ns = UnixNow()});
}

void RequestRecorder::AddLines(const Item& item, std::vector<RecordLine>& out) const {
  if (!item.trace) {
    out.push_back({.unix_ns = item.unix_ns, .trace_id = {}, .json = item.tool});
    return;
  }
  const frontend::RequestTrace& trace = *item.trace;
  const std::string trace_id = obs::ToHex(trace.context.trace);
  if (ends_) {
    out.push_back({.unix_ns = item.unix_ns,
                   .trace_id = trace_id,
                   .json = frontend::EndRecord(
                       trace, item.payload.get(),
                       static_cast<std::uint32_t>(environment_.flags.request_trace_block))});
  }
  if (payloads_ && item.payload) {
    out.push_back({.unix_ns = item.unix_ns,
                   .trace_id = trace_id,
                   .json = frontend::PayloadRecord(trace, *item.payload)});
  }
}

void RequestRecorder::Count(std::string_view sink, const RecordCounts& counts) {
  for (const auto& [outcome, count] :
       {std::pair("written", counts.written), std::pair("lost", counts.lost)}) {
    environment_.registry.GetCounter(obs::MetricId::kTraceRecordsTotal, {sink, outcome}).Add(count);
  }
}

bool RequestRecorder::Write(const BackgroundBatch<Item>& batch) {
  std::vector<RecordLine> lines;
  for (const Item& item : batch.items) {
    AddLines(item, lines);
  }
  for (const std::unique_ptr<RecordSink>& sink : sinks_) {
    const auto lost = [&](std::uint64_t count, std::string_view why) {
      obs::Event(environment_.log, obs::EventId::kTraceRecordLost)
          .kv("sink", sink->name())
          .kv("records", count)
          .kv("why", why);
    };
    const Result<RecordCounts> counts = sink->Write(lines, batch.stopping);
    RecordCounts sum = counts ? *counts : RecordCounts{.lost = lines.size()};
    if (!counts) {
      lost(lines.size(), counts.error().detail());
    } else if (sum.lost > 0) {
      lost(sum.lost, "it did not take them");
    }
    if (batch.lost > 0) {
      lost(batch.lost, "request-trace-capacity: too many wait");
      sum.lost += batch.lost;
    }
    Count(sink->name(), sum);
  }
  return true;
}

}  // namespace pixii::apps
