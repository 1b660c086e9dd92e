// FLUX.1's diffusion transformer: from noisy latents, a text's rows and its pooled vector to the
// velocity of the noise.
//
// Blocks of the first kind have weights of their own for text and picture, which attend together;
// those of the second kind treat both alike, with attention beside the feed-forward.
//
// Thread: one caller. Lanes are requests. A lane's bits depend on its own latents and text alone.
// Layout: latents [channels, 1, height, width]; a token is two by two of them, channel by channel.
// A lane's rows are its text's tokens, then the picture's. Numerics: norms, rotary factors and
// embeddings of time in fp32; blocks' modulation, a quarter of all weights, as their linears.
// Source: FluxTransformer2DModel of diffusers (names,
// order of factors).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "kernels/operators.h"
#include "model/checkpoint_folder.h"
#include "model/diffusion/denoise_lanes.h"
#include "model/diffusion/lane_attention.h"
#include "model/diffusion/rows.h"
#include "model/diffusion/wan_transformer.h"
#include "model/diffusion/weight_reader.h"

namespace pixii::model {

struct FluxConfig {
  std::int32_t heads = 24;
  std::int32_t head_dim = 128;
  std::int32_t double_blocks = 19;
  std::int32_t single_blocks = 38;
  std::int32_t in_channels = 64;  // of a token
  std::int32_t text_dim = 4096;
  std::int32_t pooled_dim = 768;
  bool guided = false;             // it is told the guidance
  std::vector<std::int32_t> axes;  // elements of a head that turn by 0, row and column

  std::int32_t dim() const { return heads * head_dim; }

  std::int32_t latent_channels() const { return in_channels / 4; }
};

/// Errors: kUnsupported and kInvalidArgument with file, key and value.
Result<FluxConfig> ParseFluxConfig(const wire::Json& json, const std::string& file_name);

/// Factors of `text_tokens` tokens that do not turn, then those of a grid of height x width.
RotaryFactors FluxRotary(std::int32_t text_tokens, const kernels::Volume& grid,
                         std::span<const std::int32_t> axes);

struct FluxPass : DenoisePass {
  kernels::Volume latents;  // extents
  kernels::Volume grid;     // of a picture's tokens
  std::int32_t text_tokens = 0;
  RotaryFactors rotary;
  std::vector<std::int32_t> positions;  // [tokens] 0, 1, ...
  std::vector<float> context;           // [lanes, text_tokens, dim] embedded texts
  std::vector<float> pooled;            // [lanes, dim] embedded vectors
  std::vector<float> condition;         // [lanes, dim] of time, guidance and text, activated

  /// Of a lane.
  std::int64_t tokens() const { return text_tokens + grid.pixels(); }
};

class FluxTransformer final {
  struct CreateOnly {};

 public:
  /// `operators` outlives the transformer. Errors: those of files and configs, with their places.
  static Result<std::unique_ptr<FluxTransformer>> Load(const CheckpointFolder& folder,
                                                       kernels::Operators& operators,
                                                       kernels::ComputeType compute,
                                                       LoraMerger* loras = nullptr);

  FluxTransformer(CreateOnly /*unused*/, FluxConfig config, kernels::Operators& operators,
                  kernels::ComputeType compute)
      : config_(std::move(config)), operators_(operators), vectors_(operators), compute_(compute) {}

  const FluxConfig& config() const { return config_; }

  std::int32_t block_count() const { return config_.double_blocks + config_.single_blocks; }

  /// Errors: kInvalidArgument; kTooLarge.
  Result<void> CheckLatents(const kernels::Volume& latents, std::int32_t lanes,
                            std::int32_t text_tokens) const;

  struct Texts {
    std::span<const float> rows;    // [lanes * tokens, text_dim]
    std::span<const float> pooled;  // [lanes, pooled_dim]
    std::int32_t lanes = 1;
    std::int32_t tokens = 0;
  };

