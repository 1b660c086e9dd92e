#include "control/mux_server.h"

#include <set>
#include <utility>

namespace pixii::control {

// One connection and the calls that run on it.
class MuxServer::Peer final : public MuxListener {
 public:
  Peer(MuxServer& server, std::uint64_t id, std::unique_ptr<rt::Stream> stream)
      : server_(server),
        id_(id),
        connection_(server.loop_, std::move(stream), server.options_, Mux::Side::kAccepted, *this) {
    if (server.going_away_) {
      connection_.GoAway();
    }
  }

  MuxConnection& connection() { return connection_; }

  const std::string& name() const { return name_; }

  void End(StreamId stream, std::optional<Error> error) {
    if (calls_.erase(stream) > 0) {
      connection_.End(stream, std::move(error));
    }
  }

 private:
  void OnMuxEvent(MuxConnection& /*connection*/, MuxEvent event) override {
    const CallId call{id_, event.stream};
    switch (event.kind) {
      case MuxEvent::Kind::kCalled:
        calls_.insert(event.stream);
        server_.service_.OnCall(call, event.text, event.deadline_left);
        return;
      case MuxEvent::Kind::kMessage:
        connection_.Consumed(event.stream, event.text.size());
        if (calls_.contains(event.stream)) {
          server_.service_.OnMessage(call, std::move(event.text));
        }
        return;
      case MuxEvent::Kind::kCancelled:
        if (calls_.erase(event.stream) > 0) {
          server_.service_.OnGone(call);
        }
        return;
      case MuxEvent::Kind::kDrained:
        if (calls_.contains(event.stream)) {
          server_.service_.OnDrained(call);
        }
        return;
      case MuxEvent::Kind::kBroken:
        for (const StreamId stream : std::exchange(calls_, {})) {
          server_.service_.OnGone({id_, stream});
        }
        server_.Forget(id_);
        return;
      case MuxEvent::Kind::kReady:
        name_ = std::move(event.text);
        return;
      case MuxEvent::Kind::kEnded:
      case MuxEvent::Kind::kGoingAway:
        return;  // of calls that this side would make
    }
  }

  MuxServer& server_;
  std::uint64_t id_;
  std::string name_;          // of the process
  std::set<StreamId> calls_;  // neither ended nor gone
  MuxConnection connection_;
};

MuxServer::MuxServer(rt::Loop& loop, rt::Net& net, MuxOptions options, MuxService& service)
    : loop_(loop), net_(net), options_(std::move(options)), service_(service) {}

MuxServer::~MuxServer() {
  *alive_ = false;
  tasks_.Clear();
}

Result<rt::Address> MuxServer::Start(const rt::Address& address) {
  PX_TRY(listener_, net_.Listen(address, {}));
  tasks_.Start(AcceptLoop());
  return listener_->address();
}

rt::Task<void> MuxServer::AcceptLoop() {
  while (true) {
    auto accepting = listener_->Accept();
    Result<std::unique_ptr<rt::Stream>> stream = co_await std::move(accepting);
    if (!stream && stream.error().code() == Code::kCancelled) {
      co_return;
    }
    if (!stream) {
      auto pause = loop_.SleepFor(std::chrono::milliseconds(100));  // descriptors are used up
      co_await std::move(pause);
      continue;
    }
    if (peers_.size() < kConnectionsMax) {
      const std::uint64_t id = ++last_connection_;
      peers_.emplace(id, std::make_unique<Peer>(*this, id, std::move(*stream)));
    }
  }
}

MuxServer::Peer* MuxServer::Find(CallId call) const {
  const auto found = peers_.find(call.connection);
  return found == peers_.end() ? nullptr : found->second.get();
}

Result<void> MuxServer::Send(CallId call, std::string message) {
  Peer* peer = Find(call);
  return peer == nullptr ? Result<void>()
                         : peer->connection().Send(call.stream, std::move(message));
}

void MuxServer::End(CallId call, std::optional<Error> error) {
  if (Peer* peer = Find(call)) {
    peer->End(call.stream, std::move(error));
  }
}

std::size_t MuxServer::queued_bytes(CallId call) const {
  Peer* peer = Find(call);
  return peer == nullptr ? 0 : peer->connection().mux().queued_bytes(call.stream);
}

std::size_t MuxServer::connection_queued_bytes(CallId call) const {
  Peer* peer = Find(call);
  return peer == nullptr ? 0 : peer->connection().mux().queued_bytes();
}

std::string MuxServer::peer_name(CallId call) const {
  Peer* peer = Find(call);
  return peer == nullptr ? std::string() : peer->name();
}

void MuxServer::GoAway() {
  going_away_ = true;
  if (listener_) {
    listener_->Close();
  }
  for (auto& [id, peer] : peers_) {
    peer->connection().GoAway();
  }
}

// Later: the connection's own call stands below this one.
void MuxServer::Forget(std::uint64_t connection) {
  loop_.Post([this, connection, alive = std::weak_ptr<bool>(alive_)] {
    if (const auto here = alive.lock(); here && *here) {
      peers_.erase(connection);
    }
  });
}

}  // namespace pixii::control
