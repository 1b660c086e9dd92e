// Routers of one pool tell each other what they sent where, so that each counts the whole load.
//
// Thread: a value; time is told. docs/subsystems/router.md, "Replicas"
// Changes are numbered. Whoever misses one, or holds something else than a digest says, asks for
// everything and has it again: messages may be lost, doubled and come in any order. Nothing here
// is needed for a request to be served; a wrong load costs a worse choice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "router/route_request.h"
#include "rt/time.h"
#include "wire/messages/route.h"

namespace pixii::router {

struct ReplicaSyncOptions {
  rt::Duration digest_period = std::chrono::milliseconds(500);
  rt::Duration ask_pause = std::chrono::milliseconds(200);  // between two questions to one peer
  /// A peer of which nothing is heard for so long sent nothing any more: its requests are over.
  rt::Duration peer_expiry = std::chrono::seconds(300);
  std::size_t loads_max = 100'000;     // of one peer; what is more does not count here
  std::size_t peers_max = 256;         // whoever is more is not heard
  std::size_t batch_changes = 256;     // of one message
  std::size_t part_hashes = 1U << 16;  // about so many block hashes in a part of a whole state
};

/// One start of one process.
enum class ReplicaId : std::uint64_t {};

class ReplicaSync final {
 public:
  /// What a peer's request is from now on, under an id of this side.
  struct Heard {
    LoadChange::Kind kind = LoadChange::Kind::kAdded;
    RequestId id{};
    Placement placement;  // kAdded only
  };

  /// Ids of peers' requests have this bit, which ids of this side's requests must not have.
  static constexpr std::uint64_t kElsewhere = std::uint64_t{1} << 63;

  /// `first_change`: number of the first; above all that this process ever told of a pool of this
  /// name.
  ReplicaSync(ReplicaSyncOptions options, ReplicaId self, wire::PoolName pool,
              std::uint64_t first_change = 0);

  /// This side's router sent something, or it ended.
  void OnOwn(const LoadChange& change);

  /// Of anybody; what is for another pool or another replica, and this side's own words, are not
  /// heard.
  void OnMessage(const wire::ReplicaMessage& message, rt::Time now);

  /// Somebody may be there who heard nothing yet.
  void DigestSoon() { digest_at_ = {}; }

  /// Moves out what is to be sent. Call after the others and at next_time().
  std::vector<wire::ReplicaMessage> TakeMessages(rt::Time now);

  /// Moves out what the router is to be told.
  std::vector<Heard> TakeHeard();

  /// Requests of peers that are heard of: they run. To be told to the router now and then.
  std::vector<RequestId> Running() const;

  rt::Time next_time() const;

  std::size_t peer_count() const { return peers_.size(); }

  /// Times that a peer was asked for everything.
  std::uint64_t ask_count() const { return ask_count_; }

 private:
  struct Load {
    RequestId id{};
    bool prefilled = false;
  };

  using Loads = std::unordered_map<std::uint64_t, Load>;  // by the peer's own id

  // All that runs, in parts that may come in any order.
  struct Whole {
    std::uint64_t next = 0;
    std::map<std::uint32_t, std::vector<wire::ReplicaLoad>> parts;
  };

  struct Peer {
    std::uint64_t next = 0;  // of the change that was not heard
    Loads loads;
    std::uint64_t checksum = 0;
    Whole whole;
    rt::Time heard{};
    rt::Time ask_after{};
    bool behind = false;
  };

  void OnChanges(Peer& peer, const wire::ReplicaMessage& message);
  void OnWhole(Peer& peer, const wire::ReplicaMessage& message);
  void OnDigest(Peer& peer, const wire::ReplicaMessage& message);
  void Add(Peer& peer, const wire::ReplicaLoad& load);
  void Apply(Peer& peer, const wire::ReplicaChange& change);
  void Free(Peer& peer, Loads::iterator load);
  void SendWhole(ReplicaId to, std::vector<wire::ReplicaMessage>& out) const;
  wire::ReplicaMessage Make(wire::ReplicaMessage::Kind kind, ReplicaId to = {}) const;

  ReplicaSyncOptions options_;
  ReplicaId self_;
  wire::PoolName pool_;
  std::map<std::uint64_t, wire::ReplicaLoad> own_;  // by request
  std::vector<wire::ReplicaChange> changes_;        // that were not sent
  std::uint64_t next_ = 0;                          // of the change behind them
  std::uint64_t checksum_ = 0;
  rt::Time digest_at_{};
  std::map<ReplicaId, Peer> peers_;
  std::vector<ReplicaId> asked_by_;
  std::vector<Heard> heard_;
  std::uint64_t last_id_ = 0;
  std::uint64_t ask_count_ = 0;
};

}  // namespace pixii::router