  /// Fits `pass` to latents of these extents and embeds the texts. Pre: CheckLatents passed.
  void Prepare(const kernels::Volume& latents, const Texts& texts, FluxPass& pass);

  /// Begins a pass over `latents` [lanes, channels, latents]; `guidance` by lane.
  void Begin(std::span<const float> latents, float timestep, std::span<const float> guidance,
             FluxPass& pass);

  /// Runs the next block. Errors: kResourceExhausted.
  Result<void> RunBlock(FluxPass& pass);

  /// Writes velocities [lanes, channels, latents].
  void Finish(FluxPass& pass, std::span<float> velocity);

 private:
  using LinearPointer = std::unique_ptr<kernels::LinearWeight>;

  /// Of a double block: text or picture.
  struct Stream {
    LinearPointer modulation;  // 6 * dim
    LinearPointer qkv;
    std::span<const float> norm_q;  // of a head
    std::span<const float> norm_k;
    LinearPointer o;
    LinearPointer up;
    LinearPointer down;
  };

  struct DoubleBlock {
    Stream picture;
    Stream text;
  };

  struct SingleBlock {
    LinearPointer modulation;  // 3 * dim
    LinearPointer qkv;
    std::span<const float> norm_q;
    std::span<const float> norm_k;
    LinearPointer up;
    LinearPointer out;  // of attention and feed-forward side by side
  };

  /// Two linears around a SiLU.
  struct Embedder {
    LinearPointer first;
    LinearPointer second;
  };

  struct StreamNames {
    const char* norm;
    const char* q;
    const char* k;
    const char* v;
    const char* norm_q;
    const char* norm_k;
    const char* o;
    const char* feed_forward;
  };

  /// Rows of one stream of a lane.
  struct Part {
    const Stream* stream;
    std::int32_t lane;
    std::int64_t begin;
    std::int64_t count;
  };

  Result<void> PrepareWeights(WeightReader& reader);
  static Result<Embedder> PrepareEmbedder(const std::string& name, std::int64_t in,
                                          std::int64_t dim, WeightReader& reader);
  Result<Stream> PrepareStream(const std::string& prefix, const StreamNames& names,
                               WeightReader& reader) const;
  Result<SingleBlock> PrepareSingle(const std::string& prefix, WeightReader& reader) const;
  void Embed(const Embedder& embedder, const kernels::Matrix& in, const kernels::Matrix& out);
  Result<void> ReserveKeys(const FluxPass& pass);
  void RunDouble(const DoubleBlock& block, FluxPass& pass);
  void RunSingle(const SingleBlock& block, FluxPass& pass);
  void QueriesOf(const kernels::LinearWeight& qkv, std::span<const float> norm_q,
                 std::span<const float> norm_k, const FluxPass& pass, const Part& rows,
                 const kernels::Matrix& normed);
  void Attend(const FluxPass& pass);
  void FeedForward(const Part& part, FluxPass& pass);
  /// Factors of a lane: 1 is added to those that scale.
  void FillFactors(const kernels::LinearWeight& modulation, const FluxPass& pass, std::int32_t lane,
                   std::uint32_t scales);
  std::span<const float> Factor(std::int32_t index) const;

  FluxConfig config_;
  kernels::Operators& operators_;
  VectorStore vectors_;
  kernels::ComputeType compute_;

  LinearPointer patch_embedding_;
  LinearPointer context_embedding_;
  Embedder time_;
  Embedder guidance_;  // of models that are told it
  Embedder pooled_;
  LinearPointer out_modulation_;  // scale, then shift
  LinearPointer out_;
  std::vector<DoubleBlock> double_blocks_;
  std::vector<SingleBlock> single_blocks_;

  // Scratch of a call.
  std::unique_ptr<LaneKeys> keys_;
  std::vector<float> factors_;
  std::vector<float> zeros_;
  RowMemory q_memory_;
  RowMemory mixed_memory_;
  RowMemory normed_memory_;
  RowMemory wide_memory_;
};

}  // namespace pixii::model
