#include "transport/tcp_transport.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>
#include <utility>
#include <vector>

#include "rt/sync.h"
#include "transport/bytes.h"
#include "transport/doorkeeper.h"
#include "transport/frame.h"
#include "transport/frame_channel.h"
#include "transport/link_list.h"
#include "transport/transport_factory.h"
#include "wire/messages/codec.h"

namespace pixii::transport {

namespace {

using rt::operator""s;
using rt::operator""ms;

constexpr rt::Duration kConnectTime = 5s;
constexpr std::size_t kServedMax = 16'384;         // transfers of one connection at a time
constexpr std::size_t kAnswersBytesMax = 8 << 20;  // that a peer leaves unread
constexpr std::string_view kChannel = "tcp";

std::string EncodeCredit(std::uint64_t bytes) {
  std::string out;
  Append(out, bytes);
  return out;
}

/// Errors: kDataCorrupt.
Result<std::uint64_t> DecodeCredit(std::string_view payload) {
  Reader reader(payload);
  const auto bytes = reader.Take<std::uint64_t>();
  if (!reader.complete()) {
    return Fail(Code::kDataCorrupt, "a credit of another size than 8 bytes");
  }
  return bytes;
}

/// Credits what was taken, in large pieces.
void GiveCredit(FrameChannel& channel, InStream& stream) {
  if (stream.uncredited_bytes >= kCreditBytes) {
    channel.Send(FrameKind::kCredit, stream.transfer,
                 EncodeCredit(std::exchange(stream.uncredited_bytes, 0)));
  }
}

Error Stale(const Descriptor& descriptor) {
  return Error(Code::kNotFound,
               fmt::format("{} bytes at {} of region {:016x} are not open with generation {}",
                           descriptor.size_bytes, descriptor.offset,
                           static_cast<std::uint64_t>(descriptor.region), descriptor.generation));
}

Error Corrupt() { return Error(Code::kDataCorrupt, "a checksum of the transfer's bytes is wrong"); }

// ---- the side that has the memory

class ServedConnection final : public FrameChannel::Owner {
 public:
  ServedConnection(AgentContext& context, std::unique_ptr<rt::Stream> stream,
                   const Session& session, std::shared_ptr<WriteLane> lane,
                   rt::Function<void(ServedConnection&)> ended)
      : context_(context),
        peer_(session.peer),
        ended_(std::move(ended)),
        channel_(context.loop, std::move(stream),
                 {.send_key = session.server_key,
                  .receive_key = session.client_key,
                  .checksums = session.checksums,
                  .pings = false,
                  .unsent_bytes_max = kAnswersBytesMax},
                 std::move(lane), *this) {
    channel_.Run();
  }

 private:
  struct Served {
    std::shared_ptr<InStream> in;    // of a write
    std::shared_ptr<OutStream> out;  // of a read
  };

  std::shared_ptr<InStream> Incoming(std::uint64_t transfer) override {
    const auto found = served_.find(transfer);
    return found == served_.end() ? nullptr : found->second.in;
  }

  void ChunkCame(const std::shared_ptr<InStream>& stream) override {
    if (stream->dead || stream->corrupt) {
      if (stream->corrupt) {
        context_.counters.checksums_wrong.fetch_add(1, std::memory_order_relaxed);
      }
      EndTransfer(stream->transfer, stream->dead ? Stale({}) : Corrupt());
      return;
    }
    if (stream->received_bytes == stream->pieces.size_bytes()) {
      context_.counters.taken_bytes.fetch_add(stream->received_bytes, std::memory_order_relaxed);
      EndTransfer(stream->transfer, std::nullopt);
    } else {
      GiveCredit(channel_, *stream);
    }
  }

  void OutEnded(const std::shared_ptr<OutStream>& stream) override {
    const auto found = served_.find(stream->transfer);
    if (found == served_.end() || found->second.out != stream) {
      return;  // cancelled
    }
    if (stream->dead) {
      EndTransfer(stream->transfer, Stale({}));
      return;
    }
    context_.counters.served_bytes.fetch_add(stream->sent_bytes, std::memory_order_relaxed);
    EndTransfer(stream->transfer, std::nullopt);
  }

