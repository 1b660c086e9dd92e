#include "apps/loaded_model.h"

#include <fmt/format.h>

namespace pixii::apps {

Result<std::unique_ptr<LoadedModel>> LoadedModel::Open(const std::string& folder,
                                                       kernels::Operators& operators,
                                                       const model::LoadOptions& options) {
  return Start(std::unique_ptr<LoadedModel>(new LoadedModel(  // tidy: new private constructor
      {.target = folder, .eagle = {}}, false, operators, options)));
}

Result<std::unique_ptr<LoadedModel>> LoadedModel::OpenHead(const model::DraftHeadFolders& folders,
                                                           kernels::Operators& operators,
                                                           const model::LoadOptions& options) {
  return Start(std::unique_ptr<LoadedModel>(
      new LoadedModel(folders, true, operators, options)));  // tidy: new private constructor
}

Result<std::unique_ptr<LoadedModel>> LoadedModel::Start(std::unique_ptr<LoadedModel> loaded) {
  PX_TRY(loaded->model_, loaded->Read());
  loaded->spec_ = loaded->model_->spec();
  loaded->options_.progress = {};  // it is for the start
  return loaded;
}

Result<std::unique_ptr<model::LanguageModel>> LoadedModel::Read() const {
  return head_ ? model::LoadDraftHead(folders_, operators_, options_)
               : model::LanguageModel::Load(folders_.target, operators_, options_);
}

Result<model::LanguageModel*> LoadedModel::Load() {
  PX_TRY(std::unique_ptr<model::LanguageModel> again, Read());
  if (again->spec().fingerprint != spec_.fingerprint) {
    return Fail(
        Code::kDataCorrupt,
        fmt::format("{} holds another model than at the start: its fingerprint is {}, not {}",
                    folders_.eagle.empty() ? folders_.target : folders_.eagle,
                    again->spec().fingerprint, spec_.fingerprint));
  }
  model_ = std::move(again);
  return model_.get();
}

}  // namespace pixii::apps
