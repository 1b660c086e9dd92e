// Runs an EncoderSpec: post-norm blocks of attention in both directions and a feed-forward.
//
// Thread: one caller. All tokens of a text are one chunk of one step; its K and V live in the paged
// cache for the length of a layer, so the cache has one layer and every layer writes over the last.
// Rows fp32; scratch is allocated by Create, nothing by Forward. Numerics: a row's bits depend on
// its own text alone; o and down sum K in 8 fixed shards as in a decoder.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/adapted_linear.h"
#include "model/encoder_block.h"
#include "model/encoder_spec.h"
#include "model/language_model.h"
#include "model/weights.h"

namespace pixii::model {

/// How much scratch an encoder takes, in floats.
struct EncoderWorkspacePlan {
  std::int64_t stream = 0;             // rows and delta
  std::int64_t scratch = 0;            // qkv and attention's output; then the feed-forward
  std::int64_t feed_forward_rows = 0;  // rows that the feed-forward takes at once

  std::uint64_t size_bytes() const {
    return static_cast<std::uint64_t>(stream + scratch) * sizeof(float);
  }
};

EncoderWorkspacePlan EncoderWorkspace(const EncoderSpec& spec, const LoadOptions& options);

class Encoder final : public LanguageModel {
  struct CreateOnly {};

 public:
  /// Prepares all weights. `operators` outlives the encoder. Pre: `weights` has what
  /// ExpectedTensors(encoder_spec) lists. Errors: kInvalidArgument for options out of range,
  /// kResourceExhausted.
  static Result<std::unique_ptr<LanguageModel>> Create(EncoderSpec encoder_spec, ModelSpec spec,
                                                       Weights& weights,
                                                       kernels::Operators& operators,
                                                       const LoadOptions& options);

  Encoder(CreateOnly /*unused*/, EncoderSpec encoder_spec, ModelSpec spec,
          kernels::Operators& operators, const LoadOptions& options)
      : encoder_(std::move(encoder_spec)),
        spec_(std::move(spec)),
        operators_(operators),
        options_(options),
        adapters_(operators, options.adapter_slots) {}

  const ModelSpec& spec() const override { return spec_; }

  /// One layer, fp32 whatever `dtype` says: nothing of it outlives a step.
  kernels::KvLayout MakeKvLayout(std::int32_t block_tokens, kernels::KvDType dtype) const override;

  /// `logits` are hidden states [R, hidden_size], or class logits [R, class_count] of rows that are
  /// the first of their texts. The observer gets the rows after the embeddings and after each
  /// layer.
  Result<void> Forward(const kernels::StepBatch& batch, kernels::KvCache& cache,
                       std::span<float> logits, const HiddenObserver* observer) override;

  KvCuts kv_cuts() const override {
    return {.stage_layers = {{0, 1}}, .rank_heads = {{0, encoder_.head_count}}};
  }

  std::span<const std::int32_t> faulty_logit_rows() const override { return faulty_rows_; }

  std::span<const AdaptableLinear> adaptable_linears() const override {
    return adapters_.linears();
  }

  std::int32_t adapter_slot_count() const override { return adapters_.slot_count(); }

  Result<void> LoadAdapter(std::int32_t slot, const LoraAdapter& adapter) override {
    return adapters_.Load(slot, adapter);
  }

  void UnloadAdapter(std::int32_t slot) override { adapters_.Unload(slot); }

 private:
  struct Layer {
    AdaptedLinear qkv;
    AdaptedLinear o;
    AdaptedLinear up;
    AdaptedLinear down;
    NormWeights attention_norm;
    NormWeights output_norm;
  };

  Result<void> PrepareWeights(Weights& weights);
  Result<std::unique_ptr<kernels::LinearWeight>> PrepareTable(const std::string& name,
                                                              std::int64_t rows, Weights& weights);
  Result<AdaptedLinear> PrepareLinear(const std::vector<std::string>& parts, std::int64_t rows,
                                      std::int64_t cols, std::int32_t k_shards, Weights& weights);
  Result<NormWeights> PrepareNorm(const std::string& name, Weights& weights);
  Result<std::span<const float>> KeepVector(const std::string& name, Weights& weights);
  Result<void> AllocateWorkspace();

  Result<void> ValidateBatch(const kernels::StepBatch& batch, const kernels::KvCache& cache,
                             std::size_t rows_size) const;
  void FillPositions(const kernels::StepBatch& batch);
  void EmbedTokens(const kernels::StepBatch& batch, const kernels::Matrix& rows,
                   const kernels::Matrix& delta);
  void RunLayer(const Layer& layer, const kernels::StepBatch& batch, kernels::KvCache& cache,
                const kernels::Matrix& rows, const kernels::Matrix& delta);
  void WriteRows(const kernels::StepBatch& batch, const kernels::Matrix& rows,
                 std::span<float> logits);
  Result<void> FindFaultyRows(std::size_t row_count);
  Result<void> Observe(const HiddenObserver* observer, std::int32_t index,
                       const kernels::Matrix& rows);

  EncoderSpec encoder_;
  ModelSpec spec_;
  kernels::Operators& operators_;
  LoadOptions options_;

  std::unique_ptr<kernels::LinearWeight> word_;
  std::unique_ptr<kernels::LinearWeight> position_;
  std::unique_ptr<kernels::LinearWeight> token_type_;
  NormWeights embedding_norm_;
  std::vector<Layer> layers_;
  AdapterSlots adapters_;
  AdaptedLinear head_dense_;
  AdaptedLinear head_out_;
  std::vector<kernels::Buffer> vectors_;  // of the norms

  kernels::Buffer stream_;  // rows and delta, [step_tokens_max, hidden_size] each
  kernels::Buffer scratch_;
  kernels::Buffer flags_;  // [step_tokens_max] FindNonFinite's
  EncoderWorkspacePlan plan_;
  std::vector<std::int32_t> positions_;  // of the step, capacity reserved
  std::vector<std::int32_t> no_types_;   // [step_tokens_max] zeros
  std::vector<std::int32_t> faulty_rows_;
  std::vector<std::int32_t> first_slots_;  // of the rows that a head reads; capacity reserved
};

}  // namespace pixii::model
