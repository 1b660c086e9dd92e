// model_index.json of a diffusers folder: which pipeline it is and what its parts are.
//
// Thread: values.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "model/checkpoint_folder.h"
#include "model/config_reader.h"
#include "wire/json.h"

namespace pixii::model {

class PipelineIndex final {
 public:
  /// Errors: kNotFound, kDataCorrupt.
  static Result<PipelineIndex> Read(const CheckpointFolder& folder);

  /// "WanPipeline".
  const std::string& class_name() const { return class_name_; }

  /// Class of a part ("transformer": ["diffusers", "WanTransformer3DModel"]), or "" if it is null
  /// or absent.
  std::string PartClass(std::string_view part) const;

  struct Part {
    std::string_view name;
    std::string_view wanted;  // empty: there must be none
  };

  /// Errors: kUnsupported naming a part that is something else.
  Result<void> Require(std::span<const Part> parts) const;

  ConfigReader reader() const { return {json_, file_name_}; }

 private:
  wire::Json json_;
  std::string file_name_;
  std::string class_name_;
};

}  // namespace pixii::model
