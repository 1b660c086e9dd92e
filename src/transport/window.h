// Windows of a region as every process sees them: a word each says who may touch it, and lanes say
// who is at it now.
//
// Thread: any, also of other processes: words and lanes may lie in shared memory.
// Word: generation << 2 | access, 0 while closed. Whoever writes into a window takes a lane first,
// looks at the word, writes, and leaves the lane. Whoever closes clears the word and then waits
// until each lane that was taken has been left: what is taken later sees the cleared word.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "transport/agent.h"

namespace pixii::transport {

inline constexpr std::uint64_t kGenerationMax = (std::uint64_t{1} << 62U) - 1;
/// Bytes that are moved between two looks at a word: how long a Close may have to wait.
inline constexpr std::size_t kCopyBytesMax = 256 * 1024;

using WindowWord = std::atomic<std::uint64_t>;
static_assert(WindowWord::is_always_lock_free && sizeof(WindowWord) == 8);

constexpr std::uint64_t PackWord(std::uint64_t generation, Access access) {
  return generation << 2U | static_cast<std::uint64_t>(access);
}

/// Of one thread that writes to regions of one agent.
struct alignas(64) WriteLane {
  std::atomic<std::uint64_t> turn{0};    // odd: taken
  std::atomic<std::uint64_t> region{0};  // whose memory is touched meanwhile; 0: of any
};

/// Takes a lane while it lives; a lane is of one thread at a time.
class LaneTurn final {
 public:
  LaneTurn(WriteLane& lane, RegionKey region) : lane_(lane) {
    lane_.region.store(static_cast<std::uint64_t>(region), std::memory_order_relaxed);
    turn_ = lane_.turn.fetch_add(1, std::memory_order_seq_cst) + 1;
  }

  ~LaneTurn() { lane_.turn.store(turn_ + 1, std::memory_order_release); }

  LaneTurn(const LaneTurn&) = delete;
  LaneTurn& operator=(const LaneTurn&) = delete;

 private:
  WriteLane& lane_;
  std::uint64_t turn_ = 0;
};

/// A region, ours or one that is mapped.
struct RegionView {
  RegionKey key{};
  std::span<std::byte> memory;
  std::uint64_t window_bytes = 0;  // not 0
  std::span<const WindowWord> words;
};

/// Whether the descriptor lies in the region and every window that it touches is open for `access`
/// with its generation.
bool IsOpen(const RegionView& view, const Descriptor& descriptor, Access access);

/// Copies what `from` names to `to`, of its size. False if a window was not open all the time: then
/// `to` holds anything.
bool CopyFrom(const RegionView& view, const Descriptor& from, std::byte* to);

/// Copies `from` to what `to` names. False if a window was or got closed: then nothing was written
/// after that.
bool CopyTo(const RegionView& view, const Descriptor& to, const std::byte* from, WriteLane& lane);

}  // namespace pixii::transport
