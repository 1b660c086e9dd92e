#include "model/diffusion/wan_vae.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/assert.h"
#include "model/config_reader.h"
#include "model/diffusion/lane_attention.h"

namespace pixii::model {
namespace {

using kernels::Matrix;
using kernels::Volume;

constexpr std::int32_t kRemembered = 2;  // frames: a causal kernel of three sees two old ones
/// Norms divide by the length of a pixel's channels, which they bound from below by this.
constexpr float kLengthSquaredMin = 1e-24F;
constexpr std::size_t kLevelsMax = 8;
constexpr std::int32_t kChannelsMax = 1 << 16;

Result<std::vector<float>> Numbers(const ConfigReader& reader, std::string_view key,
                                   std::size_t count) {
  const wire::Json* list = reader.Find(key);
  std::vector<float> out;
  if (list != nullptr && list->is_array() && list->array().size() == count) {
    for (const wire::Json& item : list->array()) {
      const std::optional<double> value = item.is_number() ? item.AsDouble() : std::nullopt;
      if (value && std::abs(*value) < 1e6) {
        out.push_back(static_cast<float>(*value));
      }
    }
  }
  if (out.size() != count) {
    return reader.Bad(key, fmt::format("is not a list of {} numbers", count));
  }
  return out;
}

Result<std::vector<bool>> Switches(const ConfigReader& reader, std::string_view key,
                                   std::size_t count) {
  const wire::Json* list = reader.Find(key);
  std::vector<bool> out;
  if (list != nullptr && list->is_array() && list->array().size() == count) {
    for (const wire::Json& item : list->array()) {
      if (item.is_bool()) {
        out.push_back(item.boolean());
      }
    }
  }
  if (out.size() != count) {
    return reader.Bad(key, fmt::format("is not a list of {} times true or false", count));
  }
  return out;
}

/// Refuses what other members of the family have and this one is computed without.
Result<void> CheckVariant(const ConfigReader& reader) {
  PX_TRY(const bool residual, reader.Bool("is_residual", false));
  if (residual) {
    return reader.Unsupported("is_residual", "must be false: the VAE of Wan 2.2 5B is not built");
  }
  for (const std::string_view key : {"attn_scales", "patch_size"}) {
    const wire::Json* value = reader.Find(key);
    if (value != nullptr && !(value->is_array() && value->array().empty())) {
      return reader.Unsupported(key, "must be empty");
    }
  }
  for (const std::string_view key : {"in_channels", "out_channels"}) {
    PX_TRY(const std::int64_t channels, reader.Int(key, {1, kChannelsMax}, 3));
    if (channels != 3) {
      return reader.Unsupported(key, "is not 3");
    }
  }
  return {};
}

}  // namespace

std::int32_t VaeConfig::time_scale() const {
  return 1 << std::count(temporal_downsample.begin(), temporal_downsample.end(), true);
}

Result<VaeConfig> ParseVaeConfig(const wire::Json& json, const std::string& file_name) {
  const ConfigReader reader(json, file_name);
  PX_CHECK_OK(CheckVariant(reader));
  VaeConfig out;
  const auto read = [&](std::string_view key, std::int64_t max, std::int32_t& to,
                        std::optional<std::int64_t> fallback = {}) -> Result<void> {
    PX_TRY(const std::int64_t value, reader.Int(key, {1, max}, fallback));
    to = static_cast<std::int32_t>(value);
    return {};
  };
  PX_CHECK_OK(read("base_dim", 8192, out.base_dim));
  PX_CHECK_OK(read("decoder_base_dim", 8192, out.decoder_base_dim, out.base_dim));
  PX_CHECK_OK(read("z_dim", 4096, out.z_dim));
  PX_CHECK_OK(read("num_res_blocks", 64, out.res_blocks));
  PX_TRY(const std::vector<std::int64_t> mult, reader.IntOrInts("dim_mult"));
  if (mult.size() < 2 || mult.size() > kLevelsMax ||
      std::any_of(mult.begin(), mult.end(), [](std::int64_t m) { return m < 1 || m > 64; })) {
    return reader.Bad("dim_mult",
                      fmt::format("is not a list of 2 to {} numbers of 1 to 64", kLevelsMax));
  }
  out.dim_mult.assign(mult.begin(), mult.end());
  PX_TRY(out.temporal_downsample, Switches(reader, "temperal_downsample", mult.size() - 1));
  PX_TRY(out.latents_mean, Numbers(reader, "latents_mean", static_cast<std::size_t>(out.z_dim)));
  PX_TRY(out.latents_std, Numbers(reader, "latents_std", static_cast<std::size_t>(out.z_dim)));
  if (std::any_of(out.latents_std.begin(), out.latents_std.end(),
                  [](float std) { return std <= 0.0F; })) {
    return reader.Bad("latents_std", "holds a number that is not above 0");
  }
  if (out.dim_mult.back() * std::max(out.base_dim, out.decoder_base_dim) > kernels::kHeadDimMax) {
    return reader.Unsupported("base_dim", fmt::format("makes attention over more than {} channels",
                                                      kernels::kHeadDimMax));
  }
  return out;
}

Result<std::unique_ptr<WanVae>> WanVae::Load(const CheckpointFolder& folder,
                                             kernels::Operators& operators,
                                             kernels::ComputeType compute) {
  PX_TRY(const wire::Json json, ReadPartConfig(folder, "config.json"));
  PX_TRY(VaeConfig config, ParseVaeConfig(json, folder.path() + "/config.json"));
  PX_TRY(const Checkpoint checkpoint, Checkpoint::Open(folder, "diffusion_pytorch_model"));
  auto vae = std::make_unique<WanVae>(CreateOnly{}, std::move(config), operators);
  WeightReader reader(checkpoint, folder.path(), operators, vae->vectors_, compute);
  PX_CHECK_OK(vae->PrepareEncoder(reader));
  PX_CHECK_OK(vae->PrepareDecoder(reader));
  PX_CHECK_OK(reader.CheckAllRead());
  return vae;
}

Result<std::unique_ptr<WanVae>> WanVae::Random(VaeConfig config, kernels::Operators& operators,
                                               kernels::ComputeType compute) {
  auto vae = std::make_unique<WanVae>(CreateOnly{}, std::move(config), operators);
  WeightReader reader(operators, vae->vectors_, compute);
  PX_CHECK_OK(vae->PrepareEncoder(reader));
  PX_CHECK_OK(vae->PrepareDecoder(reader));
  return vae;
}

Result<void> WanVae::PrepareEncoder(WeightReader& reader) {
  const std::size_t levels = config_.dim_mult.size();
  std::int64_t channels = config_.base_dim;
  PX_TRY(encoder_.in, MakeCausal({"encoder.conv_in", channels, 3}, reader, encoder_));
  int index = 0;  // blocks of all levels are counted on
  for (std::size_t i = 0; i < levels; ++i) {
    const std::int64_t outputs = std::int64_t{config_.base_dim} * config_.dim_mult[i];
    Level level;
    for (std::int32_t j = 0; j < config_.res_blocks; ++j, channels = outputs) {
      PX_TRY(ResidualBlock block,
             MakeResidual({fmt::format("encoder.down_blocks.{}", index++), outputs, channels},
                          reader, encoder_));
      level.blocks.push_back(std::move(block));
    }
    if (i + 1 < levels) {
      const std::string name = fmt::format("encoder.down_blocks.{}", index++);
      Resample resample;
      resample.space = {.kernel = {1, 3, 3}, .stride = 2, .pad_after = 1};
      PX_TRY(resample.space.weight, reader.Convolution({.name = name + ".resample.1",
                                                        .outputs = outputs,
                                                        .channels = outputs,
                                                        .kernel = {3, 3}}));
      if (config_.temporal_downsample[i]) {
        PX_TRY(resample.time,
               MakeTime({name + ".time_conv", outputs, outputs}, 2, reader, encoder_));
      }
      level.resample = std::move(resample);
    }
    encoder_.levels.push_back(std::move(level));
  }
  PX_TRY(encoder_.middle, MakeMiddle("encoder.mid_block", channels, reader, encoder_));
  PX_TRY(encoder_.norm_out, reader.Vector("encoder.norm_out.gamma", {channels, 1, 1, 1}));
  const std::int64_t z = config_.z_dim;
  PX_TRY(encoder_.out, MakeCausal({"encoder.conv_out", 2 * z, channels}, reader, encoder_));
  PX_TRY(quant_, MakePoint({"quant_conv", 2 * z, 2 * z}, 3, reader));
  return {};
}

Result<void> WanVae::PrepareDecoder(WeightReader& reader) {
  const std::size_t levels = config_.dim_mult.size();
  const std::int64_t base = config_.decoder_base_dim;
  const std::int64_t z = config_.z_dim;
  std::int64_t channels = base * config_.dim_mult.back();
  PX_TRY(post_quant_, MakePoint({"post_quant_conv", z, z}, 3, reader));
  PX_TRY(decoder_.in, MakeCausal({"decoder.conv_in", channels, z}, reader, decoder_));
  PX_TRY(decoder_.middle, MakeMiddle("decoder.mid_block", channels, reader, decoder_));
  for (std::size_t i = 0; i < levels; ++i) {
    const std::string name = fmt::format("decoder.up_blocks.{}", i);
    const std::int64_t outputs = base * config_.dim_mult[levels - 1 - i];
    Level level;
    for (std::int32_t j = 0; j <= config_.res_blocks; ++j, channels = outputs) {
      PX_TRY(ResidualBlock block,
             MakeResidual({fmt::format("{}.resnets.{}", name, j), outputs, channels}, reader,
                          decoder_));
      level.blocks.push_back(std::move(block));
    }
    if (i + 1 < levels) {
      Resample resample;
      resample.up = true;
      resample.space = {.kernel = {1, 3, 3}, .upscale = 2, .pad_before = 1, .pad_after = 1};
      PX_TRY(resample.space.weight, reader.Convolution({.name = name + ".upsamplers.0.resample.1",
                                                        .outputs = outputs / 2,
                                                        .channels = outputs,
                                                        .kernel = {3, 3}}));
      if (config_.temporal_downsample[levels - 2 - i]) {
        PX_TRY(resample.time, MakeTime({name + ".upsamplers.0.time_conv", 2 * outputs, outputs}, 1,
                                       reader, decoder_));
      }
      level.resample = std::move(resample);
      channels = outputs / 2;
    }
    decoder_.levels.push_back(std::move(level));
  }
  PX_TRY(decoder_.norm_out, reader.Vector("decoder.norm_out.gamma", {channels, 1, 1, 1}));
  PX_TRY(decoder_.out, MakeCausal({"decoder.conv_out", 3, channels}, reader, decoder_));
  return {};
}

/// 3 x 3 x 3: sees this frame and the two before.
Result<WanVae::Convolution> WanVae::MakeCausal(const Causal& wanted, WeightReader& reader,
                                               Coder& coder) {
  Convolution out{.kernel = {3, 3, 3},
                  .pad_before = 1,
                  .pad_after = 1,
                  .history = kRemembered,
                  .slot = coder.slots++};
  PX_TRY(out.weight, reader.Convolution({.name = wanted.name,
                                         .outputs = wanted.outputs,
                                         .channels = wanted.channels,
                                         .kernel = {3, 3, 3}}));
  return out;
}

/// 3 x 1 x 1. By a stride of two it needs but the last frame before.
Result<WanVae::Convolution> WanVae::MakeTime(const Causal& wanted, std::int32_t stride,
                                             WeightReader& reader, Coder& coder) {
  Convolution out{.kernel = {3, 1, 1},
                  .stride_frames = stride,
                  .history = stride == 1 ? kRemembered : 1,
                  .slot = coder.slots++};
  PX_TRY(out.weight, reader.Convolution({.name = wanted.name,
                                         .outputs = wanted.outputs,
                                         .channels = wanted.channels,
                                         .kernel = {3, 1, 1}}));
  return out;
}

Result<WanVae::ResidualBlock> WanVae::MakeResidual(const Causal& wanted, WeightReader& reader,
                                                   Coder& coder) {
  const std::string& name = wanted.name;
  ResidualBlock out;
  PX_TRY(out.norm1, reader.Vector(name + ".norm1.gamma", {wanted.channels, 1, 1, 1}));
  PX_TRY(out.conv1, MakeCausal({name + ".conv1", wanted.outputs, wanted.channels}, reader, coder));
  PX_TRY(out.norm2, reader.Vector(name + ".norm2.gamma", {wanted.outputs, 1, 1, 1}));
  PX_TRY(out.conv2, MakeCausal({name + ".conv2", wanted.outputs, wanted.outputs}, reader, coder));
  if (wanted.channels != wanted.outputs) {
    PX_TRY(out.shortcut,
           MakePoint({name + ".conv_shortcut", wanted.outputs, wanted.channels}, 3, reader));
  }
  return out;
}

Result<WanVae::Middle> WanVae::MakeMiddle(const std::string& prefix, std::int64_t channels,
                                          WeightReader& reader, Coder& coder) {
  const std::string attention = prefix + ".attentions.0";
  Middle out;
  PX_TRY(out.first, MakeResidual({prefix + ".resnets.0", channels, channels}, reader, coder));
  PX_TRY(out.attention.norm, reader.Vector(attention + ".norm.gamma", {channels, 1, 1}));
  PX_TRY(out.attention.qkv, MakePoint({attention + ".to_qkv", 3 * channels, channels}, 2, reader));
  PX_TRY(out.attention.proj, MakePoint({attention + ".proj", channels, channels}, 2, reader));
  PX_TRY(out.second, MakeResidual({prefix + ".resnets.1", channels, channels}, reader, coder));
  return out;
}

/// A convolution of one pixel: a linear of `rank` trailing extents of 1.
Result<WanVae::LinearPointer> WanVae::MakePoint(const Causal& wanted, int rank,
                                                WeightReader& reader) {
  return reader.Linear({.parts = {{wanted.name, wanted.outputs}},
                        .cols = wanted.channels,
                        .trailing = std::vector<std::int64_t>(static_cast<std::size_t>(rank), 1)});
}

Matrix WanVae::Frames::rows(std::int32_t history) const {
  PX_ASSERT(history <= kRemembered);
  return {data.get() + (kRemembered - history) * frame_size(), kernels::DType::kF32,
          (volume.frames + history) * volume.frame_pixels(), channels, channels};
}

WanVae::Frames WanVae::Take(const Volume& volume, std::int64_t channels) {
  const std::int64_t size = (volume.frames + kRemembered) * volume.frame_pixels() * channels;
  const auto fits = [&](const Frames& frames) { return frames.capacity >= size; };
  const auto found = std::find_if(free_.begin(), free_.end(), fits);
  Frames out;
  if (found != free_.end()) {
    out = std::move(*found);
    free_.erase(found);
  } else {
    free_.clear();  // too small for what is computed now
    out.data = std::make_unique_for_overwrite<float[]>(static_cast<std::size_t>(size));
    out.capacity = size;
  }
  out.volume = volume;
  out.channels = channels;
  return out;
}

void WanVae::Give(Frames frames) { free_.push_back(std::move(frames)); }

WanVae::Frames WanVae::Convolve(const Convolution& convolution, Frames in, VaeStream& stream) {
  if (convolution.history > 0) {
    const std::int64_t size = convolution.history * in.frame_size();
    float* front = in.rows(convolution.history).f32();
    std::vector<float>& history = stream.histories_[convolution.slot];
    if (history.empty()) {
      std::fill_n(front, size, 0.0F);
    } else {
      PX_ASSERT(std::ssize(history) == size);
      std::copy_n(history.data(), size, front);
    }
    const float* end = in.rows().f32() + in.volume.frames * in.frame_size();
    history.assign(end - size, end);
  }
  Volume seen = in.volume;
  seen.frames += convolution.history;
  const kernels::ConvolutionShape shape = {.in = seen,
                                           .kernel = convolution.kernel,
                                           .stride_frames = convolution.stride_frames,
                                           .stride = convolution.stride,
                                           .upscale = convolution.upscale,
                                           .pad_top = convolution.pad_before,
                                           .pad_bottom = convolution.pad_after,
                                           .pad_left = convolution.pad_before,
                                           .pad_right = convolution.pad_after};
  Frames out = Take(shape.out(), convolution.weight->out_features());
  operators_.Convolve(in.rows(convolution.history), shape, *convolution.weight, out.rows());
  Give(std::move(in));
  return out;
}

/// in / length(in) * sqrt(channels) * gamma by pixel, then SiLU.
WanVae::Frames WanVae::NormActivate(std::span<const float> gamma, const Frames& in) {
  Frames out = Take(in.volume, in.channels);
  const Matrix rows = out.rows();
  operators_.RmsNorm(in.rows(), gamma, 0.0F, kLengthSquaredMin / static_cast<float>(in.channels),
                     rows);
  operators_.Activate(rows, kernels::Activation::kSilu);
  return out;
}

WanVae::Frames WanVae::Run(const ResidualBlock& block, Frames in, VaeStream& stream) {
  Frames mid = Convolve(block.conv1, NormActivate(block.norm1, in), stream);
  Frames active = NormActivate(block.norm2, mid);
  Give(std::move(mid));
  Frames out = Convolve(block.conv2, std::move(active), stream);
  if (block.shortcut != nullptr) {
    Frames shortcut = Take(in.volume, out.channels);
    operators_.Linear(in.rows(), *block.shortcut, shortcut.rows());
    std::swap(shortcut, in);
    Give(std::move(shortcut));
  }
  operators_.Add(out.rows(), in.rows());
  Give(std::move(in));
  return out;
}

/// Each frame's pixels look at each other, by one head.
Result<void> WanVae::Run(const AttentionBlock& block, Frames& frames) {
  const auto channels = static_cast<std::int32_t>(frames.channels);
  const auto pixels = static_cast<std::int32_t>(frames.volume.frame_pixels());
  PX_TRY(LaneKeys keys,
         LaneKeys::Create(operators_,
                          {.head_dim = channels, .lanes = frames.volume.frames, .tokens = pixels}));
  Frames normed = Take(frames.volume, channels);
  Frames qkv = Take(frames.volume, 3 * std::int64_t{channels});
  operators_.RmsNorm(frames.rows(), block.norm, 0.0F,
                     kLengthSquaredMin / static_cast<float>(channels), normed.rows());
  operators_.Linear(normed.rows(), *block.qkv, qkv.rows());
  keys.Store(operators_, 0, 0, qkv.rows().Columns(channels, channels),
             qkv.rows().Columns(2 * channels, channels));
  keys.Attend(operators_,
              {.tokens = pixels, .scale = 1.0F / std::sqrt(static_cast<float>(channels))},
              qkv.rows().Columns(0, channels), normed.rows());
  Give(std::move(qkv));
  Frames out = Take(frames.volume, channels);
  operators_.Linear(normed.rows(), *block.proj, out.rows());
  operators_.Add(frames.rows(), out.rows());
  Give(std::move(out));
  Give(std::move(normed));
  return {};
}

Result<WanVae::Frames> WanVae::Run(const Middle& middle, Frames in, VaeStream& stream) {
  Frames out = Run(middle.first, std::move(in), stream);
  PX_CHECK_OK(Run(middle.attention, out));
  return Run(middle.second, std::move(out), stream);
}

WanVae::Frames WanVae::Run(const Resample& resample, Frames in, VaeStream& stream) {
  // The first chunk passes by the convolution over time, which then has seen nothing.
  const bool in_time = resample.time.has_value() && stream.begun();
  if (resample.up && in_time) {
    Frames doubled = Convolve(*resample.time, std::move(in), stream);
    const std::int64_t channels = doubled.channels / 2;
    const std::int64_t pixels = doubled.volume.frame_pixels();
    Volume volume = doubled.volume;
    volume.frames *= 2;
    in = Take(volume, channels);
    for (std::int32_t frame = 0; frame < volume.frames; ++frame) {
      operators_.Copy(
          doubled.rows().Rows(frame / 2 * pixels, pixels).Columns(frame % 2 * channels, channels),
          in.rows().Rows(frame * pixels, pixels));
    }
    Give(std::move(doubled));
  }
  Frames out = Convolve(resample.space, std::move(in), stream);
  if (resample.up || !resample.time) {
    return out;
  }
  if (in_time) {
    return Convolve(*resample.time, std::move(out), stream);
  }
  // What the next chunk sees before its own frames.
  const Matrix rows = out.rows();
  stream.histories_[resample.time->slot].assign(rows.f32(rows.rows) - out.frame_size(),
                                                rows.f32(rows.rows));
  return out;
}

Result<WanVae::Pictures> WanVae::Decode(VaeStream& stream, std::span<const float> latent,
                                        std::int32_t height, std::int32_t width) {
  const Volume volume{1, height, width};
  const std::int64_t pixels = volume.pixels();
  PX_ASSERT(std::ssize(latent) == config_.z_dim * pixels);
  stream.histories_.resize(decoder_.slots);
  Frames in = Take(volume, config_.z_dim);
  for (std::int64_t channel = 0; channel < config_.z_dim; ++channel) {
    for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
      in.rows().f32(pixel)[channel] = latent[static_cast<std::size_t>(channel * pixels + pixel)];
    }
  }
  Frames frames = Take(volume, config_.z_dim);
  operators_.Linear(in.rows(), *post_quant_, frames.rows());
  Give(std::move(in));
  frames = Convolve(decoder_.in, std::move(frames), stream);
  PX_TRY(frames, Run(decoder_.middle, std::move(frames), stream));
  for (const Level& level : decoder_.levels) {
    for (const ResidualBlock& block : level.blocks) {
      frames = Run(block, std::move(frames), stream);
    }
    if (level.resample) {
      frames = Run(*level.resample, std::move(frames), stream);
    }
  }
  Frames active = NormActivate(decoder_.norm_out, frames);
  Give(std::move(frames));
  Frames out = Convolve(decoder_.out, std::move(active), stream);
  stream.begun_ = true;
  Pictures pictures{.volume = out.volume, .rgb = {}};
  const float* values = out.rows().f32();
  pictures.rgb.assign(values, values + out.volume.pixels() * 3);
  Give(std::move(out));
  return pictures;
}

