// What moves the bytes of an agent: a transport listens and makes links; a link runs transfers to
// one peer. Private to this folder: users see transport/agent.h.
//
// Thread: the agent's loop, but for what says "any".
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "rt/function.h"
#include "rt/loop.h"
#include "rt/thread.h"
#include "transport/agent.h"
#include "transport/region_table.h"

namespace pixii::transport {

class Link;

/// One pair of descriptors, the local one resolved.
struct Pair {
  std::byte* local = nullptr;
  Descriptor remote;
};

/// One Post. Shared by the agent and the link that runs it.
struct Transfer {
  TransferId id{};
  PeerId peer{};
  Operation operation = Operation::kRead;
  std::vector<Pair> pairs;
  std::uint64_t size_bytes = 0;  // of all pairs
  std::optional<std::string> notification;
  rt::Time deadline = rt::kNever;
  std::vector<const Region*> held;  // regions of local memory, one use each
  /// Where set, its end is told here and to nobody else.
  rt::Function<void(Result<void>)> instead;

  // Of the loop.
  Link* link = nullptr;            // that runs it
  std::size_t next_transport = 0;  // of the agent's, to be tried
  rt::TimerId timer = rt::TimerId::kNone;
  std::optional<Code> cut;  // why it was told to end

  // Of the agent's mutex.
  TransferStatus status;
  bool queued = false;  // to the loop; before that the posting thread has it
  bool released = false;
};

using TransferPtr = std::shared_ptr<Transfer>;

/// Of one transport of an agent; counted by both, read by anybody.
struct SharedCounters {
  std::atomic<std::uint64_t> read_bytes{0};
  std::atomic<std::uint64_t> written_bytes{0};
  std::atomic<std::uint64_t> served_bytes{0};
  std::atomic<std::uint64_t> taken_bytes{0};
  std::atomic<std::uint64_t> notifications_sent{0};
  std::atomic<std::uint64_t> notifications_received{0};
  std::atomic<std::uint64_t> connections{0};
  std::atomic<std::uint64_t> strangers_refused{0};
  std::atomic<std::uint64_t> frames_malformed{0};
  std::atomic<std::uint64_t> checksums_wrong{0};
  std::atomic<std::uint64_t> stale_refused{0};
  std::atomic<std::uint64_t> reads_done{0};
  std::atomic<std::uint64_t> writes_done{0};
  std::atomic<std::uint64_t> failed{0};
  std::atomic<std::uint64_t> fallbacks{0};
};

/// What a transport has of its agent, any thread but for what the loop owns. Outlives it.
class AgentContext {
 public:
  AgentContext(rt::Loop& loop_in, AgentId id_in, RegionTable& regions_in)
      : loop(loop_in), id(id_in), regions(regions_in) {}

  virtual ~AgentContext() = default;

  AgentContext(const AgentContext&) = delete;
  AgentContext& operator=(const AgentContext&) = delete;

  /// Any thread. False: too many wait already, this one is dropped.
  virtual bool Notified(AgentId from, std::string_view bytes) = 0;
  /// Any thread: TakeNotification may give something.
  virtual void Wake() = 0;
  /// On the loop, once for each Start: nothing touches the transfer's memory any more.
  virtual void Ended(const TransferPtr& transfer, Result<void> result) = 0;

  /// A link to `peer` is there, or is no more, or cannot be made: `error`. For people.
  virtual void LinkChanged(AgentId peer, std::string_view transport, const Error* error) = 0;

  rt::Loop& loop;
  const AgentId id;
  RegionTable& regions;
  SharedCounters counters;  // of this transport alone
};

class Link {
 public:
  virtual ~Link() = default;

  /// Runs it, as soon as there is a connection. Ended follows, never within the call. kUnsupported:
  /// this link cannot reach that memory, another transport may; kUnavailable: no connection.
  virtual void Start(TransferPtr transfer) = 0;

  /// Ended follows, perhaps within the call, without waiting for the peer.
  virtual void Cancel(const TransferPtr& transfer) = 0;

  /// Any thread. Makes it at once, by the calling thread; nothing if that cannot be.
  virtual std::optional<Result<void>> TryNow(Transfer& /*transfer*/) { return std::nullopt; }

  /// Any thread.
  virtual Result<void> Notify(std::string_view bytes) = 0;

  /// Any thread.
  virtual PeerState state() const = 0;
  virtual std::optional<Error> error() const = 0;
};

class Transport {
 public:
  /// Ends all that runs: Ended has followed for every transfer when it returns.
  virtual ~Transport() = default;

  /// "shm", "tcp": in metadata and for people.
  virtual std::string_view name() const = 0;

  /// Where peers connect to, for their Connect; empty: they cannot.
  virtual std::string address() const = 0;

  /// Any thread. Whether a peer with this address can be meant: same host, known form.
  virtual bool Fits(std::string_view address) const = 0;

  /// A link to `peer`; connecting goes on in the background.
  virtual std::shared_ptr<Link> Connect(std::string_view address, AgentId peer) = 0;

  /// Any thread. The oldest notification of a peer that was not told to AgentContext::Notified.
  virtual bool TakeNotification(Notification& /*out*/) { return false; }

  /// A region of ours is gone, or shall go as soon as no peer may touch it.
  virtual void Forget(RegionKey /*region*/) {}
};

using TransportFactory = rt::Function<Result<std::unique_ptr<Transport>>(AgentContext& context)>;

}  // namespace pixii::transport
