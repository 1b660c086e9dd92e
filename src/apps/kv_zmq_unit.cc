#include "apps/kv_zmq_unit.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "control/zmq_kv_source.h"
#include "rt/resolve.h"

namespace pixii::apps {

namespace {

constexpr std::size_t kBatchBlocksMax = 1024;  // of one message; one event may have more
constexpr std::uint32_t kPortMax = 65535;
constexpr double kTick = 1e-6;  // seconds between two messages at least: readers tell them apart

constexpr const char* kEventsFlag = "kv-events-zmq";
constexpr const char* kReplayFlag = "kv-events-replay";

tl::unexpected<Error> Bad(const char* flag, std::string_view what) {
  return Fail(Code::kInvalidArgument, fmt::format("{}: {}", flag, what), flag);
}

// As vLLM places the sockets of ranks.
Result<std::string> Placed(const char* flag, const std::string& endpoint, std::uint32_t place) {
  if (place == 0 || endpoint.empty()) {
    return endpoint;
  }
  Result<rt::Address> address = control::ParseZmqEndpoint(endpoint);
  if (!address) {
    return Bad(flag, address.error().detail());
  }
  if (address->host.starts_with("unix:")) {
    return fmt::format("{}_dp{}", endpoint, place);
  }
  if (address->port == 0) {
    return endpoint;
  }
  if (address->port + place > kPortMax) {
    return Bad(flag, fmt::format("port {} + {}: ports end at {}", address->port, place, kPortMax));
  }
  address->port = static_cast<std::uint16_t>(address->port + place);
  return "tcp://" + address->ToString();
}

Result<rt::Address> ListenAddress(const char* flag, const std::string& endpoint) {
  Result<rt::Address> address = control::ParseZmqEndpoint(endpoint);
  if (!address) {
    return Bad(flag, address.error().detail());
  }
  if (address->host == "*") {
    address->host = "0.0.0.0";
  } else if (!address->host.starts_with("unix:")) {
    PX_TRY(address->host, rt::ResolveHost(address->host));
  }
  return address;
}

Error Named(const char* flag, const Error& error) {
  return Error(error.code(), fmt::format("{}: {}", flag, error.detail()), flag);
}

std::size_t BlocksOf(const wire::EngineKvEvent& event) { return event.hashes.size(); }

}  // namespace

Result<KvZmqFlags> PlacedBehind(const KvZmqFlags& flags, std::uint32_t place) {
  KvZmqFlags out = flags;
  PX_TRY(out.kv_events_zmq, Placed(kEventsFlag, flags.kv_events_zmq, place));
  PX_TRY(out.kv_events_replay, Placed(kReplayFlag, flags.kv_events_replay, place));
  return out;
}

Result<std::unique_ptr<KvZmqUnit>> KvZmqUnit::Open(ProcessUnit& process, const KvZmqFlags& flags,
                                                   worker::HostedLink& link) {
  if (flags.kv_events_zmq.empty()) {
    if (!flags.kv_events_replay.empty()) {
      return Bad(kReplayFlag, "there is nothing to replay without --kv-events-zmq");
    }
    return std::unique_ptr<KvZmqUnit>();
  }
  std::unique_ptr<KvZmqUnit> unit(new KvZmqUnit(process));  // tidy: new the constructor is private
  const auto rank_count = static_cast<std::uint32_t>(link.rank_loads().size());
  unit->says_ranks_ = rank_count > 1;
  for (std::uint32_t rank = 0; rank < rank_count; ++rank) {
    PX_CHECK_OK(unit->AddRank(flags, rank));
  }
  const Result<void> watched =
      link.WatchEngineKvEvents([self = unit.get(), alive = std::weak_ptr<bool>(unit->alive_)](
                                   std::uint32_t rank, std::vector<wire::EngineKvEvent> events) {
        if (!alive.expired()) {
          self->OnEvents(rank, std::move(events));
        }
      });
  if (!watched) {
    return Fail(Named(kEventsFlag, watched.error()));
  }
  return unit;
}

Result<void> KvZmqUnit::AddRank(const KvZmqFlags& flags, std::uint32_t rank) {
  PX_TRY(const KvZmqFlags own, PlacedBehind(flags, rank));
  auto publisher = std::make_unique<control::ZmqKvPublisher>(
      process_.loop(), process_.net(),
      control::ZmqKvPublisherOptions{.topic = flags.kv_events_topic});
  PX_TRY(const rt::Address events, ListenAddress(kEventsFlag, own.kv_events_zmq));
  const Result<rt::Address> bound = publisher->Start(events);
  if (!bound) {
    return Fail(Named(kEventsFlag, bound.error()));
  }
  std::string replay;
  if (!own.kv_events_replay.empty()) {
    PX_TRY(const rt::Address asked, ListenAddress(kReplayFlag, own.kv_events_replay));
    const Result<rt::Address> there = publisher->StartReplay(asked);
    if (!there) {
      return Fail(Named(kReplayFlag, there.error()));
    }
    replay = there->ToString();
  }
  obs::Event(process_.log(), obs::EventId::kKvEventsPublished)
      .kv("rank", rank)
      .kv("events", bound->ToString())
      .kv("replay", replay);
  ranks_.push_back(std::move(publisher));
  return {};
}

void KvZmqUnit::OnEvents(std::uint32_t rank, std::vector<wire::EngineKvEvent> events) {
  std::vector<wire::EngineKvEvent> some;
  std::size_t blocks = 0;
  for (wire::EngineKvEvent& event : events) {
    if (!some.empty() && blocks + BlocksOf(event) > kBatchBlocksMax) {
      Publish(rank, std::exchange(some, {}));
      blocks = 0;
    }
    blocks += BlocksOf(event);
    some.push_back(std::move(event));
  }
  if (!some.empty()) {
    Publish(rank, std::move(some));
  }
}

void KvZmqUnit::Publish(std::uint32_t rank, std::vector<wire::EngineKvEvent> events) {
  const rt::WallTime now = process_.loop().WallNow();
  wire::EngineKvBatch batch;
  batch.seconds = std::max(last_seconds_ + kTick,
                           static_cast<double>(now.unix_seconds) + 1e-9 * now.nanoseconds);
  batch.events = std::move(events);
  if (says_ranks_) {
    batch.rank = rank;
  }
  last_seconds_ = batch.seconds;
  ranks_[rank]->Publish(batch);
}

void KvZmqUnit::DumpState() const {
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
    const control::ZmqKvPublisher& publisher = *ranks_[rank];
    obs::Event(process_.log(), obs::EventId::kKvPublisherState)
        .kv("rank", rank)
        .kv("published", publisher.next_sequence())
        .kv("peers", publisher.peer_count())
        .kv("dropped", publisher.dropped_count())
        .kv("malformed", publisher.malformed_count());
  }
}

}  // namespace pixii::apps