Result<std::vector<float>> WanVae::Encode(VaeStream& stream, std::span<const float> pictures,
                                          const Volume& volume) {
  PX_ASSERT(std::ssize(pictures) == volume.pixels() * 3);
  PX_ASSERT(volume.frames == (stream.begun() ? config_.time_scale() : 1));
  PX_ASSERT(volume.height % config_.space_scale() == 0 &&
            volume.width % config_.space_scale() == 0);
  stream.histories_.resize(encoder_.slots);
  Frames frames = Take(volume, 3);
  std::copy(pictures.begin(), pictures.end(), frames.rows().f32());
  frames = Convolve(encoder_.in, std::move(frames), stream);
  for (const Level& level : encoder_.levels) {
    for (const ResidualBlock& block : level.blocks) {
      frames = Run(block, std::move(frames), stream);
    }
    if (level.resample) {
      frames = Run(*level.resample, std::move(frames), stream);
    }
  }
  PX_TRY(frames, Run(encoder_.middle, std::move(frames), stream));
  Frames active = NormActivate(encoder_.norm_out, frames);
  Give(std::move(frames));
  Frames both = Convolve(encoder_.out, std::move(active), stream);
  Frames out = Take(both.volume, both.channels);
  operators_.Linear(both.rows(), *quant_, out.rows());
  Give(std::move(both));
  stream.begun_ = true;
  const std::int64_t pixels = out.volume.pixels();
  std::vector<float> mean(static_cast<std::size_t>(config_.z_dim * pixels));
  for (std::int64_t channel = 0; channel < config_.z_dim; ++channel) {
    for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
      mean[static_cast<std::size_t>(channel * pixels + pixel)] = out.rows().f32(pixel)[channel];
    }
  }
  Give(std::move(out));
  return mean;
}

void WanVae::Denormalize(std::span<float> latents) const {
  const std::size_t size = latents.size() / config_.latents_mean.size();
  for (std::size_t i = 0; i < latents.size(); ++i) {
    // As diffusers: the division by 1 / std.
    latents[i] =
        latents[i] / (1.0F / config_.latents_std[i / size]) + config_.latents_mean[i / size];
  }
}

void WanVae::Normalize(std::span<float> latents) const {
  const std::size_t size = latents.size() / config_.latents_mean.size();
  for (std::size_t i = 0; i < latents.size(); ++i) {
    latents[i] =
        (latents[i] - config_.latents_mean[i / size]) * (1.0F / config_.latents_std[i / size]);
  }
}

}  // namespace pixii::model