  Result<void> Control(const FrameHeader& header, std::string_view payload) override {
    switch (header.kind) {
      case FrameKind::kRead:
      case FrameKind::kWrite:
        return Begin(header, payload);
      case FrameKind::kCancel: {
        const auto found = served_.find(header.transfer);
        if (found != served_.end()) {
          Forget(found);
        }
        return {};
      }
      case FrameKind::kCredit: {
        PX_TRY(const std::uint64_t bytes, DecodeCredit(payload));
        const auto found = served_.find(header.transfer);
        if (found != served_.end() && found->second.out != nullptr) {
          channel_.Credit(*found->second.out, bytes);
        }
        return {};
      }
      case FrameKind::kNotify:
        if (payload.size() > kNotificationBytesMax) {
          return Fail(Code::kDataCorrupt,
                      fmt::format("a notification of {} bytes", payload.size()));
        }
        context_.Notified(peer_, payload);
        context_.Wake();
        return {};
      default:
        return Fail(Code::kDataCorrupt, fmt::format("a client sends no frame of kind {}",
                                                    static_cast<int>(header.kind)));
    }
  }

  void Broken(const Error& error) override {
    if (error.code() == Code::kDataCorrupt) {
      context_.counters.frames_malformed.fetch_add(1, std::memory_order_relaxed);
    }
    while (!served_.empty()) {
      Forget(served_.begin());
    }
    ended_(*this);
  }

  Result<void> Begin(const FrameHeader& header, std::string_view payload) {
    PX_TRY(const std::vector<Descriptor> descriptors, DecodeDescriptors(payload));
    if (served_.contains(header.transfer)) {
      return Fail(Code::kDataCorrupt, fmt::format("transfer {} begins twice", header.transfer));
    }
    if (served_.size() >= kServedMax) {
      EndTransfer(header.transfer,
                  Error(Code::kResourceExhausted,
                        fmt::format("{} transfers run on this connection", kServedMax)));
      return {};
    }
    const Access access = header.kind == FrameKind::kRead ? Access::kRead : Access::kWrite;
    Pieces pieces;
    std::shared_ptr<const Region> region;
    for (const Descriptor& each : descriptors) {
      if (region == nullptr || region->view().key != each.region) {
        region = context_.regions.Find(each.region);
      }
      if (region == nullptr || !IsOpen(region->view(), each, access)) {
        EndTransfer(header.transfer, Stale(each));
        return {};
      }
      pieces.AddWindow(region, each);
    }
    Served& served = served_[header.transfer];
    if (header.kind == FrameKind::kRead) {
      served.out = std::make_shared<OutStream>();
      served.out->transfer = header.transfer;
      served.out->pieces = std::move(pieces);
      served.out->access = access;
      channel_.StartOut(served.out);
    } else {
      served.in = std::make_shared<InStream>();
      served.in->transfer = header.transfer;
      served.in->pieces = std::move(pieces);
      served.in->access = access;
    }
    return {};
  }

  void EndTransfer(std::uint64_t transfer, const std::optional<Error>& error) {
    if (error && error->code() == Code::kNotFound) {
      context_.counters.stale_refused.fetch_add(1, std::memory_order_relaxed);
    }
    channel_.Send(FrameKind::kEnd, transfer, error ? wire::EncodeError(*error) : std::string());
    const auto found = served_.find(transfer);
    if (found != served_.end()) {
      Forget(found);
    }
  }

  void Forget(std::unordered_map<std::uint64_t, Served>::iterator at) {
    if (at->second.in != nullptr) {
      at->second.in->dead = true;
    }
    if (at->second.out != nullptr) {
      at->second.out->dead = true;
    }
    served_.erase(at);
  }

