#include "model/diffusion/wan_transformer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/assert.h"
#include "model/config_reader.h"
#include "model/model_cut.h"

namespace pixii::model {
namespace {

using kernels::Matrix;
using kernels::Volume;

constexpr std::int64_t kRowsAtOnce = 2048;  // whose wide intermediate values live at one time
constexpr double kRotaryBase = 10000.0;
constexpr double kWaveBase = 10000.0;

Matrix RowsOf(std::span<float> values, std::int64_t cols) {
  return {values.data(), kernels::DType::kF32, std::ssize(values) / cols, cols, cols};
}

}  // namespace

Result<WanConfig> ParseWanConfig(const wire::Json& json, const std::string& file_name) {
  const ConfigReader reader(json, file_name);
  WanConfig out;
  const auto read = [&](std::string_view key, std::int64_t max, std::int32_t& to) -> Result<void> {
    PX_TRY(const std::int64_t value, reader.Int(key, {1, max}));
    to = static_cast<std::int32_t>(value);
    return {};
  };
  PX_CHECK_OK(read("num_attention_heads", 1024, out.heads));
  PX_CHECK_OK(read("attention_head_dim", kernels::kHeadDimMax, out.head_dim));
  PX_CHECK_OK(read("num_layers", 1024, out.layers));
  PX_CHECK_OK(read("ffn_dim", 1 << 20, out.ffn_dim));
  PX_CHECK_OK(read("in_channels", 4096, out.in_channels));
  PX_CHECK_OK(read("out_channels", 4096, out.out_channels));
  PX_CHECK_OK(read("text_dim", 1 << 16, out.text_dim));
  PX_CHECK_OK(read("freq_dim", 1 << 16, out.freq_dim));
  if (out.head_dim % 2 != 0 || out.freq_dim % 2 != 0) {
    return reader.Bad(out.freq_dim % 2 != 0 ? "freq_dim" : "attention_head_dim", "is not even");
  }
  PX_TRY(const std::vector<std::int64_t> patch, reader.IntOrInts("patch_size"));
  if (patch.size() != 3 || std::any_of(patch.begin(), patch.end(),
                                       [](std::int64_t side) { return side < 1 || side > 64; })) {
    return reader.Bad("patch_size", "is not a list of three numbers of 1 to 64");
  }
  out.patch = {.frames = static_cast<std::int32_t>(patch[0]),
               .height = static_cast<std::int32_t>(patch[1]),
               .width = static_cast<std::int32_t>(patch[2])};
  PX_TRY(const double epsilon, reader.Number("eps", {0.0, 1.0}, 1e-6));
  out.epsilon = static_cast<float>(epsilon);
  PX_TRY(const bool cross_norm, reader.Bool("cross_attn_norm", true));
  if (!cross_norm) {
    return reader.Unsupported("cross_attn_norm", "must be true");
  }
  PX_TRY(const std::string qk_norm, reader.String("qk_norm", "rms_norm_across_heads"));
  if (qk_norm != "rms_norm_across_heads") {
    return reader.Unsupported("qk_norm", "is not rms_norm_across_heads");
  }
  for (const std::string_view key : {"image_dim", "added_kv_proj_dim", "pos_embed_seq_len"}) {
    if (reader.Find(key) != nullptr) {
      return reader.Unsupported(key, "must be null: attention to a picture's tokens is not built");
    }
  }
  return out;
}

RotaryFactors WanRotary(const Volume& grid, std::int32_t head_dim) {
  const std::int32_t across = 2 * (head_dim / 6);
  const std::int32_t dims[] = {head_dim - 2 * across, across, across};
  RotaryFactors out;
  for (std::int32_t frame = 0; frame < grid.frames; ++frame) {
    for (std::int32_t y = 0; y < grid.height; ++y) {
      for (std::int32_t x = 0; x < grid.width; ++x) {
        const std::int32_t places[] = {frame, y, x};
        for (int axis = 0; axis < 3; ++axis) {
          for (std::int32_t i = 0; i < dims[axis] / 2; ++i) {
            const double angle = places[axis] * std::pow(kRotaryBase, -2.0 * i / dims[axis]);
            out.cos.push_back(static_cast<float>(std::cos(angle)));
            out.sin.push_back(static_cast<float>(std::sin(angle)));
          }
        }
      }
    }
  }
  return out;
}

std::vector<float> TimestepWave(float timestep, std::int32_t size) {
  const std::int32_t half = size / 2;
  std::vector<float> out(static_cast<std::size_t>(size));
  for (std::int32_t i = 0; i < half; ++i) {
    // Rounded to fp32 where the model's training did: at timestep 1000 the last bit shows.
    const float exponent =
        static_cast<float>(-std::log(kWaveBase)) * static_cast<float>(i) / static_cast<float>(half);
    const float angle = timestep * std::exp(exponent);
    out[static_cast<std::size_t>(i)] = std::cos(angle);
    out[static_cast<std::size_t>(half + i)] = std::sin(angle);
  }
  return out;
}

Result<std::unique_ptr<WanTransformer>> WanTransformer::Load(const CheckpointFolder& folder,
                                                             kernels::Operators& operators,
                                                             kernels::ComputeType compute) {
  PX_TRY(const wire::Json json, ReadPartConfig(folder, "config.json"));
  PX_TRY(const WanConfig config, ParseWanConfig(json, folder.path() + "/config.json"));
  PX_TRY(const Checkpoint checkpoint, Checkpoint::Open(folder, "diffusion_pytorch_model"));
  auto out = std::make_unique<WanTransformer>(CreateOnly{}, config, operators, compute);
  WeightReader reader(checkpoint, folder.path(), operators, out->vectors_, compute);
  PX_CHECK_OK(out->PrepareWeights(reader));
  return out;
}

Result<void> WanTransformer::PrepareWeights(WeightReader& reader) {
  const std::int64_t dim = config_.dim();
  const Volume& patch = config_.patch;
  PX_TRY(patch_embedding_, reader.Linear({.parts = {{"patch_embedding", dim}},
                                          .cols = config_.patch_in(),
                                          .exact = true,
                                          .trailing = {patch.frames, patch.height, patch.width}}));
  const std::string condition = "condition_embedder.";
  PX_TRY(time_1_, reader.Linear({.parts = {{condition + "time_embedder.linear_1", dim}},
                                 .cols = config_.freq_dim,
                                 .exact = true}));
  PX_TRY(time_2_,
         reader.Linear(
             {.parts = {{condition + "time_embedder.linear_2", dim}}, .cols = dim, .exact = true}));
  PX_TRY(
      time_projection_,
      reader.Linear({.parts = {{condition + "time_proj", 6 * dim}}, .cols = dim, .exact = true}));
  PX_TRY(text_1_, reader.Linear({.parts = {{condition + "text_embedder.linear_1", dim}},
                                 .cols = config_.text_dim}));
  PX_TRY(text_2_,
         reader.Linear({.parts = {{condition + "text_embedder.linear_2", dim}}, .cols = dim}));
  for (std::int32_t i = 0; i < config_.layers; ++i) {
    PX_TRY(Block block, PrepareBlock(fmt::format("blocks.{}.", i), reader));
    blocks_.push_back(std::move(block));
  }
  PX_TRY(out_table_, reader.Values("scale_shift_table", {1, 2, dim}));
  PX_TRY(out_,
         reader.Linear({.parts = {{"proj_out", config_.patch_out()}}, .cols = dim, .exact = true}));
  return reader.CheckAllRead();
}

Result<WanTransformer::Block> WanTransformer::PrepareBlock(const std::string& prefix,
                                                           WeightReader& reader) {
  const std::int64_t dim = config_.dim();
  Block block;
  PX_TRY(block.table, reader.Values(prefix + "scale_shift_table", {1, 6, dim}));
  for (const bool cross : {false, true}) {
    Attention& attention = cross ? block.cross : block.self;
    const std::string name = prefix + (cross ? "attn2." : "attn1.");
    const WeightReader::Rows q = {name + "to_q", dim};
    const WeightReader::Rows k = {name + "to_k", dim};
    const WeightReader::Rows v = {name + "to_v", dim};
    if (cross) {
      PX_TRY(attention.qkv, reader.Linear({.parts = {q}, .cols = dim}));
      PX_TRY(attention.kv, reader.Linear({.parts = {k, v}, .cols = dim}));
    } else {
      PX_TRY(attention.qkv, reader.Linear({.parts = {q, k, v}, .cols = dim}));
    }
    PX_TRY(attention.o,
           reader.Linear(
               {.parts = {{name + "to_out.0", dim}}, .cols = dim, .k_shards = kRowParallelShards}));
    PX_TRY(attention.norm_q, reader.Vector(name + "norm_q.weight", {dim}));
    PX_TRY(attention.norm_k, reader.Vector(name + "norm_k.weight", {dim}));
  }
  PX_TRY(block.cross_norm, reader.Vector(prefix + "norm2.weight", {dim}));
  PX_TRY(block.cross_norm_bias, reader.Vector(prefix + "norm2.bias", {dim}));
  PX_TRY(block.up,
         reader.Linear({.parts = {{prefix + "ffn.net.0.proj", config_.ffn_dim}}, .cols = dim}));
  PX_TRY(block.down, reader.Linear({.parts = {{prefix + "ffn.net.2", dim}},
                                    .cols = config_.ffn_dim,
                                    .k_shards = kRowParallelShards}));
  return block;
}

Result<WanText> WanTransformer::MakeText(std::span<const float> rows, std::int32_t lanes,
                                         std::int32_t tokens) {
  PX_ASSERT(std::ssize(rows) == std::int64_t{lanes} * tokens * config_.text_dim);
  PX_TRY(LaneKeys keys,
         LaneKeys::Create(operators_, {.layers = config_.layers,
                                       .heads = config_.heads,
                                       .head_dim = config_.head_dim,
                                       .lanes = lanes,
                                       .tokens = tokens,
                                       .dtype = compute_ == kernels::ComputeType::kF32
                                                    ? kernels::KvDType::kF32
                                                    : kernels::KvDType::kBf16}));
  const std::int64_t count = std::int64_t{lanes} * tokens;
  const std::int64_t dim = config_.dim();
  const Matrix in{const_cast<float*>(rows.data()), kernels::DType::kF32, count, config_.text_dim,
                  config_.text_dim};
  RowMemory memory[3];
  const Matrix mid = memory[0].At(count, dim);
  const Matrix text = memory[1].At(count, dim);
  const Matrix kv = memory[2].At(count, 2 * dim);
  operators_.Linear(in, *text_1_, mid);
  operators_.Activate(mid, kernels::Activation::kGeluTanh);
  operators_.Linear(mid, *text_2_, text);
  for (std::int32_t layer = 0; layer < config_.layers; ++layer) {
    const Attention& cross = blocks_[static_cast<std::size_t>(layer)].cross;
    operators_.Linear(text, *cross.kv, kv);
    const Matrix k = kv.Columns(0, dim);
    operators_.RmsNorm(k, cross.norm_k, 0.0F, config_.epsilon, k);
    keys.Store(operators_, layer, 0, k, kv.Columns(dim, dim));
  }
  return WanText(std::move(keys));
}

Result<void> WanTransformer::CheckLatents(const Volume& latents, std::int32_t lanes) const {
  const Volume& patch = config_.patch;
  if (latents.frames < 1 || latents.height < 1 || latents.width < 1 ||
      latents.frames % patch.frames != 0 || latents.height % patch.height != 0 ||
      latents.width % patch.width != 0) {
    return Fail(Code::kInvalidArgument,
                fmt::format("latents of {} frames of {} x {} cannot be cut into patches of {} x {} "
                            "x {}",
                            latents.frames, latents.width, latents.height, patch.frames,
                            patch.width, patch.height),
                "size");
  }
  const std::int64_t tokens = latents.pixels() / patch.pixels() * lanes;
  if (tokens > kDiffusionTokensMax) {
    return Fail(Code::kTooLarge,
                fmt::format("the pictures make {} tokens, at most {} are computed together", tokens,
                            kDiffusionTokensMax),
                "size");
  }
  return {};
}

void WanTransformer::Prepare(const Volume& latents, std::int32_t lanes, WanPass& pass) const {
  pass.latents = latents;
  pass.lanes = lanes;
  pass.grid = {.frames = latents.frames / config_.patch.frames,
               .height = latents.height / config_.patch.height,
               .width = latents.width / config_.patch.width};
  pass.rotary = WanRotary(pass.grid, config_.head_dim);
  pass.positions.resize(static_cast<std::size_t>(pass.tokens()));
  std::iota(pass.positions.begin(), pass.positions.end(), 0);
  pass.rows = pass.rows_memory.At(lanes * pass.tokens(), config_.dim());
  pass.delta = pass.delta_memory.At(lanes * pass.tokens(), config_.dim());
}

/// Calls function(row, column of the patch, index into a lane's latents) for every value of
/// `channels` channels; columns run [channel][patch] or [patch][channel].
template <class Function>
void ForPatches(const WanPass& pass, const Volume& patch, std::int32_t channels,
                bool channels_first, const Function& function) {
  const Volume& latents = pass.latents;
  std::int64_t index = 0;
  for (std::int32_t channel = 0; channel < channels; ++channel) {
    for (std::int32_t f = 0; f < latents.frames; ++f) {
      for (std::int32_t y = 0; y < latents.height; ++y) {
        for (std::int32_t x = 0; x < latents.width; ++x, ++index) {
          const std::int64_t row =
              (std::int64_t{f / patch.frames} * pass.grid.height + y / patch.height) *
                  pass.grid.width +
              x / patch.width;
          const std::int64_t inside =
              (std::int64_t{f % patch.frames} * patch.height + y % patch.height) * patch.width +
              x % patch.width;
          function(row,
                   channels_first ? channel * patch.pixels() + inside : inside * channels + channel,
                   index);
        }
      }
    }
  }
}

void WanTransformer::Begin(std::span<const float> latents, std::span<const float> timesteps,
                           WanPass& pass) {
  const std::int64_t lane_size = config_.in_channels * pass.latents.pixels();
  const std::int64_t dim = config_.dim();
  PX_ASSERT(std::ssize(latents) == pass.lanes * lane_size && std::ssize(timesteps) == pass.lanes);
  const Matrix patches = wide_memory_.At(pass.lanes * pass.tokens(), config_.patch_in());
  for (std::int32_t lane = 0; lane < pass.lanes; ++lane) {
    const float* from = latents.data() + lane * lane_size;
    const Matrix to = patches.Rows(lane * pass.tokens(), pass.tokens());
    ForPatches(pass, config_.patch, config_.in_channels, true,
               [&](std::int64_t row, std::int64_t column, std::int64_t index) {
                 to.f32(row)[column] = from[index];
               });
  }
  operators_.Linear(patches, *patch_embedding_, pass.rows);
  for (std::int64_t row = 0; row < pass.delta.rows; ++row) {
    std::fill_n(pass.delta.f32(row), dim, 0.0F);
  }
  pass.time.resize(static_cast<std::size_t>(pass.lanes * dim));
  pass.modulation.resize(static_cast<std::size_t>(pass.lanes * 6 * dim));
  std::vector<float> mid(pass.time.size());
  std::vector<float> waves;
  for (const float timestep : timesteps) {
    const std::vector<float> wave = TimestepWave(timestep, config_.freq_dim);
    waves.insert(waves.end(), wave.begin(), wave.end());
  }
  const Matrix mid_rows = RowsOf(mid, dim);
  const Matrix time = RowsOf(pass.time, dim);
  operators_.Linear(RowsOf(waves, config_.freq_dim), *time_1_, mid_rows);
  operators_.Activate(mid_rows, kernels::Activation::kSilu);
  operators_.Linear(mid_rows, *time_2_, time);
  mid = pass.time;
  const Matrix active = RowsOf(mid, dim);
  operators_.Activate(active, kernels::Activation::kSilu);
  operators_.Linear(active, *time_projection_, RowsOf(pass.modulation, 6 * dim));
  pass.next_block = 0;
}

void WanTransformer::FillFactors(std::span<const float> table, std::span<const float> modulation) {
  const auto dim = static_cast<std::size_t>(config_.dim());
  factors_.resize(table.size());
  for (std::size_t i = 0; i < table.size(); ++i) {
    const bool scale = i / dim % 3 == 1;  // shift, scale, gate
    factors_[i] = table[i] + modulation[i % modulation.size()] + (scale ? 1.0F : 0.0F);
  }
}

std::span<const float> WanTransformer::Factor(std::int32_t index) const {
  const auto dim = static_cast<std::size_t>(config_.dim());
  return std::span(factors_).subspan(static_cast<std::size_t>(index) * dim, dim);
}

/// function(first, count) over rows begin .. end - 1, kRowsAtOnce at a time.
template <class Function>
void WanTransformer::ForRows(std::int64_t begin, std::int64_t end, const Function& function) {
  for (std::int64_t first = begin; first < end; first += kRowsAtOnce) {
    function(first, std::min(kRowsAtOnce, end - first));
  }
}

Result<void> WanTransformer::RunBlock(WanText& text, WanPass& pass) {
  PX_ASSERT(!done(pass) && text.lanes() == pass.lanes);
  const Block& block = blocks_[static_cast<std::size_t>(pass.next_block)];
  const std::int64_t dim = config_.dim();
  const auto tokens = static_cast<std::int32_t>(pass.tokens());
  const std::int64_t count = pass.rows.rows;
  const LaneShape shape = {.heads = config_.heads,
                           .head_dim = config_.head_dim,
                           .lanes = pass.lanes,
                           .tokens = tokens,
                           .dtype = compute_ == kernels::ComputeType::kF32
                                        ? kernels::KvDType::kF32
                                        : kernels::KvDType::kBf16};
  if (self_keys_ == nullptr || self_keys_->shape() != shape) {
    PX_TRY(LaneKeys keys, LaneKeys::Create(operators_, shape));
    self_keys_ = std::make_unique<LaneKeys>(std::move(keys));
  }
  const Matrix q = q_memory_.At(count, dim);
  const Matrix mixed = mixed_memory_.At(count, dim);
  const float scale = 1.0F / std::sqrt(static_cast<float>(config_.head_dim));
  const auto modulation = [&](std::int32_t lane) {
    return std::span(pass.modulation)
        .subspan(static_cast<std::size_t>(lane * 6 * dim), static_cast<std::size_t>(6 * dim));
  };
  for (std::int32_t lane = 0; lane < pass.lanes; ++lane) {
    FillFactors(block.table, modulation(lane));
    SelfAttention(block, pass, lane, q);
  }
  self_keys_->Attend(operators_, {.tokens = tokens, .scale = scale}, q, mixed);
  operators_.Linear(mixed, *block.self.o, pass.delta);
  for (std::int32_t lane = 0; lane < pass.lanes; ++lane) {
    FillFactors(block.table, modulation(lane));
    operators_.ScaleColumns(pass.delta.Rows(lane * pass.tokens(), pass.tokens()), Factor(2));
  }
  ForRows(0, count, [&](std::int64_t first, std::int64_t rows) {
    const Matrix normed = normed_memory_.At(rows, dim);
    const Matrix part = q.Rows(first, rows);
    operators_.AddLayerNorm(pass.rows.Rows(first, rows), pass.delta.Rows(first, rows),
                            block.cross_norm, block.cross_norm_bias, config_.epsilon, normed);
    operators_.Linear(normed, *block.cross.qkv, part);
    operators_.RmsNorm(part, block.cross.norm_q, 0.0F, config_.epsilon, part);
  });
  text.keys_.Attend(operators_, {.layer = pass.next_block, .tokens = tokens, .scale = scale}, q,
                    mixed);
  operators_.Linear(mixed, *block.cross.o, pass.delta);
  for (std::int32_t lane = 0; lane < pass.lanes; ++lane) {
    FillFactors(block.table, modulation(lane));
    FeedForward(block, pass, lane);
  }
  ++pass.next_block;
  return {};
}

/// Normed rows to queries, keys and values; keys and values are stored.
void WanTransformer::SelfAttention(const Block& block, WanPass& pass, std::int32_t lane,
                                   const Matrix& q) {
  const std::int64_t dim = config_.dim();
  const kernels::RotaryTable rotary = {.cos = pass.rotary.cos.data(),
                                       .sin = pass.rotary.sin.data(),
                                       .position_max = static_cast<std::int32_t>(pass.tokens()),
                                       .rotary_dim = config_.head_dim,
                                       .interleaved = true};
  const std::int64_t begin = lane * pass.tokens();
  ForRows(begin, begin + pass.tokens(), [&](std::int64_t first, std::int64_t rows) {
    const Matrix normed = normed_memory_.At(rows, dim);
    const Matrix qkv = wide_memory_.At(rows, 3 * dim);
    operators_.AddLayerNorm(pass.rows.Rows(first, rows), pass.delta.Rows(first, rows), Factor(1),
                            Factor(0), config_.epsilon, normed);
    operators_.Linear(normed, *block.self.qkv, qkv);
    const Matrix k = qkv.Columns(dim, dim);
    operators_.RmsNorm(qkv.Columns(0, dim), block.self.norm_q, 0.0F, config_.epsilon,
                       q.Rows(first, rows));
    operators_.RmsNorm(k, block.self.norm_k, 0.0F, config_.epsilon, k);
    const auto positions =
        std::span<const std::int32_t>(pass.positions)
            .subspan(static_cast<std::size_t>(first - begin), static_cast<std::size_t>(rows));
    operators_.Rotary(q.Rows(first, rows), config_.heads, positions, rotary);
    operators_.Rotary(k, config_.heads, positions, rotary);
    self_keys_->Store(operators_, 0, first, k, qkv.Columns(2 * dim, dim));
  });
}

void WanTransformer::FeedForward(const Block& block, WanPass& pass, std::int32_t lane) {
  const std::int64_t begin = lane * pass.tokens();
  ForRows(begin, begin + pass.tokens(), [&](std::int64_t first, std::int64_t rows) {
    const Matrix normed = normed_memory_.At(rows, config_.dim());
    const Matrix wide = wide_memory_.At(rows, config_.ffn_dim);
    const Matrix delta = pass.delta.Rows(first, rows);
    operators_.AddLayerNorm(pass.rows.Rows(first, rows), delta, Factor(4), Factor(3),
                            config_.epsilon, normed);
    operators_.Linear(normed, *block.up, wide);
    operators_.Activate(wide, kernels::Activation::kGeluTanh);
    operators_.Linear(wide, *block.down, delta);
    operators_.ScaleColumns(delta, Factor(5));
  });
}

void WanTransformer::Finish(WanPass& pass, std::span<float> velocity) {
  const std::int64_t dim = config_.dim();
  const std::int64_t lane_size = config_.out_channels * pass.latents.pixels();
  PX_ASSERT(std::ssize(velocity) == pass.lanes * lane_size);
  const Matrix patches = wide_memory_.At(pass.tokens(), config_.patch_out());
  for (std::int32_t lane = 0; lane < pass.lanes; ++lane) {
    FillFactors(out_table_, std::span(pass.time).subspan(static_cast<std::size_t>(lane * dim),
                                                         static_cast<std::size_t>(dim)));
    const std::int64_t begin = lane * pass.tokens();
    ForRows(begin, begin + pass.tokens(), [&](std::int64_t first, std::int64_t rows) {
      const Matrix normed = normed_memory_.At(rows, dim);
      operators_.AddLayerNorm(pass.rows.Rows(first, rows), pass.delta.Rows(first, rows), Factor(1),
                              Factor(0), config_.epsilon, normed);
      operators_.Linear(normed, *out_, patches.Rows(first - begin, rows));
    });
    float* to = velocity.data() + lane * lane_size;
    ForPatches(pass, config_.patch, config_.out_channels, false,
               [&](std::int64_t row, std::int64_t column, std::int64_t index) {
                 to[index] = patches.f32(row)[column];
               });
  }
}

}  // namespace pixii::model
