#include "kv/block_pool.h"

#include <string>

#include "base/assert.h"

namespace pixii::kv {

namespace {
constexpr std::uint32_t kBlockCountLimit = 1U << 24;
}

BlockPin BlockPin::Share() const { return home_->Pin(ref_.id); }

void BlockPin::Release() {
  if (home_ != nullptr) {
    std::exchange(home_, nullptr)->Unpin(ref_);
  }
}

Result<std::unique_ptr<BlockPool>> BlockPool::Create(const BlockPoolOptions& options) {
  if (options.block_count_max == 0 || options.block_count_max > kBlockCountLimit) {
    return Fail(Code::kInvalidArgument,
                "block_count_max is " + std::to_string(options.block_count_max) +
                    "; allowed is 1 to " + std::to_string(kBlockCountLimit),
                "block_count_max");
  }
  auto* pool = new BlockPool(options.block_count_max);  // tidy: new private constructor
  return std::unique_ptr<BlockPool>(pool);
}

BlockPool::BlockPool(std::uint32_t block_count) : blocks_(block_count) {
  for (std::uint32_t i = 0; i < block_count; ++i) {
    Append(free_, i);
  }
}

BlockPool::~BlockPool() { PX_ASSERT(pinned_count() == 0); }

std::optional<BlockPool::Acquired> BlockPool::Acquire() {
  bool evict = free_.count == 0;
  List& from = !evict ? free_ : cached_.count > 0 ? cached_ : kept_;
  if (from.count == 0) {
    return std::nullopt;
  }
  std::uint32_t index = from.head;
  Unlink(from, index);
  Block& block = blocks_[index];
  ++block.generation;
  block.pins = 1;
  block.keeps = 0;
  block.state = State::kPinned;
  block.retained = false;
  return Acquired{BlockPin(this, BlockRef{BlockId{index}, block.generation}), evict};
}

BlockPin BlockPool::Pin(BlockId id) {
  Block& block = blocks_[Raw(id)];
  PX_ASSERT(block.state != State::kFree);
  if (block.state == State::kCached) {
    Unlink(CachedListOf(block), Raw(id));
    block.state = State::kPinned;
  }
  ++block.pins;
  return BlockPin(this, BlockRef{id, block.generation});
}

void BlockPool::Retain(BlockId id) {
  Block& block = blocks_[Raw(id)];
  PX_ASSERT(block.state == State::kPinned);
  block.retained = true;
}

void BlockPool::Drop(BlockId id) {
  Block& block = blocks_[Raw(id)];
  PX_ASSERT(block.state != State::kFree);
  block.retained = false;
  if (block.state == State::kCached) {
    Unlink(CachedListOf(block), Raw(id));
    block.state = State::kFree;
    Prepend(free_, Raw(id));
  }
  block.keeps = 0;
}

void BlockPool::Keep(BlockId id) {
  Block& block = blocks_[Raw(id)];
  PX_ASSERT(block.state != State::kFree);
  if (block.state == State::kCached && block.keeps == 0) {
    Unlink(cached_, Raw(id));
    Append(kept_, Raw(id));
  }
  ++block.keeps;
}

void BlockPool::Unkeep(const BlockRef& ref) {
  Block& block = blocks_[Raw(ref.id)];
  if (!IsCurrent(ref) || block.keeps == 0) {
    return;
  }
  --block.keeps;
  if (block.state == State::kCached && block.keeps == 0) {
    Unlink(kept_, Raw(ref.id));
    Append(cached_, Raw(ref.id));
  }
}

void BlockPool::Unpin(const BlockRef& ref) {
  std::uint32_t index = Raw(ref.id);
  Block& block = blocks_[index];
  PX_ASSERT(block.state == State::kPinned && block.pins > 0 && block.generation == ref.generation);
  if (--block.pins > 0) {
    return;
  }
  if (block.retained) {
    block.state = State::kCached;
    Append(CachedListOf(block), index);
  } else {
    // Last in, first out: a block just used is still in the processor's caches.
    block.state = State::kFree;
    block.keeps = 0;
    Prepend(free_, index);
  }
}

void BlockPool::Append(List& list, std::uint32_t index) {
  Block& block = blocks_[index];
  block.previous = list.tail;
  block.next = kNone;
  (list.tail == kNone ? list.head : blocks_[list.tail].next) = index;
  list.tail = index;
  ++list.count;
}

void BlockPool::Prepend(List& list, std::uint32_t index) {
  Block& block = blocks_[index];
  block.previous = kNone;
  block.next = list.head;
  (list.head == kNone ? list.tail : blocks_[list.head].previous) = index;
  list.head = index;
  ++list.count;
}

void BlockPool::Unlink(List& list, std::uint32_t index) {
  Block& block = blocks_[index];
  (block.previous == kNone ? list.head : blocks_[block.previous].next) = block.next;
  (block.next == kNone ? list.tail : blocks_[block.next].previous) = block.previous;
  block.previous = kNone;
  block.next = kNone;
  --list.count;
}

void BlockPool::CheckList(const List& list, State state) const {
  std::uint32_t count = 0;
  std::uint32_t previous = kNone;
  for (std::uint32_t i = list.head; i != kNone; i = blocks_[i].next) {
    PX_ASSERT(blocks_[i].state == state && blocks_[i].previous == previous && blocks_[i].pins == 0);
    previous = i;
    ++count;
    PX_ASSERT(count <= list.count);
  }
  PX_ASSERT(list.tail == previous && count == list.count);
}

void BlockPool::CheckInvariants() const {
  CheckList(free_, State::kFree);
  CheckList(cached_, State::kCached);
  CheckList(kept_, State::kCached);
  std::uint32_t pinned = 0;
  for (const Block& block : blocks_) {
    PX_ASSERT((block.state == State::kPinned) == (block.pins > 0));
    PX_ASSERT(block.state != State::kCached || block.retained);
    PX_ASSERT(block.state != State::kFree || (!block.retained && block.keeps == 0));
    pinned += block.state == State::kPinned ? 1 : 0;
  }
  PX_ASSERT(pinned == pinned_count());
}

}  // namespace pixii::kv