  AgentContext& context_;
  AgentId peer_;
  rt::Function<void(ServedConnection&)> ended_;
  std::unordered_map<std::uint64_t, Served> served_;
  FrameChannel channel_;  // last: its tasks use what stands above
};

// ---- the side that asks

class TcpLink final : public Link,
                      public FrameChannel::Owner,
                      public std::enable_shared_from_this<TcpLink> {
 public:
  struct Target {
    rt::Address address;
    AgentId agent;
    bool checksums = true;
  };

  TcpLink(AgentContext& context, rt::Net& net, const ClusterKey& key,
          std::shared_ptr<WriteLane> lane, Target target)
      : context_(context),
        net_(net),
        key_(key),
        lane_(std::move(lane)),
        target_(std::move(target)) {}

  void Open() { tasks_.Start(Connect()); }

  void Start(TransferPtr transfer) override {
    if (channel_ == nullptr || over_) {
      waiting_.push_back(std::move(transfer));
      if (over_) {
        context_.loop.Post([link = shared_from_this()] { link->EndAll(*link->error()); });
      }
      return;
    }
    Send(transfer);
  }

  void Cancel(const TransferPtr& transfer) override {
    if (std::erase(waiting_, transfer) > 0) {
      context_.Ended(transfer, Fail(Code::kCancelled, "cancelled"));
      return;
    }
    const auto found = running_.find(static_cast<std::uint64_t>(transfer->id));
    if (found != running_.end()) {
      channel_->Send(FrameKind::kCancel, found->first);
      Finish(found, Fail(Code::kCancelled, "cancelled"));
    }
  }

  Result<void> Notify(std::string_view bytes) override {
    context_.loop.Post([link = shared_from_this(), text = std::string(bytes)] {
      if (link->channel_ != nullptr && !link->over_) {
        link->SendNotification(text);
      }
    });
    return {};
  }

  PeerState state() const override { return state_.load(std::memory_order_acquire); }

  std::optional<Error> error() const override {
    rt::MutexLock lock(mutex_);
    return error_;
  }

  /// The agent ends.
  void Shut() {
    tasks_.Clear();
    over_ = true;
    channel_.reset();
    EndAll(Error(Code::kCancelled, "the agent ends"));
  }

 private:
  struct Running {
    TransferPtr transfer;
    std::shared_ptr<InStream> in;
    std::shared_ptr<OutStream> out;
  };

  using RunningAt = std::unordered_map<std::uint64_t, Running>::iterator;

  rt::Task<void> Connect() {
    Result<std::unique_ptr<rt::Stream>> stream =
        co_await net_.Connect(target_.address, context_.loop.Now() + kConnectTime);
    if (!stream) {
      Fall(stream.error());
      co_return;
    }
    const HandshakeOptions options{.own = context_.id,
                                   .channel = kChannel,
                                   .checksums = target_.checksums,
                                   .deadline = context_.loop.Now() + kHandshakeTimeMax};
    const Result<Session> session = co_await ShakeAsClient(**stream, key_, options, target_.agent);
    if (!session) {
      Fall(session.error());
      co_return;
    }
    const FrameChannel::Options frames{.send_key = session->client_key,
                                       .receive_key = session->server_key,
                                       .checksums = session->checksums,
                                       .pings = true,
                                       .unsent_bytes_max = SIZE_MAX};  // transfers are bounded
    channel_ =
        std::make_unique<FrameChannel>(context_.loop, std::move(*stream), frames, lane_, *this);
    context_.counters.connections.fetch_add(1, std::memory_order_relaxed);
    state_.store(PeerState::kConnected, std::memory_order_release);
    context_.LinkChanged(target_.agent, kChannel, nullptr);
    channel_->Run();
    for (const TransferPtr& transfer : std::exchange(waiting_, {})) {
      Send(transfer);
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
    over_ = true;
    state_.store(PeerState::kBroken, std::memory_order_release);
    context_.LinkChanged(target_.agent, kChannel, &error);
    EndAll(error);
    context_.Wake();
  }

  void EndAll(const Error& error) {
    const bool began = channel_ != nullptr;
    for (const TransferPtr& transfer : std::exchange(waiting_, {})) {
      context_.Ended(transfer, Fail(error));
    }
    while (!running_.empty()) {
      Finish(running_.begin(), Fail(began ? Error(Code::kDisconnected, error.detail()) : error));
    }
  }

  void Send(const TransferPtr& transfer) {
    const auto id = static_cast<std::uint64_t>(transfer->id);
    Running& running = running_[id];
    running.transfer = transfer;
    if (transfer->pairs.empty()) {
      context_.loop.Post([link = shared_from_this(), id] {
        const auto found = link->running_.find(id);
        if (found != link->running_.end()) {
          link->Finish(found, {});
        }
      });
      return;
    }
    std::vector<Descriptor> remote;
    remote.reserve(transfer->pairs.size());
    Pieces own;
    for (const Pair& pair : transfer->pairs) {
      remote.push_back(pair.remote);
      own.AddOwn(pair.local, pair.remote.size_bytes);
    }
    const bool reads = transfer->operation == Operation::kRead;
    channel_->Send(reads ? FrameKind::kRead : FrameKind::kWrite, id, EncodeDescriptors(remote));
    if (reads) {
      running.in = std::make_shared<InStream>();
      running.in->transfer = id;
      running.in->pieces = std::move(own);
    } else {
      running.out = std::make_shared<OutStream>();
      running.out->transfer = id;
      running.out->pieces = std::move(own);
      channel_->StartOut(running.out);
    }
  }

  void SendNotification(std::string_view bytes) {
    channel_->Send(FrameKind::kNotify, 0, bytes);
    context_.counters.notifications_sent.fetch_add(1, std::memory_order_relaxed);
  }

  /// Its memory is not touched any more.
  void Finish(RunningAt at, Result<void> result) {
    const Running running = std::move(at->second);
    running_.erase(at);
    if (running.in != nullptr) {
      running.in->dead = true;
    }
    if (running.out != nullptr) {
      running.out->dead = true;
    }
    if (result && running.transfer->notification) {
      SendNotification(*running.transfer->notification);
    }
    context_.Ended(running.transfer, std::move(result));
  }

  std::shared_ptr<InStream> Incoming(std::uint64_t transfer) override {
    const auto found = running_.find(transfer);
    return found == running_.end() ? nullptr : found->second.in;
  }

  void ChunkCame(const std::shared_ptr<InStream>& stream) override {
    if (!stream->dead) {
      GiveCredit(*channel_, *stream);
    }
  }

  void OutEnded(const std::shared_ptr<OutStream>& /*stream*/) override {}

  Result<void> Control(const FrameHeader& header, std::string_view payload) override {
    const auto found = running_.find(header.transfer);
    if (header.kind == FrameKind::kCredit) {
      PX_TRY(const std::uint64_t bytes, DecodeCredit(payload));
      if (found != running_.end() && found->second.out != nullptr) {
        channel_->Credit(*found->second.out, bytes);
      }
      return {};
    }
    if (header.kind != FrameKind::kEnd) {
      return Fail(Code::kDataCorrupt,
                  fmt::format("a server sends no frame of kind {}", static_cast<int>(header.kind)));
    }
    if (found == running_.end()) {
      return {};  // cancelled
    }
    const Running& running = found->second;
    if (!payload.empty()) {
      const Result<Error> said = wire::DecodeError(payload);
      if (!said) {
        return Fail(Code::kDataCorrupt, "the end of a transfer cannot be read");
      }
      Finish(found, Fail(*said));
      return {};
    }
    if (running.in != nullptr && running.in->corrupt) {
      context_.counters.checksums_wrong.fetch_add(1, std::memory_order_relaxed);
      Finish(found, Fail(Corrupt()));
      return {};
    }
    const bool whole =
        running.in != nullptr
            ? running.in->received_bytes == running.in->pieces.size_bytes()
            : running.out != nullptr && running.out->sent_bytes == running.out->pieces.size_bytes();
    if (!whole) {
      return Fail(Code::kDataCorrupt, "a transfer ends before all its bytes went");
    }
    Finish(found, {});
    return {};
  }

  void Broken(const Error& error) override {
    if (error.code() == Code::kDataCorrupt) {
      context_.counters.frames_malformed.fetch_add(1, std::memory_order_relaxed);
    }
    context_.counters.connections.fetch_sub(1, std::memory_order_relaxed);
    Fall(error);
  }

  AgentContext& context_;
  rt::Net& net_;
  const ClusterKey& key_;
  std::shared_ptr<WriteLane> lane_;
  Target target_;
  std::atomic<PeerState> state_{PeerState::kConnecting};
  mutable rt::Mutex mutex_;
  std::optional<Error> error_ PX_GUARDED_BY(mutex_);
  bool over_ = false;
  std::vector<TransferPtr> waiting_;  // for the connection
  std::unordered_map<std::uint64_t, Running> running_;
  std::unique_ptr<FrameChannel> channel_;
  rt::SpawnedTasks tasks_;
};

// ---- the transport

class TcpTransport final : public Transport {
 public:
  TcpTransport(AgentContext& context, rt::Net& net, ClusterKey key, TcpOptions options)
      : context_(context),
        net_(net),
        key_(key),
        options_(std::move(options)),
        door_(context_, key_,
              {.channel = kChannel,
               .checksums = options_.checksums,
               .connections_max = options_.connections_max,
               .strangers_max = options_.strangers_max}) {
    context_.regions.AddLane(lane_);
  }

  Result<void> Begin() {
    return door_.Open(
        net_, options_.listen, [](rt::Stream& /*stream*/) { return true; },
        [this](std::unique_ptr<rt::Stream> stream, const Session& session) {
          served_.push_back(std::make_unique<ServedConnection>(
              context_, std::move(stream), session, lane_, [this](ServedConnection& connection) {
                door_.Left();
                ended_.push_back(&connection);
                Sweep();
              }));
          return true;
        });
  }

  ~TcpTransport() override {
    door_.Close();
    served_.clear();
    links_.ForEach([](TcpLink& link) { link.Shut(); });
    context_.regions.RemoveLane(lane_.get());
  }

  std::string_view name() const override { return options_.encrypted ? "tls" : "tcp"; }

  std::string address() const override {
    rt::Address address = door_.address();
    if (!options_.advertised_host.empty()) {
      address.host = options_.advertised_host;
    }
    return address.ToString();
  }

  bool Fits(std::string_view address) const override {
    return rt::ParseAddress(address).has_value();
  }

  std::shared_ptr<Link> Connect(std::string_view address, AgentId peer) override {
    auto link = std::make_shared<TcpLink>(
        context_, net_, key_, lane_,
        TcpLink::Target{
            .address = *rt::ParseAddress(address), .agent = peer, .checksums = options_.checksums});
    links_.Add(link);
    link->Open();
    return link;
  }

 private:
  /// Destroys connections that are over, from the loop itself.
  void Sweep() {
    context_.loop.Post([this, alive = std::weak_ptr<bool>(alive_)] {
      if (alive.expired()) {
        return;
      }
      for (const ServedConnection* connection : std::exchange(ended_, {})) {
        std::erase_if(served_, [connection](const auto& each) { return each.get() == connection; });
      }
    });
  }

  AgentContext& context_;
  rt::Net& net_;
  ClusterKey key_;
  TcpOptions options_;
  std::shared_ptr<WriteLane> lane_ = std::make_shared<WriteLane>();
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  Doorkeeper door_;
  std::vector<std::unique_ptr<ServedConnection>> served_;
  std::vector<const ServedConnection*> ended_;
  LinkList<TcpLink> links_;
};

}  // namespace

TransportFactory MakeTcpTransport(rt::Net& net, ClusterKey key, TcpOptions options) {
  return FactoryOf<TcpTransport>(net, std::move(key), std::move(options));
}

}  // namespace pixii::transport
