// What runs at each rank, as far as this router sent it there.
//
// Thread: a value; time is told.
// Blocks of equal prefixes at one rank count once. Source: spec/dynamo-core.md B.7.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "router/kv_index.h"
#include "router/rank.h"
#include "router/use_counts.h"
#include "rt/time.h"

namespace pixii::router {

struct LoadTrackerOptions {
  bool track_blocks = true;
  bool track_output_blocks = false;
  bool dedup_blocks = true;
  bool count_uses = false;  // of blocks, over all ranks; with dedup_blocks
  rt::Duration expiry = std::chrono::seconds(300);
};

struct RankLoad {
  std::uint64_t prefill_tokens = 0;  // that are not computed yet
  std::uint64_t prompt_blocks = 0;   // distinct ones
  double output_blocks = 0;
  std::uint32_t requests = 0;

  double blocks() const { return static_cast<double>(prompt_blocks) + output_blocks; }

  friend bool operator==(const RankLoad&, const RankLoad&) = default;
};

struct AddedLoad {
  std::span<const std::uint64_t> block_hashes = {};  // of the complete blocks, by their tokens
  std::uint64_t prompt_tokens = 0;
  std::uint64_t prefill_tokens = 0;  // of them, not cached at the rank
  std::uint32_t block_tokens = 1;
  std::uint32_t expected_output_tokens = 0;  // 0: nobody knows
};

class LoadTracker final {
 public:
  explicit LoadTracker(LoadTrackerOptions options);

  /// Pre: the request is not there.
  void Add(RequestId id, RankNumber rank, const AddedLoad& load, rt::Time now);

  /// Its prompt is computed. Whether that was news.
  bool OnPrefillDone(RequestId id, rt::Time now);

  /// `count` more tokens came: it lives.
  void OnTokens(RequestId id, std::uint32_t count, rt::Time now);

  /// Whoever counts them himself: one more block of its answer, as `weight` of one.
  void OnOutputBlock(RequestId id, double weight, rt::Time now);

  /// It is over. The rank it ran at, if it was there.
  std::optional<RankNumber> Remove(RequestId id);

  /// What ran there counts no more; it is returned.
  std::vector<RequestId> RemoveRank(RankNumber rank);

  /// Requests of which nothing was heard for so long are over; they are returned.
  std::vector<RequestId> Expire(rt::Time now);

  /// When Expire may have something to do.
  rt::Time next_expiry() const {
    return by_expiry_.empty() ? rt::kNever : by_expiry_.begin()->first;
  }

  const RankLoad& load(RankNumber rank) const {
    const auto index = static_cast<std::size_t>(rank);
    return index < loads_.size() ? loads_[index] : kNothing;
  }

  /// How much of a prompt each rank has in blocks of running requests (`device` of a match).
  void FindActive(std::span<const std::uint64_t> block_hashes, KvMatches& out) {
    active_.Find(block_hashes, out);
  }

  /// How many running requests use each block of a prompt, as far as anybody does.
  void FindUses(std::span<const std::uint64_t> block_hashes, std::vector<std::uint32_t>& out) const;

  bool Has(RequestId id) const { return requests_.contains(id); }

  std::size_t request_count() const { return requests_.size(); }

 private:
  struct Request {
    RankNumber rank{};
    std::vector<std::uint64_t> chains;
    std::uint64_t own_blocks = 0;  // of the prompt, that are counted but not by a hash
    std::uint64_t prefill_tokens = 0;
    std::uint64_t prompt_tokens = 0;
    std::uint64_t output_tokens = 0;
    double output_blocks = 0;
    std::uint32_t block_tokens = 1;
    std::uint32_t expected_output_tokens = 0;
    rt::Time expires{};
    std::multimap<rt::Time, RequestId>::iterator place;
  };

  RankLoad& LoadAt(RankNumber rank);
  void Prefetch(std::span<const std::uint64_t> chains, RankNumber rank) const;
  void ForgetBlocks(const Request& request);
  void Lives(Request& request, rt::Time now) const;

  static constexpr RankLoad kNothing{};

  LoadTrackerOptions options_;
  std::vector<RankLoad> loads_;  // by rank number; apart, since each decision reads all
  UseCounts uses_;               // of chains at a rank, by requests
  UseCounts all_uses_;           // of chains at all ranks, with count_uses
  std::unordered_map<RequestId, Request> requests_;
  std::multimap<rt::Time, RequestId> by_expiry_;  // later than this nothing is looked at
  KvIndex active_;                                // of each rank, the blocks in use
};

}  // namespace pixii::router
