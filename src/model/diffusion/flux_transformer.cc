#include "model/diffusion/flux_transformer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/assert.h"
#include "model/config_reader.h"

namespace pixii::model {
namespace {

using kernels::Matrix;
using kernels::Volume;

constexpr std::int64_t kRowsAtOnce = 2048;  // whose wide intermediate values live at one time
constexpr double kRotaryBase = 10000.0;
constexpr float kEpsilon = 1e-6F;        // of all norms
constexpr std::int32_t kWaveSize = 256;  // of timesteps and guidance
constexpr std::int32_t kPatchSide = 2;   // latents
constexpr std::int32_t kPatchPixels = kPatchSide * kPatchSide;
constexpr std::int64_t kFeedForwardRatio = 4;

Matrix RowsOf(std::span<float> values, std::int64_t cols) {
  return {values.data(), kernels::DType::kF32, std::ssize(values) / cols, cols, cols};
}

/// Operators take what they read and what they write alike.
Matrix Readable(std::span<const float> values, std::int64_t cols) {
  return RowsOf({const_cast<float*>(values.data()), values.size()}, cols);
}

/// Calls function(token, column, index into the latents) for every value of a lane.
template <class Function>
void ForPatches(const FluxPass& pass, std::int32_t channels, const Function& function) {
  std::int64_t index = 0;
  for (std::int32_t channel = 0; channel < channels; ++channel) {
    for (std::int32_t y = 0; y < pass.latents.height; ++y) {
      for (std::int32_t x = 0; x < pass.latents.width; ++x, ++index) {
        const std::int64_t token = std::int64_t{y / kPatchSide} * pass.grid.width + x / kPatchSide;
        function(token, channel * kPatchPixels + y % kPatchSide * kPatchSide + x % kPatchSide,
                 index);
      }
    }
  }
}

/// function(first, count) over rows begin .. begin + count - 1, kRowsAtOnce at a time.
template <class Function>
void ForRows(std::int64_t begin, std::int64_t count, const Function& function) {
  for (std::int64_t first = begin; first < begin + count; first += kRowsAtOnce) {
    function(first, std::min(kRowsAtOnce, begin + count - first));
  }
}

}  // namespace

Result<FluxConfig> ParseFluxConfig(const wire::Json& json, const std::string& file_name) {
  const ConfigReader reader(json, file_name);
  FluxConfig out;
  const auto read = [&](std::string_view key, IntRange range, std::int32_t& to) -> Result<void> {
    PX_TRY(const std::int64_t value, reader.Int(key, range, to));
    to = static_cast<std::int32_t>(value);
    return {};
  };
  PX_CHECK_OK(read("num_attention_heads", {1, 1024}, out.heads));
  PX_CHECK_OK(read("attention_head_dim", {2, kernels::kHeadDimMax}, out.head_dim));
  PX_CHECK_OK(read("num_layers", {0, 1024}, out.double_blocks));
  PX_CHECK_OK(read("num_single_layers", {0, 1024}, out.single_blocks));
  PX_CHECK_OK(read("in_channels", {4, 4096}, out.in_channels));
  PX_CHECK_OK(read("joint_attention_dim", {1, 1 << 16}, out.text_dim));
  PX_CHECK_OK(read("pooled_projection_dim", {1, 1 << 16}, out.pooled_dim));
  PX_TRY(out.guided, reader.Bool("guidance_embeds", false));
  PX_TRY(const std::int64_t patch, reader.Int("patch_size", {1, 64}, 1));
  if (patch != 1) {
    return reader.Unsupported("patch_size", "is not 1");
  }
  PX_TRY(const std::int64_t outputs, reader.Int("out_channels", {1, 4096}, out.in_channels));
  if (outputs != out.in_channels) {
    return reader.Unsupported("out_channels",
                              fmt::format("is not in_channels = {}: pipelines that see a picture "
                                          "are not built",
                                          out.in_channels));
  }
  if (out.in_channels % kPatchPixels != 0) {
    return reader.Bad("in_channels", fmt::format("is no multiple of {}", kPatchPixels));
  }
  if (out.double_blocks + out.single_blocks == 0) {
    return reader.Bad("num_layers", "and num_single_layers are both 0");
  }
  PX_TRY(const std::vector<std::int64_t> axes, reader.IntOrInts("axes_dims_rope"));
  out.axes.assign(axes.begin(), axes.end());
  if (axes.empty()) {
    out.axes = {16, 56, 56};
  }
  const bool even = std::all_of(out.axes.begin(), out.axes.end(),
                                [](std::int32_t axis) { return axis > 0 && axis % 2 == 0; });
  if (out.axes.size() != 3 || !even ||
      std::accumulate(out.axes.begin(), out.axes.end(), 0) != out.head_dim) {
    return reader.Bad(
        "axes_dims_rope",
        fmt::format("is not three even numbers that make attention_head_dim = {}", out.head_dim));
  }
  return out;
}

RotaryFactors FluxRotary(std::int32_t text_tokens, const Volume& grid,
                         std::span<const std::int32_t> axes) {
  RotaryFactors out;
  const auto add = [&](std::int32_t row, std::int32_t column) {
    const std::int32_t places[] = {0, row, column};
    for (std::size_t axis = 0; axis < 3; ++axis) {
      for (std::int32_t i = 0; i < axes[axis] / 2; ++i) {
        const double angle = places[axis] * std::pow(kRotaryBase, -2.0 * i / axes[axis]);
        out.cos.push_back(static_cast<float>(std::cos(angle)));
        out.sin.push_back(static_cast<float>(std::sin(angle)));
      }
    }
  };
  for (std::int32_t token = 0; token < text_tokens; ++token) {
    add(0, 0);
  }
  for (std::int32_t row = 0; row < grid.height; ++row) {
    for (std::int32_t column = 0; column < grid.width; ++column) {
      add(row, column);
    }
  }
  return out;
}

Result<std::unique_ptr<FluxTransformer>> FluxTransformer::Load(const CheckpointFolder& folder,
                                                               kernels::Operators& operators,
                                                               kernels::ComputeType compute,
                                                               LoraMerger* loras) {
  PX_TRY(const wire::Json json, ReadPartConfig(folder, "config.json"));
  PX_TRY(FluxConfig config, ParseFluxConfig(json, folder.path() + "/config.json"));
  PX_TRY(const Checkpoint checkpoint, Checkpoint::Open(folder, "diffusion_pytorch_model"));
  auto out = std::make_unique<FluxTransformer>(CreateOnly{}, std::move(config), operators, compute);
  WeightReader reader(checkpoint, folder.path(), operators, out->vectors_, compute);
  reader.MergeFrom(loras, "transformer");
  PX_CHECK_OK(out->PrepareWeights(reader));
  return out;
}

Result<FluxTransformer::Embedder> FluxTransformer::PrepareEmbedder(const std::string& name,
                                                                   std::int64_t in,
                                                                   std::int64_t dim,
                                                                   WeightReader& reader) {
  Embedder out;
  const std::string prefix = "time_text_embed." + name;
  PX_TRY(out.first,
         reader.Linear({.parts = {{prefix + ".linear_1", dim}}, .cols = in, .exact = true}));
  PX_TRY(out.second,
         reader.Linear({.parts = {{prefix + ".linear_2", dim}}, .cols = dim, .exact = true}));
  return out;
}

Result<FluxTransformer::Stream> FluxTransformer::PrepareStream(const std::string& prefix,
                                                               const StreamNames& names,
                                                               WeightReader& reader) const {
  const std::int64_t dim = config_.dim();
  const std::string attention = prefix + "attn.";
  const std::string feed_forward = prefix + names.feed_forward;
  Stream out;
  PX_TRY(out.modulation, reader.Linear({.parts = {{prefix + names.norm, 6 * dim}}, .cols = dim}));
  PX_TRY(out.qkv, reader.Linear({.parts = {{attention + names.q, dim},
                                           {attention + names.k, dim},
                                           {attention + names.v, dim}},
                                 .cols = dim}));
  PX_TRY(out.norm_q, reader.Vector(attention + names.norm_q + ".weight", {config_.head_dim}));
  PX_TRY(out.norm_k, reader.Vector(attention + names.norm_k + ".weight", {config_.head_dim}));
  PX_TRY(out.o, reader.Linear({.parts = {{attention + names.o, dim}}, .cols = dim}));
  PX_TRY(out.up, reader.Linear({.parts = {{feed_forward + ".net.0.proj", kFeedForwardRatio * dim}},
                                .cols = dim}));
  PX_TRY(out.down, reader.Linear({.parts = {{feed_forward + ".net.2", dim}},
                                  .cols = kFeedForwardRatio * dim}));
  return out;
}

Result<FluxTransformer::SingleBlock> FluxTransformer::PrepareSingle(const std::string& prefix,
                                                                    WeightReader& reader) const {
  const std::int64_t dim = config_.dim();
  const std::int64_t wide = kFeedForwardRatio * dim;
  SingleBlock out;
  PX_TRY(out.modulation,
         reader.Linear({.parts = {{prefix + "norm.linear", 3 * dim}}, .cols = dim}));
  PX_TRY(out.qkv, reader.Linear({.parts = {{prefix + "attn.to_q", dim},
                                           {prefix + "attn.to_k", dim},
                                           {prefix + "attn.to_v", dim}},
                                 .cols = dim}));
  PX_TRY(out.norm_q, reader.Vector(prefix + "attn.norm_q.weight", {config_.head_dim}));
  PX_TRY(out.norm_k, reader.Vector(prefix + "attn.norm_k.weight", {config_.head_dim}));
  PX_TRY(out.up, reader.Linear({.parts = {{prefix + "proj_mlp", wide}}, .cols = dim}));
  PX_TRY(out.out, reader.Linear({.parts = {{prefix + "proj_out", dim}}, .cols = dim + wide}));
  return out;
}

Result<void> FluxTransformer::PrepareWeights(WeightReader& reader) {
  constexpr StreamNames kPicture = {"norm1.linear", "to_q",   "to_k",     "to_v",
                                    "norm_q",       "norm_k", "to_out.0", "ff"};
  constexpr StreamNames kText = {"norm1_context.linear", "add_q_proj",   "add_k_proj",
                                 "add_v_proj",           "norm_added_q", "norm_added_k",
                                 "to_add_out",           "ff_context"};
  const std::int64_t dim = config_.dim();
  PX_TRY(
      patch_embedding_,
      reader.Linear({.parts = {{"x_embedder", dim}}, .cols = config_.in_channels, .exact = true}));
  PX_TRY(context_embedding_,
         reader.Linear({.parts = {{"context_embedder", dim}}, .cols = config_.text_dim}));
  PX_TRY(time_, PrepareEmbedder("timestep_embedder", kWaveSize, dim, reader));
  PX_TRY(pooled_, PrepareEmbedder("text_embedder", config_.pooled_dim, dim, reader));
  if (config_.guided) {
    PX_TRY(guidance_, PrepareEmbedder("guidance_embedder", kWaveSize, dim, reader));
  }
  for (std::int32_t i = 0; i < config_.double_blocks; ++i) {
    const std::string prefix = fmt::format("transformer_blocks.{}.", i);
    DoubleBlock& block = double_blocks_.emplace_back();
    PX_TRY(block.picture, PrepareStream(prefix, kPicture, reader));
    PX_TRY(block.text, PrepareStream(prefix, kText, reader));
  }
  for (std::int32_t i = 0; i < config_.single_blocks; ++i) {
    PX_TRY(SingleBlock block,
           PrepareSingle(fmt::format("single_transformer_blocks.{}.", i), reader));
    single_blocks_.push_back(std::move(block));
  }
  PX_TRY(out_modulation_,
         reader.Linear({.parts = {{"norm_out.linear", 2 * dim}}, .cols = dim, .exact = true}));
  PX_TRY(out_,
         reader.Linear({.parts = {{"proj_out", config_.in_channels}}, .cols = dim, .exact = true}));
  return reader.CheckAllRead();
}

Result<void> FluxTransformer::CheckLatents(const Volume& latents, std::int32_t lanes,
                                           std::int32_t text_tokens) const {
  if (latents.frames != 1 || latents.height < kPatchSide || latents.width < kPatchSide ||
      latents.height % kPatchSide != 0 || latents.width % kPatchSide != 0) {
    return Fail(Code::kInvalidArgument,
                fmt::format("latents of {} frames of {} x {} cannot be cut into patches of {} x {}",
                            latents.frames, latents.width, latents.height, kPatchSide, kPatchSide),
                "size");
  }
  const std::int64_t tokens = (latents.pixels() / kPatchPixels + text_tokens) * lanes;
  if (tokens > kDiffusionTokensMax) {
    return Fail(Code::kTooLarge,
                fmt::format("the pictures make {} tokens, at most {} are computed together", tokens,
                            kDiffusionTokensMax),
                "size");
  }
  return {};
}

void FluxTransformer::Embed(const Embedder& embedder, const Matrix& in, const Matrix& out) {
  RowMemory memory;
  const Matrix mid = memory.At(in.rows, out.cols);
  operators_.Linear(in, *embedder.first, mid);
  operators_.Activate(mid, kernels::Activation::kSilu);
  operators_.Linear(mid, *embedder.second, out);
}

void FluxTransformer::Prepare(const Volume& latents, const Texts& texts, FluxPass& pass) {
  const std::int64_t dim = config_.dim();
  PX_ASSERT(std::ssize(texts.rows) == std::int64_t{texts.lanes} * texts.tokens * config_.text_dim &&
            std::ssize(texts.pooled) == std::int64_t{texts.lanes} * config_.pooled_dim);
  pass.latents = latents;
  pass.lanes = texts.lanes;
  pass.text_tokens = texts.tokens;
  pass.grid = {1, latents.height / kPatchSide, latents.width / kPatchSide};
  pass.rotary = FluxRotary(texts.tokens, pass.grid, config_.axes);
  pass.positions.resize(static_cast<std::size_t>(pass.tokens()));
  std::iota(pass.positions.begin(), pass.positions.end(), 0);
  pass.rows = pass.rows_memory.At(pass.lanes * pass.tokens(), dim);
  pass.delta = pass.delta_memory.At(pass.lanes * pass.tokens(), dim);
  pass.context.resize(static_cast<std::size_t>(std::int64_t{texts.lanes} * texts.tokens * dim));
  pass.pooled.resize(static_cast<std::size_t>(texts.lanes * dim));
  operators_.Linear(Readable(texts.rows, config_.text_dim), *context_embedding_,
                    RowsOf(pass.context, dim));
  Embed(pooled_, Readable(texts.pooled, config_.pooled_dim), RowsOf(pass.pooled, dim));
}

void FluxTransformer::Begin(std::span<const float> latents, float timestep,
                            std::span<const float> guidance, FluxPass& pass) {
  const std::int64_t dim = config_.dim();
  const std::int64_t lane_size = config_.latent_channels() * pass.latents.pixels();
  PX_ASSERT(std::ssize(latents) == pass.lanes * lane_size && std::ssize(guidance) == pass.lanes);
  const Matrix patches = wide_memory_.At(pass.grid.pixels(), config_.in_channels);
  for (std::int32_t lane = 0; lane < pass.lanes; ++lane) {
    const float* from = latents.data() + lane * lane_size;
    ForPatches(pass, config_.latent_channels(),
               [&](std::int64_t token, std::int64_t column, std::int64_t index) {
                 patches.f32(token)[column] = from[index];
               });
    const std::int64_t begin = lane * pass.tokens();
    operators_.Linear(patches, *patch_embedding_,
                      pass.rows.Rows(begin + pass.text_tokens, pass.grid.pixels()));
    const std::int64_t text_size = pass.text_tokens * dim;
    std::copy_n(pass.context.data() + lane * text_size, text_size, pass.rows.f32(begin));
  }
  std::fill_n(pass.delta.f32(), pass.delta.rows * dim, 0.0F);

  // diffusers hands the timestep over as a share of 1000 and takes it back: the last bit shows.
  constexpr float kThousand = 1000.0F;
  const std::vector<float> wave = TimestepWave(timestep / kThousand * kThousand, kWaveSize);
  std::vector<float> waves;
  std::vector<float> guided;
  for (std::int32_t lane = 0; lane < pass.lanes; ++lane) {
    waves.insert(waves.end(), wave.begin(), wave.end());
    const std::vector<float> own =
        TimestepWave(guidance[static_cast<std::size_t>(lane)] * kThousand, kWaveSize);
    guided.insert(guided.end(), own.begin(), own.end());
  }
  pass.time.resize(static_cast<std::size_t>(pass.lanes * dim));
  Embed(time_, RowsOf(waves, kWaveSize), RowsOf(pass.time, dim));
  pass.condition = pass.time;
  const Matrix condition = RowsOf(pass.condition, dim);
  if (config_.guided) {
    std::vector<float> embedded(pass.condition.size());
    Embed(guidance_, RowsOf(guided, kWaveSize), RowsOf(embedded, dim));
    operators_.Add(condition, RowsOf(embedded, dim));
  }
  operators_.Add(condition, RowsOf(pass.pooled, dim));
  operators_.Activate(condition, kernels::Activation::kSilu);
  pass.next_block = 0;
}

void FluxTransformer::FillFactors(const kernels::LinearWeight& modulation, const FluxPass& pass,
                                  std::int32_t lane, std::uint32_t scales) {
  const auto dim = static_cast<std::size_t>(config_.dim());
  factors_.resize(static_cast<std::size_t>(modulation.out_features()));
  operators_.Linear(
      Readable(std::span(pass.condition).subspan(static_cast<std::size_t>(lane) * dim, dim),
               config_.dim()),
      modulation, RowsOf(factors_, modulation.out_features()));
  for (std::size_t i = 0; i < factors_.size(); ++i) {
    factors_[i] += (scales >> (i / dim) & 1U) != 0 ? 1.0F : 0.0F;
  }
}

std::span<const float> FluxTransformer::Factor(std::int32_t index) const {
  const auto dim = static_cast<std::size_t>(config_.dim());
  return std::span(factors_).subspan(static_cast<std::size_t>(index) * dim, dim);
}

Result<void> FluxTransformer::ReserveKeys(const FluxPass& pass) {
  const LaneShape shape = {.heads = config_.heads,
                           .head_dim = config_.head_dim,
                           .lanes = pass.lanes,
                           .tokens = static_cast<std::int32_t>(pass.tokens()),
                           .dtype = compute_ == kernels::ComputeType::kF32
                                        ? kernels::KvDType::kF32
                                        : kernels::KvDType::kBf16};
  if (keys_ == nullptr || keys_->shape() != shape) {
    PX_TRY(LaneKeys keys, LaneKeys::Create(operators_, shape));
    keys_ = std::make_unique<LaneKeys>(std::move(keys));
  }
  return {};
}

Result<void> FluxTransformer::RunBlock(FluxPass& pass) {
  PX_ASSERT(pass.next_block < block_count());
  PX_CHECK_OK(ReserveKeys(pass));
  if (pass.next_block < config_.double_blocks) {
    RunDouble(double_blocks_[static_cast<std::size_t>(pass.next_block)], pass);
  } else {
    RunSingle(single_blocks_[static_cast<std::size_t>(pass.next_block - config_.double_blocks)],
              pass);
  }
  ++pass.next_block;
  return {};
}

/// Queries of `normed`, rows from rows.begin on; keys and values are stored.
void FluxTransformer::QueriesOf(const kernels::LinearWeight& qkv, std::span<const float> norm_q,
                                std::span<const float> norm_k, const FluxPass& pass,
                                const Part& rows, const Matrix& normed) {
  const std::int64_t dim = config_.dim();
  const kernels::RotaryTable rotary = {.cos = pass.rotary.cos.data(),
                                       .sin = pass.rotary.sin.data(),
                                       .position_max = static_cast<std::int32_t>(pass.tokens()),
                                       .rotary_dim = config_.head_dim,
                                       .interleaved = true};
  const Matrix all = wide_memory_.At(rows.count, 3 * dim);
  const Matrix q = q_memory_.At(pass.rows.rows, dim).Rows(rows.begin, rows.count);
  const Matrix k = all.Columns(dim, dim);
  operators_.Linear(normed, qkv, all);
  operators_.Copy(all.Columns(0, dim), q);
  operators_.HeadRmsNorm(q, config_.heads, norm_q, 0.0F, kEpsilon);
  operators_.HeadRmsNorm(k, config_.heads, norm_k, 0.0F, kEpsilon);
  const auto positions =
      std::span<const std::int32_t>(pass.positions)
          .subspan(static_cast<std::size_t>(rows.begin - rows.lane * pass.tokens()),
                   static_cast<std::size_t>(rows.count));
  operators_.Rotary(q, config_.heads, positions, rotary);
  operators_.Rotary(k, config_.heads, positions, rotary);
  keys_->Store(operators_, 0, rows.begin, k, all.Columns(2 * dim, dim));
}

void FluxTransformer::Attend(const FluxPass& pass) {
  keys_->Attend(operators_,
                {.tokens = static_cast<std::int32_t>(pass.tokens()),
                 .scale = 1.0F / std::sqrt(static_cast<float>(config_.head_dim))},
                q_memory_.At(pass.rows.rows, config_.dim()),
                mixed_memory_.At(pass.rows.rows, config_.dim()));
}

void FluxTransformer::RunDouble(const DoubleBlock& block, FluxPass& pass) {
  constexpr std::uint32_t kScales = 1U << 1 | 1U << 4;  // shift, scale, gate; twice
  const std::int64_t dim = config_.dim();
  std::vector<Part> parts;
  for (std::int32_t lane = 0; lane < pass.lanes; ++lane) {
    const std::int64_t begin = lane * pass.tokens();
    parts.push_back({&block.text, lane, begin, pass.text_tokens});
    parts.push_back({&block.picture, lane, begin + pass.text_tokens, pass.grid.pixels()});
  }
  for (const Part& part : parts) {
    FillFactors(*part.stream->modulation, pass, part.lane, kScales);
    ForRows(part.begin, part.count, [&](std::int64_t first, std::int64_t count) {
      const Matrix normed = normed_memory_.At(count, dim);
      operators_.AddLayerNorm(pass.rows.Rows(first, count), pass.delta.Rows(first, count),
                              Factor(1), Factor(0), kEpsilon, normed);
      QueriesOf(*part.stream->qkv, part.stream->norm_q, part.stream->norm_k, pass,
                {part.stream, part.lane, first, count}, normed);
    });
  }
  Attend(pass);
  for (const Part& part : parts) {
    FillFactors(*part.stream->modulation, pass, part.lane, kScales);
    FeedForward(part, pass);
  }
}

/// What attention gathered is added, and the feed-forward's result left in delta.
void FluxTransformer::FeedForward(const Part& part, FluxPass& pass) {
  const std::int64_t dim = config_.dim();
  const Matrix mixed = mixed_memory_.At(pass.rows.rows, dim);
  ForRows(part.begin, part.count, [&](std::int64_t first, std::int64_t count) {
    const Matrix normed = normed_memory_.At(count, dim);
    const Matrix wide = wide_memory_.At(count, kFeedForwardRatio * dim);
    const Matrix delta = pass.delta.Rows(first, count);
    operators_.Linear(mixed.Rows(first, count), *part.stream->o, delta);
    operators_.ScaleColumns(delta, Factor(2));
    operators_.AddLayerNorm(pass.rows.Rows(first, count), delta, Factor(4), Factor(3), kEpsilon,
                            normed);
    operators_.Linear(normed, *part.stream->up, wide);
    operators_.Activate(wide, kernels::Activation::kGeluTanh);
    operators_.Linear(wide, *part.stream->down, delta);
    operators_.ScaleColumns(delta, Factor(5));
  });
}

void FluxTransformer::RunSingle(const SingleBlock& block, FluxPass& pass) {
  constexpr std::uint32_t kScales = 1U << 1;  // shift, scale, gate
  const std::int64_t dim = config_.dim();
  const std::int64_t wide = kFeedForwardRatio * dim;
  for (std::int32_t lane = 0; lane < pass.lanes; ++lane) {
    FillFactors(*block.modulation, pass, lane, kScales);
    ForRows(lane * pass.tokens(), pass.tokens(), [&](std::int64_t first, std::int64_t count) {
      const Matrix normed = normed_memory_.At(count, dim);
      operators_.AddLayerNorm(pass.rows.Rows(first, count), pass.delta.Rows(first, count),
                              Factor(1), Factor(0), kEpsilon, normed);
      QueriesOf(*block.qkv, block.norm_q, block.norm_k, pass, {nullptr, lane, first, count},
                normed);
    });
  }
  Attend(pass);
  const Matrix mixed = mixed_memory_.At(pass.rows.rows, dim);
  zeros_.resize(static_cast<std::size_t>(std::min(kRowsAtOnce, pass.tokens()) * dim));
  for (std::int32_t lane = 0; lane < pass.lanes; ++lane) {
    FillFactors(*block.modulation, pass, lane, kScales);
    ForRows(lane * pass.tokens(), pass.tokens(), [&](std::int64_t first, std::int64_t count) {
      // Normed once more: as wide rows of the whole picture would take more memory than time.
      const Matrix normed = normed_memory_.At(count, dim);
      const Matrix both = wide_memory_.At(count, dim + wide);
      const Matrix delta = pass.delta.Rows(first, count);
      operators_.AddLayerNorm(pass.rows.Rows(first, count), RowsOf(zeros_, dim).Rows(0, count),
                              Factor(1), Factor(0), kEpsilon, normed);
      operators_.Copy(mixed.Rows(first, count), both.Columns(0, dim));
      const Matrix up = both.Columns(dim, wide);
      operators_.Linear(normed, *block.up, up);
      operators_.Activate(up, kernels::Activation::kGeluTanh);
      operators_.Linear(both, *block.out, delta);
      operators_.ScaleColumns(delta, Factor(2));
    });
  }
}

void FluxTransformer::Finish(FluxPass& pass, std::span<float> velocity) {
  constexpr std::uint32_t kScales = 1U;  // scale, shift
  const std::int64_t dim = config_.dim();
  const std::int64_t lane_size = config_.latent_channels() * pass.latents.pixels();
  PX_ASSERT(std::ssize(velocity) == pass.lanes * lane_size);
  for (std::int32_t lane = 0; lane < pass.lanes; ++lane) {
    FillFactors(*out_modulation_, pass, lane, kScales);
    const Matrix patches = wide_memory_.At(pass.grid.pixels(), config_.in_channels);
    const std::int64_t begin = lane * pass.tokens() + pass.text_tokens;
    ForRows(begin, pass.grid.pixels(), [&](std::int64_t first, std::int64_t count) {
      const Matrix normed = normed_memory_.At(count, dim);
      operators_.AddLayerNorm(pass.rows.Rows(first, count), pass.delta.Rows(first, count),
                              Factor(0), Factor(1), kEpsilon, normed);
      operators_.Linear(normed, *out_, patches.Rows(first - begin, count));
    });
    float* to = velocity.data() + lane * lane_size;
    ForPatches(pass, config_.latent_channels(),
               [&](std::int64_t token, std::int64_t column, std::int64_t index) {
                 to[index] = patches.f32(token)[column];
               });
  }
}

}  // namespace pixii::model
