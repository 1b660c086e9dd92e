#include "transport/memory_transport.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "rt/thread.h"
#include "transport/link_list.h"

namespace pixii::transport {

namespace {

std::pair<std::uint64_t, std::uint64_t> KeyOf(AgentId id) { return {id.high, id.low}; }

Error Gone() { return Error(Code::kDisconnected, "the peer is gone"); }

}  // namespace

struct MemoryExchange::Members {
  // Held while bytes are copied, so that nobody leaves meanwhile.
  rt::Mutex mutex;
  std::map<std::pair<std::uint64_t, std::uint64_t>, AgentContext*> agents PX_GUARDED_BY(mutex);
};

class MemoryLink final : public Link, public std::enable_shared_from_this<MemoryLink> {
 public:
  MemoryLink(MemoryExchange& exchange, AgentContext& own, AgentId peer)
      : exchange_(exchange), own_(own), peer_(peer) {
    // The peer's Close waits for our writes.
    rt::MutexLock lock(exchange_.members_->mutex);
    const auto found = exchange_.members_->agents.find(KeyOf(peer_));
    if (found != exchange_.members_->agents.end()) {
      found->second->regions.AddLane(lane_);
    }
  }

  ~MemoryLink() override { Leave(); }

  void Start(TransferPtr transfer) override {
    const MemoryTransportOptions& options = exchange_.options_;
    rt::Time start = std::max(own_.loop.Now(), free_at_);
    if (options.bytes_per_s_max > 0) {
      start +=
          rt::Duration(static_cast<std::int64_t>(static_cast<double>(transfer->size_bytes) * 1e9 /
                                                 static_cast<double>(options.bytes_per_s_max)));
    }
    free_at_ = start;
    running_.push_back(transfer);
    own_.loop.RunAt(start + options.latency,
                    [link = weak_from_this(), transfer = std::move(transfer)] {
                      if (const std::shared_ptr<MemoryLink> self = link.lock()) {
                        self->Move(transfer);
                      }
                    });
  }

  void Cancel(const TransferPtr& transfer) override {
    if (std::erase(running_, transfer) > 0) {
      own_.Ended(transfer, Fail(Code::kCancelled, "cancelled"));
    }
  }

  Result<void> Notify(std::string_view bytes) override {
    rt::MutexLock lock(exchange_.members_->mutex);
    const auto found = exchange_.members_->agents.find(KeyOf(peer_));
    if (found == exchange_.members_->agents.end()) {
      return Fail(Gone());
    }
    own_.counters.notifications_sent.fetch_add(1, std::memory_order_relaxed);
    if (!found->second->Notified(own_.id, bytes)) {
      return Fail(Code::kResourceExhausted, "the peer takes no notification");
    }
    found->second->Wake();
    return {};
  }

  PeerState state() const override { return PeerState::kConnected; }

  std::optional<Error> error() const override { return std::nullopt; }

  /// Whatever still runs ends.
  void End() {
    for (const TransferPtr& transfer : std::exchange(running_, {})) {
      own_.Ended(transfer, Fail(Code::kCancelled, "the agent ends"));
    }
    Leave();
  }

 private:
  /// The peer's Close waits for us no more. After End() the exchange may be gone.
  void Leave() {
    if (std::exchange(left_, true)) {
      return;
    }
    rt::MutexLock lock(exchange_.members_->mutex);
    const auto found = exchange_.members_->agents.find(KeyOf(peer_));
    if (found != exchange_.members_->agents.end()) {
      found->second->regions.RemoveLane(lane_.get());
    }
  }

  void Move(const TransferPtr& transfer) {
    if (std::erase(running_, transfer) == 0) {
      return;  // cancelled
    }
    Result<void> result = Copy(*transfer);
    if (result && transfer->notification) {
      result = Notify(*transfer->notification);
    }
    own_.Ended(transfer, std::move(result));
  }

  Result<void> Copy(Transfer& transfer) {
    rt::MutexLock lock(exchange_.members_->mutex);
    const auto found = exchange_.members_->agents.find(KeyOf(peer_));
    if (found == exchange_.members_->agents.end()) {
      return Fail(Gone());
    }
    AgentContext& other = *found->second;
    for (const Pair& pair : transfer.pairs) {
      const std::shared_ptr<const Region> region = other.regions.Find(pair.remote.region);
      const bool moved =
          region != nullptr && (transfer.operation == Operation::kRead
                                    ? CopyFrom(region->view(), pair.remote, pair.local)
                                    : CopyTo(region->view(), pair.remote, pair.local, *lane_));
      if (!moved) {
        other.counters.stale_refused.fetch_add(1, std::memory_order_relaxed);
        return Fail(
            Code::kNotFound,
            fmt::format("the peer has not opened {} bytes at {} with generation {}",
                        pair.remote.size_bytes, pair.remote.offset, pair.remote.generation));
      }
      (transfer.operation == Operation::kRead ? other.counters.served_bytes
                                              : other.counters.taken_bytes)
          .fetch_add(pair.remote.size_bytes, std::memory_order_relaxed);
    }
    return {};
  }

  friend class MemoryTransport;

  MemoryExchange& exchange_;
  AgentContext& own_;
  AgentId peer_;
  std::shared_ptr<WriteLane> lane_ = std::make_shared<WriteLane>();
  bool left_ = false;
  rt::Time free_at_ = rt::Time::min();
  std::vector<TransferPtr> running_;
};

class MemoryTransport final : public Transport {
 public:
  MemoryTransport(MemoryExchange& exchange, AgentContext& context)
      : exchange_(exchange), context_(context) {
    rt::MutexLock lock(exchange_.members_->mutex);
    exchange_.members_->agents.emplace(KeyOf(context.id), &context);
  }

  ~MemoryTransport() override {
    {
      rt::MutexLock lock(exchange_.members_->mutex);
      exchange_.members_->agents.erase(KeyOf(context_.id));
    }
    links_.ForEach([](MemoryLink& link) { link.End(); });
  }

  std::string_view name() const override { return "memory"; }

  std::string address() const override { return fmt::format("{}", fmt::ptr(&exchange_)); }

  bool Fits(std::string_view other) const override { return other == address(); }

  std::shared_ptr<Link> Connect(std::string_view /*address*/, AgentId peer) override {
    auto link = std::make_shared<MemoryLink>(exchange_, context_, peer);
    links_.Add(link);
    return link;
  }

 private:
  MemoryExchange& exchange_;
  AgentContext& context_;
  LinkList<MemoryLink> links_;
};

MemoryExchange::MemoryExchange(MemoryTransportOptions options)
    : options_(options), members_(std::make_unique<Members>()) {}

MemoryExchange::~MemoryExchange() = default;

TransportFactory MemoryExchange::factory() {
  return [this](AgentContext& context) -> Result<std::unique_ptr<Transport>> {
    return std::make_unique<MemoryTransport>(*this, context);
  };
}

}  // namespace pixii::transport
