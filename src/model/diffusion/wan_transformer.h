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
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "kernels/operators.h"
#include "model/checkpoint_folder.h"
#include "model/diffusion/denoise_lanes.h"
#include "model/diffusion/lane_attention.h"
#include "model/diffusion/rows.h"
#include "model/diffusion/sequence_ranks.h"
#include "model/diffusion/weight_reader.h"
#include "model/tensor_ranks.h"

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
  std::int32_t image_dim = 0;  // features of a picture's tokens; 0: it sees none

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

/// How a rank reaches the others; null where there is none. They may change between steps.
struct WanLinks {
  RankLinks tensor;                         // those that hold the same tokens
  kernels::Collective* sequence = nullptr;  // those that hold the same weights
};

/// Where a rank stands among those that compute one pass together: tensor ranks cut each block's
/// heads and features, sequence ranks (Ulysses) each lane's tokens. Results have one rank's bits.
struct WanPlace {
  std::int32_t tensor_rank = 0;
  std::int32_t tensor_count = 1;  // 1, 2, 4 or 8
  std::int32_t sequence_rank = 0;
  std::int32_t sequence_count = 1;
  const WanLinks* links = nullptr;  // outlives the transformer; null: there are no others
};

/// Errors: kInvalidArgument naming tensor-parallel-size or dit-ulysses-size, its value and what the
/// model has.
Result<void> CheckPlace(const WanConfig& config, const WanPlace& place);

/// The texts of all lanes: keys and values of every block's cross-attention, which stay the same
/// from step to step.
class WanText final {
 public:
  explicit WanText(LaneKeys keys) : keys_(std::move(keys)) {}

  std::int32_t lanes() const { return keys_.shape().lanes; }

 private:
  friend class WanTransformer;

  LaneKeys keys_;
  std::optional<LaneKeys> picture_keys_;  // of the picture that a video begins with
};

struct WanPass : DenoisePass {
  kernels::Volume latents;  // extents
  kernels::Volume grid;     // of tokens
  RotaryFactors rotary;
  RowRange own;                         // tokens of each lane that this rank computes
  std::vector<std::int32_t> positions;  // [lanes * tokens] of own
  std::vector<float> modulation;        // [lanes, 6 * dim] of blocks, without their tables

  std::int64_t tokens() const { return SizeOf(own); }

  std::int64_t all_tokens() const { return grid.pixels(); }
};

class WanTransformer final {
  struct CreateOnly {};

 public:
  /// `operators` outlives the transformer. Errors: those of files and configs, with their places.
  static Result<std::unique_ptr<WanTransformer>> Load(const CheckpointFolder& folder,
                                                      kernels::Operators& operators,
                                                      kernels::ComputeType compute,
                                                      const WanPlace& place = {},
                                                      LoraMerger* loras = nullptr);

  /// Another rank that computes with this one's weights; this one outlives it. Pre: `place` has
  /// this one's tensor_rank and tensor_count, `operators` its numerics.
  std::unique_ptr<WanTransformer> Twin(kernels::Operators& operators, const WanPlace& place) const;

  /// Weights that nobody trained, for benches. Errors: kResourceExhausted.
  static Result<std::unique_ptr<WanTransformer>> Random(const WanConfig& config,
                                                        kernels::Operators& operators,
                                                        kernels::ComputeType compute);

  WanTransformer(CreateOnly /*unused*/, const WanConfig& config, kernels::Operators& operators,
                 kernels::ComputeType compute, const WanPlace& place)
      : config_(config),
        operators_(operators),
        vectors_(operators),
        compute_(compute),
        place_(place),
        tensor_({.share = {.tensor_rank = place.tensor_rank, .tensor_count = place.tensor_count},
                 .links = place.links != nullptr ? &place.links->tensor : nullptr},
                0),
        sequence_(place.sequence_rank, place.sequence_count) {}

  const WanConfig& config() const { return config_; }

  /// `rows` [lanes * tokens, text_dim]: the text encoder's, zeros behind each text's end.
  Result<WanText> MakeText(std::span<const float> rows, std::int32_t lanes, std::int32_t tokens);

  /// Adds the pictures' tokens, [lanes * tokens, image_dim], to what blocks look at. Pre:
  /// config().image_dim is not 0. Errors: kResourceExhausted; those of the links.
  Result<void> AddPictures(std::span<const float> rows, std::int32_t tokens, WanText& text);

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

  /// Velocities as patches of the rank's own tokens [lanes * tokens, patch_out]; valid until the
  /// next call. Pre: the blocks ran, or their result stands in rows and delta.
  kernels::Matrix FinishRows(WanPass& pass);

