// Members that compute one thing together exchange data: threads of a process, or processes of a
// host. docs/subsystems/kernels.md
//
// Thread: a member is used by one thread at a time.
// All members call the same verbs in the same order with sizes that fit, as they would without
// errors: a member whose own work fails still calls, or aborts. A member that calls something else,
// ends, or does not call in time poisons the group: every call that waits and all later ones, of
// every member, fail with the same error.
// Numerics: sums are taken in a fixed tree over the members' ranks, ((0+1)+(2+3))+((4+5)+(6+7)), an
// odd one out joining at the next level; so bits depend on neither arrival nor the way data takes,
// and 1, 2, 4 and 8 members agree on sums of 8 shards (architecture.md section 6).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "rt/time.h"

namespace pixii::kernels {

class Collective {
 public:
  virtual ~Collective() = default;

  virtual std::uint32_t rank() const = 0;
  virtual std::uint32_t size() const = 0;

  // Errors of every verb: kUnavailable (a member ended, aborted or called another verb; naming it
  // and why), kDeadlineExceeded (one did not call in time). Outputs are then undefined.

  /// Returns once all members have called it.
  Result<void> Barrier();

  /// `data` of `root` in all members. Sizes are equal.
  Result<void> Broadcast(std::uint32_t root, std::span<std::byte> data);

  /// `out` [sum of the members' sizes]: everybody's `mine` in order of ranks. Sizes may differ;
  /// `out` must be as long as they are together.
  Result<void> AllGather(std::span<const std::byte> mine, std::span<std::byte> out);

  /// As AllGather where nobody knows the others' sizes: `out` becomes as long as they are together,
  /// `sizes` [size()] says whose is whose.
  Result<void> AllGatherAny(std::span<const std::byte> mine, std::vector<std::byte>& out,
                            std::vector<std::size_t>& sizes);

  /// in[r] of this member = out[this rank] of member r. Sizes that belong together are equal.
  Result<void> AllToAll(std::span<const std::span<const std::byte>> out,
                        std::span<const std::span<std::byte>> in);

  /// values[i] = sum of everybody's values[i]. Sizes are equal.
  Result<void> AllReduce(std::span<float> values);

  /// part[i] = sum of everybody's values[rank() * part.size() + i]; values [size() * part.size()].
  Result<void> ReduceScatter(std::span<const float> values, std::span<float> part);

  /// Nobody waits for this member any more: all get kUnavailable with its word.
  virtual void Abort() = 0;

 protected:
  enum class Verb : std::uint8_t {
    kBarrier,
    kBroadcast,
    kAllGather,
    kAllToAll,
    kReduceScatter,
    kAllReduce,
  };

  /// Called with bytes [offset, offset + bytes) of the `total` that member `rank` gave; every byte
  /// once, ascending, while nothing else of the group moves. False: they do not fit.
  using Take = std::function<bool(std::uint32_t rank, std::size_t total, std::size_t offset,
                                  std::span<const std::byte> bytes)>;

  /// Gives `mine` to all and takes everybody's, its own too.
  virtual Result<void> Exchange(Verb verb, std::span<const std::byte> mine, const Take& take) = 0;

 private:
  /// Values of up to this many bytes are summed by every member for itself.
  static constexpr std::size_t kSumAtOnceBytesMax = std::size_t{64} << 10U;

  Result<void> AllReduceAtOnce(std::span<float> values);

  std::vector<std::byte> outgoing_;  // of AllToAll: a table of sizes, then the data
  std::vector<float> gathered_;      // of sums: [member, part]
};

struct CollectiveOptions {
  std::uint32_t size = 2;                           // members, 1 .. kCollectiveSizeMax
  rt::Duration timeout = std::chrono::seconds(60);  // of one exchange, for the last to come
};

inline constexpr std::uint32_t kCollectiveSizeMax = 64;

/// Members for threads of this process, by rank. Data is read where it lies. A member that is
/// destroyed has ended. Errors: kInvalidArgument.
Result<std::vector<std::unique_ptr<Collective>>> MakeThreadCollective(
    const CollectiveOptions& options);

/// Member `rank` of a group of processes of one host, which meet in the file `path`, best one of
/// /dev/shm; the first to come makes it, and the last of them to come takes it away again. Returns
/// once all are there. Data passes through `window_bytes` of shared memory a member.
/// Errors: kInvalidArgument, kDeadlineExceeded if not all came, kUnavailable.
struct SharedCollectiveOptions {
  CollectiveOptions group = {};
  std::string path;
  std::uint32_t rank = 0;
  std::size_t window_bytes = std::size_t{1} << 20U;
};

Result<std::unique_ptr<Collective>> JoinSharedCollective(const SharedCollectiveOptions& options);

}  // namespace pixii::kernels
