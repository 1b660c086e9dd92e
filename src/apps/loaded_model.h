// A model with where it came from, so that its weights can be given back and read again.
//
// Thread: made on any thread; Unload and Load run on the engine's. spec() may be called from any.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "engine/model_executor.h"
#include "kernels/operators.h"
#include "model/draft_head.h"
#include "model/language_model.h"

namespace pixii::apps {

class LoadedModel final : public engine::ModelReload {
 public:
  /// `operators` outlives it. Errors: those of LanguageModel::Load.
  static Result<std::unique_ptr<LoadedModel>> Open(const std::string& folder,
                                                   kernels::Operators& operators,
                                                   const model::LoadOptions& options);

  /// A draft head. Errors: those of LoadDraftHead.
  static Result<std::unique_ptr<LoadedModel>> OpenHead(const model::DraftHeadFolders& folders,
                                                       kernels::Operators& operators,
                                                       const model::LoadOptions& options);

  /// Of the checkpoint: the same whether the weights are here or not.
  const model::ModelSpec& spec() const { return spec_; }

  /// Pre: not unloaded.
  model::LanguageModel& model() { return *model_; }

  const model::LanguageModel& model() const { return *model_; }

  void Unload() override { model_.reset(); }

  /// Errors: kDataCorrupt if the folder holds another model by now; then none is here.
  Result<model::LanguageModel*> Load() override;

 private:
  LoadedModel(model::DraftHeadFolders folders, bool head, kernels::Operators& operators,
              const model::LoadOptions& options)
      : folders_(std::move(folders)), head_(head), operators_(operators), options_(options) {}

  static Result<std::unique_ptr<LoadedModel>> Start(std::unique_ptr<LoadedModel> loaded);
  Result<std::unique_ptr<model::LanguageModel>> Read() const;

  model::DraftHeadFolders folders_;  // the target is the model itself unless it is a head
  bool head_;
  kernels::Operators& operators_;
  model::LoadOptions options_;
  model::ModelSpec spec_;
  std::unique_ptr<model::LanguageModel> model_;
};

}  // namespace pixii::apps
