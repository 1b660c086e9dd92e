// Blocks of a drafter's own KV cache: each sequence it remembers has some; when none is free, the
// longest unused gives up its own.
//
// Thread: the engine thread. A drafter's cache is best effort: what is gone is read again, or not
// guessed from.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/checked.h"
#include "engine/drafter.h"
#include "engine/executor.h"
#include "kernels/step.h"

namespace pixii::engine {

/// What every drafter remembers of a sequence. A subclass's Clear forgets what lay in the blocks.
struct DraftMemory {
  std::vector<std::int32_t> blocks;
  std::uint64_t last_used = 0;
};

/// `Memory` is a DraftMemory with Clear().
template <class Memory>
class DraftCache final {
 public:
  explicit DraftCache(const ExecutorLimits& limits)
      : block_tokens_(limits.block_tokens), block_count_(limits.block_count) {
    Clear();
  }

  void Clear() {
    memories_.clear();
    free_blocks_.clear();
    for (std::uint32_t block = block_count_; block-- > 0;) {
      free_blocks_.push_back(static_cast<std::int32_t>(block));
    }
  }

  /// What is remembered of `key`, used in `call`: nothing of that call is given up for another.
  Memory& Use(DraftKey key, std::uint64_t call) {
    Memory& memory = memories_[key];
    memory.last_used = call;
    return memory;
  }

  /// Null: nothing.
  Memory* Find(DraftKey key) {
    const auto found = memories_.find(key);
    return found == memories_.end() ? nullptr : &found->second;
  }

  /// Blocks for `tokens` of a memory used in the call at hand. False: all that is left belongs to
  /// this call.
  bool Reserve(Memory& memory, std::size_t tokens) {
    const std::size_t wanted = CeilDiv<std::size_t>(tokens, block_tokens_);
    while (memory.blocks.size() < wanted) {
      if (free_blocks_.empty() && !EvictOldest(memory.last_used)) {
        return false;
      }
      memory.blocks.push_back(free_blocks_.back());
      free_blocks_.pop_back();
    }
    return true;
  }

  void Release(Memory& memory) {
    free_blocks_.insert(free_blocks_.end(), memory.blocks.begin(), memory.blocks.end());
    memory.blocks.clear();
    memory.Clear();
  }

  void Forget(DraftKey key) {
    const auto found = memories_.find(key);
    if (found != memories_.end()) {
      Release(found->second);
      memories_.erase(found);
    }
  }

  /// Appends positions begin to end - 1 of `memory` to `batch` as one sequence, without their
  /// tokens. Pre: they are reserved.
  void AddSequence(const Memory& memory, std::size_t begin, std::size_t end,
                   kernels::StepBatch& batch) const {
    kernels::StepSequence& sequence = batch.sequences.emplace_back();
    sequence.token_begin = static_cast<std::int32_t>(batch.positions.size());
    sequence.token_count = static_cast<std::int32_t>(end - begin);
    sequence.context_tokens = static_cast<std::int32_t>(end);
    sequence.block_begin = static_cast<std::int32_t>(batch.block_table.size());
    sequence.block_count = static_cast<std::int32_t>(CeilDiv<std::size_t>(end, block_tokens_));
    batch.block_table.insert(batch.block_table.end(), memory.blocks.begin(),
                             memory.blocks.begin() + sequence.block_count);
    for (std::size_t position = begin; position < end; ++position) {
      batch.positions.push_back(static_cast<std::int32_t>(position));
      batch.slots.push_back(memory.blocks[position / block_tokens_] *
                                static_cast<std::int32_t>(block_tokens_) +
                            static_cast<std::int32_t>(position % block_tokens_));
    }
  }

 private:
  bool EvictOldest(std::uint64_t call) {
    Memory* oldest = nullptr;
    for (auto& [key, memory] : memories_) {
      if (memory.last_used != call && !memory.blocks.empty() &&
          (oldest == nullptr || memory.last_used < oldest->last_used)) {
        oldest = &memory;
      }
    }
    if (oldest == nullptr) {
      return false;
    }
    Release(*oldest);
    return true;
  }

  std::uint32_t block_tokens_;
  std::uint32_t block_count_;
  std::unordered_map<DraftKey, Memory> memories_;
  std::vector<std::int32_t> free_blocks_;
};

}  // namespace pixii::engine
