#include "transport/transfer_agent.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/checked.h"

namespace pixii::transport {

namespace {

// Of the ids of transfers that were done when Post returned: nobody keeps anything of them.
constexpr std::uint64_t kDoneBit = std::uint64_t{1} << 62U;
constexpr std::size_t kSparePairsMax = 1024;  // of a transfer that is kept for the next Post

bool WasDone(TransferId id) { return (static_cast<std::uint64_t>(id) & kDoneBit) != 0; }

/// Another thread may be the last that has it.
std::shared_ptr<Link> DiesOnLoop(std::shared_ptr<Link> link, rt::Loop& loop) {
  Link* plain = link.get();
  return {plain, [&loop, link = std::move(link)](Link* /*plain*/) mutable {
            loop.Post([link = std::move(link)] {});
          }};
}

tl::unexpected<Error> NoPeer(PeerId peer) {
  return Fail(Code::kNotFound,
              fmt::format("there is no peer {}", static_cast<std::uint32_t>(peer)));
}

Result<void> CheckLists(const TransferRequest& request) {
  if (request.local.size() != request.remote.size() || request.local.size() > kDescriptorsMax) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{} local and {} remote descriptors; there must be as many of both, at "
                            "most {}",
                            request.local.size(), request.remote.size(), kDescriptorsMax),
                "local");
  }
  if (request.notification && request.notification->size() > kNotificationBytesMax) {
    return Fail(Code::kInvalidArgument,
                fmt::format("a notification of {} bytes; at most {}", request.notification->size(),
                            kNotificationBytesMax),
                "notification");
  }
  if (request.deadline == rt::kNever) {
    return Fail(Code::kInvalidArgument, "a transfer without a deadline", "deadline");
  }
  for (std::size_t i = 0; i < request.local.size(); ++i) {
    const Descriptor& remote = request.remote[i];
    if (request.local[i].size_bytes != remote.size_bytes || remote.size_bytes == 0 ||
        !CheckedAdd(remote.offset, remote.size_bytes) || remote.generation > kGenerationMax) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("descriptor {}: {} local and {} remote bytes at offset {} of "
                              "generation {}; sizes must be equal and not 0, generations below "
                              "2^62",
                              i, request.local[i].size_bytes, remote.size_bytes, remote.offset,
                              remote.generation),
                  "remote");
    }
  }
  return {};
}

}  // namespace

TransferAgent::TransferAgent(rt::Loop& loop, AgentOptions options)
    : AgentContext(loop), options_(std::move(options)) {}

Result<std::unique_ptr<TransferAgent>> TransferAgent::Create(
    rt::Loop& loop, AgentOptions options, std::vector<TransportFactory> transports) {
  auto agent = std::unique_ptr<TransferAgent>(
      new TransferAgent(loop, std::move(options)));  // tidy: new the constructor is private
  for (TransportFactory& make : transports) {
    PX_TRY(std::unique_ptr<Transport> transport, make(*agent));
    agent->transports_.push_back(std::move(transport));
  }
  return agent;
}

TransferAgent::~TransferAgent() {
  *alive_ = false;
  options_.wake = nullptr;
  transports_.clear();  // ends what their links run
  std::vector<TransferPtr> left;
  {
    rt::MutexLock lock(mutex_);
    for (auto& [id, transfer] : transfers_) {
      left.push_back(transfer);
    }
  }
  for (const TransferPtr& transfer : left) {
    loop.CancelTimer(std::exchange(transfer->timer, rt::TimerId::kNone));
  }
}

Result<RegionKey> TransferAgent::Register(std::span<std::byte> memory,
                                          const RegionOptions& options) {
  return regions.Register(memory, options);
}

Result<void> TransferAgent::Deregister(RegionKey region) {
  PX_CHECK_OK(regions.Deregister(region));
  OnLoop([this, region] {
    for (const std::unique_ptr<Transport>& transport : transports_) {
      transport->Forget(region);
    }
  });
  return {};
}

Result<void> TransferAgent::Open(RegionKey region, WindowRange windows, std::uint64_t generation,
                                 Access access) {
  return regions.Open(region, windows, generation, access);
}

Result<void> TransferAgent::Close(RegionKey region, WindowRange windows) {
  return regions.Close(region, windows);
}

std::string TransferAgent::Metadata() const {
  AgentMetadata metadata{.id = id(), .transports = {}};
  for (const std::unique_ptr<Transport>& transport : transports_) {
    metadata.transports.push_back(
        {.transport = std::string(transport->name()), .address = transport->address()});
  }
  return EncodeMetadata(metadata);
}

