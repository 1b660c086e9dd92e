#include "router/service/replica_mesh.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "control/instance_codec.h"
#include "wire/messages/codec.h"

namespace pixii::router {

namespace {

std::string KeyOf(const wire::PoolName& pool) {
  return fmt::format("{}\n{}\n{}", pool.model, pool.group, pool.block_tokens);
}

// Requests of replicas that are heard of are alive; the router is told so often enough.
// So many changes of one member that those of the next one of its name are above them.
constexpr std::uint32_t kChangesShift = 40;

constexpr rt::Duration kTouchPeriod = std::chrono::milliseconds(250);

}  // namespace

ReplicaMesh::Member::Member(ReplicaMesh& mesh, wire::PoolName pool, Router& router,
                            std::function<void()> on_heard)
    : mesh_(mesh),
      pool_(pool),
      router_(router),
      on_heard_(std::move(on_heard)),
      sync_(mesh.options_.sync, ReplicaId{Raw(mesh.options_.self)}, std::move(pool),
            mesh.joined_count_++ << kChangesShift) {
  mesh_.members_[KeyOf(pool_)] = this;
  OnTime();
}

ReplicaMesh::Member::~Member() {
  mesh_.loop_.CancelTimer(timer_);
  mesh_.members_.erase(KeyOf(pool_));
}

void ReplicaMesh::Member::Tell(const std::vector<LoadChange>& changes) {
  for (const LoadChange& change : changes) {
    sync_.OnOwn(change);
  }
  if (!changes.empty()) {
    Pump();
  }
}

void ReplicaMesh::Member::Hear(const wire::ReplicaMessage& message) {
  sync_.OnMessage(message, mesh_.loop_.Now());
  Pump();
}

void ReplicaMesh::Member::Pump() {
  const rt::Time now = mesh_.loop_.Now();
  for (const wire::ReplicaMessage& message : sync_.TakeMessages(now)) {
    mesh_.Send(message);
  }
  std::vector<ReplicaSync::Heard> heard = sync_.TakeHeard();
  for (ReplicaSync::Heard& one : heard) {
    switch (one.kind) {
      case LoadChange::Kind::kAdded:
        router_.PlaceElsewhere(one.id, std::move(one.placement), now);
        break;
      case LoadChange::Kind::kPrefilled:
        router_.OnFirstToken(one.id, now);
        break;
      case LoadChange::Kind::kFreed:
        router_.Withdraw(one.id, now);
        break;
    }
  }
  if (!heard.empty()) {
    on_heard_();
  }
}

void ReplicaMesh::Member::OnTime() {
  Pump();
  const rt::Time now = mesh_.loop_.Now();
  if (now >= touch_at_) {
    touch_at_ = now + kTouchPeriod;
    for (const RequestId id : sync_.Running()) {
      router_.OnTokens(id, 0, now);
    }
  }
  timer_ = mesh_.loop_.RunAt(std::max(sync_.next_time(), now + std::chrono::milliseconds(1)),
                             [this] { OnTime(); });
}

ReplicaMesh::ReplicaMesh(rt::Loop& loop, rt::Net& net, ReplicaMeshOptions options)
    : loop_(loop), net_(net), options_(std::move(options)) {}

ReplicaMesh::~ReplicaMesh() = default;

std::unique_ptr<ReplicaMesh::Member> ReplicaMesh::Join(wire::PoolName pool, Router& router,
                                                       std::function<void()> on_heard) {
  return std::make_unique<Member>(*this, std::move(pool), router, std::move(on_heard));
}

Result<void> ReplicaMesh::SetPeer(const std::string& name, const std::string& address,
                                  std::optional<InstanceId> id) {
  const auto known = peers_.find(name);
  if (id == options_.self ||
      (known != peers_.end() && known->second.address == address && known->second.id == id)) {
    return {};
  }
  PX_TRY(rt::Address where, rt::ParseAddress(address));
  control::MuxClientOptions client = options_.client;
  client.address = std::move(where);
  client.expected_peer = id ? control::InstanceName(*id) : std::string();
  Peer& peer = peers_[name];
  peer.address = address;
  peer.id = id;
  peer.call.reset();
  peer.client = std::make_unique<control::MuxClient>(
      loop_, net_, std::move(client), [this, name](bool connected) { OnState(name, connected); });
  return {};
}

void ReplicaMesh::RemovePeer(const std::string& name) { peers_.erase(name); }

void ReplicaMesh::OnState(const std::string& name, bool connected) {
  Peer& peer = peers_.at(name);
  peer.call.reset();
  if (!connected) {
    return;
  }
  const auto ended = [this, name](const std::optional<Error>&) {
    if (const auto found = peers_.find(name); found != peers_.end()) {
      found->second.call.reset();  // it takes part no more; a new connection asks again
    }
  };
  Result<control::MuxClient::CallKey> call = peer.client->Call(
      kReplicaMethod, {}, {}, {.on_message = [](const std::string&) {}, .on_end = ended});
  if (call) {
    peer.call = *call;
    for (const auto& [key, member] : members_) {
      member->sync_.DigestSoon();
      member->Pump();
    }
  }
}

void ReplicaMesh::Send(const wire::ReplicaMessage& message) {
  std::string bytes;
  for (auto& [name, peer] : peers_) {
    if (!peer.call || (message.to != 0 && peer.id && Raw(*peer.id) != message.to) ||
        peer.client->queued_bytes(*peer.call) > options_.queued_bytes_max) {
      continue;
    }
    if (bytes.empty()) {
      bytes = wire::Encode(message);
    }
    peer.client->Send(*peer.call, bytes);
  }
}

void ReplicaMesh::OnMessage(std::string_view bytes) {
  const Result<wire::ReplicaMessage> message = wire::Decode<wire::ReplicaMessage>(bytes);
  if (!message) {
    return;  // of a later version: its digest will not fit
  }
  const auto member = members_.find(KeyOf(message->pool));
  if (member != members_.end()) {
    member->second->Hear(*message);
  }
}

std::size_t ReplicaMesh::connected_count() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(peers_, [](const auto& one) { return one.second.call.has_value(); }));
}

}  // namespace pixii::router
