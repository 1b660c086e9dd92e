#include "transport/fabric_transport.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "transport/doorkeeper.h"
#include "transport/fabric_session.h"
#include "transport/link_list.h"
#include "transport/transport_factory.h"

namespace pixii::transport {

namespace {

using rt::operator""s;

constexpr rt::Duration kConnectTime = 5s;

/// What all links and connections of one agent have.
struct FabricShare {
  AgentContext& context;
  rt::Net& net;
  ClusterKey key;
  std::string_view name;
  std::unique_ptr<Fabric> fabric;
  std::unique_ptr<ExposedRegions> exposed;
};

class FabricLink final : public Link, public std::enable_shared_from_this<FabricLink> {
 public:
  FabricLink(FabricShare& share, rt::Address address, AgentId peer)
      : share_(share), context_(share.context), address_(std::move(address)), peer_(peer) {}

  void Open() { tasks_.Start(Connect()); }

  void Start(TransferPtr transfer) override {
    if (session_ != nullptr && state() == PeerState::kConnected) {
      session_->Start(std::move(transfer));
      return;
    }
    waiting_.push_back(std::move(transfer));
    if (state() == PeerState::kBroken) {
      context_.loop.Post([link = shared_from_this()] {
        if (!link->is_shut_) {
          link->EndWaiting(*link->error());
        }
      });
    }
  }

  void Cancel(const TransferPtr& transfer) override {
    if (std::erase(waiting_, transfer) > 0) {
      context_.Ended(transfer, Fail(Code::kCancelled, "cancelled"));
    } else if (session_ != nullptr) {
      session_->Cancel(transfer);
    }
  }

  Result<void> Notify(std::string_view bytes) override {
    context_.loop.Post([link = shared_from_this(), text = std::string(bytes)] {
      if (link->session_ != nullptr && link->state() == PeerState::kConnected) {
        link->session_->Notify(text);
      }
    });
    return {};
  }

  PeerState state() const override { return state_.load(std::memory_order_acquire); }

  std::optional<Error> error() const override {
    rt::MutexLock lock(mutex_);
    return error_;
  }

  void Forget(RegionKey region) {
    if (session_ != nullptr) {
      session_->Forget(region);
    }
  }

  /// The agent ends.
  void Shut() {
    is_shut_ = true;
    tasks_.Clear();
    EndSession();
    Fall(Error(Code::kCancelled, "the agent ends"));
  }

 private:
  rt::Task<void> Connect() {
    Result<std::unique_ptr<rt::Stream>> stream =
        co_await share_.net.Connect(address_, context_.loop.Now() + kConnectTime);
    if (!stream) {
      Fall(stream.error());
      co_return;
    }
    const HandshakeOptions options{.own = context_.id,
                                   .channel = share_.name,
                                   .checksums = true,
                                   .deadline = context_.loop.Now() + kHandshakeTimeMax};
    const Result<Session> proved = co_await ShakeAsClient(**stream, share_.key, options, peer_);
    if (!proved) {
      Fall(proved.error());
      co_return;
    }
    Result<std::unique_ptr<FabricSession>> session = FabricSession::Create(
        {.context = context_, .fabric = *share_.fabric, .exposed = *share_.exposed, .client = true},
        std::move(*stream), *proved, [this] { Ready(); },
        [weak = weak_from_this()](const Error& error) {
          const std::shared_ptr<FabricLink> link = weak.lock();
          if (link && !link->is_shut_) {
            link->EndSession();
            link->Fall(error);
          }
        });
    if (!session) {
      Fall(session.error());
      co_return;
    }
    session_ = std::move(*session);
    session_->Run();
    context_.counters.connections.fetch_add(1, std::memory_order_relaxed);
  }

  void EndSession() {
    if (session_ != nullptr) {
      context_.counters.connections.fetch_sub(1, std::memory_order_relaxed);
      session_.reset();
    }
  }

  void Ready() {
    state_.store(PeerState::kConnected, std::memory_order_release);
    context_.LinkChanged(peer_, share_.name, nullptr);
    for (const TransferPtr& transfer : std::exchange(waiting_, {})) {
      session_->Start(transfer);
    }
  }

