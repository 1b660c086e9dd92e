// The agent: keeps regions, transfers and notifications, and gives each transfer to the first
// transport that reaches the peer and its memory.
//
// Thread: as Agent, any. Made and destroyed on the loop's thread, or before it runs and after it
// ended; the loop outlives it.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "obs/log.h"
#include "rt/function.h"
#include "rt/loop.h"
#include "rt/random.h"
#include "rt/thread.h"
#include "transport/agent.h"
#include "transport/link.h"
#include "transport/metadata.h"
#include "transport/region_table.h"

namespace pixii::transport {

struct AgentOptions {
  /// Called after a transfer ended and after a notification came; on the loop or another thread.
  rt::Function<void()> wake;
  std::uint32_t transfers_max = 65'536;      // that nobody released
  std::uint32_t notifications_max = 65'536;  // that nobody took; more are dropped
  obs::Log* log = nullptr;                   // outlives the agent; null: nothing is said
  /// Transfers up to this size are made by the thread that posts them, where that is possible.
  std::uint64_t inline_bytes_max = 128 * 1024;
};

class TransferAgent final : public Agent {
 public:
  /// `transports`: best first. Errors: those of the first that cannot be made.
  static Result<std::unique_ptr<TransferAgent>> Create(rt::Loop& loop, AgentOptions options,
                                                       std::vector<TransportFactory> transports);

  ~TransferAgent() override;

  AgentId id() const override { return id_; }

  Result<RegionKey> Register(std::span<std::byte> memory, const RegionOptions& options) override;
  Result<void> Deregister(RegionKey region) override;
  Result<void> Open(RegionKey region, WindowRange windows, std::uint64_t generation,
                    Access access) override;
  Result<void> Close(RegionKey region, WindowRange windows) override;
  std::string Metadata() const override;
  Result<PeerId> Connect(std::string_view metadata) override;
  void Disconnect(PeerId peer) override;
  PeerInfo peer(PeerId peer) const override;
  std::vector<PeerInfo> peers() const override;
  Result<TransferId> Post(const TransferRequest& request) override;
  TransferStatus Poll(TransferId id) override;
  void Cancel(TransferId id) override;
  void Release(TransferId id) override;
  Result<void> Notify(PeerId peer, std::string_view bytes) override;
  bool TakeNotification(Notification& out) override;
  AgentCounters counters() const override;

 private:
  struct Peer {
    AgentMetadata metadata;
    // One for each of transports_; empty where that does not fit or was not tried yet.
    std::vector<std::shared_ptr<Link>> links;
    std::vector<std::string> addresses;  // likewise; empty: does not fit
    std::vector<rt::Time> avoided;       // likewise: until when others are taken before it
    std::size_t used = 0;                // index of the link in use
  };

  /// What a transport has of this agent.
  class Seat;

  TransferAgent(rt::Loop& loop, AgentOptions options);

  bool Notified(AgentId from, std::string_view bytes);
  void Wake();
  void Ended(const TransferPtr& transfer, Result<void> result);
  void LinkChanged(AgentId peer, std::string_view transport, const Error* error);

  /// Resolves and checks the descriptors.
  Result<void> Resolve(const TransferRequest& request, Transfer& transfer) const;
  /// Lets its local memory go.
  void Drop(Transfer& transfer) const;
  void Count(const Transfer& transfer) const;
  PeerInfo InfoOf(const Peer& peer) const PX_REQUIRES(mutex_);
  /// On the loop: gives it to the next transport that may do it.
  void Begin(const TransferPtr& transfer);
  std::shared_ptr<Link> LinkOf(PeerId peer, std::size_t transport);
  void Cut(const TransferPtr& transfer, Code why);
  void Finish(const TransferPtr& transfer, Result<void> result);
  TransferPtr Find(TransferId id) const;
  std::size_t FirstFitting(const Peer& peer, std::size_t from) const;
  /// The best one that is not avoided now.
  std::size_t BestOf(const Peer& peer) const;
  /// Runs `fn` on the loop while this agent lives.
  void OnLoop(rt::Callback fn);

  rt::Loop& loop_;
  const AgentId id_;
  mutable RegionTable regions_;
  AgentOptions options_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // of the loop
  std::vector<std::unique_ptr<Seat>> seats_;                    // one for each of transports_
  std::vector<std::unique_ptr<Transport>> transports_;          // fixed after Create

  mutable rt::Mutex mutex_;
  std::uint64_t next_transfer_ PX_GUARDED_BY(mutex_) = 1;
  std::uint32_t next_peer_ PX_GUARDED_BY(mutex_) = 1;
  std::unordered_map<TransferId, TransferPtr> transfers_ PX_GUARDED_BY(mutex_);
  std::unordered_map<PeerId, Peer> peers_ PX_GUARDED_BY(mutex_);
  std::deque<Notification> notifications_ PX_GUARDED_BY(mutex_);
  std::atomic<std::size_t> notifications_count_{0};
  AgentCounters ended_ PX_GUARDED_BY(mutex_);  // only its transfers_failed and _cancelled
};

}  // namespace pixii::transport
