#include "transport/transfer_agent.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/checked.h"
#include "transport/agent_seat.h"

namespace pixii::transport {

namespace {

// Of the ids of transfers that were done when Post returned: nobody keeps anything of them.
constexpr std::uint64_t kDoneBit = std::uint64_t{1} << 62U;
constexpr std::size_t kSparePairsMax = 1024;  // of a transfer that is kept for the next Post
// How long a transport that could not reach a peer is not asked first.
constexpr rt::Duration kAvoidTime = std::chrono::seconds(10);

/// The transfer that this thread's last Post made at once: the next one fills it anew. It is of no
/// agent: what it held was dropped.
TransferPtr& Spare() {
  static thread_local TransferPtr spare;
  return spare;
}

TransferPtr TakeSpare() {
  TransferPtr transfer = std::move(Spare());
  return transfer != nullptr ? std::move(transfer) : std::make_shared<Transfer>();
}

void GiveSpare(TransferPtr transfer) {
  if (transfer->pairs.capacity() > kSparePairsMax) {
    return;
  }
  transfer->pairs.clear();
  transfer->size_bytes = 0;
  transfer->notification.reset();
  Spare() = std::move(transfer);
}

bool WasDone(TransferId id) { return (static_cast<std::uint64_t>(id) & kDoneBit) != 0; }

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

// Ids and keys are drawn by the loop: a simulated one repeats them.
TransferAgent::TransferAgent(rt::Loop& loop, AgentOptions options)
    : loop_(loop),
      id_{.high = loop.random().Next(), .low = loop.random().Next()},
      regions_(loop.random().Fork()),
      options_(std::move(options)) {}

Result<std::unique_ptr<TransferAgent>> TransferAgent::Create(
    rt::Loop& loop, AgentOptions options, std::vector<TransportFactory> transports) {
  auto agent = std::unique_ptr<TransferAgent>(
      new TransferAgent(loop, std::move(options)));  // tidy: new the constructor is private
  for (TransportFactory& make : transports) {
    agent->seats_.push_back(std::make_unique<Seat>(*agent));
    PX_TRY(std::unique_ptr<Transport> transport, make(*agent->seats_.back()));
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
    loop_.CancelTimer(std::exchange(transfer->timer, rt::TimerId::kNone));
  }
}

Result<RegionKey> TransferAgent::Register(std::span<std::byte> memory,
                                          const RegionOptions& options) {
  return regions_.Register(memory, options);
}

Result<void> TransferAgent::Deregister(RegionKey region) {
  Result<void> done = regions_.Deregister(region);
  // Where peers have keys to it they are asked to forget them: it succeeds once they have.
  OnLoop([this, region] {
    for (const std::unique_ptr<Transport>& transport : transports_) {
      transport->Forget(region);
    }
  });
  return done;
}

Result<void> TransferAgent::Open(RegionKey region, WindowRange windows, std::uint64_t generation,
                                 Access access) {
  return regions_.Open(region, windows, generation, access);
}

Result<void> TransferAgent::Close(RegionKey region, WindowRange windows) {
  return regions_.Close(region, windows);
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
      const Region* region = regions_.Use(local.region);
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
    first = BestOf(peer->second);
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
    GiveSpare(std::move(transfer));
    return static_cast<TransferId>(number | kDoneBit);
  }
  if (!now && request.deadline <= loop_.Now()) {
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

void TransferAgent::Count(const Transfer& transfer) const {
  SharedCounters& counters = seats_[transfer.next_transport]->counters;
  const bool reads = transfer.operation == Operation::kRead;
  (reads ? counters.read_bytes : counters.written_bytes)
      .fetch_add(transfer.size_bytes, std::memory_order_relaxed);
  (reads ? counters.reads_done : counters.writes_done).fetch_add(1, std::memory_order_relaxed);
}

void TransferAgent::OnLoop(rt::Callback fn) {
  loop_.Post([alive = alive_, fn = std::move(fn)] {
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
    transfer->timer = loop_.RunAt(transfer->deadline, [this, transfer] {
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
        if (next < transports_.size() && result.error().code() == Code::kUnavailable) {
          peer->second.avoided[transfer->next_transport] = loop_.Now() + kAvoidTime;
        }
      }
    }
    if (next < transports_.size()) {
      seats_[transfer->next_transport]->counters.fallbacks.fetch_add(1, std::memory_order_relaxed);
      transfer->next_transport = next;
      OnLoop([this, transfer] { Begin(transfer); });
      return;
    }
  }
  Finish(transfer, std::move(result));
}

void TransferAgent::Finish(const TransferPtr& transfer, Result<void> result) {
  if (transfer->timer != rt::TimerId::kNone) {
    loop_.CancelTimer(std::exchange(transfer->timer, rt::TimerId::kNone));
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
  if (status.state == TransferState::kFailed) {
    seats_[transfer->next_transport]->counters.failed.fetch_add(1, std::memory_order_relaxed);
  }
  Drop(*transfer);
  {
    rt::MutexLock lock(mutex_);
    ended_.transfers_failed += status.state == TransferState::kFailed ? 1 : 0;
    ended_.transfers_cancelled += status.state == TransferState::kCancelled ? 1 : 0;
    transfer->status = std::move(status);
    if (transfer->released) {
      transfers_.erase(transfer->id);
    }
  }
  Wake();
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

bool TransferAgent::Notified(AgentId from, std::string_view bytes) {
  rt::MutexLock lock(mutex_);
  if (notifications_.size() >= options_.notifications_max) {
    return false;
  }
  notifications_.push_back({.from = from, .bytes = std::string(bytes)});
  notifications_count_.store(notifications_.size(), std::memory_order_release);
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
  for (std::size_t i = 0; i < transports_.size(); ++i) {
    if (transports_[i]->TakeNotification(out)) {
      seats_[i]->counters.notifications_received.fetch_add(1, std::memory_order_relaxed);
      return true;
    }
  }
  return false;
}

}  // namespace pixii::transport
