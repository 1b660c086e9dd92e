// A hand-over of KV blocks from the worker that computed them to one that goes on with them: what
// either side does next.
//
// Thread: values; they decide and do nothing. docs/kv_transfer.md
// OFFERED -> CLAIMED -> MOVING -> DONE, FAILED, EXPIRED or CANCELLED. Blocks stay pinned, and at
// their side readable, from OFFERED to the end, which always comes: each side has a deadline of its
// own, and neither waits for the other to reach its end.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/hash.h"
#include "base/result.h"
#include "kv/connector.h"
#include "rt/time.h"

namespace pixii::kv {

enum class HandoverState : std::uint8_t {
  kOffered,  // blocks are kept for whoever has the record
  kClaimed,  // somebody is about to read
  kMoving,   // bytes are under way; the side that offers does not see this
  kDone,
  kFailed,
  kExpired,
  kCancelled,
};

inline constexpr std::size_t kHandoverStateCount = 7;

inline bool IsEnd(HandoverState state) { return state >= HandoverState::kDone; }

/// In metrics.
const char* NameOf(HandoverState state);

/// The side that has computed: which blocks it keeps, and until when.
class OfferTable final {
 public:
  struct End {
    Hash128 transfer;
    HandoverState state{};
  };

  explicit OfferTable(std::uint32_t offers_max) : offers_max_(offers_max) {}

  /// False: too many are kept already.
  bool Offer(const Hash128& transfer, rt::Time lease_ends);

  /// Pre: it is kept.
  void Renew(const Hash128& transfer, rt::Time lease_ends);

  void OnClaim(const Hash128& transfer);
  /// Who read it has what it wanted, or gave up.
  void OnRelease(const Hash128& transfer, bool done);
  /// Nobody wants it any more, as its own side knows.
  void Cancel(const Hash128& transfer);
  void OnTime(rt::Time now);
  /// Ends the lease that would end first of those that nobody has claimed, but for `newest`'s.
  /// False: there is none.
  bool ExpireOne(const Hash128& newest);

  /// Those that have ended since the last call, each once: nothing is kept for them any more.
  std::vector<End> TakeEnded() { return std::exchange(ended_, {}); }

  /// When OnTime has something to do.
  rt::Time next_time() const { return leases_.empty() ? rt::kNever : leases_.begin()->first; }

  std::size_t size() const { return offers_.size(); }

 private:
  struct One {
    HandoverState state = HandoverState::kOffered;
    std::multimap<rt::Time, Hash128>::iterator lease;
  };

  void Finish(const Hash128& transfer, HandoverState state);

  std::uint32_t offers_max_;
  std::unordered_map<Hash128, One, Hash128Hasher> offers_;
  std::multimap<rt::Time, Hash128> leases_;
  std::vector<End> ended_;
};

struct FetchOptions {
  std::uint32_t chunk_blocks = 64;     // of one transfer
  std::uint32_t chunks_running = 4;    // of one load at a time
  std::uint32_t chunks_together = 16;  // of all loads at a time
};

/// The side that goes on: loads, cut into chunks that move under credits. Loads take turns, so that
/// a slow one delays no other for longer than a chunk.
class FetchTable final {
 public:
  struct Action {
    enum class Kind : std::uint8_t {
      kPost,    // blocks first .. first + count of the load's targets
      kCancel,  // every transfer of the load that runs
      kEnd,     // none runs: its first `count` targets are proven
    };

    Kind kind{};
    LoadId load{};
    std::uint32_t first = 0;
    std::uint32_t count = 0;
    HandoverState state{};       // with kEnd
    std::optional<Error> error;  // likewise
  };

  explicit FetchTable(FetchOptions options) : options_(options) {}

  struct Size {
    std::uint32_t block_count = 0;
    std::uint32_t available = 0;  // the first so many can be had now
  };

  /// Pre: block_count > 0; `load` is new.
  void Begin(LoadId load, Size size, rt::Time deadline);

  /// More can be had now, in all `available`. No effect after its end.
  void OnMore(LoadId load, std::uint32_t available, rt::Time deadline);

  /// It ends with `error`: nothing more comes.
  void Fail(LoadId load, Error error);

  /// A transfer that was posted from `first` on has ended: `proven` of its blocks, without a gap,
  /// are what they should be. Nothing touches them any more.
  void OnChunk(LoadId load, std::uint32_t first, std::uint32_t proven,
               const std::optional<Error>& error);
  void Cancel(LoadId load);
  void OnTime(rt::Time now);

  /// What is to be done, in order, until there is nothing.
  std::vector<Action> TakeActions();

  rt::Time next_time() const;

  HandoverState state(LoadId load) const { return loads_.at(load).state; }

  std::size_t size() const { return loads_.size(); }

  std::uint32_t chunks_running() const { return running_; }

 private:
  struct One {
    std::uint32_t block_count = 0;
    std::uint32_t available = 0;
    std::uint32_t posted = 0;  // blocks
    rt::Time deadline{};
    std::map<std::uint32_t, std::uint32_t> running;  // first to count
    std::map<std::uint32_t, std::uint32_t> proven;   // likewise; the first begins at 0 or later
    HandoverState state = HandoverState::kClaimed;
    std::optional<Error> error;
  };

  static std::uint32_t PrefixOf(const One& one);
  void Stop(LoadId load, One& one, HandoverState state, Error error);
  void EndIfQuiet(LoadId load);

  FetchOptions options_;
  std::map<LoadId, One> loads_;
  std::deque<LoadId> turns_;  // with chunks that can be posted
  std::vector<Action> actions_;
  std::uint32_t running_ = 0;
};

}  // namespace pixii::kv
