// The agent's peers: which transport reaches which, what it chooses, and what it did by each.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "transport/agent_seat.h"
#include "transport/transfer_agent.h"

namespace pixii::transport {

namespace {

/// Another thread may be the last that has it.
std::shared_ptr<Link> DiesOnLoop(std::shared_ptr<Link> link, rt::Loop& loop) {
  Link* plain = link.get();
  return {plain, [&loop, link = std::move(link)](Link* /*plain*/) mutable {
            loop.Post([link = std::move(link)] {});
          }};
}

}  // namespace

std::string TransferAgent::Metadata() const {
  AgentMetadata metadata{.id = id(), .transports = {}};
  for (const std::unique_ptr<Transport>& transport : transports_) {
    const std::string address = transport->address();
    if (!address.empty()) {
      metadata.transports.push_back(
          {.transport = std::string(transport->name()), .address = address});
    }
  }
  return EncodeMetadata(metadata);
}

Result<PeerId> TransferAgent::Connect(std::string_view metadata) {
  PX_TRY(AgentMetadata decoded, DecodeMetadata(metadata));
  Peer peer{.metadata = std::move(decoded),
            .links = std::vector<std::shared_ptr<Link>>(transports_.size()),
            .addresses = std::vector<std::string>(transports_.size()),
            .avoided = std::vector<rt::Time>(transports_.size(), rt::Time::min())};
  for (std::size_t i = 0; i < transports_.size(); ++i) {
    for (const TransportAddress& each : peer.metadata.transports) {
      if (each.transport == transports_[i]->name() && transports_[i]->Fits(each.address)) {
        peer.addresses[i] = each.address;
      }
    }
  }
  peer.used = FirstFitting(peer, 0);
  if (peer.used == transports_.size()) {
    std::string offered;
    for (const TransportAddress& each : peer.metadata.transports) {
      offered += fmt::format(" {} {}", each.transport, each.address);
    }
    return Fail(Code::kUnsupported, fmt::format("no transport reaches the peer; it offers{}",
                                                offered.empty() ? std::string(" none") : offered));
  }
  rt::MutexLock lock(mutex_);
  const auto id = static_cast<PeerId>(next_peer_++);
  const std::size_t first = peer.used;
  peers_.emplace(id, std::move(peer));
  OnLoop([this, id, first] { (void)LinkOf(id, first); });
  return id;
}

std::size_t TransferAgent::FirstFitting(const Peer& peer, std::size_t from) const {
  while (from < transports_.size() && peer.addresses[from].empty()) {
    ++from;
  }
  return from;
}

std::size_t TransferAgent::BestOf(const Peer& peer) const {
  const std::size_t best = FirstFitting(peer, 0);
  std::size_t i = best;
  // The clock is only asked where something was avoided: each Post comes by here.
  while (i < transports_.size() && peer.avoided[i] != rt::Time::min() &&
         peer.avoided[i] > loop_.Now()) {
    i = FirstFitting(peer, i + 1);
  }
  return i < transports_.size() ? i : best;
}

std::shared_ptr<Link> TransferAgent::LinkOf(PeerId id, std::size_t transport) {
  std::string address;
  AgentId agent;
  {
    rt::MutexLock lock(mutex_);
    const auto found = peers_.find(id);
    if (found == peers_.end()) {
      return nullptr;
    }
    Peer& peer = found->second;
    peer.used = transport;
    if (peer.links[transport] != nullptr && peer.links[transport]->state() != PeerState::kBroken) {
      return peer.links[transport];
    }
    address = peer.addresses[transport];
    agent = peer.metadata.id;
  }
  std::shared_ptr<Link> link = DiesOnLoop(transports_[transport]->Connect(address, agent), loop_);
  std::shared_ptr<Link> old = link;
  rt::MutexLock lock(mutex_);
  const auto found = peers_.find(id);
  if (found != peers_.end()) {
    std::swap(found->second.links[transport], old);
  }
  return link;
}

void TransferAgent::Disconnect(PeerId id) {
  OnLoop([this, id] {
    std::vector<TransferPtr> running;
    {
      rt::MutexLock lock(mutex_);
      for (auto& [transfer_id, transfer] : transfers_) {
        if (transfer->peer == id && transfer->queued &&
            transfer->status.state == TransferState::kInProgress) {
          running.push_back(transfer);
        }
      }
    }
    for (const TransferPtr& transfer : running) {
      Cut(transfer, Code::kCancelled);
    }
    Peer gone;
    rt::MutexLock lock(mutex_);
    const auto found = peers_.find(id);
    if (found != peers_.end()) {
      gone = std::move(found->second);
      peers_.erase(found);
      loop_.Post([gone = std::make_shared<Peer>(std::move(gone))] {});  // not under the lock
    }
  });
}

PeerInfo TransferAgent::InfoOf(const Peer& peer) const {
  const std::shared_ptr<Link>& link = peer.links[peer.used];
  PeerInfo info{.state = PeerState::kConnecting,
                .transport = transports_[peer.used]->name(),
                .error = std::nullopt,
                .agent = peer.metadata.id};
  if (link != nullptr) {
    info.state = link->state();
    info.error = link->error();
  }
  return info;
}

PeerInfo TransferAgent::peer(PeerId id) const {
  rt::MutexLock lock(mutex_);
  const auto found = peers_.find(id);
  if (found == peers_.end()) {
    return {.state = PeerState::kBroken,
            .transport = {},
            .error = Error(Code::kNotFound, "there is no such peer")};
  }
  return InfoOf(found->second);
}

std::vector<PeerInfo> TransferAgent::peers() const {
  rt::MutexLock lock(mutex_);
  std::vector<PeerInfo> out;
  out.reserve(peers_.size());
  for (const auto& [id, peer] : peers_) {
    out.push_back(InfoOf(peer));
  }
  return out;
}

Result<void> TransferAgent::Notify(PeerId id, std::string_view bytes) {
  if (bytes.size() > kNotificationBytesMax) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("a notification of {} bytes; at most {}", bytes.size(), kNotificationBytesMax),
        "bytes");
  }
  std::shared_ptr<Link> link;
  {
    rt::MutexLock lock(mutex_);
    const auto found = peers_.find(id);
    if (found == peers_.end()) {
      return NoPeer(id);
    }
    const Peer& peer = found->second;
    link = peer.links[peer.used];
    for (const std::shared_ptr<Link>& each : peer.links) {
      const bool none = link == nullptr || link->state() != PeerState::kConnected;
      if (none && each != nullptr && each->state() == PeerState::kConnected) {
        link = each;
      }
    }
  }
  if (link == nullptr || link->state() != PeerState::kConnected) {
    return Fail(Code::kUnavailable, "the peer is not connected");
  }
  return link->Notify(bytes);
}

