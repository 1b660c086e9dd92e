// Runs another executor's steps on a thread of its own, so that the engine plans meanwhile.
//
// Thread: the engine thread; the inner executor is used on the inner thread between Begin and Wait
// and on the engine thread otherwise, never on both at a time.
#pragma once

#include <memory>
#include <span>

#include "engine/executor.h"
#include "rt/thread.h"

namespace pixii::engine {

class ThreadedExecutor final : public StepExecutor {
 public:
  explicit ThreadedExecutor(std::unique_ptr<StepExecutor> inner);
  /// Waits for a step under way.
  ~ThreadedExecutor() override;

  ExecutorLimits limits() const override { return inner_->limits(); }

  std::shared_ptr<const TextPooler> pooler() const override { return inner_->pooler(); }

  Result<void> Execute(const kernels::StepBatch& batch, std::span<float> logits) override {
    Begin(batch, logits);
    return Wait();
  }

  void Begin(const kernels::StepBatch& batch, std::span<float> logits) override;
  Result<void> Wait() override;

  bool overlaps() const override { return true; }

  std::span<const std::int32_t> faulty_logit_rows() const override {
    return inner_->faulty_logit_rows();
  }

  std::span<const float> hidden_rows() const override { return inner_->hidden_rows(); }

  Result<void> CopyBlocks(std::span<const BlockCopy> copies) override {
    return inner_->CopyBlocks(copies);
  }

  std::span<std::byte> block_bytes(std::uint32_t block) override {
    return inner_->block_bytes(block);
  }

  std::shared_ptr<const rt::MemoryFile> block_file() const override { return inner_->block_file(); }

  std::vector<std::uint32_t> block_slices() const override { return inner_->block_slices(); }

  std::optional<kv::LayoutRecord> block_layout() const override { return inner_->block_layout(); }

  Result<void> SetAdapter(std::uint32_t slot, const AdapterWeights* weights) override {
    return inner_->SetAdapter(slot, weights);
  }

  Result<void> Release(const MemoryParts& parts) override { return inner_->Release(parts); }

  Result<void> Restore(const MemoryParts& parts) override { return inner_->Restore(parts); }

  std::int64_t virtual_time_ns() const override { return inner_->virtual_time_ns(); }

 private:
  enum class State : std::uint8_t { kIdle, kBegun, kDone, kStop };

  void Run();

  std::unique_ptr<StepExecutor> inner_;
  rt::Mutex mutex_;
  rt::CondVar changed_;
  State state_ PX_GUARDED_BY(mutex_) = State::kIdle;
  const kernels::StepBatch* batch_ PX_GUARDED_BY(mutex_) = nullptr;
  std::span<float> logits_ PX_GUARDED_BY(mutex_);
  Result<void> result_ PX_GUARDED_BY(mutex_);
  rt::Thread thread_;  // last: it uses what stands above
};

}  // namespace pixii::engine
