// Drafts with a small model of the same vocabulary: it reads what the sequence has and goes on
// alone.
//
// Thread: the engine thread.
// Guesses are drawn like the request's own tokens: same parameters, same random number of the same
// position. So where both models nearly agree they also draw the same token.
// Its KV cache is its own; what does not fit is forgotten, the longest unused first, and read
// again.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "engine/draft_cache.h"
#include "engine/drafter.h"
#include "engine/executor.h"
#include "engine/sampler.h"
#include "kernels/step.h"

namespace pixii::engine {

class DraftModel final : public Drafter {
 public:
  /// `executor` runs the small model. Errors: kInvalidArgument unless its vocabulary has
  /// `vocab_size` tokens.
  static Result<std::unique_ptr<DraftModel>> Create(std::unique_ptr<StepExecutor> executor,
                                                    std::uint32_t vocab_size);

  /// Sequences with more tokens than one step of the small model takes get guesses once it has read
  /// them, some calls later.
  void Draft(std::span<DraftRequest> requests) override;

  void Forget(DraftKey key) override { cache_.Forget(key); }

  Result<void> Release(const MemoryParts& parts) override;

  Result<void> Restore(const MemoryParts& parts) override { return executor_->Restore(parts); }

  /// Steps that the small model failed: nothing was guessed then.
  std::uint64_t fault_count() const { return fault_count_; }

 private:
  struct Memory : DraftMemory {
    std::vector<TokenId> read;  // tokens whose K and V are in the blocks

    void Clear() { read.clear(); }
  };

  /// One request on its way through a call.
  struct Job {
    DraftRequest* request = nullptr;
    Memory* memory = nullptr;
    std::vector<TokenId> generated;  // with the guesses so far
    std::uint32_t unread = 0;        // tokens of the sequence that the next step reads
    bool guesses = false;            // and whether it reaches the last one
  };

  explicit DraftModel(std::unique_ptr<StepExecutor> executor);

  void Start(DraftRequest& request);
  bool RunStep();
  void AddChunk(Job& job);
  void TakeGuess(Job& job, std::span<float> row);

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