  /// No connection, or no more.
  void Fall(const Error& why) {
    const bool broke =
        why.code() == Code::kDeadlineExceeded || why.code() == Code::kResourceExhausted;
    const Error error = broke ? Error(Code::kUnavailable, why.detail()) : why;
    {
      rt::MutexLock lock(mutex_);
      error_ = error;
    }
    state_.store(PeerState::kBroken, std::memory_order_release);
    context_.LinkChanged(peer_, share_.name, &error);
    EndWaiting(error);
    context_.Wake();
  }

  void EndWaiting(const Error& error) {
    for (const TransferPtr& transfer : std::exchange(waiting_, {})) {
      context_.Ended(transfer, Fail(error));
    }
  }

  FabricShare& share_;  // gone once it is shut
  AgentContext& context_;
  rt::Address address_;
  AgentId peer_;
  std::atomic<PeerState> state_{PeerState::kConnecting};
  mutable rt::Mutex mutex_;
  std::optional<Error> error_ PX_GUARDED_BY(mutex_);
  std::vector<TransferPtr> waiting_;  // for the connection
  std::unique_ptr<FabricSession> session_;
  bool is_shut_ = false;
  rt::SpawnedTasks tasks_;
};

class FabricTransport final : public Transport {
 public:
  FabricTransport(AgentContext& context, rt::Net& net, const ClusterKey& key, FabricOptions options)
      : options_(std::move(options)),
        share_{.context = context,
               .net = net,
               .key = key,
               .name = FabricName(options_.kind),
               .fabric = nullptr,
               .exposed = nullptr},
        door_(share_.context, share_.key,
              {.channel = share_.name,
               .checksums = true,
               .connections_max = options_.connections_max,
               .strangers_max = options_.strangers_max}) {}

  Result<void> Begin() {
    PX_TRY(FabricLibrary library, LoadFabricLibrary(options_.kind, options_.library_path));
    const std::string& host =
        options_.advertised_host.empty() ? options_.listen.host : options_.advertised_host;
    PX_TRY(share_.fabric, Fabric::Open(share_.context.loop, std::move(library), host));
    share_.exposed = std::make_unique<ExposedRegions>(share_.context, *share_.fabric);
    return door_.Open(
        share_.net, options_.listen, [](rt::Stream& /*stream*/) { return true; },
        [this](std::unique_ptr<rt::Stream> stream, const Session& session) {
          return Serve(std::move(stream), session);
        });
  }

  ~FabricTransport() override {
    door_.Close();
    served_.clear();
    links_.ForEach([](FabricLink& link) { link.Shut(); });
  }

  std::string_view name() const override { return share_.name; }

  std::string address() const override {
    rt::Address control = door_.address();
    if (!options_.advertised_host.empty()) {
      control.host = options_.advertised_host;
    }
    return control.ToString();
  }

  bool Fits(std::string_view address) const override {
    return rt::ParseAddress(address).has_value();
  }

  std::shared_ptr<Link> Connect(std::string_view address, AgentId peer) override {
    auto link = std::make_shared<FabricLink>(share_, *rt::ParseAddress(address), peer);
    links_.Add(link);
    link->Open();
    return link;
  }

  void Forget(RegionKey region) override {
    share_.exposed->Forget(region);
    for (const auto& session : served_) {
      session.second->Forget(region);
    }
    links_.ForEach([region](FabricLink& link) { link.Forget(region); });
  }

 private:
  bool Serve(std::unique_ptr<rt::Stream> stream, const Session& session) {
    const std::uint64_t number = next_number_++;
    Result<std::unique_ptr<FabricSession>> made = FabricSession::Create(
        {.context = share_.context,
         .fabric = *share_.fabric,
         .exposed = *share_.exposed,
         .client = false},
        std::move(stream), session, [] {},
        [this, number, alive = std::weak_ptr<bool>(alive_)](const Error& /*error*/) {
          if (!alive.expired()) {
            door_.Left();
            served_.erase(number);
          }
        });
    if (!made) {
      return false;
    }
    served_.emplace(number, std::move(*made)).first->second->Run();
    return true;
  }

  FabricOptions options_;
  FabricShare share_;
  Doorkeeper door_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::uint64_t next_number_ = 0;
  std::unordered_map<std::uint64_t, std::unique_ptr<FabricSession>> served_;
  LinkList<FabricLink> links_;
};

}  // namespace

TransportFactory MakeFabricTransport(rt::Net& net, ClusterKey key, FabricOptions options) {
  return FactoryOf<FabricTransport>(net, std::move(key), std::move(options));
}

}  // namespace pixii::transport
