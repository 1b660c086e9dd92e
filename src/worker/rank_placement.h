// Which data-parallel rank of a worker a request goes to.
//
// Thread: a value; decides and does nothing. docs/subsystems/worker.md
// A request names a rank and waits for it (strict), waits so long and then goes anywhere (relaxed),
// or names none: then it goes to the rank of its session, or to the one that has least to do.
// Source: spec/trtllm-backend.md 8 (attention_dp_rank and _relax; conversation affinity).
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "rt/time.h"

namespace pixii::worker {

struct RankPlacementOptions {
  std::uint32_t rank_count = 1;
  std::uint32_t rank_places = 1;        // sequences of a step: a rank that has as many is saturated
  bool session_affinity = false;        // requests of a session stay at one rank
  bool session_first = true;            // the session's rank wins over the one that is named
  std::uint32_t sessions_max = 65'536;  // the least recently used is forgotten
};

class RankPlacement final {
 public:
  struct Wish {
    std::optional<std::uint32_t> rank;
    std::optional<rt::Duration> wait;  // for a place at it; nothing: for ever
    std::string_view session;
    std::uint32_t sequences = 1;
  };

  struct Decision {
    enum class Kind : std::uint8_t {
      kGo,      // to `rank`
      kWait,    // for a place at the rank named
      kNobody,  // every rank is dead
    };

    Kind kind = Kind::kNobody;
    std::uint32_t rank = 0;
  };

  explicit RankPlacement(const RankPlacementOptions& options)
      : options_(options), ranks_(options.rank_count) {}

  /// Of a request that has waited for `waited` so far. A rank that does not exist, or is dead, is
  /// as good as none.
  Decision Place(const Wish& wish, rt::Duration waited);

  bool exists(std::uint32_t rank) const { return rank < ranks_.size(); }

  /// `sequences` went to `rank`, or ended there.
  void Take(std::uint32_t rank, std::uint32_t sequences) { ranks_[rank].sequences += sequences; }

  void Free(std::uint32_t rank, std::uint32_t sequences) { ranks_[rank].sequences -= sequences; }

  /// Nothing goes there any more.
  void MarkDead(std::uint32_t rank) { ranks_[rank].dead = true; }

  bool dead(std::uint32_t rank) const { return ranks_[rank].dead; }

  bool saturated(std::uint32_t rank, std::uint32_t sequences) const {
    return ranks_[rank].sequences + sequences > options_.rank_places;
  }

  std::size_t session_count() const { return sessions_.size(); }

 private:
  struct Rank {
    std::uint32_t sequences = 0;
    bool dead = false;
  };

  using Session = std::pair<std::string, std::uint32_t>;  // and its rank

  std::optional<std::uint32_t> LeastBusy();
  Decision OfSession(std::string_view session);

  RankPlacementOptions options_;
  std::vector<Rank> ranks_;
  std::uint32_t last_ = 0;     // that a request went to for want of a wish: equals take turns
  std::list<Session> by_use_;  // most recent first
  std::unordered_map<std::string_view, std::list<Session>::iterator> sessions_;
};

}  // namespace pixii::worker
