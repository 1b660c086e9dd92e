// Decodes pictures in overlapping tiles, whose edges are blended: memory is that of a tile, at the
// price of what a tile does not see of its neighbours.
//
// Thread: one caller, that of the VAE.
// Source: AutoencoderKLWan's tiled decode of diffusers: linear blending of a tile's first rows and
// columns with the end of the tile above and to the left.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "model/diffusion/picture_vae.h"

namespace pixii::model {

/// In pixels of the pictures; rounded down to whole latents.
struct TileOptions {
  std::int32_t size = 0;    // of a tile, down and across; 0: all at once
  std::int32_t stride = 0;  // from one tile to the next, at most the size
};

/// Pictures [frames, height, width, 3] of a tile.
using Tile = Pictures;

/// The first `extent` rows (or columns) of `to` become mixtures of the last ones of `before`: the
/// first all of it, then ever less. Tiles have equally many frames and, across the seam, equal
/// sides.
void BlendDown(const Tile& before, std::int32_t extent, Tile& to);
void BlendAcross(const Tile& before, std::int32_t extent, Tile& to);

class TiledDecoder final {
 public:
  /// Latents of `height` x `width`. `vae` outlives the decoder.
  TiledDecoder(PictureVae& vae, const TileOptions& options, std::int32_t height,
               std::int32_t width);

  std::size_t tile_count() const { return streams_.size(); }

  /// Pictures of the next latent frame [z_dim, height, width], in -1 .. 1. Errors:
  /// PictureVae::Decode's.
  Result<Pictures> Decode(std::span<const float> latent);

 private:
  Result<Tile> DecodeTile(std::span<const float> latent, std::size_t row, std::size_t column);

  PictureVae& vae_;
  std::int32_t height_;
  std::int32_t width_;
  std::int32_t size_;    // of a tile, in latents
  std::int32_t stride_;  // likewise
  std::size_t rows_;     // of tiles
  std::size_t columns_;
  std::vector<VaeStream> streams_;  // [rows, columns]
};

}  // namespace pixii::model
