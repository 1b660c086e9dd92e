// What turns latents into pictures, one latent frame at a time.
//
// Thread: one caller.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "kernels/convolution.h"

namespace pixii::model {

struct Pictures {
  kernels::Volume volume;
  std::vector<float> rgb;  // [frames, height, width, 3]
};

/// What a VAE remembers of one video. Made by it, for its decoder or its encoder.
class VaeStream final {
 public:
  bool begun() const { return begun_; }

 private:
  friend class WanVae;

  std::vector<std::vector<float>> histories_;  // by convolution; empty: zeros
  bool begun_ = false;                         // the first chunk is through
};

class PictureVae {
 public:
  virtual ~PictureVae() = default;

  /// Channels of latents.
  virtual std::int32_t latent_channels() const = 0;

  /// Pictures' pixels for each of latents, down and across.
  virtual std::int32_t space_scale() const = 0;

  /// Latents of [latent_channels, ...] as the transformer sees them to what Decode takes.
  virtual void Denormalize(std::span<float> latents) const = 0;

  /// Decodes the next latent frame [latent_channels, height, width], in -1 .. 1 but for what
  /// overshoots, which is not clipped here. Errors: kResourceExhausted.
  virtual Result<Pictures> Decode(VaeStream& stream, std::span<const float> latent,
                                  std::int32_t height, std::int32_t width) = 0;
};

}  // namespace pixii::model