void TransferAgent::LinkChanged(AgentId peer, std::string_view transport, const Error* error) {
  if (options_.log == nullptr || (error != nullptr && error->code() == Code::kCancelled)) {
    return;
  }
  obs::Event event(*options_.log, error == nullptr ? obs::EventId::kTransferLinked
                                                   : obs::EventId::kTransferUnlinked);
  event.kv("peer", fmt::format("{:016x}{:016x}", peer.high, peer.low)).kv("transport", transport);
  if (error != nullptr) {
    event.kv("reason", error->ToString());
  }
}

AgentCounters TransferAgent::counters() const {
  AgentCounters out;
  {
    rt::MutexLock lock(mutex_);
    out = ended_;
    for (const auto& [id, transfer] : transfers_) {
      out.transfers_running += transfer->status.state == TransferState::kInProgress ? 1 : 0;
    }
  }
  for (std::size_t i = 0; i < transports_.size(); ++i) {
    if (transports_[i]->address().empty()) {
      continue;  // the machine lacks what it needs
    }
    const SharedCounters& of = seats_[i]->counters;
    const TransportCounters& one =
        out.transports.emplace_back(TransportCounters{.transport = transports_[i]->name(),
                                                      .reads = of.reads_done,
                                                      .read_bytes = of.read_bytes,
                                                      .writes = of.writes_done,
                                                      .written_bytes = of.written_bytes,
                                                      .failed = of.failed,
                                                      .fallbacks = of.fallbacks,
                                                      .served_bytes = of.served_bytes,
                                                      .taken_bytes = of.taken_bytes,
                                                      .connections = of.connections,
                                                      .strangers_refused = of.strangers_refused,
                                                      .frames_malformed = of.frames_malformed,
                                                      .checksums_wrong = of.checksums_wrong,
                                                      .stale_refused = of.stale_refused});
    out.transfers_done += one.reads + one.writes;
    out.read_bytes += one.read_bytes;
    out.written_bytes += one.written_bytes;
    out.served_bytes += one.served_bytes;
    out.taken_bytes += one.taken_bytes;
    out.notifications_sent += of.notifications_sent;
    out.notifications_received += of.notifications_received;
    out.connections += one.connections;
    out.strangers_refused += one.strangers_refused;
    out.frames_malformed += one.frames_malformed;
    out.checksums_wrong += one.checksums_wrong;
    out.stale_refused += one.stale_refused;
  }
  out.regions = regions_.count();
  out.region_bytes = regions_.size_bytes();
  return out;
}

}  // namespace pixii::transport