Result<PeerId> TransferAgent::Connect(std::string_view metadata) {
  PX_TRY(AgentMetadata decoded, DecodeMetadata(metadata));
  Peer peer{.metadata = std::move(decoded),
            .links = std::vector<std::shared_ptr<Link>>(transports_.size()),
            .addresses = std::vector<std::string>(transports_.size())};
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
  peer.first = first;
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
    if (peer.links[transport] != nullptr && peer.links[transport]->state() != PeerState::kBroken) {
      return peer.links[transport];
    }
    address = peer.addresses[transport];
    agent = peer.metadata.id;
  }
  std::shared_ptr<Link> link = DiesOnLoop(transports_[transport]->Connect(address, agent), loop);
  std::shared_ptr<Link> old = link;
  rt::MutexLock lock(mutex_);
  const auto found = peers_.find(id);
  if (found != peers_.end()) {
    std::swap(found->second.links[transport], old);
    found->second.used = transport;
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
      loop.Post([gone = std::make_shared<Peer>(std::move(gone))] {});  // not under the lock
    }
  });
}

PeerInfo TransferAgent::peer(PeerId id) const {
  rt::MutexLock lock(mutex_);
  const auto found = peers_.find(id);
  if (found == peers_.end()) {
    return {.state = PeerState::kBroken,
            .transport = {},
            .error = Error(Code::kNotFound, "there is no such peer")};
  }
  const Peer& peer = found->second;
  const std::shared_ptr<Link>& link = peer.links[peer.used];
  PeerInfo info{.state = PeerState::kConnecting,
                .transport = transports_[peer.used]->name(),
                .error = std::nullopt};
  if (link != nullptr) {
    info.state = link->state();
    info.error = link->error();
  }
  return info;
}

Result<void> TransferAgent::Resolve(const TransferRequest& request, Transfer& transfer) const {
  PX_CHECK_OK(CheckLists(request));
  transfer.peer = request.peer;
  transfer.operation = request.operation;
  transfer.deadline = request.deadline;
  if (request.notification) {
    transfer.notification = std::string(*request.notification);
  }
  transfer.pairs.reserve(request.local.size());
  for (std::size_t i = 0; i < request.local.size(); ++i) {
    const Descriptor& local = request.local[i];
    if (transfer.held.empty() || transfer.held.back()->view().key != local.region) {
      const Region* region = regions.Use(local.region);
      if (region == nullptr) {
        return Fail(Code::kNotFound,
                    fmt::format("local descriptor {}: there is no memory region {:016x}", i,
                                static_cast<std::uint64_t>(local.region)),
                    "local");
      }
      transfer.held.push_back(region);
    }
    const std::span<std::byte> memory = transfer.held.back()->view().memory;
    if (local.offset > memory.size() || local.size_bytes > memory.size() - local.offset) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("local descriptor {}: {} bytes at {} of a region of {}", i,
                              local.size_bytes, local.offset, memory.size()),
                  "local");
    }
    transfer.pairs.push_back({.local = memory.data() + local.offset, .remote = request.remote[i]});
    transfer.size_bytes += local.size_bytes;
  }
  return {};
}

void TransferAgent::Drop(Transfer& transfer) const {
  for (const Region* region : transfer.held) {
    region->uses().fetch_sub(1, std::memory_order_acq_rel);
  }
  transfer.held.clear();
}

TransferPtr TransferAgent::TakeSpare() {
  TransferPtr transfer;
  if (!spare_taken_.exchange(true, std::memory_order_acquire)) {
    transfer = std::move(spare_);
    spare_taken_.store(false, std::memory_order_release);
  }
  return transfer != nullptr ? std::move(transfer) : std::make_shared<Transfer>();
}

void TransferAgent::GiveSpare(TransferPtr transfer) {
  if (transfer->pairs.capacity() > kSparePairsMax) {
    return;
  }
  transfer->pairs.clear();
  transfer->size_bytes = 0;
  transfer->notification.reset();
  if (!spare_taken_.exchange(true, std::memory_order_acquire)) {
    spare_ = std::move(transfer);
    spare_taken_.store(false, std::memory_order_release);
  }
}

