#include "model/diffusion/pipeline_index.h"

#include <fmt/format.h>

#include "model/diffusion/weight_reader.h"

namespace pixii::model {

Result<PipelineIndex> PipelineIndex::Read(const CheckpointFolder& folder) {
  PipelineIndex out;
  out.file_name_ = folder.path() + "/model_index.json";
  PX_TRY(out.json_, ReadPartConfig(folder, "model_index.json"));
  PX_TRY(out.class_name_, out.reader().String("_class_name"));
  return out;
}

std::string PipelineIndex::PartClass(std::string_view part) const {
  const wire::Json* value = reader().Find(part);
  if (value == nullptr || !value->is_array() || value->array().size() != 2 ||
      !value->array()[1].is_string()) {
    return {};
  }
  return value->array()[1].string();
}

Result<void> PipelineIndex::Require(std::span<const Part> parts) const {
  for (const Part& part : parts) {
    if (PartClass(part.name) != part.wanted) {
      return reader().Unsupported(part.name, part.wanted.empty()
                                                 ? fmt::format("must be null in a {}", class_name_)
                                                 : fmt::format("is not {}", part.wanted));
    }
  }
  return {};
}

}  // namespace pixii::model
