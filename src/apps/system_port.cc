#include "apps/system_port.h"

#include <fmt/format.h>

#include <chrono>
#include <initializer_list>
#include <string_view>
#include <utility>

#include "control/instance_codec.h"
#include "frontend/frontend_metrics.h"
#include "rt/file.h"

namespace pixii::apps {

namespace {

constexpr std::uint64_t kKeyFileSizeMax = 1 << 20;  // bytes
constexpr std::uint64_t kBodyBytesMax = 1 << 20;    // of a request
constexpr std::uint32_t kConnectionsMax = 256;

Result<void> CheckPath(const char* flag, const std::string& path) {
  if (!path.starts_with('/') || path == "/metrics" || path == "/ready") {
    return Fail(Code::kInvalidArgument,
                fmt::format("{}: \"{}\" is no path of its own that begins with /", flag, path),
                flag);
  }
  return {};
}

}  // namespace

Result<void> SystemPort::Start(bool adapter_api) {
  if (flags_.system_port < 0) {
    return {};
  }
  PX_CHECK_OK(CheckPath("system-health-path", flags_.system_health_path));
  PX_CHECK_OK(CheckPath("system-live-path", flags_.system_live_path));
  if (flags_.system_health_path == flags_.system_live_path) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("system-live-path: \"{}\" is system-health-path, too", flags_.system_live_path),
        "system-live-path");
  }
  begun_ = process_.loop().Now();
  frontend::ApiKeys keys;
  if (!flags_.system_key_file.empty()) {
    PX_TRY(const std::string text, rt::ReadFile(flags_.system_key_file, kKeyFileSizeMax));
    PX_TRY(keys, frontend::ApiKeys::Parse(text));
  }
  frontend::FrontendOptions options;
  options.http.limits.body_bytes_max = kBodyBytesMax;
  options.http.connections_max = kConnectionsMax;
  options.canary_interval = rt::Duration::zero();  // the worker's own are enough
  options.adapter_api = adapter_api;
  options.health_path = flags_.system_health_path;
  options.live_path = flags_.system_live_path;
  for (const std::string_view name : frontend::Frontend::EndpointNames()) {
    options.disabled_endpoints.emplace_back(name);
  }
  PX_TRY(options.http.on_answered,
         AccessLogWriter::Open(flags_, process_.loop(), process_.log(), access_log_));
  registry_.OnExpose([this] { Export(); });
  frontend_.emplace(
      frontend::FrontendEnvironment{
          .loop = process_.loop(),
          .net = process_.net(),
          .system =
              frontend::SystemView{.health = [this] { return Health(); }, .registry = registry_}},
      options, std::move(keys));
  PX_TRY(const rt::Address bound,
         frontend_->Start(
             {.host = flags_.system_host, .port = static_cast<std::uint16_t>(flags_.system_port)}));
  if (!flags_.system_port_file.empty()) {
    PX_CHECK_OK(
        rt::WriteFileAtomic(flags_.system_port_file, fmt::format("{}\n", bound.port), 0644));
  }
  obs::Event(process_.log(), obs::EventId::kSystemReady).kv("address", bound.ToString());
  return {};
}

void SystemPort::Show(worker::WorkerService& service, control::WorkerLink& link,
                      const control::Instance& instance, std::function<void()> export_engine) {
  if (!frontend_) {
    return;
  }
  service_ = &service;
  instance_ = instance;
  export_engine_ = std::move(export_engine);
  link_.emplace(link, [&service] { service.Announce(); });
  frontend::ServedModel model;
  model.names = {link.card().name};
  frontend_->Serve(std::move(model), *link_);
}

frontend::SystemHealth SystemPort::Health() {
  frontend::SystemHealth out;
  out.endpoint = flags_.endpoint;
  out.uptime = process_.loop().Now() - begun_;
  if (service_ == nullptr) {
    out.message = waiting_;
    return out;
  }
  out.ready = service_->takes_requests();
  out.message = service_->Describe();
  return out;
}

void SystemPort::Export() {
  using obs::MetricId;
  if (service_ == nullptr) {
    return;
  }
  const std::string& model = link_->card().name;
  const std::string worker = control::InstanceName(instance_.id);
  const worker::WorkerCounts& counts = service_->counts();
  const auto gauge = [&](MetricId id, double value) {
    registry_.GetGauge(id, {instance_.ns, instance_.component, instance_.endpoint, worker, model})
        .Set(value);
  };
  const auto total = [&](MetricId id, std::uint64_t value) {
    registry_.GetCounter(id, {instance_.ns, instance_.component, instance_.endpoint, worker, model})
        .SetTotal(value);
  };
  gauge(MetricId::kComponentUptimeSeconds,
        std::chrono::duration<double>(process_.loop().Now() - begun_).count());
  gauge(MetricId::kComponentInflightRequests, static_cast<double>(service_->request_count()));
  total(MetricId::kComponentRequestsTotal, counts.requests);
  total(MetricId::kComponentCancellationTotal, counts.cancelled);
  registry_.GetGauge(MetricId::kTrtBlocksPinned, {model, flags_.role, "trtllm", "request"})
      .Set(link_->load().blocks_used);
  // What has no counterpart here stays at zero: an answer goes out frame by frame, each of which is
  // checked when it is made.
  for (const auto& [type, value] :
       {std::pair<std::string_view, std::uint64_t>("deserialization", counts.unreadable),
        {"generate", counts.refused + counts.faults},
        {"invalid_message", 0},
        {"response_stream", 0},
        {"publish_response", 0},
        {"publish_final", 0}}) {
    registry_
        .GetCounter(MetricId::kComponentErrorsTotal,
                    {instance_.ns, instance_.component, instance_.endpoint, worker, model, type})
        .SetTotal(value);
  }
  std::uint32_t rank = instance_.rank_first;
  for (const control::WorkerLoad& load : link_->rank_loads()) {
    const std::string number = fmt::format("{}", rank++);
    registry_.GetGauge(MetricId::kComponentTotalBlocks, {model, instance_.component, number})
        .Set(load.blocks_total);
    registry_.GetGauge(MetricId::kComponentGpuCacheUsage, {model, instance_.component, number})
        .Set(load.blocks_total == 0
                 ? 0
                 : static_cast<double>(load.blocks_used) / static_cast<double>(load.blocks_total));
  }
  registry_.GetGauge(MetricId::kWorkerReady, {model}).Set(service_->takes_requests() ? 1 : 0);
  frontend::FrontendMetrics::ExportCanaries(registry_, model, service_->canaries());
  if (export_engine_) {
    export_engine_();
  }
}

}  // namespace pixii::apps
