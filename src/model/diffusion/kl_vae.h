// The picture autoencoder of FLUX and Stable Diffusion, as far as pictures are made: its decoder.
//
// Thread: one caller. Layout: latents [channels, height, width]; inside rows of pixels, channels
// last. Source: AutoencoderKL of diffusers (names, order).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "kernels/operators.h"
#include "model/checkpoint_folder.h"
#include "model/diffusion/picture_vae.h"
#include "model/diffusion/weight_reader.h"

namespace pixii::model {

struct KlVaeConfig {
  std::int32_t latent_channels = 4;
  std::vector<std::int32_t> widths;  // of levels, the picture's first
  std::int32_t layers_per_block = 2;
  std::int32_t groups = 32;  // of norms
  double scaling_factor = 1.0;
  double shift_factor = 0.0;
  bool post_quant = true;  // a convolution of one pixel before the decoder
  bool attends = true;     // between the two blocks in the middle

  std::int32_t space_scale() const { return 1 << (widths.size() - 1); }
};

/// Errors: kUnsupported and kInvalidArgument with file, key and value.
Result<KlVaeConfig> ParseKlVaeConfig(const wire::Json& json, const std::string& file_name);

/// out = (in - mean) / deviation * weight + bias, mean and deviation over all rows and the columns
/// of a group. Sums in fp64, in order of the rows.
void GroupNorm(const kernels::Matrix& in, std::int32_t groups, std::span<const float> weight,
               std::span<const float> bias, const kernels::Matrix& out);

class KlVae final : public PictureVae {
  struct CreateOnly {};

 public:
  /// `operators` outlives the VAE. Errors: those of files and configs, with their places.
  static Result<std::unique_ptr<KlVae>> Load(const CheckpointFolder& folder,
                                             kernels::Operators& operators,
                                             kernels::ComputeType compute);

  KlVae(CreateOnly /*unused*/, KlVaeConfig config, kernels::Operators& operators)
      : config_(std::move(config)), operators_(operators), vectors_(operators) {}

  const KlVaeConfig& config() const { return config_; }

  std::int32_t latent_channels() const override { return config_.latent_channels; }

  std::int32_t space_scale() const override { return config_.space_scale(); }

  void Denormalize(std::span<float> latents) const override;

  /// One picture; a stream remembers nothing.
  Result<Pictures> Decode(VaeStream& stream, std::span<const float> latent, std::int32_t height,
                          std::int32_t width) override;

 private:
  using LinearPointer = std::unique_ptr<kernels::LinearWeight>;

  struct Plane {
    kernels::Volume volume;
    std::int64_t channels = 0;
    std::unique_ptr<float[]> data;

    kernels::Matrix rows() const {
      return {data.get(), kernels::DType::kF32, volume.pixels(), channels, channels};
    }
  };

  struct ResidualBlock {
    NormWeights norm1;
    LinearPointer conv1;
    NormWeights norm2;
    LinearPointer conv2;
    LinearPointer shortcut;  // or null
  };

  struct AttentionBlock {
    NormWeights norm;
    LinearPointer qkv;
    LinearPointer out;
  };

  struct Level {
    std::vector<ResidualBlock> blocks;
    LinearPointer up;  // or null
  };

  struct Sizes {
    std::int64_t outputs = 0;
    std::int64_t channels = 0;
  };

  Result<void> Prepare(WeightReader& reader);
  static Result<LinearPointer> ReadConvolution(const std::string& name, const Sizes& sizes,
                                               WeightReader& reader);
  Result<ResidualBlock> ReadResidual(const std::string& name, const Sizes& sizes,
                                     WeightReader& reader);
  Result<void> ReadAttention(const std::string& name, std::int64_t channels, WeightReader& reader);

  static Plane Make(const kernels::Volume& volume, std::int64_t channels);
  Plane Convolve(const kernels::LinearWeight& weight, const Plane& in, std::int32_t upscale = 1);
  Plane NormActivate(const NormWeights& norm, const Plane& in);
  Plane Run(const ResidualBlock& block, Plane in);
  Result<void> Attend(Plane& plane);

  KlVaeConfig config_;
  kernels::Operators& operators_;
  VectorStore vectors_;
  LinearPointer post_quant_;
  LinearPointer in_;
  ResidualBlock middle_[2];
  AttentionBlock attention_;
  std::vector<Level> levels_;
  NormWeights norm_out_;
  LinearPointer out_;
};

}  // namespace pixii::model
