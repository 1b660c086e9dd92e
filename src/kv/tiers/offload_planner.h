// Which blocks go down to a slower tier, in which order, and when no more may.
//
// Thread: one owner (the engine thread). No clock, no I/O.
// A block's frequency starts at 1, doubles each time that a request comes that begins with it, and
// falls by 1 with each Decay. Source: spec/dynamo-core.md E.3.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <unordered_map>

#include "base/hash.h"

namespace pixii::kv {

class OffloadFilter final {
 public:
  /// Remembers `blocks_max` blocks; of more, all are halved until some are forgotten.
  explicit OffloadFilter(std::uint32_t blocks_max);

  /// A block was computed: 1, unless it was known.
  void Seen(const Hash128& hash);
  /// A request begins with it: doubled, if it was known.
  void Hit(const Hash128& hash);
  void Decay();

  std::uint32_t frequency(const Hash128& hash) const;

  std::size_t size() const { return counts_.size(); }

 private:
  static constexpr std::uint32_t kFrequencyMax = 1U << 20;

  template <class Fn>
  void Lower(const Fn& lowered);

  std::uint32_t blocks_max_;
  std::unordered_map<Hash128, std::uint32_t, Hash128Hasher> counts_;
};

struct OffloadPlannerOptions {
  std::uint32_t frequency_min = 2;        // of a block that goes down; 0: all do
  std::uint32_t batch_blocks = 16;        // handed to a tier at a time
  std::uint32_t queue_blocks_max = 4096;  // that wait; of more, the last in order are forgotten
  std::uint64_t bytes_in_flight_max = 256ULL << 20;  // on their way down
  std::uint64_t block_bytes = 0;
};

/// One way down, for example from host memory to disk.
class OffloadPlanner final {
 public:
  explicit OffloadPlanner(const OffloadPlannerOptions& options) : options_(options) {}

  /// Whether a block of this frequency is worth it.
  bool Wants(std::uint32_t frequency) const { return frequency >= options_.frequency_min; }

  /// It wants to go down. No effect if it waits or is on its way. False: the queue is full of
  /// blocks that come before it.
  bool Offer(const Hash128& hash, std::int32_t priority);

  /// The next of those that wait: highest priority first, then in the order they came. Nothing if
  /// none waits, or while as many bytes are on their way as may.
  std::optional<Hash128> Next();
  /// What Next gave has arrived or has failed.
  void Done(const Hash128& hash);

  std::uint32_t batch_blocks() const { return options_.batch_blocks; }

  /// Next would give nothing whatever waits.
  bool full() const {
    return (moving_.size() + 1) * options_.block_bytes > options_.bytes_in_flight_max &&
           !moving_.empty();
  }

  std::size_t waiting() const { return queue_.size(); }

  std::size_t moving() const { return moving_.size(); }

 private:
  struct Waiting {
    std::int64_t rank = 0;  // minus priority
    std::uint64_t order = 0;
    Hash128 hash;

    friend auto operator<=>(const Waiting&, const Waiting&) = default;
  };

  OffloadPlannerOptions options_;
  std::set<Waiting> queue_;
  std::set<Hash128> known_;  // waiting
  std::set<Hash128> moving_;
  std::uint64_t offers_ = 0;
};

}  // namespace pixii::kv
