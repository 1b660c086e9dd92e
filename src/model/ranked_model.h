// A model that several ranks hold together, as one: tensor-parallel ranks cut each layer, pipeline
// stages cut the layers. docs/subsystems/model.md, docs/adr/0026
//
// Thread: one caller, who is rank 0; every other rank has a thread and operators of its own. A step
// runs on all of them; results are bit-equal to one rank's.
// KV: a block is the ranks' parts one behind the other, so it moves as one piece and block ids are
// equal everywhere.
// Failures: a rank that fails makes the step fail for all, by ending what they wait for; the next
// step begins with new links.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "model/language_model.h"
#include "model/rank_team.h"

namespace pixii::model {

class RankedModel final : public LanguageModel {
 public:
  /// Makes the model of one rank, on its operators and with its place in the options.
  using MakeRank = std::function<Result<std::unique_ptr<LanguageModel>>(kernels::Operators&,
                                                                        const LoadOptions&)>;

  /// `operators` are rank 0's and outlive the model. Pre: options.ranks.count() > 1. Errors: of
  /// MakeRank and MakeOperators; kUnsupported where operators have no host memory or differ.
  static Result<std::unique_ptr<LanguageModel>> Create(kernels::Operators& operators,
                                                       const LoadOptions& options,
                                                       const MakeRank& make);

  const ModelSpec& spec() const override { return models_[0]->spec(); }

  kernels::KvLayout MakeKvLayout(std::int32_t block_tokens, kernels::KvDType dtype) const override;

  KvCuts kv_cuts() const override;

  Result<void> Forward(const kernels::StepBatch& batch, kernels::KvCache& cache,
                       std::span<float> logits, const HiddenObserver* observer) override;

  std::span<const std::int32_t> faulty_logit_rows() const override { return faulty_logit_rows_; }

  std::span<const AdaptableLinear> adaptable_linears() const override {
    return models_[0]->adaptable_linears();
  }

  std::int32_t adapter_slot_count() const override { return models_[0]->adapter_slot_count(); }

  Result<void> LoadAdapter(std::int32_t slot, const LoraAdapter& adapter) override;
  void UnloadAdapter(std::int32_t slot) override;

  /// Of tests: called by each rank before it runs a step; what it returns is the rank's result if
  /// it is an error.
  using RankProbe = std::function<Result<void>(std::int32_t rank)>;

  void SetProbe(RankProbe probe) { probe_ = std::move(probe); }

 private:
  struct Step {
    const kernels::StepBatch* batch = nullptr;
    const kernels::KvCache* cache = nullptr;
    std::span<float> logits;
    const HiddenObserver* observer = nullptr;
  };

  explicit RankedModel(const LoadOptions& options);

  Result<void> Link();
  void EndLinks(std::int32_t rank);
  Result<void> ForwardOn(std::int32_t rank);
  Result<void> Finish(std::int32_t failed);

  RankOptions options_;
  std::vector<std::unique_ptr<kernels::Operators>> operators_;  // of the ranks behind the first
  std::vector<std::unique_ptr<kernels::Collective>> members_;
  std::vector<RankLinks> links_;                        // [rank], into members_
  std::vector<std::unique_ptr<LanguageModel>> models_;  // [rank]
  RankProbe probe_;
  std::vector<std::int32_t> faulty_logit_rows_;

  Step step_;      // at hand
  RankTeam team_;  // last: its threads use what stands above
};

}  // namespace pixii::model
