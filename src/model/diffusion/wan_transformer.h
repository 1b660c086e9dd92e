// Wan's diffusion transformer: from noisy latents and a text to the velocity of the noise.
//
// Thread: one caller. Lanes are what is computed side by side: requests, each with and without its
// text. A lane's bits depend on its own latents, timestep and text alone.
// Layout: latents [channels, frames, height, width]; a token is a patch of them, frame by frame,
// row by row. Numerics: modulation, norms, rotary factors and the time embedding in fp32. Source:
// Wan 2.1's transformer as diffusers stores it (names, order of factors).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "kernels/operators.h"
#include "model/checkpoint_folder.h"
#include "model/diffusion/lane_attention.h"
#include "model/diffusion/rows.h"
#include "model/diffusion/weight_reader.h"

namespace pixii::model {

struct WanConfig {
  std::int32_t heads = 0;
  std::int32_t head_dim = 0;
  std::int32_t layers = 0;
  std::int32_t ffn_dim = 0;
  std::int32_t in_channels = 0;
  std::int32_t out_channels = 0;
  kernels::Volume patch;
  std::int32_t text_dim = 0;
  std::int32_t freq_dim = 0;
  float epsilon = 1e-6F;

  std::int32_t dim() const { return heads * head_dim; }

  /// Values of a token in and out.
  std::int64_t patch_in() const { return in_channels * patch.pixels(); }

  std::int64_t patch_out() const { return out_channels * patch.pixels(); }
};

/// Errors: kUnsupported and kInvalidArgument with file, key and value.
Result<WanConfig> ParseWanConfig(const wire::Json& json, const std::string& file_name);

/// cos and sin [tokens of `grid`, head_dim / 2] of a token's frame, row and column, one behind the
/// other: rows and columns take 2 * (head_dim / 6) elements of a head each, frames the rest.
struct RotaryFactors {
  std::vector<float> cos;
  std::vector<float> sin;
};

RotaryFactors WanRotary(const kernels::Volume& grid, std::int32_t head_dim);

/// cos, then sin of timestep * 10000^(-i / half), half = size / 2.
std::vector<float> TimestepWave(float timestep, std::int32_t size);

/// Most tokens of all lanes of a forward pass.
inline constexpr std::int64_t kDiffusionTokensMax = std::int64_t{1} << 22;

/// The texts of all lanes: keys and values of every block's cross-attention, which stay the same
/// from step to step.
class WanText final {
 public:
  explicit WanText(LaneKeys keys) : keys_(std::move(keys)) {}

  std::int32_t lanes() const { return keys_.shape().lanes; }

 private:
  friend class WanTransformer;

  LaneKeys keys_;
};

/// One forward pass, on its way through the blocks. Its memory is its own, so that others may run
/// between two blocks.
struct WanPass {
  kernels::Volume latents;  // extents
  kernels::Volume grid;     // of tokens
  std::int32_t lanes = 0;
  std::int32_t next_block = 0;
  RotaryFactors rotary;
  std::vector<std::int32_t> positions;  // [tokens] 0, 1, ...
  std::vector<float> time;              // [lanes, dim] embedding of each timestep
  std::vector<float> modulation;        // [lanes, 6 * dim] of blocks, without their tables
  RowMemory rows_memory;
  RowMemory delta_memory;
  kernels::Matrix rows;   // [lanes * tokens, dim] residual stream
  kernels::Matrix delta;  // what the last block adds to it

  std::int64_t tokens() const { return grid.pixels(); }
};

class WanTransformer final {
  struct CreateOnly {};

 public:
  /// `operators` outlives the transformer. Errors: those of files and configs, with their places.
  static Result<std::unique_ptr<WanTransformer>> Load(const CheckpointFolder& folder,
                                                      kernels::Operators& operators,
                                                      kernels::ComputeType compute);

  WanTransformer(CreateOnly /*unused*/, const WanConfig& config, kernels::Operators& operators,
                 kernels::ComputeType compute)
      : config_(config), operators_(operators), vectors_(operators), compute_(compute) {}

  const WanConfig& config() const { return config_; }

  /// `rows` [lanes * tokens, text_dim]: the text encoder's, zeros behind each text's end.
  Result<WanText> MakeText(std::span<const float> rows, std::int32_t lanes, std::int32_t tokens);

  /// Whether latents of these extents can be cut into patches. Errors: kInvalidArgument; kTooLarge.
  Result<void> CheckLatents(const kernels::Volume& latents, std::int32_t lanes) const;

  /// Fits `pass` to latents of these extents. Pre: CheckLatents passed.
  void Prepare(const kernels::Volume& latents, std::int32_t lanes, WanPass& pass) const;

  /// Begins a pass: embeds `latents` [lanes, in_channels, latents] and each lane's timestep.
  void Begin(std::span<const float> latents, std::span<const float> timesteps, WanPass& pass);

  bool done(const WanPass& pass) const { return pass.next_block == config_.layers; }

  /// Runs the next block. Pre: !done(pass); `text` has the pass's lanes. Errors:
  /// kResourceExhausted.
  Result<void> RunBlock(WanText& text, WanPass& pass);

  /// Writes velocities [lanes, out_channels, latents]. Pre: the blocks ran, or their result stands
  /// in rows and delta.
  void Finish(WanPass& pass, std::span<float> velocity);

 private:
  using LinearPointer = std::unique_ptr<kernels::LinearWeight>;

  struct Attention {
    LinearPointer qkv;  // of cross-attention: q
    LinearPointer kv;   // of cross-attention
    LinearPointer o;
    std::span<const float> norm_q;
    std::span<const float> norm_k;
  };

  struct Block {
    std::vector<float> table;  // [6, dim]
    Attention self;
    Attention cross;
    std::span<const float> cross_norm;
    std::span<const float> cross_norm_bias;
    LinearPointer up;
    LinearPointer down;
  };

  Result<void> PrepareWeights(WeightReader& reader);
  Result<Block> PrepareBlock(const std::string& prefix, WeightReader& reader);
  void SelfAttention(const Block& block, WanPass& pass, std::int32_t lane,
                     const kernels::Matrix& q);
  void FeedForward(const Block& block, WanPass& pass, std::int32_t lane);
  void FillFactors(std::span<const float> table, std::span<const float> modulation);
  std::span<const float> Factor(std::int32_t index) const;
  template <class Function>
  void ForRows(std::int64_t begin, std::int64_t end, const Function& function);

  WanConfig config_;
  kernels::Operators& operators_;
  VectorStore vectors_;
  kernels::ComputeType compute_;

  LinearPointer patch_embedding_;
  LinearPointer time_1_;
  LinearPointer time_2_;
  LinearPointer time_projection_;
  LinearPointer text_1_;
  LinearPointer text_2_;
  LinearPointer out_;
  std::vector<float> out_table_;  // [2, dim]
  std::vector<Block> blocks_;

  // Scratch of a call.
  std::unique_ptr<LaneKeys> self_keys_;
  std::vector<float>
      factors_;  // [6, dim] shift, 1 + scale, gate of attention, then of feed-forward
  RowMemory q_memory_;
  RowMemory mixed_memory_;
  RowMemory normed_memory_;
  RowMemory wide_memory_;
};

}  // namespace pixii::model
