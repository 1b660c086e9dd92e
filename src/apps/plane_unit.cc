#include "apps/plane_unit.h"

#include <fmt/format.h>

#include <cstdlib>
#include <string_view>
#include <utility>

namespace pixii::apps {

namespace {

constexpr rt::Duration kWatchPeriod = std::chrono::milliseconds(500);
constexpr std::string_view kDefaultServer = "nats://127.0.0.1:4222";

// As Dynamo's processes know them.
constexpr const char* kServerVariable = "NATS_SERVER";
constexpr const char* kUserVariable = "NATS_AUTH_USERNAME";
constexpr const char* kPasswordVariable = "NATS_AUTH_PASSWORD";
constexpr const char* kTokenVariable = "NATS_AUTH_TOKEN";
constexpr const char* kCredentialsVariable = "NATS_AUTH_CREDENTIALS_FILE";

std::string Environment(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : "";
}

tl::unexpected<Error> Bad(Code code, std::string_view what) {
  return Fail(code, fmt::format("event-plane: {}", what), "event-plane");
}

}  // namespace

Result<std::unique_ptr<PlaneUnit>> PlaneUnit::Open(ProcessUnit& process, const ClusterFlags& flags,
                                                   bool listens) {
  std::string url = flags.event_plane;
  if (url == "direct" || url == "zmq") {
    return std::unique_ptr<PlaneUnit>();
  }
  if (url == "nats") {
    url = Environment(kServerVariable);
    if (url.empty()) {
      url = kDefaultServer;
    }
  }
  if (!url.starts_with("nats://") && !url.starts_with("tls://")) {
    return Bad(Code::kInvalidArgument,
               fmt::format("\"{}\" is neither direct nor nats://HOST:PORT", flags.event_plane));
  }
  Result<control::NatsLibrary> library = control::LoadNatsLibrary({});
  if (!library) {
    return Bad(library.error().code(), library.error().detail());
  }
  std::unique_ptr<PlaneUnit> unit(new PlaneUnit(process));  // tidy: new the constructor is private
  auto plane =
      control::NatsPlane::Open(process.loop(), std::move(*library),
                               {.url = url,
                                .ns = flags.ns,
                                .user = {.name = Environment(kUserVariable),
                                         .password = Environment(kPasswordVariable),
                                         .token = Environment(kTokenVariable),
                                         .credentials_file = Environment(kCredentialsVariable)},
                                .listens = listens});
  if (!plane) {
    return Bad(plane.error().code(), plane.error().detail());
  }
  unit->plane_ = std::move(*plane);
  unit->tasks_.Start(unit->WatchLoop());
  return unit;
}

rt::Task<void> PlaneUnit::WatchLoop() {
  while (true) {
    auto pause = process_.loop().SleepFor(kWatchPeriod);
    co_await std::move(pause);
    const bool ready = plane_->ready();
    const std::string trouble = ready ? std::string() : plane_->trouble();
    if (ready != said_ready_ || (!ready && trouble != said_trouble_)) {
      said_ready_ = ready;
      said_trouble_ = trouble;
      obs::Event(process_.log(),
                 ready ? obs::EventId::kEventPlaneReady : obs::EventId::kEventPlaneAway)
          .kv("why", trouble);
    }
  }
}

void PlaneUnit::Export(obs::Registry& registry) const {
  using obs::MetricId;
  const control::EventPlane::Counters counters = plane_->counters();
  const auto set = [&](std::string_view what, std::uint64_t total) {
    registry.GetCounter(MetricId::kEventPlaneMessagesTotal, {what}).SetTotal(total);
  };
  set("heard", counters.heard);
  set("unknown", counters.unknown);
  set("malformed", counters.malformed);
  set("published", counters.published);
  set("lost", counters.lost);
  registry.GetCounter(MetricId::kEventPlaneKvEventsTotal).SetTotal(counters.kv_events);
  registry.GetCounter(MetricId::kEventPlaneGapsTotal).SetTotal(counters.gaps);
  registry.GetCounter(MetricId::kEventPlaneBreaksTotal).SetTotal(counters.breaks);
  registry.GetGauge(MetricId::kEventPlaneReady).Set(plane_->ready() ? 1 : 0);
}

void PlaneUnit::DumpState() const {
  const control::EventPlane::Counters counters = plane_->counters();
  obs::Event(process_.log(), obs::EventId::kEventPlaneState)
      .kv("ready", plane_->ready() ? 1 : 0)
      .kv("published", counters.published)
      .kv("lost", counters.lost)
      .kv("heard", counters.heard)
      .kv("malformed", counters.malformed)
      .kv("why", plane_->trouble());
}

}  // namespace pixii::apps
