// Fixed KV blocks of one tier: hands out, pins, evicts; owns no bytes. docs/subsystems/kv.md
//
// Thread: one owner (the engine thread).
// A block is free (content meaningless), cached (content valid, nobody uses it) or pinned (1 or
// more handles), never two of them. Cached blocks are evicted in the order in which their last pin
// went, those that somebody keeps behind all others.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace pixii::kv {

class BlockPool;

/// A block at one moment of its life: the generation is raised each time the block is handed out
/// anew, so a stale reference is seen as such.
struct BlockRef {
  BlockId id{};
  std::uint32_t generation = 0;

  friend bool operator==(const BlockRef&, const BlockRef&) = default;
};

/// One pin of one block. Knows its pool, which must live longer.
class BlockPin final {
 public:
  BlockPin() = default;

  BlockPin(BlockPin&& other) noexcept
      : home_(std::exchange(other.home_, nullptr)), ref_(other.ref_) {}

  BlockPin& operator=(BlockPin&& other) noexcept {
    if (this != &other) {
      Release();
      home_ = std::exchange(other.home_, nullptr);
      ref_ = other.ref_;
    }
    return *this;
  }

  ~BlockPin() { Release(); }

  explicit operator bool() const { return home_ != nullptr; }

  BlockId id() const { return ref_.id; }

  const BlockRef& ref() const { return ref_; }

  /// One more pin of the same block. Pre: not empty.
  BlockPin Share() const;

  /// Drops the pin; the handle is empty afterwards.
  void Release();

 private:
  friend class BlockPool;

  BlockPin(BlockPool* home, BlockRef ref) : home_(home), ref_(ref) {}

  BlockPool* home_ = nullptr;
  BlockRef ref_;
};

struct BlockPoolOptions {
  std::uint32_t block_count_max = 0;  // blocks, 1 .. 2^24
};

class BlockPool final {
 public:
  struct Acquired {
    BlockPin pin;
    bool evicted =
        false;  // the block was cached: whoever could find its old content must forget it now
  };

  /// Errors: kInvalidArgument naming the field, its value and the range.
  static Result<std::unique_ptr<BlockPool>> Create(const BlockPoolOptions& options);

  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;
  /// Asserts that no pin is left.
  ~BlockPool();

  /// A free block, or the cached block unused for longest. Nothing if all are pinned.
  std::optional<Acquired> Acquire();

  /// One more pin of a cached or pinned block. Pre: `id` is not free.
  BlockPin Pin(BlockId id);

  /// From now on the block's content is worth keeping: it becomes cached, not free, when its last
  /// pin goes. Pre: pinned.
  void Retain(BlockId id);

  /// The opposite: a cached block becomes free now, a pinned one when its last pin goes.
  void Drop(BlockId id);

  /// A cached block that is kept is evicted behind all that are not, until as many Unkeep were
  /// called or it was evicted all the same. Pre: cached or pinned.
  void Keep(BlockId id);

  /// No effect if the block was handed out, or dropped, since it was kept.
  void Unkeep(const BlockRef& ref);

  bool IsCurrent(const BlockRef& ref) const {
    return blocks_[Raw(ref.id)].generation == ref.generation;
  }

  std::uint32_t pins(BlockId id) const { return blocks_[Raw(id)].pins; }

  std::uint32_t free_count() const { return free_.count; }

  std::uint32_t cached_count() const { return cached_.count + kept_.count; }

  std::uint32_t pinned_count() const { return block_count() - free_.count - cached_count(); }

  std::uint32_t block_count() const { return static_cast<std::uint32_t>(blocks_.size()); }

  /// Walks every block and list and asserts what the comment at the top says. O(block_count).
  void CheckInvariants() const;

 private:
  friend class BlockPin;

  static constexpr std::uint32_t kNone = ~0U;

  enum class State : std::uint8_t { kFree, kCached, kPinned };

  struct Block {
    std::uint32_t generation = 0;
    std::uint32_t pins = 0;
    std::uint32_t previous = kNone;  // in the list of its state
    std::uint32_t next = kNone;
    std::uint32_t keeps = 0;
    State state = State::kFree;
    bool retained = false;
  };

  struct List {
    std::uint32_t head = kNone;  // next to be handed out
    std::uint32_t tail = kNone;
    std::uint32_t count = 0;
  };

  explicit BlockPool(std::uint32_t block_count);

  void Append(List& list, std::uint32_t index);
  void Prepend(List& list, std::uint32_t index);
  void Unlink(List& list, std::uint32_t index);
  void Unpin(const BlockRef& ref);
  void CheckList(const List& list, State state) const;

  List& CachedListOf(const Block& block) { return block.keeps > 0 ? kept_ : cached_; }

  std::vector<Block> blocks_;
  List free_;
  List cached_;  // that nobody keeps
  List kept_;    // cached, too
};

}  // namespace pixii::kv
