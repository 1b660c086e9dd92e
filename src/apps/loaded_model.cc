#include "apps/loaded_model.h"

#include <fmt/format.h>

namespace pixii::apps {

Result<std::unique_ptr<LoadedModel>> LoadedModel::Open(const std::string& folder,
                                                       kernels::Operators& operators,
                                                       const model::LoadOptions& options) {
  auto loaded = std::unique_ptr<LoadedModel>(
      new LoadedModel(folder, operators, options));  // tidy: new the constructor is private
  PX_TRY(loaded->model_, model::LanguageModel::Load(folder, operators, options));
  loaded->spec_ = loaded->model_->spec();
  loaded->options_.progress = {};  // it is for the start
  return loaded;
}

Result<model::LanguageModel*> LoadedModel::Load() {
  PX_TRY(std::unique_ptr<model::LanguageModel> again,
         model::LanguageModel::Load(folder_, operators_, options_));
  if (again->spec().fingerprint != spec_.fingerprint) {
    return Fail(
        Code::kDataCorrupt,
        fmt::format("{} holds another model than at the start: its fingerprint is {}, not {}",
                    folder_, again->spec().fingerprint, spec_.fingerprint));
  }
  model_ = std::move(again);
  return model_.get();
}

}  // namespace pixii::apps
