#include "client_host.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "apps/cluster_net.h"
#include "apps/cluster_unit.h"
#include "control/instance_codec.h"
#include "flags.h"

namespace pixii::python {

ClientHost::~ClientHost() {
  streams_->EndAll(Error(Code::kShuttingDown, "the client is closed"));
  thread_.Post([this] {
    peers_.clear();  // each cancels what runs there
    discovery_->Close([this] { process_->loop().Stop(); });
  });
  thread_.Join();
}

Result<void> ClientHost::Start() {
  PX_CHECK_OK(ParseFlags("router", apps::RowsOf(flags_), options_.arguments));
  flags_.ns = options_.ns;
  return thread_.Start("client", {.open = [this]() -> Result<rt::Loop*> {
                                    PX_CHECK_OK(Open());
                                    return &process_->loop();
                                  },
                                  .close = [this] { Close(); }});
}

Result<void> ClientHost::Open() {
  process_.emplace();
  PX_CHECK_OK(process_->Open(flags_, {}));  // signals are the interpreter's
  PX_TRY(tls_net_, apps::OpenFleetNet(process_->loop(), process_->net(), flags_));
  PX_TRY(discovery_, apps::OpenDiscovery(*process_, flags_));
  watch_ = discovery_->Watch(
      options_.ns,
      [this](const std::vector<control::MembershipChange>& changes) { OnChanges(changes); });
  return {};
}

// In the reverse order of Open.
void ClientHost::Close() {
  peers_.clear();
  watch_.reset();
  discovery_.reset();
  tls_net_.reset();
  process_.reset();
}

void ClientHost::OnChanges(const std::vector<control::MembershipChange>& changes) {
  for (const control::MembershipChange& change : changes) {
    const control::Instance& instance = change.instance;
    if (instance.component != options_.component || instance.endpoint != options_.endpoint) {
      continue;
    }
    if (change.kind != control::MembershipChange::Kind::kRemoved) {
      SetPeer(instance);
    } else if (const auto found = peers_.find(instance.id); found != peers_.end()) {
      found->second.wanted = false;  // what it runs may end
    }
  }
  Tell();
}

void ClientHost::SetPeer(const control::Instance& instance) {
  Peer& peer = peers_[instance.id];
  const bool same = peer.link && peer.instance.address == instance.address;
  peer.instance = instance;
  peer.wanted = true;
  Result<rt::Address> address = rt::ParseAddress(instance.address);
  if (same || !address) {
    return;
  }
  control::MuxClientOptions client;
  client.address = std::move(*address);
  client.expected_peer = control::InstanceName(instance.id);
  peer.link = std::make_unique<control::RemoteLink>(
      process_->loop(), tls_net_ ? *tls_net_ : process_->net(), std::move(client), instance.card,
      [this] { Tell(); });
}

// Called by links: none is destroyed here.
void ClientHost::Tell() {
  std::vector<std::uint64_t> ready;
  std::optional<wire::ModelCard> card;
  for (const auto& [id, peer] : peers_) {
    if (!peer.link) {
      continue;
    }
    const bool here = peer.link->state() == control::RemoteLink::State::kHere;
    watch_->SetConnected(id, here);
    if (peer.link->goes_away()) {
      watch_->SetGoingAway(id);
    }
    if (here && peer.wanted && !peer.instance.draining && !peer.link->goes_away() &&
        peer.link->load().state == control::WorkerState::kAwake) {
      ready.push_back(static_cast<std::uint64_t>(id));
      card = card ? card : peer.link->card();
    }
  }
  {
    const rt::MutexLock lock(mutex_);
    ready_ = std::move(ready);
    card_ = std::move(card);
  }
  if (!std::exchange(pruning_, true)) {
    process_->loop().Post([this] {
      pruning_ = false;
      Prune();
    });
  }
}

void ClientHost::Prune() {
  std::erase_if(peers_, [](const auto& entry) {
    return !entry.second.wanted && (!entry.second.link || entry.second.link->idle());
  });
}

std::vector<std::uint64_t> ClientHost::instances() {
  const rt::MutexLock lock(mutex_);
  return ready_;
}

std::optional<wire::ModelCard> ClientHost::card() {
  const rt::MutexLock lock(mutex_);
  return card_;
}

std::uint64_t ClientHost::random() {
  const rt::MutexLock lock(mutex_);
  return random_.Next();
}

ClientHost::Peer* ClientHost::Choose(Pick pick, std::uint64_t instance) {
  std::vector<std::uint64_t> ready = instances();
  if (pick == Pick::kDirect) {
    if (std::ranges::find(ready, instance) == ready.end()) {
      return nullptr;
    }
  } else if (ready.empty()) {
    return nullptr;
  } else {
    const std::uint64_t place = pick == Pick::kRandom
                                    ? process_->loop().random().Below(ready.size())
                                    : turn_++ % ready.size();
    instance = ready[place];
  }
  const auto found = peers_.find(control::InstanceId{instance});
  return found == peers_.end() || !found->second.link ? nullptr : &found->second;
}

StreamKey ClientHost::Generate(wire::GenerateRequest request, Pick pick, std::uint64_t instance,
                               std::function<void()> wake) {
  const StreamKey key = streams_->Open(std::move(wake));
  request.id = RequestId{random()};
  thread_.Post([this, key, request = std::move(request), pick, instance]() mutable {
    Send(key, std::move(request), pick, instance);
  });
  return key;
}

void ClientHost::Send(StreamKey key, wire::GenerateRequest request, Pick pick,
                      std::uint64_t instance) {
  const auto fail = [&](Error error) {
    Piece piece;
    piece.frame.finish = wire::FinishReason::kError;
    piece.frame.error = std::move(error);
    streams_->Put(key, std::move(piece));
  };
  Peer* const peer = Choose(pick, instance);
  if (peer == nullptr) {
    const std::string name =
        fmt::format("{}.{}.{}", options_.ns, options_.component, options_.endpoint);
    fail(Error(Code::kUnavailable,
               pick == Pick::kDirect
                   ? fmt::format("{} has no instance {:x} that takes requests", name, instance)
                   : fmt::format("{} has no instance that takes requests", name),
               "instance_id"));
    return;
  }
  flights_[key] = {.id = request.id, .instance = peer->instance.id};
  const Result<void> sent =
      peer->link->Generate(std::move(request), [this, key](wire::TokenFrame frame) {
        const bool ends = frame.finish.has_value();
        streams_->Put(key, Piece{.frame = std::move(frame)});
        if (ends) {
          flights_.erase(key);
          Tell();
        }
      });
  if (!sent) {
    flights_.erase(key);
    fail(sent.error());
  }
}

void ClientHost::Cancel(StreamKey key) {
  streams_->Close(key);
  thread_.Post([this, key] {
    const auto found = flights_.find(key);
    if (found == flights_.end()) {
      return;
    }
    const auto peer = peers_.find(found->second.instance);
    if (peer != peers_.end() && peer->second.link) {
      peer->second.link->Cancel({.id = found->second.id, .choice = std::nullopt});
    }
  });
}

}  // namespace pixii::python
