// Runs steps on a loaded model: the KV cache and the packed step meet the weights here.
//
// Thread: the engine thread (the model's one caller).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "engine/adapter_store.h"
#include "engine/executor.h"
#include "engine/host_blocks.h"
#include "kernels/kv_cache.h"
#include "kernels/operators.h"
#include "model/language_model.h"
#include "model/lora_adapter.h"

namespace pixii::engine {

/// Whoever owns a model that can be loaded again.
class ModelReload {
 public:
  virtual ~ModelReload() = default;
  /// The model is gone.
  virtual void Unload() = 0;
  /// An equal one is here. Errors: those of loading; kDataCorrupt if it is another one now.
  virtual Result<model::LanguageModel*> Load() = 0;
};

/// Of which steps hidden_rows() are kept.
enum class KeepHidden : std::uint8_t { kNever, kAlways, kWithLogits };

struct ModelExecutorOptions {
  std::uint32_t block_tokens = 16;           // tokens of a KV block, 1 .. 512
  std::uint32_t block_count = 0;             // KV blocks, 1 .. 2^24
  std::uint32_t step_tokens_max = 2048;      // not above LoadOptions::step_tokens_max
  std::uint32_t step_logit_rows_max = 2048;  // not above LoadOptions::step_logit_rows_max; a model
                                             // that is pooled gives every row
  kernels::KvDType kv_dtype = kernels::KvDType::kBf16;
  std::uint64_t host_memory_bytes = 0;  // for blocks of preempted sequences, beside the cache
  KeepHidden keep_hidden = KeepHidden::kNever;
  /// The cache lies in a block_file(). Its pages are of 4 KiB where the system gives no huge ones
  /// to shared memory, so only where others are to read it.
  bool shared = false;
  ModelReload* reload = nullptr;  // outlives the executor; null: weights stay where they are
};

/// An adapter of the executor's model: made for its adaptable_linears().
class ModelAdapter final : public AdapterWeights {
 public:
  ModelAdapter(model::LoraAdapter adapter, std::string source)
      : adapter_(std::move(adapter)), source_(std::move(source)) {}

  std::string_view fingerprint() const override { return adapter_.fingerprint(); }

  std::string_view source() const override { return source_; }

  std::uint64_t size_bytes() const override { return adapter_.size_bytes(); }

  const model::LoraAdapter& adapter() const { return adapter_; }

 private:
  model::LoraAdapter adapter_;
  std::string source_;
};

class ModelExecutor final : public StepExecutor {
 public:
  /// `model` and `operators` (the ones it was loaded with) outlive the executor.
  /// Errors: kInvalidArgument naming the option, kResourceExhausted with the bytes asked for.
  static Result<std::unique_ptr<ModelExecutor>> Create(model::LanguageModel& model,
                                                       kernels::Operators& operators,
                                                       const ModelExecutorOptions& options);

  ExecutorLimits limits() const override { return limits_; }

  std::shared_ptr<const TextPooler> pooler() const override { return pooler_; }

  Result<void> Execute(const kernels::StepBatch& batch, std::span<float> logits) override;

  std::span<const float> hidden_rows() const override { return hidden_; }

  std::span<const std::int32_t> faulty_logit_rows() const override {
    return model_->faulty_logit_rows();
  }

  Result<void> CopyBlocks(std::span<const BlockCopy> copies) override;

  std::span<std::byte> block_bytes(std::uint32_t block) override;

  std::shared_ptr<const rt::MemoryFile> block_file() const override { return file_; }

  std::vector<std::uint32_t> block_slices() const override;
  std::optional<kv::LayoutRecord> block_layout() const override;

  /// Pre: `weights` is null or a ModelAdapter.
  Result<void> SetAdapter(std::uint32_t slot, const AdapterWeights* weights) override;

  Result<void> Release(const MemoryParts& parts) override;
  Result<void> Restore(const MemoryParts& parts) override;

 private:
  ModelExecutor(model::LanguageModel& model, kernels::Operators& operators,
                const ModelExecutorOptions& options, const ExecutorLimits& limits);

  Result<void> AllocateCache();
  Result<kernels::Buffer> CacheMemory() const;

  model::LanguageModel* model_;  // null: its weights are given back
  kernels::Operators& operators_;
  ModelReload* reload_;
  KeepHidden keep_hidden_;
  std::vector<float> hidden_;  // of the last step
  ExecutorLimits limits_;
  std::shared_ptr<const TextPooler> pooler_;
  std::shared_ptr<const rt::MemoryFile> file_;  // of the cache; null: it lies in none
  kernels::KvCache cache_;
  model::KvCuts cuts_;  // of its blocks
  HostBlocks host_;
};

/// Blocks of `block_tokens` tokens that fit `memory_bytes`, at most what `sequences` full contexts
/// need.
std::uint32_t BlocksThatFit(const model::LanguageModel& model, std::uint32_t block_tokens,
                            kernels::KvDType kv_dtype, std::uint64_t memory_bytes,
                            std::uint32_t sequences);

}  // namespace pixii::engine
