#include "model/diffusion/diffusion_golden.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>

#include "model/config_reader.h"
#include "model/diffusion/umt5_encoder.h"
#include "model/diffusion/weight_reader.h"

namespace pixii::model {
namespace {

constexpr char kJsonName[] = "golden.json";
constexpr char kTensorsName[] = "golden.safetensors";

/// U8 [height, width, 3].
Result<std::shared_ptr<const media::Image>> ReadImage(const Checkpoint& tensors,
                                                      const std::string& name) {
  const StoredTensor& stored = tensors.Find(name)->stored;
  if (stored.type != StoredType::kU8 || stored.shape.size() != 3 || stored.shape[2] != 3 ||
      std::max(stored.shape[0], stored.shape[1]) > kVideoSideMax) {
    return Fail(Code::kDataCorrupt,
                fmt::format("{}: {} is not a U8 tensor of [height, width, 3]", kTensorsName, name),
                name);
  }
  auto image = std::make_shared<media::Image>();
  image->size = {static_cast<std::uint32_t>(stored.shape[1]),
                 static_cast<std::uint32_t>(stored.shape[0])};
  const std::span<const std::byte> bytes = tensors.Find(name)->bytes;
  image->rgb.resize(bytes.size());
  std::memcpy(image->rgb.data(), bytes.data(), bytes.size());
  return image;
}

}  // namespace

Result<DiffusionGolden> LoadDiffusionGolden(const CheckpointFolder& folder) {
  PX_TRY(const wire::Json json, ReadPartConfig(folder, kJsonName));
  const ConfigReader reader(json, kJsonName);
  DiffusionGolden out;
  VideoRequest& request = out.request;
  const auto read = [&](std::string_view key, std::int64_t max, std::int32_t& to) -> Result<void> {
    PX_TRY(const std::int64_t value, reader.Int(key, {1, max}));
    to = static_cast<std::int32_t>(value);
    return {};
  };
  PX_TRY(request.prompt, reader.String("prompt"));
  PX_TRY(request.negative_prompt, reader.String("negative_prompt", ""));
  PX_CHECK_OK(read("height", kVideoSideMax, request.height));
  PX_CHECK_OK(read("width", kVideoSideMax, request.width));
  PX_CHECK_OK(read("num_frames", kVideoFramesMax, request.frames));
  PX_CHECK_OK(read("steps", kDenoiseStepsMax, request.steps));
  PX_CHECK_OK(read("max_sequence_length", kPromptTokensMax, out.prompt_tokens));
  PX_TRY(request.guidance_scale, reader.Number("guidance_scale", {0.0, 100.0}));
  PX_TRY(const double timestep, reader.Number("dit_timestep", {0.0, 1e6}));
  out.pass_timestep = static_cast<float>(timestep);
  PX_TRY(out.tensors, Checkpoint::OpenFile(folder, kTensorsName));
  if (out.tensors.Find("image") != nullptr) {
    PX_TRY(request.image, ReadImage(out.tensors, "image"));
  }
  return out;
}

Result<std::vector<float>> GoldenFloats(const Checkpoint& tensors, const std::string& name,
                                        const Extents& shape) {
  const CheckpointTensor* tensor = tensors.Find(name);
  if (tensor == nullptr || tensor->stored.type != StoredType::kF32 ||
      tensor->stored.shape != shape) {
    return Fail(Code::kDataCorrupt,
                fmt::format("{}: {} is not an F32 tensor of [{}]", kTensorsName, name,
                            fmt::join(shape, ", ")),
                name);
  }
  std::vector<float> out(tensor->bytes.size() / sizeof(float));
  std::memcpy(out.data(), tensor->bytes.data(), tensor->bytes.size());
  return out;
}

Result<std::vector<std::int32_t>> GoldenIds(const Checkpoint& tensors, const std::string& name,
                                            std::int64_t count) {
  const CheckpointTensor* tensor = tensors.Find(name);
  if (tensor == nullptr || tensor->stored.type != StoredType::kI64 ||
      tensor->stored.shape.size() != 2 || tensor->stored.shape[0] != 1 ||
      (count >= 0 && tensor->stored.shape[1] != count)) {
    return Fail(Code::kDataCorrupt,
                fmt::format("{}: {} is not an I64 tensor of [1, {}]", kTensorsName, name, count),
                name);
  }
  std::vector<std::int32_t> out;
  for (std::int64_t i = 0; i < tensor->stored.shape[1]; ++i) {
    std::int64_t id = 0;
    std::memcpy(&id, tensor->bytes.data() + i * std::int64_t{sizeof(id)}, sizeof(id));
    out.push_back(static_cast<std::int32_t>(std::clamp<std::int64_t>(id, -1, 1 << 30)));
  }
  return out;
}

std::vector<float> ChannelsApart(std::span<const float> pictures, const kernels::Volume& volume,
                                 bool frames_first) {
  std::vector<float> out(pictures.size());
  const std::int64_t pixels = volume.frame_pixels();
  for (std::int64_t frame = 0; frame < volume.frames; ++frame) {
    for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
      for (std::int64_t channel = 0; channel < 3; ++channel) {
        const std::int64_t plane =
            frames_first ? frame * 3 + channel : channel * volume.frames + frame;
        out[static_cast<std::size_t>(plane * pixels + pixel)] =
            pictures[static_cast<std::size_t>((frame * pixels + pixel) * 3 + channel)];
      }
    }
  }
  return out;
}

}  // namespace pixii::model
