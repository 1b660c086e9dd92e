#include "apps/trace_exporter.h"

#include <fmt/format.h>

#include <algorithm>

#include "apps/version.h"

namespace pixii::apps {

namespace {

// A collector that hangs must not hold up the end of the process.
rt::HttpClientOptions ClientOptions() {
  return {.connect_timeout_ms = 2000, .stall_timeout_s = 5, .timeout_ms = 10'000};
}

bool IsUrl(std::string_view text) {
  return text.starts_with("http://") || text.starts_with("https://");
}

Result<std::vector<std::pair<std::string, std::string>>> ReadHeaders(std::string_view text) {
  std::vector<std::pair<std::string, std::string>> out;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(','), text.size());
    const std::string_view one = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::size_t mark = one.find('=');
    if (mark == one.npos || mark == 0) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("otel-headers: field {} is not name=value", out.size() + 1),
                  "otel-headers");  // its value may be a secret
    }
    out.emplace_back(one.substr(0, mark), one.substr(mark + 1));
  }
  return out;
}

}  // namespace

Result<OtelTarget> OtelTargetOf(const HttpFlags& flags) {
  if (flags.otel_protocol == "grpc") {
    return Fail(Code::kUnsupported,
                "otel-protocol: grpc is not spoken here; http/protobuf is, which collectors take "
                "on port 4318",
                "otel-protocol");
  }
  OtelTarget out;
  std::string base = flags.otel_endpoint;
  while (base.ends_with('/')) {
    base.pop_back();
  }
  out.traces_url =
      flags.otel_traces_endpoint.empty() ? base + "/v1/traces" : flags.otel_traces_endpoint;
  if (!IsUrl(out.traces_url)) {
    const char* name =
        flags.otel_traces_endpoint.empty() ? "otel-endpoint" : "otel-traces-endpoint";
    return Fail(Code::kInvalidArgument,
                fmt::format("{}: \"{}\" must begin with http:// or https://", name, out.traces_url),
                name);
  }
  PX_TRY(out.headers, ReadHeaders(flags.otel_headers));
  out.headers.emplace_back("content-type", "application/x-protobuf");
  out.resource.service_name = flags.otel_service_name;
  out.resource.attributes = {{"service.version", kVersion}, {"telemetry.sdk.name", "pixii"}};
  return out;
}

TraceExporter::TraceExporter(OtelTarget target, obs::Log& log)
    : target_(std::move(target)), log_(log), client_(rt::MakeCurlClient(ClientOptions())) {
  thread_ = rt::Thread("otel", [this] { Serve(); });
}

TraceExporter::~TraceExporter() {
  {
    rt::MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.NotifyAll();
}

void TraceExporter::Take(const frontend::EndedTrace& trace) {
  if (!trace->context.sampled) {
    return;
  }
  bool full = false;
  {
    rt::MutexLock lock(mutex_);
    if (waiting_.size() >= kWaitingMax) {
      ++lost_;
      return;
    }
    waiting_.push_back(trace);
    full = waiting_.size() == kBatchMax;
  }
  if (full) {
    wake_.NotifyOne();  // else the thread looks by itself
  }
}

void TraceExporter::CountLost(std::size_t count, std::string_view why) {
  if (count > 0) {
    obs::Event(log_, obs::EventId::kTraceLost).kv("traces", count).kv("why", why);
  }
}

void TraceExporter::Serve() {
  while (true) {
    std::vector<frontend::EndedTrace> batch;
    std::size_t lost = 0;
    bool stopping = false;
    {
      rt::MutexLock lock(mutex_);
      if (waiting_.size() < kBatchMax && !stopping_) {
        (void)wake_.WaitFor(mutex_, kBatchPause);
      }
      const auto end =
          waiting_.begin() + static_cast<std::ptrdiff_t>(std::min(waiting_.size(), kBatchMax));
      batch.assign(waiting_.begin(), end);
      waiting_.erase(waiting_.begin(), end);
      lost = std::exchange(lost_, 0);
      stopping = stopping_;
    }
    CountLost(lost, "the collector is too slow");
    if (batch.empty() && stopping) {
      return;
    }
    std::vector<obs::SpanTree> trees;
    trees.reserve(batch.size());
    for (const frontend::EndedTrace& trace : batch) {
      trees.push_back(frontend::SpansOf(*trace));
    }
    if (!trees.empty() && !Send(target_.traces_url, obs::EncodeTraces(target_.resource, trees))) {
      CountLost(trees.size(), "the collector did not take them");
      if (stopping) {  // nor will it the rest, and the process shall end
        rt::MutexLock lock(mutex_);
        lost_ += waiting_.size();
        waiting_.clear();
      }
    }
  }
}

// Only what may succeed later is sent again; OTLP names 429, 502, 503 and 504.
bool TraceExporter::Send(const std::string& url, const std::string& body) {
  rt::Duration pause = kRetryPause;
  for (std::uint32_t tries = 1;; ++tries) {
    rt::HttpFetchRequest request;
    request.url = url;
    request.method = "POST";
    request.body = body;
    request.headers = target_.headers;
    const Result<rt::HttpFetchResponse> answer = client_->Fetch(request);
    if (answer && answer->status / 100 == 2) {
      return true;
    }
    const bool again = !answer || answer->status == 429 || answer->status == 502 ||
                       answer->status == 503 || answer->status == 504;
    rt::MutexLock lock(mutex_);
    if (!again || tries >= kTries || stopping_) {
      return false;
    }
    (void)wake_.WaitFor(mutex_, pause);
    pause *= 2;
  }
}

}  // namespace pixii::apps
