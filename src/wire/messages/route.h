// What frontends ask a router of another process, and what routers tell each other of their loads.
//
// Thread: values. docs/formats/messages.md
// A prompt travels as the public hashes of its blocks (wire/public_hash.h): an eighth of its bytes,
// and nothing of its text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "wire/messages/routing.h"

namespace pixii::wire {

/// Which of a router's pools is meant: workers among which a request may be sent anywhere.
struct PoolName {
  std::string model;
  std::string group;
  std::uint32_t block_tokens = 0;
};

/// A request as a router sees it. The id is of whoever asks and unique among what it has running.
struct RouteAsk : RouteWishes {
  std::uint64_t id = 0;
  std::vector<std::uint64_t> block_hashes;  // of the complete blocks, by their tokens
  std::uint64_t prompt_tokens = 0;
  std::optional<std::uint64_t> pinned;
  std::optional<std::uint32_t> rank;
  std::vector<std::uint64_t> excluded;
  std::string session;
  double priority_jump_s = 0;
};

/// What became of a request since it was asked for.
struct RouteNews {
  enum class Kind : std::uint8_t {
    kFirstToken,  // its prompt is computed
    kTokens,      // `count` more came; 0: it still runs
    kEnded,       // or nobody wants it any more
  };

  std::uint64_t id = 0;
  Kind kind = Kind::kFirstToken;
  std::uint32_t count = 0;
};

/// A request that runs where the router did not send it.
struct RoutePlaced {
  RouteAsk ask;
  std::uint64_t instance = 0;
  std::uint32_t rank = 0;
  std::uint64_t prefill_tokens = 0;  // that are not computed yet
};

/// One message of a caller of `route`: the first one names the pool.
struct RouteBatch {
  std::optional<PoolName> pool;
  std::vector<RoutePlaced> placed;
  std::vector<RouteAsk> asks;
  std::vector<RouteNews> news;
};

struct RouteAnswer {
  std::uint64_t id = 0;
  bool waits = false;  // in the router's queue: another answer comes
  std::uint64_t instance = 0;
  std::uint32_t rank = 0;
  std::uint32_t overlap_tokens = 0;  // of the prompt that the worker should have cached
  std::optional<Error> error;        // in place of a worker
};

struct RouteAnswers {
  std::vector<RouteAnswer> answers;
};

// ---- routers among each other

/// A request that runs at a rank because a router sent it there.
struct ReplicaLoad {
  std::uint64_t request = 0;  // unique in its replica
  std::uint64_t instance = 0;
  std::uint32_t rank = 0;
  std::vector<std::uint64_t> block_hashes;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t prefill_tokens = 0;
  std::uint32_t expected_output_tokens = 0;
  std::string session;
};

struct ReplicaChange {
  enum class Kind : std::uint8_t {
    kAdded,
    kPrefilled,  // `load.request` alone counts
    kFreed,      // likewise
  };

  Kind kind = Kind::kAdded;
  ReplicaLoad load;
};

/// What one replica says to the others of one pool.
struct ReplicaMessage {
  enum class Kind : std::uint8_t {
    kChanges,  // those numbered first .. first + changes
    kDigest,   // `count` and `checksum` of what runs after change first - 1
    kWhole,    // a part of all that runs then, as kAdded
    kAsk,      // send that
  };

  std::uint64_t from = 0;  // of one start of one process
  std::uint64_t to = 0;    // likewise; 0: everybody
  PoolName pool;
  Kind kind = Kind::kChanges;
  std::uint64_t first = 0;
  std::vector<ReplicaChange> changes;
  std::uint64_t count = 0;
  std::uint64_t checksum = 0;
  std::uint32_t part = 0;  // of kWhole: 0 ..
  std::uint32_t part_count = 0;
};

}  // namespace pixii::wire
