// Moves bytes between the registered memory of processes: lists of descriptors are read from a peer
// or written to it, asynchronously, and a notification may follow. docs/kv_transfer.md
//
// Thread: any; calls neither block nor wait for a peer. `wake` is called on a thread of the
// agent's; not for a transfer that was done when Post returned.
//
// Memory: a region is cut into windows of equal size. A peer may touch a window only while its
// owner has it open, for the access and with the generation that the peer's descriptor names; the
// owner gives these out itself (region key, offset, size, generation: a Descriptor). A generation
// must stand for one content: whoever reuses a window opens it with another one. So what comes
// late, after a Close, changes nothing and is told to nobody as read.
//
// Source: agents, descriptor lists, posts and polls as in NVIDIA NIXL (facts only).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "rt/time.h"

namespace pixii::rt {
class MemoryFile;
}

namespace pixii::transport {

/// Drawn at random: no two regions of any agents have the same one, also after a restart.
enum class RegionKey : std::uint64_t {};
/// What Connect gave; of one agent.
enum class PeerId : std::uint32_t {};
/// What Post gave; of one agent, never used twice.
enum class TransferId : std::uint64_t {};

/// One life of an agent, drawn at random.
struct AgentId {
  std::uint64_t high = 0;
  std::uint64_t low = 0;

  friend bool operator==(const AgentId&, const AgentId&) = default;
};

enum class Access : std::uint8_t { kRead = 1, kWrite = 2, kReadWrite = 3 };

enum class Operation : std::uint8_t { kRead, kWrite };

inline constexpr std::uint32_t kDescriptorsMax = 65'536;      // of one transfer
inline constexpr std::uint32_t kNotificationBytesMax = 4096;  // of one notification
inline constexpr std::uint32_t kWindowsMax = 1U << 24U;       // of one region

/// Some windows of a region, 0 based.
struct WindowRange {
  std::uint32_t first = 0;
  std::uint32_t count = 1;
};

struct RegionOptions {
  /// Bytes of a window, for example of a KV block; the last one may be shorter. 0: the region is
  /// one window.
  std::uint64_t window_bytes = 0;
  /// Where the memory lies in it, peers of this host can map it and copy at the speed of memory.
  std::shared_ptr<const rt::MemoryFile> file;
};

/// A part of a region. Of local memory `generation` is not looked at.
struct Descriptor {
  RegionKey region{};
  std::uint64_t offset = 0;  // bytes, into the region
  std::uint64_t size_bytes = 0;
  std::uint64_t generation = 0;  // below 2^62; every window that it touches is open with this one

  friend bool operator==(const Descriptor&, const Descriptor&) = default;
};

struct TransferRequest {
  Operation operation = Operation::kRead;
  PeerId peer{};
  // Pairs of equal size, [0 .. kDescriptorsMax]. Read only during the call.
  std::span<const Descriptor> local;
  std::span<const Descriptor> remote;
  /// The peer takes it after the bytes of a write are there, or after a read has got all: then it
  /// may let its windows go. Nothing is told of a transfer that did not succeed.
  std::optional<std::string_view> notification;
  rt::Time deadline = rt::kNever;  // kNever is refused: every transfer has one
};

enum class TransferState : std::uint8_t { kInProgress, kDone, kFailed, kCancelled };

/// In every state but kInProgress nothing touches the local memory any more.
struct TransferStatus {
  TransferState state = TransferState::kInProgress;
  /// Of kFailed. kNotFound: the peer has not (or no more) opened what the descriptors name.
  /// kDisconnected, kUnavailable: the peer cannot be reached or is gone. kDataCorrupt: a checksum.
  /// kDeadlineExceeded. kForbidden, kUnauthenticated: it does not let us.
  std::optional<Error> error;
};

struct Notification {
  AgentId from;
  std::string bytes;
};

/// What a link to a peer goes over.
enum class PeerState : std::uint8_t { kConnecting, kConnected, kBroken };

struct PeerInfo {
  PeerState state = PeerState::kConnecting;
  std::string_view transport;  // "shm", "tcp", "memory"; of the link in use, or tried last
  std::optional<Error> error;  // of kBroken: the next Post tries anew
  AgentId agent = {};
};

/// What one of an agent's transports did so far.
struct TransportCounters {
  std::string_view transport;       // "shm", "tcp", ..
  std::uint64_t reads = 0;          // that were done
  std::uint64_t read_bytes = 0;     // got by them
  std::uint64_t writes = 0;         // that were done
  std::uint64_t written_bytes = 0;  // put by them
  std::uint64_t failed = 0;         // transfers, also those whose deadline passed
  std::uint64_t fallbacks = 0;      // transfers that it was to do, could not, and left to the next
  std::uint64_t served_bytes = 0;   // as AgentCounters
  std::uint64_t taken_bytes = 0;
  std::uint64_t connections = 0;  // now, both directions
  std::uint64_t strangers_refused = 0;
  std::uint64_t frames_malformed = 0;
  std::uint64_t checksums_wrong = 0;
  std::uint64_t stale_refused = 0;
};

/// What an agent did so far.
struct AgentCounters {
  std::uint64_t read_bytes = 0;     // got by our reads
  std::uint64_t written_bytes = 0;  // put by our writes
  std::uint64_t served_bytes =
      0;  // of our memory that peers read, where the agent sees it (not shm)
  std::uint64_t taken_bytes = 0;  // put into our memory by peers, likewise
  std::uint64_t transfers_done = 0;
  std::uint64_t transfers_failed = 0;
  std::uint64_t transfers_cancelled = 0;
  std::uint64_t transfers_running = 0;
  std::uint64_t notifications_sent = 0;
  std::uint64_t notifications_received = 0;
  std::uint64_t connections = 0;        // now, both directions
  std::uint64_t strangers_refused = 0;  // connections that had no cluster key, or came too late
  std::uint64_t frames_malformed = 0;   // each ended its connection
  std::uint64_t checksums_wrong = 0;
  std::uint64_t stale_refused = 0;  // pieces whose window was not open with their generation
  std::uint64_t regions = 0;
  std::uint64_t region_bytes = 0;
  std::vector<TransportCounters> transports;  // best first
};

class Agent {
 public:
  virtual ~Agent() = default;