Result<TransferId> TransferAgent::Post(const TransferRequest& request) {
  std::shared_ptr<Link> link;
  std::size_t first = 0;
  std::uint64_t number = 0;
  {
    rt::MutexLock lock(mutex_);
    const auto peer = peers_.find(request.peer);
    if (peer == peers_.end()) {
      return NoPeer(request.peer);
    }
    if (transfers_.size() >= options_.transfers_max) {
      return Fail(Code::kResourceExhausted,
                  fmt::format("{} transfers that nobody released", transfers_.size()));
    }
    number = next_transfer_++;
    first = peer->second.first;
    link = peer->second.links[first];
  }
  TransferPtr transfer = TakeSpare();
  transfer->next_transport = first;
  const Result<void> resolved = Resolve(request, *transfer);
  if (!resolved) {
    Drop(*transfer);
    return Fail(resolved.error());
  }
  std::optional<Result<void>> now;
  if (link != nullptr && transfer->size_bytes <= options_.inline_bytes_max) {
    now = link->TryNow(*transfer);
  }
  if (now && *now) {
    Count(*transfer);
    Drop(*transfer);
    done_now_.fetch_add(1, std::memory_order_relaxed);
    GiveSpare(std::move(transfer));
    return static_cast<TransferId>(number | kDoneBit);
  }
  if (!now && request.deadline <= loop.Now()) {
    Drop(*transfer);
    return Fail(Code::kDeadlineExceeded, "the deadline had passed when the transfer was posted");
  }
  transfer->id = static_cast<TransferId>(number);
  {
    rt::MutexLock lock(mutex_);
    transfers_.emplace(transfer->id, transfer);
    transfer->queued = !now;
  }
  if (now) {
    Finish(transfer, *now);
  } else {
    OnLoop([this, transfer] { Begin(transfer); });
  }
  return static_cast<TransferId>(number);
}

void TransferAgent::Count(const Transfer& transfer) {
  std::atomic<std::uint64_t>& moved = transfer.operation == Operation::kRead
                                          ? AgentContext::counters.read_bytes
                                          : AgentContext::counters.written_bytes;
  moved.fetch_add(transfer.size_bytes, std::memory_order_relaxed);
}

void TransferAgent::OnLoop(rt::Callback fn) {
  loop.Post([alive = alive_, fn = std::move(fn)] {
    if (*alive) {
      fn();
    }
  });
}

void TransferAgent::Begin(const TransferPtr& transfer) {
  if (transfer->cut) {
    Finish(transfer, Fail(*transfer->cut, "cancelled before it began"));
    return;
  }
  const std::shared_ptr<Link> link = LinkOf(transfer->peer, transfer->next_transport);
  if (link == nullptr) {
    Finish(transfer, Fail(Code::kCancelled, "the peer was disconnected"));
    return;
  }
  if (transfer->timer == rt::TimerId::kNone) {
    transfer->timer = loop.RunAt(transfer->deadline, [this, transfer] {
      transfer->timer = rt::TimerId::kNone;
      Cut(transfer, Code::kDeadlineExceeded);
    });
  }
  transfer->link = link.get();
  link->Start(transfer);
}

void TransferAgent::Cut(const TransferPtr& transfer, Code why) {
  if (transfer->cut) {
    return;
  }
  transfer->cut = why;
  if (transfer->link != nullptr) {
    transfer->link->Cancel(transfer);
  }
}

void TransferAgent::Ended(const TransferPtr& transfer, Result<void> result) {
  if (transfer->instead) {
    const auto instead = std::move(transfer->instead);  // it may hold the transfer
    instead(std::move(result));
    return;
  }
  transfer->link = nullptr;
  const bool elsewhere =
      !result && !transfer->cut &&
      (result.error().code() == Code::kUnsupported || result.error().code() == Code::kUnavailable);
  if (elsewhere) {
    std::size_t next = transports_.size();
    {
      rt::MutexLock lock(mutex_);
      const auto peer = peers_.find(transfer->peer);
      if (peer != peers_.end()) {
        next = FirstFitting(peer->second, transfer->next_transport + 1);
      }
    }
    if (next < transports_.size()) {
      transfer->next_transport = next;
      OnLoop([this, transfer] { Begin(transfer); });
      return;
    }
  }
  Finish(transfer, std::move(result));
}

