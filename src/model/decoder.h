// Runs a DecoderSpec: pre-norm blocks of attention and feed-forward over a paged KV cache.
//
// Thread: one caller. Residual stream fp32 [T, hidden]; all scratch is allocated by Create, nothing
// by Forward. Numerics: a row's bits depend on its own sequence alone; o and down sum K in 8 fixed
// shards (architecture.md section 6). A rank of several runs its cut of each layer of its stage;
// all ranks are given the same steps.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "model/adapted_linear.h"
#include "model/attention.h"
#include "model/decoder_spec.h"
#include "model/feed_forward.h"
#include "model/language_model.h"
#include "model/weights.h"

namespace pixii::model {

/// How much scratch a decoder takes, in floats.
struct WorkspacePlan {
  std::int64_t stream = 0;             // residual, normed, delta
  std::int64_t scratch = 0;            // qkv and attention's output, then the feed-forward's parts
  std::int64_t rotary = 0;             // cosines and sines
  std::int32_t feed_forward_rows = 0;  // rows that the feed-forward takes at once

  std::uint64_t size_bytes() const {
    return static_cast<std::uint64_t>(stream + scratch + rotary) * sizeof(float);
  }
};

WorkspacePlan MakeWorkspacePlan(const DecoderSpec& spec, const LoadOptions& options);

class Decoder final : public LanguageModel {
  struct CreateOnly {};

 public:
  /// Prepares all weights. `operators` outlives the decoder. Pre: `weights` has what
  /// ExpectedTensors(spec) lists. Errors: kInvalidArgument for options out of range,
  /// kResourceExhausted.
  static Result<std::unique_ptr<LanguageModel>> Create(DecoderSpec decoder_spec, ModelSpec spec,
                                                       Weights& weights,
                                                       kernels::Operators& operators,
                                                       const LoadOptions& options);

  Decoder(CreateOnly /*unused*/, DecoderSpec decoder_spec, ModelSpec spec,
          kernels::Operators& operators, const LoadOptions& options, ModelCut cut)
      : decoder_(std::move(decoder_spec)),
        spec_(std::move(spec)),
        operators_(operators),
        options_(options),
        cut_(std::move(cut)),
        ranks_(options.place, decoder_.vocab_size),
        adapters_(operators, options.adapter_slots) {
    adapters_.SetRanks(ranks_);
  }

  const ModelSpec& spec() const override { return spec_; }

  kernels::KvLayout MakeKvLayout(std::int32_t block_tokens, kernels::KvDType dtype) const override;

  Result<void> Forward(const kernels::StepBatch& batch, kernels::KvCache& cache,
                       std::span<float> logits, const HiddenObserver* observer) override;

  std::span<const std::int32_t> faulty_logit_rows() const override { return faulty_logit_rows_; }

  KvCuts kv_cuts() const override {
    return {.stage_layers = {cut_.layers}, .rank_heads = {cut_.kv_heads}};
  }

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
    std::unique_ptr<Attention> attention;
    AdaptedLinear o;
    std::unique_ptr<FeedForward> feed_forward;
    std::span<const float> input_norm;          // empty: none
    std::span<const float> attention_out_norm;  // empty: none
    std::span<const float> post_attention_norm;
    std::span<const float> feed_forward_out_norm;  // empty: none
  };

  /// Rows of the step in flight. `scratch` holds qkv and attention's output, then the
  /// feed-forward's parts.
  struct Rows {
    kernels::Matrix residual;
    kernels::Matrix normed;
    kernels::Matrix delta;
  };

  /// Who looks at a step on its way, if anybody, and at how many rows.
  struct Observation {
    const HiddenObserver* observer = nullptr;
    std::size_t row_count = 0;
  };

  Result<void> PrepareWeights(Weights& weights);
  Result<void> PrepareLayer(std::size_t index, WeightLoader& loader);
  Result<kernels::RotaryTable> PrepareRotary(const RopeSpec& rope);
  Result<void> AllocateWorkspace();
  Result<void> ValidateBatch(const kernels::StepBatch& batch, const kernels::KvCache& cache,
                             std::size_t rows_size) const;

  Result<void> RunLayers(const kernels::StepView& step, kernels::KvCache& cache,
                         const Observation& observation, bool every_row, float* logits);
  Result<void> Observe(const Observation& observation, std::size_t index,
                       const kernels::Matrix& rows);
  // Without a weight the stream goes on as it is.
  void Norm(const kernels::Matrix& in, std::span<const float> weight, const kernels::Matrix& out);
  void AddNorm(const Rows& rows, std::span<const float> weight);
  void RunFeedForward(const Layer& layer, const Rows& rows);
  Result<void> ValidateEmbedded(const kernels::StepBatch& batch) const;
  void FillRopeFactors(const kernels::StepBatch& batch, kernels::StepView& step);
  void PutEmbeddings(const kernels::StepView& step, const kernels::Matrix& residual);
  void AddLayerEmbeddings(const kernels::StepView& step, std::size_t layer,
                          const kernels::Matrix& delta);
  void KeepLogitSlots(const kernels::StepView& step);
  Rows KeepLogitRows(const kernels::StepView& step, const Rows& rows, kernels::Matrix& attention);
  void Enter(const kernels::StepView& step, const Rows& rows);
  kernels::Matrix RunAttention(const Layer& layer, const kernels::StepView& step,
                               kernels::KvCache& cache, const Rows& rows);
  RowRange OwnColumns() const;
  Result<void> RunEnd(const kernels::StepView& step, const Observation& observation, bool every_row,
                      const Rows& rows, float* logits);
  void RunHead(const kernels::StepView& step, const Rows& rows, bool gather,
               const kernels::Matrix& out);
  Result<void> FindFaultyRows(std::size_t row_count);

  Scratch scratch() const { return {static_cast<float*>(scratch_.data())}; }

  DecoderSpec decoder_;
  ModelSpec spec_;
  kernels::Operators& operators_;
  LoadOptions options_;
  ModelCut cut_;
  TensorRanks ranks_;

  std::unique_ptr<kernels::LinearWeight> embed_;  // null: another stage's
  AdapterSlots adapters_;
  AdaptedLinear head_;
  AdaptedLinear fusion_;  // of a draft head
  std::span<const float> fusion_embed_norm_;
  std::span<const float> fusion_hidden_norm_;
  std::span<const float> final_norm_;     // empty: none
  std::vector<Layer> layers_;             // of this rank's stage
  std::vector<kernels::Buffer> buffers_;  // norms, sinks, rotary tables
  kernels::RotaryTable rotary_;
  kernels::RotaryTable window_rotary_;

  kernels::Buffer stream_;  // residual, normed, delta
  kernels::Buffer scratch_;
  kernels::Buffer logits_;  // of a device; on the host the caller's memory is written
  kernels::Buffer flags_;   // [step_logit_rows_max] FindNonFinite's
  std::vector<std::int32_t> host_flags_;
  WorkspacePlan plan_;
  std::vector<std::int32_t> faulty_logit_rows_;  // capacity reserved
  std::vector<std::int32_t> logit_slots_;        // of the rows that go on; capacity reserved

  // Of models that turn by three positions, else empty.
  std::vector<std::uint8_t> rope_axes_;    // [pairs] 0 time, 1 height, 2 width
  std::vector<float> rope_factors_;        // of the step; capacity reserved
  std::vector<std::int32_t> row_numbers_;  // [step_tokens_max] 0, 1, …
};

}  // namespace pixii::model
