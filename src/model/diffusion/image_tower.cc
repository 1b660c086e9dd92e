#include "model/diffusion/image_tower.h"

#include <fmt/format.h>

#include "model/config_reader.h"
#include "model/diffusion/weight_reader.h"
#include "model/vision_families.h"
#include "model/vision_processor.h"

namespace pixii::model {

Result<ImageTower> LoadImageTower(const CheckpointFolder& encoder,
                                  const CheckpointFolder& processor, kernels::Operators& operators,
                                  kernels::ComputeType compute) {
  PX_TRY(const wire::Json json, ReadPartConfig(encoder, "config.json"));
  PX_TRY(VisionSpec spec, DescribeClipTower(ConfigReader(json, encoder.path() + "/config.json")));
  PX_TRY(const Checkpoint checkpoint, Checkpoint::Open(encoder));
  ResolveVisionNames(checkpoint, spec);
  PX_CHECK_OK(
      CheckTensors(ExpectedTensors(spec), spec.names.harmless, spec.architecture, checkpoint));
  ImageTower out;
  PX_TRY(out.patches, LoadVisionProcessor(processor, spec));
  const std::unique_ptr<Weights> weights = MakeCheckpointWeights(checkpoint, {});
  PX_TRY(out.tower,
         VisionTower::Create(std::move(spec), *weights, operators, {.compute = compute}));
  return out;
}

Result<VisionFeatures> RunImageTower(VisionTower& tower, const media::PatchSpec& patches,
                                     const media::Image& image) {
  const Result<media::Patches> made = media::MakePatches(image, patches);
  if (!made) {  // its shape, since it has been decoded
    return Fail(made.error().code(), fmt::format("image: {}", made.error().detail()), "image");
  }
  const media::Patches& cut = *made;
  return tower.Encode({.grid = {.frames = static_cast<std::int32_t>(cut.frames),
                                .rows = static_cast<std::int32_t>(cut.rows),
                                .cols = static_cast<std::int32_t>(cut.cols)},
                       .patches = cut.values,
                       .source = image.size});
}

}  // namespace pixii::model