  virtual AgentId id() const = 0;

  /// `memory` lives until Deregister has succeeded; all its windows are closed. Errors:
  /// kInvalidArgument, kResourceExhausted.
  virtual Result<RegionKey> Register(std::span<std::byte> memory, const RegionOptions& options) = 0;

  /// Closes all windows and forgets the region. Errors: as Close; then it is to be called again.
  virtual Result<void> Deregister(RegionKey region) = 0;

  /// From now on peers may touch these windows. O(count). Errors: kNotFound, kInvalidArgument.
  virtual Result<void> Open(RegionKey region, WindowRange windows, std::uint64_t generation,
                            Access access) = 0;

  /// From now on nobody touches these windows. Errors: kNotFound; kUnavailable if a peer that has
  /// them mapped stands still in the midst of a write: until a later Close succeeds they must not
  /// be used for anything else. It succeeds at the latest when that process is gone.
  virtual Result<void> Close(RegionKey region, WindowRange windows) = 0;

  /// How peers reach this agent: opaque bytes that describe themselves; no secrets.
  virtual std::string Metadata() const = 0;

  /// Makes a link to the agent of this metadata in the background; transfers may be posted at once.
  /// After a break, the next Post makes a new one. Errors: kDataCorrupt, kUnsupported (no common
  /// transport), kResourceExhausted.
  virtual Result<PeerId> Connect(std::string_view metadata) = 0;

  /// Ends the link; its transfers are cancelled.
  virtual void Disconnect(PeerId peer) = 0;

  virtual PeerInfo peer(PeerId peer) const = 0;
  /// All that are not disconnected.
  virtual std::vector<PeerInfo> peers() const = 0;

  /// Begins a transfer. Errors: kInvalidArgument naming the descriptor, kNotFound (no such region
  /// or peer), kResourceExhausted, kDeadlineExceeded.
  virtual Result<TransferId> Post(const TransferRequest& request) = 0;

  /// Failed with kNotFound if there is no such transfer (any more); one that was done when Post
  /// returned stays so.
  virtual TransferStatus Poll(TransferId id) = 0;

  /// Asks for its end; Poll tells when it is over, and how: it may still be done.
  virtual void Cancel(TransferId id) = 0;

  /// Cancels it if it runs; nobody polls it any more. Local memory stays in use until Poll would
  /// have told the end: whoever reuses it cancels and polls first.
  virtual void Release(TransferId id) = 0;

  /// A notification without a transfer. It may be lost if the peer goes. Errors: kInvalidArgument,
  /// kNotFound, kUnavailable (not connected), kResourceExhausted (the peer takes none).
  virtual Result<void> Notify(PeerId peer, std::string_view bytes) = 0;

  /// The oldest notification that nobody has taken; false if there is none.
  virtual bool TakeNotification(Notification& out) = 0;

  virtual AgentCounters counters() const = 0;
};

}  // namespace pixii::transport