void TransferAgent::Finish(const TransferPtr& transfer, Result<void> result) {
  if (transfer->timer != rt::TimerId::kNone) {
    loop.CancelTimer(std::exchange(transfer->timer, rt::TimerId::kNone));
  }
  TransferStatus status{.state = TransferState::kDone, .error = std::nullopt};
  if (!result) {
    const bool late = transfer->cut == Code::kDeadlineExceeded;
    status.state = transfer->cut && !late ? TransferState::kCancelled : TransferState::kFailed;
    status.error =
        late ? Error(Code::kDeadlineExceeded, "the deadline passed before the transfer ended")
             : std::move(result.error());
  }
  if (result) {
    Count(*transfer);
  }
  Drop(*transfer);
  {
    rt::MutexLock lock(mutex_);
    ended_.transfers_done += status.state == TransferState::kDone ? 1 : 0;
    ended_.transfers_failed += status.state == TransferState::kFailed ? 1 : 0;
    ended_.transfers_cancelled += status.state == TransferState::kCancelled ? 1 : 0;
    transfer->status = std::move(status);
    if (transfer->released) {
      transfers_.erase(transfer->id);
    }
  }
  Wake();
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

TransferPtr TransferAgent::Find(TransferId id) const {
  rt::MutexLock lock(mutex_);
  const auto found = transfers_.find(id);
  return found == transfers_.end() ? nullptr : found->second;
}

TransferStatus TransferAgent::Poll(TransferId id) {
  if (WasDone(id)) {
    return {.state = TransferState::kDone, .error = std::nullopt};
  }
  rt::MutexLock lock(mutex_);
  const auto found = transfers_.find(id);
  if (found == transfers_.end()) {
    return {.state = TransferState::kFailed,
            .error = Error(Code::kNotFound,
                           fmt::format("there is no transfer {}", static_cast<std::uint64_t>(id)))};
  }
  return found->second->status;
}

void TransferAgent::Cancel(TransferId id) {
  if (WasDone(id)) {
    return;
  }
  OnLoop([this, id] {
    const TransferPtr transfer = Find(id);
    bool runs = false;
    if (transfer != nullptr) {
      rt::MutexLock lock(mutex_);
      runs = transfer->queued && transfer->status.state == TransferState::kInProgress;
    }
    if (runs) {
      Cut(transfer, Code::kCancelled);
    }
  });
}

void TransferAgent::Release(TransferId id) {
  if (WasDone(id)) {
    return;
  }
  {
    rt::MutexLock lock(mutex_);
    const auto found = transfers_.find(id);
    if (found == transfers_.end()) {
      return;
    }
    found->second->released = true;
    if (found->second->status.state != TransferState::kInProgress) {
      transfers_.erase(found);
      return;
    }
  }
  Cancel(id);
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
    link = found->second.links[found->second.used];
  }
  if (link == nullptr || link->state() != PeerState::kConnected) {
    return Fail(Code::kUnavailable, "the peer is not connected");
  }
  return link->Notify(bytes);
}

bool TransferAgent::Notified(AgentId from, std::string_view bytes) {
  rt::MutexLock lock(mutex_);
  if (notifications_.size() >= options_.notifications_max) {
    return false;
  }
  notifications_.push_back({.from = from, .bytes = std::string(bytes)});
  notifications_count_.store(notifications_.size(), std::memory_order_release);
  AgentContext::counters.notifications_received.fetch_add(1, std::memory_order_relaxed);
  return true;
}

void TransferAgent::Wake() {
  if (options_.wake) {
    options_.wake();
  }
}

bool TransferAgent::TakeNotification(Notification& out) {
  if (notifications_count_.load(std::memory_order_acquire) > 0) {
    rt::MutexLock lock(mutex_);
    if (!notifications_.empty()) {
      out = std::move(notifications_.front());
      notifications_.pop_front();
      notifications_count_.store(notifications_.size(), std::memory_order_release);
      return true;
    }
  }
  for (const std::unique_ptr<Transport>& transport : transports_) {
    if (transport->TakeNotification(out)) {
      AgentContext::counters.notifications_received.fetch_add(1, std::memory_order_relaxed);
      return true;
    }
  }
  return false;
}

AgentCounters TransferAgent::counters() const {
  const SharedCounters& shared = AgentContext::counters;
  AgentCounters out;
  {
    rt::MutexLock lock(mutex_);
    out = ended_;
    for (const auto& [id, transfer] : transfers_) {
      out.transfers_running += transfer->status.state == TransferState::kInProgress ? 1 : 0;
    }
  }
  out.transfers_done += done_now_;
  out.read_bytes = shared.read_bytes;
  out.written_bytes = shared.written_bytes;
  out.served_bytes = shared.served_bytes;
  out.taken_bytes = shared.taken_bytes;
  out.notifications_sent = shared.notifications_sent;
  out.notifications_received = shared.notifications_received;
  out.connections = shared.connections;
  out.strangers_refused = shared.strangers_refused;
  out.frames_malformed = shared.frames_malformed;
  out.checksums_wrong = shared.checksums_wrong;
  out.stale_refused = shared.stale_refused;
  out.regions = regions.count();
  out.region_bytes = regions.size_bytes();
  return out;
}

}  // namespace pixii::transport