  /// Patches of all tokens of a lane to its velocity [out_channels, latents].
  void PlacePatches(const WanPass& pass, const kernels::Matrix& patches,
                    std::span<float> velocity) const;

  /// Writes velocities [lanes, out_channels, latents]. Pre: as FinishRows; all tokens are own.
  void Finish(WanPass& pass, std::span<float> velocity);

 private:
  using LinearPointer = std::unique_ptr<kernels::LinearWeight>;

  struct Attention {
    LinearPointer qkv;  // of cross-attention: q
    LinearPointer kv;   // of cross-attention
    LinearPointer o;
    std::span<const float> o_bias;  // where ranks sum, else a part of `o`
    std::span<const float> norm_q;
    std::span<const float> norm_k;
    LinearPointer picture_kv;  // of cross-attention to a picture
    std::span<const float> norm_picture_k;
  };

  struct Block {
    std::vector<float> table;  // [6, dim]
    Attention self;
    Attention cross;
    NormWeights cross_norm;
    LinearPointer up;
    LinearPointer down;
    std::span<const float> down_bias;  // as o_bias
  };

  /// Columns of heads and features that the rank has, and their shards of K.
  SumCut HeadCut() const { return CutSum(config_.dim(), place_.tensor_rank, place_.tensor_count); }

  SumCut FeatureCut() const {
    return CutSum(config_.ffn_dim, place_.tensor_rank, place_.tensor_count);
  }

  std::int64_t own_dim() const { return config_.dim() / place_.tensor_count; }

  std::int32_t own_heads() const { return config_.heads / place_.tensor_count; }

  kernels::KvDType key_type() const {
    return compute_ == kernels::ComputeType::kF32 ? kernels::KvDType::kF32
                                                  : kernels::KvDType::kBf16;
  }

  Result<void> PrepareWeights(WeightReader& reader);
  Result<Block> PrepareBlock(const std::string& prefix, WeightReader& reader);
  Result<void> PreparePictures(WeightReader& reader);
  Result<void> PrepareSum(const std::string& name, const SumCut& cut, std::int64_t cols,
                          WeightReader& reader, LinearPointer& weight,
                          std::span<const float>& bias);
  void SumLinear(const kernels::Matrix& in, const kernels::LinearWeight& weight,
                 std::span<const float> bias, const kernels::Matrix& out);
  void NormAcross(const kernels::Matrix& in, std::span<const float> weight,
                  const kernels::Matrix& out);
  void NormRows(std::int32_t shift, WanPass& pass, const RowRange& range,
                const kernels::Matrix& normed);
  void GateDelta(std::int32_t gate, const WanPass& pass, const RowRange& range);
  void SelfAttention(const Block& block, WanPass& pass, const kernels::Matrix& q,
                     const kernels::Matrix& kv);
  Result<void> Attend(const WanPass& pass, const kernels::Matrix& q, const kernels::Matrix& kv,
                      const kernels::Matrix& mixed);
  void FeedForward(const Block& block, WanPass& pass);
  void FillFactors(std::span<const float> table, std::span<const float> modulation,
                   std::int32_t lanes);
  template <class Function>
  void ForRows(const WanPass& pass, const Function& function);
  template <class Function>
  void ForLanes(const WanPass& pass, const RowRange& rows, const Function& function);

  WanConfig config_;
  kernels::Operators& operators_;
  VectorStore vectors_;
  kernels::ComputeType compute_;
  WanPlace place_;
  TensorRanks tensor_;
  SequenceRanks sequence_;
  const WanTransformer* weights_ = this;  // whose weights it computes with

  LinearPointer patch_embedding_;
  LinearPointer time_1_;
  LinearPointer time_2_;
  LinearPointer time_projection_;
  LinearPointer text_1_;
  LinearPointer text_2_;
  NormWeights picture_norm_1_;  // of tokens of pictures
  LinearPointer picture_1_;
  LinearPointer picture_2_;
  NormWeights picture_norm_2_;
  LinearPointer out_;
  std::vector<float> out_table_;  // [2, dim]
  std::vector<Block> blocks_;

  // Scratch of a call.
  std::unique_ptr<LaneKeys> self_keys_;
  // [6, lanes, dim] shift, 1 + scale, gate of attention, then of feed-forward.
  std::vector<float> factors_;
  RowMemory q_memory_;
  RowMemory kv_memory_;
  RowMemory heads_memory_[2];
  RowMemory mixed_memory_;
  RowMemory picture_memory_;
  RowMemory normed_memory_;
  RowMemory wide_memory_;
};

}  // namespace pixii::model
