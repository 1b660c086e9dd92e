// Runs a few sequences on a model with a KV cache of its own: what checks and benches need of an
// engine.
//
// Thread: one caller. Blocks are handed out in a shuffled order, so that a wrong block table shows.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "model/language_model.h"
#include "model/sequence_media.h"

namespace pixii::model {

/// Tokens of one sequence and how far they are in the cache.
struct RunnerSequence {
  std::vector<std::int32_t> tokens;
  std::int32_t done = 0;  // tokens whose K and V are stored
  std::vector<std::int32_t> blocks = {};
  std::vector<std::int32_t> token_types = {};  // of an encoder; empty: all 0
  std::int32_t adapter_slot = -1;              // of the model's, -1: none
  const SequenceMedia* media = nullptr;        // null: text alone
};

/// The next `count` tokens of `sequence` take part in a step.
struct RunnerChunk {
  RunnerSequence* sequence = nullptr;
  std::int32_t count = 0;
};

class PagedRunner final {
 public:
  struct Options {
    std::int32_t block_tokens = 16;
    std::int32_t block_count = 64;
    kernels::KvDType kv_dtype = kernels::KvDType::kF32;
    std::uint64_t seed = 1;
  };

  /// `model` and `operators` outlive the runner. Errors: kResourceExhausted.
  static Result<PagedRunner> Create(LanguageModel& model, kernels::Operators& operators,
                                    const Options& options);

  /// One step. Returns every row that the model gives, in order of `chunks`: [sum of counts,
  /// row_size]; of an encoder with classes one row a text.
  /// Errors: those of Forward; kResourceExhausted if no block is free.
  Result<std::vector<float>> Step(std::span<const RunnerChunk> chunks,
                                  const HiddenObserver* observer = nullptr);

  /// Gives a sequence's blocks back.
  void Release(RunnerSequence& sequence);

 private:
  PagedRunner(LanguageModel& model, const Options& options) : model_(model), options_(options) {}

  LanguageModel& model_;
  Options options_;
  kernels::KvCache cache_;
  std::vector<std::int32_t> free_blocks_;
};

/// Index of the largest value; the first of equals.
std::int32_t ArgMax(std::span<const float> logits);

}  // namespace pixii::model
