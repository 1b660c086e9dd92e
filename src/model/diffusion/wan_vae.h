// Wan's causal video autoencoder: pictures to latents and back, a chunk of frames at a time.
//
// Thread: one caller. A stream keeps what its causal convolutions remember, the last two frames
// each has seen; frames before the first are zeros. The first chunk holds one frame and is never
// resampled in time; a later chunk holds one latent frame, which stands for `time_scale` pictures.
// So a stream's results are those of the whole video at once, with memory for one chunk.
// Layout: pictures and latents on the outside [channels, frames, height, width]; inside rows of
// pixels, channels last.
// Source: AutoencoderKLWan of diffusers (names, order, what the first chunk skips).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "kernels/operators.h"
#include "model/checkpoint_folder.h"
#include "model/diffusion/picture_vae.h"
#include "model/diffusion/rows.h"
#include "model/diffusion/weight_reader.h"

namespace pixii::model {

struct VaeConfig {
  std::int32_t base_dim = 0;
  std::int32_t decoder_base_dim = 0;
  std::int32_t z_dim = 0;
  std::int32_t res_blocks = 0;
  std::vector<std::int32_t> dim_mult;
  std::vector<bool> temporal_downsample;  // one fewer than dim_mult
  std::vector<float> latents_mean;        // [z_dim]
  std::vector<float> latents_std;

  /// Pictures' pixels for each of latents, down and across.
  std::int32_t space_scale() const { return 1 << (dim_mult.size() - 1); }

  /// Frames for each latent frame after the first.
  std::int32_t time_scale() const;
};

/// Errors: kUnsupported and kInvalidArgument with file, key and value.
Result<VaeConfig> ParseVaeConfig(const wire::Json& json, const std::string& file_name);

class WanVae final : public PictureVae {
  struct CreateOnly {};

 public:
  /// `operators` outlives the VAE. Errors: those of files and configs, with their places.
  static Result<std::unique_ptr<WanVae>> Load(const CheckpointFolder& folder,
                                              kernels::Operators& operators,
                                              kernels::ComputeType compute);

  /// Weights that nobody trained, for benches. Errors: kResourceExhausted.
  static Result<std::unique_ptr<WanVae>> Random(VaeConfig config, kernels::Operators& operators,
                                                kernels::ComputeType compute);

  WanVae(CreateOnly /*unused*/, VaeConfig config, kernels::Operators& operators)
      : config_(std::move(config)), operators_(operators), vectors_(operators) {}

  const VaeConfig& config() const { return config_; }

  VaeStream NewStream() const { return {}; }

  using Pictures = model::Pictures;

  std::int32_t latent_channels() const override { return config_.z_dim; }

  std::int32_t space_scale() const override { return config_.space_scale(); }

  /// Decodes the next latent frame [z_dim, height, width], of what the encoder gives: not
  /// normalised. Gives one picture for the first and time_scale for each other, in -1 .. 1 but for
  /// what overshoots, which is not clipped here.
  Result<Pictures> Decode(VaeStream& stream, std::span<const float> latent, std::int32_t height,
                          std::int32_t width) override;

  /// Encodes the next chunk of pictures [frames, height, width, 3] in -1 .. 1: one frame, then
  /// time_scale frames each. Returns the mean of one latent frame, [z_dim, height', width'].
  /// Pre: height and width are multiples of space_scale.
  Result<std::vector<float>> Encode(VaeStream& stream, std::span<const float> pictures,
                                    const kernels::Volume& volume);

  /// x * std + mean for each channel of [z_dim, ...]; and back.
  void Denormalize(std::span<float> latents) const override;
  void Normalize(std::span<float> latents) const;

 private:
  using LinearPointer = std::unique_ptr<kernels::LinearWeight>;

  /// Pixels in rows with room in front for what a convolution remembers.
  struct Frames {
    kernels::Volume volume;
    std::int64_t channels = 0;
    std::unique_ptr<float[]> data;
    std::int64_t capacity = 0;  // floats

    std::int64_t frame_size() const { return volume.frame_pixels() * channels; }

    /// With `history` frames in front.
    kernels::Matrix rows(std::int32_t history = 0) const;
  };

  struct Convolution {
    LinearPointer weight = {};
    kernels::Volume kernel;
    std::int32_t stride_frames = 1;
    std::int32_t stride = 1;
    std::int32_t upscale = 1;
    std::int32_t pad_before = 0;  // rows above and columns left
    std::int32_t pad_after = 0;
    std::int32_t history = 0;  // frames that it remembers
    std::size_t slot = 0;      // in VaeStream::histories_, if history is not 0
  };

  struct ResidualBlock {
    std::span<const float> norm1;
    Convolution conv1;
    std::span<const float> norm2;
    Convolution conv2;
    LinearPointer shortcut;  // or null
  };

  struct AttentionBlock {
    std::span<const float> norm;
    LinearPointer qkv;
    LinearPointer proj;
  };

  struct Resample {
    Convolution space;
    std::optional<Convolution> time;
    bool up = false;
  };

  struct Level {
    std::vector<ResidualBlock> blocks;
    std::optional<Resample> resample;
  };

  struct Middle {
    ResidualBlock first;
    AttentionBlock attention;
    ResidualBlock second;
  };

  struct Coder {
    Convolution in;
    std::vector<Level> levels;
    Middle middle;
    std::span<const float> norm_out;
    Convolution out;
    std::size_t slots = 0;
  };

  struct Causal {
    std::string name;
    std::int64_t outputs = 0;
    std::int64_t channels = 0;
  };

  Result<void> PrepareEncoder(WeightReader& reader);
  Result<void> PrepareDecoder(WeightReader& reader);
  Result<Convolution> MakeCausal(const Causal& wanted, WeightReader& reader, Coder& coder);
  Result<Convolution> MakeTime(const Causal& wanted, std::int32_t stride, WeightReader& reader,
                               Coder& coder);
  Result<ResidualBlock> MakeResidual(const Causal& wanted, WeightReader& reader, Coder& coder);
  Result<Middle> MakeMiddle(const std::string& prefix, std::int64_t channels, WeightReader& reader,
                            Coder& coder);
  Result<LinearPointer> MakePoint(const Causal& wanted, int rank, WeightReader& reader);

  Frames Take(const kernels::Volume& volume, std::int64_t channels);
  void Give(Frames frames);
  Frames Convolve(const Convolution& convolution, Frames in, VaeStream& stream);
  Frames NormActivate(std::span<const float> gamma, const Frames& in);
  Frames Run(const ResidualBlock& block, Frames in, VaeStream& stream);
  Result<void> Run(const AttentionBlock& block, Frames& frames);
  Result<Frames> Run(const Middle& middle, Frames in, VaeStream& stream);
  Frames Run(const Resample& resample, Frames in, VaeStream& stream);

  VaeConfig config_;
  kernels::Operators& operators_;
  VectorStore vectors_;
  Coder encoder_;
  Coder decoder_;
  LinearPointer quant_;
  LinearPointer post_quant_;
  std::vector<Frames> free_;  // memory to take
};

}  // namespace pixii::model
