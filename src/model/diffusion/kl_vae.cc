#include "model/diffusion/kl_vae.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/assert.h"
#include "model/config_reader.h"
#include "model/diffusion/lane_attention.h"

namespace pixii::model {
namespace {

using kernels::Matrix;
using kernels::Volume;

constexpr double kEpsilon = 1e-6;
constexpr std::size_t kLevelsMax = 8;
constexpr std::int32_t kChannelsMax = 1 << 16;

/// Refuses what other members of the family have and this one is computed without.
Result<void> CheckVariant(const ConfigReader& reader) {
  PX_TRY(const std::int64_t channels, reader.Int("out_channels", {1, kChannelsMax}, 3));
  if (channels != 3) {
    return reader.Unsupported("out_channels", "is not 3");
  }
  PX_TRY(const std::string activation, reader.String("act_fn", "silu"));
  if (activation != "silu") {
    return reader.Unsupported("act_fn", "is not silu");
  }
  PX_TRY(const std::vector<std::string> blocks, reader.Strings("up_block_types"));
  for (const std::string& block : blocks) {
    if (block != "UpDecoderBlock2D") {
      return reader.Unsupported("up_block_types", "holds something else than UpDecoderBlock2D");
    }
  }
  for (const std::string_view key : {"latents_mean", "latents_std"}) {
    if (reader.Find(key) != nullptr) {
      return reader.Unsupported(key, "must be null");
    }
  }
  return {};
}

}  // namespace

Result<KlVaeConfig> ParseKlVaeConfig(const wire::Json& json, const std::string& file_name) {
  const ConfigReader reader(json, file_name);
  PX_CHECK_OK(CheckVariant(reader));
  KlVaeConfig out;
  const auto read = [&](std::string_view key, std::int64_t max, std::int32_t& to) -> Result<void> {
    PX_TRY(const std::int64_t value, reader.Int(key, {1, max}, to));
    to = static_cast<std::int32_t>(value);
    return {};
  };
  PX_CHECK_OK(read("latent_channels", 4096, out.latent_channels));
  PX_CHECK_OK(read("layers_per_block", 64, out.layers_per_block));
  PX_CHECK_OK(read("norm_num_groups", 4096, out.groups));
  PX_TRY(out.scaling_factor, reader.Number("scaling_factor", {1e-6, 1e6}, 0.18215));
  PX_TRY(out.shift_factor, reader.Number("shift_factor", {-1e6, 1e6}, 0.0));
  PX_TRY(out.post_quant, reader.Bool("use_post_quant_conv", true));
  PX_TRY(out.attends, reader.Bool("mid_block_add_attention", true));
  PX_TRY(const std::vector<std::int64_t> widths, reader.IntOrInts("block_out_channels"));
  const bool good = std::all_of(widths.begin(), widths.end(), [&](std::int64_t width) {
    return width >= 1 && width <= kChannelsMax && width % out.groups == 0;
  });
  if (widths.empty() || widths.size() > kLevelsMax || !good) {
    return reader.Bad("block_out_channels",
                      fmt::format("is not a list of 1 to {} multiples of norm_num_groups = {}",
                                  kLevelsMax, out.groups));
  }
  out.widths.assign(widths.begin(), widths.end());
  if (out.attends && out.widths.back() > kernels::kHeadDimMax) {
    return reader.Unsupported(
        "block_out_channels",
        fmt::format("makes attention over more than {} channels", kernels::kHeadDimMax));
  }
  return out;
}

void GroupNorm(const Matrix& in, std::int32_t groups, std::span<const float> weight,
               std::span<const float> bias, const Matrix& out) {
  const auto channels = static_cast<std::size_t>(in.cols);
  const std::size_t size = channels / static_cast<std::size_t>(groups);
  const double count = static_cast<double>(in.rows) * static_cast<double>(size);
  PX_ASSERT(channels % static_cast<std::size_t>(groups) == 0 && weight.size() == channels &&
            bias.size() == channels);
  std::vector<double> sums(channels);
  const auto gather = [&](const auto& term) {
    std::fill(sums.begin(), sums.end(), 0.0);
    for (std::int64_t row = 0; row < in.rows; ++row) {
      const float* values = in.f32(row);
      for (std::size_t channel = 0; channel < channels; ++channel) {
        sums[channel] += term(double{values[channel]}, channel);
      }
    }
    std::vector<double> of_groups(static_cast<std::size_t>(groups));
    for (std::size_t channel = 0; channel < channels; ++channel) {
      of_groups[channel / size] += sums[channel] / count;
    }
    return of_groups;
  };
  const std::vector<double> mean = gather([](double value, std::size_t) { return value; });
  std::vector<double> middle(channels);
  for (std::size_t channel = 0; channel < channels; ++channel) {
    middle[channel] = mean[channel / size];
  }
  const std::vector<double> variance = gather([&](double value, std::size_t channel) {
    return (value - middle[channel]) * (value - middle[channel]);
  });
  std::vector<float> scale(channels);
  std::vector<float> shift(channels);
  for (std::size_t channel = 0; channel < channels; ++channel) {
    const double factor = double{weight[channel]} / std::sqrt(variance[channel / size] + kEpsilon);
    scale[channel] = static_cast<float>(factor);
    shift[channel] = static_cast<float>(double{bias[channel]} - middle[channel] * factor);
  }
  for (std::int64_t row = 0; row < in.rows; ++row) {
    const float* from = in.f32(row);
    float* to = out.f32(row);
    for (std::size_t channel = 0; channel < channels; ++channel) {
      to[channel] = from[channel] * scale[channel] + shift[channel];
    }
  }
}

Result<std::unique_ptr<KlVae>> KlVae::Load(const CheckpointFolder& folder,
                                           kernels::Operators& operators,
                                           kernels::ComputeType compute) {
  PX_TRY(const wire::Json json, ReadPartConfig(folder, "config.json"));
  PX_TRY(KlVaeConfig config, ParseKlVaeConfig(json, folder.path() + "/config.json"));
  PX_TRY(const Checkpoint checkpoint, Checkpoint::Open(folder, "diffusion_pytorch_model"));
  auto vae = std::make_unique<KlVae>(CreateOnly{}, std::move(config), operators);
  WeightReader reader(checkpoint, folder.path(), operators, vae->vectors_, compute);
  PX_CHECK_OK(vae->Prepare(reader));
  reader.Ignore("encoder.");
  reader.Ignore("quant_conv.");
  PX_CHECK_OK(reader.CheckAllRead());
  return vae;
}

Result<KlVae::LinearPointer> KlVae::ReadConvolution(const std::string& name, const Sizes& sizes,
                                                    WeightReader& reader) {
  return reader.Convolution(
      {.name = name, .outputs = sizes.outputs, .channels = sizes.channels, .kernel = {3, 3}});
}

Result<KlVae::ResidualBlock> KlVae::ReadResidual(const std::string& name, const Sizes& sizes,
                                                 WeightReader& reader) {
  ResidualBlock out;
  PX_TRY(out.norm1, reader.Norm(name + ".norm1", sizes.channels));
  PX_TRY(out.conv1, ReadConvolution(name + ".conv1", sizes, reader));
  PX_TRY(out.norm2, reader.Norm(name + ".norm2", sizes.outputs));
  PX_TRY(out.conv2, ReadConvolution(name + ".conv2", {sizes.outputs, sizes.outputs}, reader));
  if (sizes.channels != sizes.outputs) {
    PX_TRY(out.shortcut, reader.Linear({.parts = {{name + ".conv_shortcut", sizes.outputs}},
                                        .cols = sizes.channels,
                                        .trailing = {1, 1}}));
  }
  return out;
}

Result<void> KlVae::ReadAttention(const std::string& name, std::int64_t channels,
                                  WeightReader& reader) {
  PX_TRY(attention_.norm, reader.Norm(name + ".group_norm", channels));
  PX_TRY(attention_.qkv, reader.Linear({.parts = {{name + ".to_q", channels},
                                                  {name + ".to_k", channels},
                                                  {name + ".to_v", channels}},
                                        .cols = channels}));
  PX_TRY(attention_.out,
         reader.Linear({.parts = {{name + ".to_out.0", channels}}, .cols = channels}));
  return {};
}

Result<void> KlVae::Prepare(WeightReader& reader) {
  const std::int64_t z = config_.latent_channels;
  if (config_.post_quant) {
    PX_TRY(post_quant_,
           reader.Linear({.parts = {{"post_quant_conv", z}}, .cols = z, .trailing = {1, 1}}));
  }
  std::int64_t channels = config_.widths.back();
  PX_TRY(in_, ReadConvolution("decoder.conv_in", {channels, z}, reader));
  for (std::size_t i = 0; i < 2; ++i) {
    PX_TRY(middle_[i], ReadResidual(fmt::format("decoder.mid_block.resnets.{}", i),
                                    {channels, channels}, reader));
  }
  if (config_.attends) {
    PX_CHECK_OK(ReadAttention("decoder.mid_block.attentions.0", channels, reader));
  }
  const std::size_t count = config_.widths.size();
  for (std::size_t i = 0; i < count; ++i) {
    const std::string name = fmt::format("decoder.up_blocks.{}", i);
    const std::int64_t outputs = config_.widths[count - 1 - i];
    Level& level = levels_.emplace_back();
    for (std::int32_t j = 0; j <= config_.layers_per_block; ++j, channels = outputs) {
      PX_TRY(ResidualBlock block,
             ReadResidual(fmt::format("{}.resnets.{}", name, j), {outputs, channels}, reader));
      level.blocks.push_back(std::move(block));
    }
    if (i + 1 < count) {
      PX_TRY(level.up, ReadConvolution(name + ".upsamplers.0.conv", {outputs, outputs}, reader));
    }
  }
  PX_TRY(norm_out_, reader.Norm("decoder.conv_norm_out", channels));
  PX_TRY(out_, ReadConvolution("decoder.conv_out", {3, channels}, reader));
  return {};
}

KlVae::Plane KlVae::Make(const Volume& volume, std::int64_t channels) {
  return {.volume = volume,
          .channels = channels,
          .data = std::make_unique_for_overwrite<float[]>(
              static_cast<std::size_t>(volume.pixels() * channels))};
}

KlVae::Plane KlVae::Convolve(const kernels::LinearWeight& weight, const Plane& in,
                             std::int32_t upscale) {
  const kernels::ConvolutionShape shape = {.in = in.volume,
                                           .kernel = {1, 3, 3},
                                           .upscale = upscale,
                                           .pad_top = 1,
                                           .pad_bottom = 1,
                                           .pad_left = 1,
                                           .pad_right = 1};
  Plane out = Make(shape.out(), weight.out_features());
  operators_.Convolve(in.rows(), shape, weight, out.rows());
  return out;
}

KlVae::Plane KlVae::NormActivate(const NormWeights& norm, const Plane& in) {
  Plane out = Make(in.volume, in.channels);
  GroupNorm(in.rows(), config_.groups, norm.weight, norm.bias, out.rows());
  operators_.Activate(out.rows(), kernels::Activation::kSilu);
  return out;
}

KlVae::Plane KlVae::Run(const ResidualBlock& block, Plane in) {
  Plane mid = Convolve(*block.conv1, NormActivate(block.norm1, in));
  mid = NormActivate(block.norm2, mid);
  Plane out = Convolve(*block.conv2, mid);
  if (block.shortcut != nullptr) {
    mid = Make(in.volume, out.channels);
    operators_.Linear(in.rows(), *block.shortcut, mid.rows());
    in = std::move(mid);
  }
  operators_.Add(out.rows(), in.rows());
  return out;
}

/// All pixels look at each other, by one head.
Result<void> KlVae::Attend(Plane& plane) {
  const auto channels = static_cast<std::int32_t>(plane.channels);
  const auto pixels = static_cast<std::int32_t>(plane.volume.pixels());
  PX_TRY(LaneKeys keys, LaneKeys::Create(operators_, {.head_dim = channels, .tokens = pixels}));
  const Plane normed = Make(plane.volume, channels);
  const Plane qkv = Make(plane.volume, 3 * plane.channels);
  GroupNorm(plane.rows(), config_.groups, attention_.norm.weight, attention_.norm.bias,
            normed.rows());
  operators_.Linear(normed.rows(), *attention_.qkv, qkv.rows());
  keys.Store(operators_, 0, 0, qkv.rows().Columns(channels, channels),
             qkv.rows().Columns(2 * plane.channels, channels));
  keys.Attend(operators_,
              {.tokens = pixels, .scale = 1.0F / std::sqrt(static_cast<float>(channels))},
              qkv.rows().Columns(0, channels), normed.rows());
  const Plane out = Make(plane.volume, channels);
  operators_.Linear(normed.rows(), *attention_.out, out.rows());
  operators_.Add(plane.rows(), out.rows());
  return {};
}

Result<Pictures> KlVae::Decode(VaeStream& /*stream*/, std::span<const float> latent,
                               std::int32_t height, std::int32_t width) {
  const Volume volume{1, height, width};
  const std::int64_t pixels = volume.pixels();
  PX_ASSERT(std::ssize(latent) == config_.latent_channels * pixels);
  Plane plane = Make(volume, config_.latent_channels);
  for (std::int64_t channel = 0; channel < config_.latent_channels; ++channel) {
    for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
      plane.rows().f32(pixel)[channel] = latent[static_cast<std::size_t>(channel * pixels + pixel)];
    }
  }
  if (post_quant_ != nullptr) {
    Plane turned = Make(volume, config_.latent_channels);
    operators_.Linear(plane.rows(), *post_quant_, turned.rows());
    plane = std::move(turned);
  }
  plane = Convolve(*in_, plane);
  plane = Run(middle_[0], std::move(plane));
  if (config_.attends) {
    PX_CHECK_OK(Attend(plane));
  }
  plane = Run(middle_[1], std::move(plane));
  for (const Level& level : levels_) {
    for (const ResidualBlock& block : level.blocks) {
      plane = Run(block, std::move(plane));
    }
    if (level.up != nullptr) {
      plane = Convolve(*level.up, plane, 2);
    }
  }
  plane = Convolve(*out_, NormActivate(norm_out_, plane));
  Pictures out{.volume = plane.volume, .rgb = {}};
  out.rgb.assign(plane.data.get(), plane.data.get() + plane.volume.pixels() * 3);
  return out;
}

void KlVae::Denormalize(std::span<float> latents) const {
  const auto scale = static_cast<float>(config_.scaling_factor);
  const auto shift = static_cast<float>(config_.shift_factor);
  for (float& value : latents) {
    value = value / scale + shift;
  }
}

}  // namespace pixii::model
