// Drafts with a head of the target: a layer that reads the target's hidden states and the tokens
// after them, and guesses on from its own.
//
// Thread: the engine thread.
// Entry i of the head's KV cache is made of the target's state of token i and of token i + 1. What
// the target does not compute, because a prefix came from its cache, the head never sees: its
// memory then begins behind the prefix, at a position 0 of its own, which rope does not mind.
// Preempted sequences keep their entries here; a gap, or entries given up for other sequences, make
// it begin anew. Guesses are drawn as DraftModel's are.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "engine/draft_cache.h"
#include "engine/drafter.h"
#include "engine/sampler.h"

namespace pixii::engine {

class DraftHead final : public Drafter {
 public:
  /// `executor` runs the head and keeps its hidden rows with the logits. Errors: kInvalidArgument
  /// unless it has `vocab_size` tokens and keeps rows.
  static Result<std::unique_ptr<DraftHead>> Create(std::unique_ptr<StepExecutor> executor,
                                                   std::uint32_t vocab_size);

  std::uint32_t hidden_size() const override { return limits_.hidden_size; }

  void Observe(std::span<const ObservedRows> observed) override;

  /// A sequence whose states have a gap up to its last token gets no guesses.
  void Draft(std::span<DraftRequest> requests) override;

  void Forget(DraftKey key) override { cache_.Forget(key); }

  Result<void> Release(const MemoryParts& parts) override;

  Result<void> Restore(const MemoryParts& parts) override { return executor_->Restore(parts); }

  /// Steps that the head failed: nothing was guessed then.
  std::uint64_t fault_count() const { return fault_count_; }

 private:
  struct Memory : DraftMemory {
    std::size_t base = 0;        // the target's position of entry 0
    std::size_t read = 0;        // entries in the blocks, of true tokens
    std::vector<float> unread;   // states behind them, [rows, hidden]
    std::vector<TokenId> after;  // [rows] the token after each

    void Clear() {
      base += read + after.size();
      read = 0;
      unread.clear();
      after.clear();
    }

    std::size_t end() const { return base + read + after.size(); }
  };

  /// One request on its way through a call.
  struct Job {
    DraftRequest* request = nullptr;
    Memory* memory = nullptr;
    std::size_t next = 0;            // entry to be made; those from memory->read on are guesses'
    std::vector<TokenId> generated;  // with the guesses so far
    std::vector<float> state;        // of the last guess
    bool goes_on = false;
  };

  explicit DraftHead(std::unique_ptr<StepExecutor> executor);

  bool Append(const ObservedRows& rows, Memory& memory);
  bool ReadAllButLast(Memory& memory);
  void MarkRead(Memory& memory, std::size_t count);
  void AddUnread(Memory& memory, std::size_t count);
  bool Start(DraftRequest& request);
  void RunRound(bool first);
  void TakeGuess(Job& job, std::span<float> logits, std::span<const float> state);
  bool Execute();

  std::unique_ptr<StepExecutor> executor_;
  ExecutorLimits limits_;
  Sampler sampler_;
  DraftCache<Memory> cache_;
  std::vector<Job> jobs_;
  std::size_t job_count_ = 0;  // of jobs_ in this call: the vectors in it are kept
  kernels::StepBatch batch_;
  std::vector<float> logits_;
  std::uint64_t call_ = 0;
  std::uint64_t fault_count_ = 0;
};

}  // namespace pixii::engine
