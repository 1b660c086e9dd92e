#include "model/diffusion/wan_transformer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

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
constexpr float kPictureEpsilon = 1e-5F;  // of the norms around a picture's tokens

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
  if (reader.Find("image_dim") != nullptr) {
    PX_CHECK_OK(read("image_dim", 1 << 16, out.image_dim));
  }
  PX_TRY(const std::int64_t added, reader.Int("added_kv_proj_dim", {1, 1 << 20}, 0));
  if (added != (out.image_dim == 0 ? 0 : out.dim())) {
    return reader.Unsupported("added_kv_proj_dim",
                              out.image_dim == 0
                                  ? std::string("must be null: there is no image_dim")
                                  : fmt::format("is not {}, the width of all heads", out.dim()));
  }
  if (reader.Find("pos_embed_seq_len") != nullptr) {
    return reader.Unsupported("pos_embed_seq_len",
                              "must be null: videos between two pictures are not built");
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

Result<void> CheckPlace(const WanConfig& config, const WanPlace& place) {
  const std::int32_t tensor = place.tensor_count;
  if (tensor != 1 && tensor != 2 && tensor != 4 && tensor != 8) {
    return Fail(Code::kInvalidArgument,
                fmt::format("tensor-parallel-size is {}, must be 1, 2, 4 or 8", tensor),
                "tensor-parallel-size");
  }
  // Sums are cut where their fixed shards of K end; heads must end there, too.
  const SumCut heads = CutSum(config.dim(), place.tensor_rank, tensor);
  if (tensor > 1 && (config.heads % tensor != 0 ||
                     heads.columns.begin != config.dim() / tensor * place.tensor_rank ||
                     SizeOf(heads.columns) != config.dim() / tensor ||
                     SizeOf(CutSum(config.ffn_dim, place.tensor_rank, tensor).columns) == 0)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("tensor-parallel-size is {}: {} heads, {} features in all, and {} of "
                            "the feed-forward cannot be cut so",
                            tensor, config.heads, config.dim(), config.ffn_dim),
                "tensor-parallel-size");
  }
  if (place.sequence_count < 1 || config.heads / tensor % place.sequence_count != 0) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("dit-ulysses-size is {}, must divide the {} heads{}", place.sequence_count,
                    config.heads / tensor, tensor > 1 ? " of each tensor rank" : ""),
        "dit-ulysses-size");
  }
  return {};
}

Result<std::unique_ptr<WanTransformer>> WanTransformer::Load(const CheckpointFolder& folder,
                                                             kernels::Operators& operators,
                                                             kernels::ComputeType compute,
                                                             const WanPlace& place,
                                                             LoraMerger* loras) {
  PX_TRY(const wire::Json json, ReadPartConfig(folder, "config.json"));
  PX_TRY(const WanConfig config, ParseWanConfig(json, folder.path() + "/config.json"));
  PX_CHECK_OK(CheckPlace(config, place));
  PX_TRY(const Checkpoint checkpoint, Checkpoint::Open(folder, "diffusion_pytorch_model"));
  auto out = std::make_unique<WanTransformer>(CreateOnly{}, config, operators, compute, place);
  WeightReader reader(checkpoint, folder.path(), operators, out->vectors_, compute);
  reader.MergeFrom(loras, "transformer");
  PX_CHECK_OK(out->PrepareWeights(reader));
  return out;
}

Result<std::unique_ptr<WanTransformer>> WanTransformer::Random(const WanConfig& config,
                                                               kernels::Operators& operators,
                                                               kernels::ComputeType compute) {
  auto out = std::make_unique<WanTransformer>(CreateOnly{}, config, operators, compute, WanPlace{});
  WeightReader reader(operators, out->vectors_, compute);
  PX_CHECK_OK(out->PrepareWeights(reader));
  return out;
}

std::unique_ptr<WanTransformer> WanTransformer::Twin(kernels::Operators& operators,
                                                     const WanPlace& place) const {
  PX_ASSERT(place.tensor_rank == place_.tensor_rank && place.tensor_count == place_.tensor_count);
  auto out = std::make_unique<WanTransformer>(CreateOnly{}, config_, operators, compute_, place);
  out->weights_ = weights_;
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
  if (config_.image_dim > 0) {
    PX_CHECK_OK(PreparePictures(reader));
  }
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
  const RowRange heads = HeadCut().columns;
  const RowRange features = FeatureCut().columns;
  const bool cut = place_.tensor_count > 1;
  using Ranges = std::vector<RowRange>;
  using Sizes = std::vector<std::int64_t>;
  Block block;
  PX_TRY(block.table, reader.Values(prefix + "scale_shift_table", {1, 6, dim}));
  for (const bool cross : {false, true}) {
    Attention& attention = cross ? block.cross : block.self;
    const std::string name = prefix + (cross ? "attn2." : "attn1.");
    const WeightReader::Rows q = {name + "to_q", dim};
    const WeightReader::Rows k = {name + "to_k", dim};
    const WeightReader::Rows v = {name + "to_v", dim};
    if (cross) {
      PX_TRY(attention.qkv,
             reader.Linear({.parts = {q}, .cols = dim, .rows = cut ? Ranges{heads} : Ranges{}}));
      const Ranges both = cut ? InEach(Sizes{dim, dim}, Ranges{heads, heads}) : Ranges{};
      PX_TRY(attention.kv, reader.Linear({.parts = {k, v}, .cols = dim, .rows = both}));
      if (config_.image_dim > 0) {
        PX_TRY(attention.picture_kv,
               reader.Linear({.parts = {{name + "add_k_proj", dim}, {name + "add_v_proj", dim}},
                              .cols = dim,
                              .rows = both}));
        PX_TRY(attention.norm_picture_k, reader.Vector(name + "norm_added_k.weight", {dim}));
      }
    } else {
      PX_TRY(attention.qkv,
             reader.Linear({.parts = {q, k, v},
                            .cols = dim,
                            .rows = cut ? InEach(Sizes{dim, dim, dim}, Ranges{heads, heads, heads})
                                        : Ranges{}}));
    }
    PX_CHECK_OK(
        PrepareSum(name + "to_out.0", HeadCut(), dim, reader, attention.o, attention.o_bias));
    PX_TRY(attention.norm_q, reader.Vector(name + "norm_q.weight", {dim}));
    PX_TRY(attention.norm_k, reader.Vector(name + "norm_k.weight", {dim}));
  }
  PX_TRY(block.cross_norm, reader.Norm(prefix + "norm2", dim));
  PX_TRY(block.up, reader.Linear({.parts = {{prefix + "ffn.net.0.proj", config_.ffn_dim}},
                                  .cols = dim,
                                  .rows = cut ? Ranges{features} : Ranges{}}));
  PX_CHECK_OK(PrepareSum(prefix + "ffn.net.2", FeatureCut(), config_.ffn_dim, reader, block.down,
                         block.down_bias));
  return block;
}

/// A linear whose K the ranks share: the bias joins the whole sum, after the tree.
Result<void> WanTransformer::PrepareSum(const std::string& name, const SumCut& cut,
                                        std::int64_t cols, WeightReader& reader,
                                        LinearPointer& weight, std::span<const float>& bias) {
  const bool whole = place_.tensor_count == 1;
  PX_TRY(weight, reader.Linear({.parts = {{name, config_.dim()}},
                                .cols = cols,
                                .bias = whole,
                                .k_shards = kRowParallelShards,
                                .shard_begin = cut.shard_begin,
                                .shard_end = cut.shard_end}));
  if (!whole) {
    PX_TRY(bias, reader.Vector(name + ".bias", {config_.dim()}));
  }
  return {};
}

void WanTransformer::SumLinear(const Matrix& in, const kernels::LinearWeight& weight,
                               std::span<const float> bias, const Matrix& out) {
  operators_.Linear(in, weight, out);
  if (tensor_.alone()) {
    return;
  }
  tensor_.Sum(out);
  for (std::int64_t row = 0; row < out.rows; ++row) {
    std::transform(bias.begin(), bias.end(), out.f32(row), out.f32(row), std::plus<>());
  }
}

/// RmsNorm over all heads, of which `in` and `out` hold the rank's own.
void WanTransformer::NormAcross(const Matrix& in, std::span<const float> weight,
                                const Matrix& out) {
  if (tensor_.alone()) {
    operators_.RmsNorm(in, weight, 0.0F, config_.epsilon, out);
    return;
  }
  const Matrix all = tensor_.Gather(in, config_.dim());
  operators_.RmsNorm(all, weight, 0.0F, config_.epsilon, all);
  operators_.Copy(all.Columns(HeadCut().columns.begin, own_dim()), out);
}

Result<void> WanTransformer::PreparePictures(WeightReader& reader) {
  const std::string name = "condition_embedder.image_embedder.";
  const std::int64_t in = config_.image_dim;
  const std::int64_t dim = config_.dim();
  PX_TRY(picture_norm_1_, reader.Norm(name + "norm1", in));
  PX_TRY(picture_1_, reader.Linear({.parts = {{name + "ff.net.0.proj", in}}, .cols = in}));
  PX_TRY(picture_2_, reader.Linear({.parts = {{name + "ff.net.2", dim}}, .cols = in}));
  PX_TRY(picture_norm_2_, reader.Norm(name + "norm2", dim));
  return {};
}

Result<WanText> WanTransformer::MakeText(std::span<const float> rows, std::int32_t lanes,
                                         std::int32_t tokens) {
  PX_ASSERT(std::ssize(rows) == std::int64_t{lanes} * tokens * config_.text_dim);
  PX_TRY(LaneKeys keys, LaneKeys::Create(operators_, {.layers = config_.layers,
                                                      .heads = own_heads(),
                                                      .head_dim = config_.head_dim,
                                                      .lanes = lanes,
                                                      .tokens = tokens,
                                                      .dtype = key_type()}));
  const std::int64_t count = std::int64_t{lanes} * tokens;
  const std::int64_t dim = config_.dim();
  const Matrix in{const_cast<float*>(rows.data()), kernels::DType::kF32, count, config_.text_dim,
                  config_.text_dim};
  RowMemory memory[3];
  const Matrix mid = memory[0].At(count, dim);
  const Matrix text = memory[1].At(count, dim);
  const std::int64_t own = own_dim();
  const Matrix kv = memory[2].At(count, 2 * own);
  operators_.Linear(in, *weights_->text_1_, mid);
  operators_.Activate(mid, kernels::Activation::kGeluTanh);
  operators_.Linear(mid, *weights_->text_2_, text);
  for (std::int32_t layer = 0; layer < config_.layers; ++layer) {
    const Attention& cross = weights_->blocks_[static_cast<std::size_t>(layer)].cross;
    operators_.Linear(text, *cross.kv, kv);
    const Matrix k = kv.Columns(0, own);
    NormAcross(k, cross.norm_k, k);
    keys.Store(operators_, layer, 0, k, kv.Columns(own, own));
  }
  PX_CHECK_OK(tensor_.TakeError());
  return WanText(std::move(keys));
}

Result<void> WanTransformer::AddPictures(std::span<const float> rows, std::int32_t tokens,
                                         WanText& text) {
  const std::int64_t in = config_.image_dim;
  const std::int64_t dim = config_.dim();
  const std::int64_t own = own_dim();
  const std::int64_t count = std::int64_t{text.lanes()} * tokens;
  PX_ASSERT(in > 0 && std::ssize(rows) == count * in);
  PX_TRY(LaneKeys keys, LaneKeys::Create(operators_, {.layers = config_.layers,
                                                      .heads = own_heads(),
                                                      .head_dim = config_.head_dim,
                                                      .lanes = text.lanes(),
                                                      .tokens = tokens,
                                                      .dtype = key_type()}));
  RowMemory memory[4];
  const Matrix normed = memory[0].At(count, in);
  const Matrix mid = memory[1].At(count, in);
  const Matrix embedded = memory[2].At(count, dim);
  const Matrix kv = memory[3].At(count, 2 * own);
  std::copy(rows.begin(), rows.end(), mid.f32());
  std::vector<float> zeros(static_cast<std::size_t>(count * std::max(in, dim)));
  operators_.AddLayerNorm(mid, RowsOf(std::span(zeros).first(rows.size()), in),
                          weights_->picture_norm_1_.weight, weights_->picture_norm_1_.bias,
                          kPictureEpsilon, normed);
  operators_.Linear(normed, *weights_->picture_1_, mid);
  operators_.Activate(mid, kernels::Activation::kGelu);
  operators_.Linear(mid, *weights_->picture_2_, embedded);
  operators_.AddLayerNorm(
      embedded, RowsOf(std::span(zeros).first(static_cast<std::size_t>(count * dim)), dim),
      weights_->picture_norm_2_.weight, weights_->picture_norm_2_.bias, kPictureEpsilon, embedded);
  for (std::int32_t layer = 0; layer < config_.layers; ++layer) {
    const Attention& cross = weights_->blocks_[static_cast<std::size_t>(layer)].cross;
    operators_.Linear(embedded, *cross.picture_kv, kv);
    const Matrix k = kv.Columns(0, own);
    NormAcross(k, cross.norm_picture_k, k);
    keys.Store(operators_, layer, 0, k, kv.Columns(own, own));
  }
  PX_CHECK_OK(tensor_.TakeError());
  text.picture_keys_ = std::move(keys);
  return {};
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
  pass.own = sequence_.own_tokens(pass.all_tokens());
  pass.positions.clear();
  for (std::int32_t lane = 0; lane < lanes; ++lane) {
    for (std::int64_t token = pass.own.begin; token < pass.own.end; ++token) {
      pass.positions.push_back(static_cast<std::int32_t>(token));
    }
  }
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
                 if (row >= pass.own.begin && row < pass.own.end) {
                   to.f32(row - pass.own.begin)[column] = from[index];
                 }
               });
  }
  operators_.Linear(patches, *weights_->patch_embedding_, pass.rows);
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
  operators_.Linear(RowsOf(waves, config_.freq_dim), *weights_->time_1_, mid_rows);
  operators_.Activate(mid_rows, kernels::Activation::kSilu);
  operators_.Linear(mid_rows, *weights_->time_2_, time);
  mid = pass.time;
  const Matrix active = RowsOf(mid, dim);
  operators_.Activate(active, kernels::Activation::kSilu);
  operators_.Linear(active, *weights_->time_projection_, RowsOf(pass.modulation, 6 * dim));
  pass.next_block = 0;
}

/// Of a block's `table` [N, dim] and the lanes' `modulation` [lanes, N * dim], or [lanes, dim].
void WanTransformer::FillFactors(std::span<const float> table, std::span<const float> modulation,
                                 std::int32_t lanes) {
  const auto dim = static_cast<std::size_t>(config_.dim());
  const auto count = static_cast<std::size_t>(lanes);
  const std::size_t size = modulation.size() / count;
  factors_.resize(table.size() * count);
  for (std::size_t index = 0; index < table.size() / dim; ++index) {
    const float one = index % 3 == 1 ? 1.0F : 0.0F;  // shift, scale, gate
    const auto row = table.subspan(index * dim, dim);
    for (std::size_t lane = 0; lane < count; ++lane) {
      const auto own = modulation.subspan(lane * size + index * dim % size, dim);
      float* out = factors_.data() + (index * count + lane) * dim;
      std::transform(row.begin(), row.end(), own.begin(), out,
                     [one](float value, float more) { return value + more + one; });
    }
  }
}

/// function(first, count) over all rows, kRowsAtOnce at a time, whichever lanes they are of.
template <class Function>
void WanTransformer::ForRows(const WanPass& pass, const Function& function) {
  for (std::int64_t first = 0; first < pass.rows.rows; first += kRowsAtOnce) {
    function(first, std::min(kRowsAtOnce, pass.rows.rows - first));
  }
}

/// function(piece, factor) over the pieces of `rows` that are whole lanes or a part of one;
/// factor(index) are those lanes' factors.
template <class Function>
void WanTransformer::ForLanes(const WanPass& pass, const RowRange& rows, const Function& function) {
  const auto dim = static_cast<std::size_t>(config_.dim());
  for (std::int64_t begin = rows.begin; begin < rows.end;) {
    const std::int64_t lane = begin / pass.tokens();
    const bool whole = begin == lane * pass.tokens() && rows.end - begin >= pass.tokens();
    const std::int64_t lanes = whole ? (rows.end - begin) / pass.tokens() : 1;
    const std::int64_t end = std::min(rows.end, (lane + lanes) * pass.tokens());
    function(RowRange{begin, end}, [&](std::int32_t index) {
      const auto at = static_cast<std::size_t>(index * pass.lanes + lane) * dim;
      return std::span<const float>(factors_).subspan(at, static_cast<std::size_t>(lanes) * dim);
    });
    begin = end;
  }
}

Result<void> WanTransformer::RunBlock(WanText& text, WanPass& pass) {
  PX_ASSERT(!done(pass) && text.lanes() == pass.lanes);
  const Block& block = weights_->blocks_[static_cast<std::size_t>(pass.next_block)];
  const std::int64_t dim = config_.dim();
  const auto tokens = static_cast<std::int32_t>(pass.tokens());
  const std::int64_t count = pass.rows.rows;
  const LaneShape shape = {.heads = own_heads() / sequence_.count(),
                           .head_dim = config_.head_dim,
                           .lanes = pass.lanes,
                           .tokens = static_cast<std::int32_t>(pass.all_tokens()),
                           .dtype = key_type()};
  if (self_keys_ == nullptr || self_keys_->shape() != shape) {
    PX_TRY(LaneKeys keys, LaneKeys::Create(operators_, shape));
    self_keys_ = std::make_unique<LaneKeys>(std::move(keys));
  }
  const Matrix q = q_memory_.At(count, own_dim());
  const Matrix mixed = mixed_memory_.At(count, own_dim());
  // Where ranks hold parts of the tokens, keys and values wait until they are swapped.
  const Matrix kv = sequence_.alone() ? Matrix() : kv_memory_.At(count, 2 * own_dim());
  const float scale = 1.0F / std::sqrt(static_cast<float>(config_.head_dim));
  FillFactors(block.table, pass.modulation, pass.lanes);
  SelfAttention(block, pass, q, kv);
  PX_CHECK_OK(Attend(pass, q, kv, mixed));
  SumLinear(mixed, *block.self.o, block.self.o_bias, pass.delta);
  GateDelta(2, pass, {0, count});
  ForRows(pass, [&](std::int64_t first, std::int64_t rows) {
    const Matrix normed = normed_memory_.At(rows, dim);
    const Matrix part = q.Rows(first, rows);
    operators_.AddLayerNorm(pass.rows.Rows(first, rows), pass.delta.Rows(first, rows),
                            block.cross_norm.weight, block.cross_norm.bias, config_.epsilon,
                            normed);
    operators_.Linear(normed, *block.cross.qkv, part);
    NormAcross(part, block.cross.norm_q, part);
  });
  text.keys_.Attend(operators_, {.layer = pass.next_block, .tokens = tokens, .scale = scale}, q,
                    mixed);
  if (text.picture_keys_) {
    const Matrix seen = picture_memory_.At(count, own_dim());
    text.picture_keys_->Attend(
        operators_, {.layer = pass.next_block, .tokens = tokens, .scale = scale}, q, seen);
    operators_.Add(mixed, seen);
  }
  SumLinear(mixed, *block.cross.o, block.cross.o_bias, pass.delta);
  FeedForward(block, pass);
  ++pass.next_block;
  return tensor_.TakeError();
}

/// All queries of the pass against all keys of their lanes.
Result<void> WanTransformer::Attend(const WanPass& pass, const Matrix& q, const Matrix& kv,
                                    const Matrix& mixed) {
  const LaneKeys::Query query = {.tokens = static_cast<std::int32_t>(pass.all_tokens()),
                                 .scale = 1.0F / std::sqrt(static_cast<float>(config_.head_dim))};
  if (sequence_.alone()) {
    self_keys_->Attend(operators_, query, q, mixed);
    return {};
  }
  kernels::Collective& link = *place_.links->sequence;
  const std::int64_t rows = pass.lanes * pass.all_tokens();
  const std::int64_t columns = own_dim() / sequence_.count();
  const Matrix k = heads_memory_[0].At(rows, columns);
  const Matrix v = heads_memory_[1].At(rows, columns);
  PX_CHECK_OK(sequence_.ToHeads(link, kv.Columns(0, own_dim()), pass.lanes, k));
  PX_CHECK_OK(sequence_.ToHeads(link, kv.Columns(own_dim(), own_dim()), pass.lanes, v));
  self_keys_->Store(operators_, 0, 0, k, v);
  PX_CHECK_OK(sequence_.ToHeads(link, q, pass.lanes, k));
  self_keys_->Attend(operators_, query, k, v);
  return sequence_.ToTokens(link, v, pass.lanes, mixed);
}

/// Normed rows to queries, keys and values; keys and values are stored, or put into `kv`.
void WanTransformer::SelfAttention(const Block& block, WanPass& pass, const Matrix& q,
                                   const Matrix& kv) {
  const std::int64_t own = own_dim();
  const kernels::RotaryTable rotary = {.cos = pass.rotary.cos.data(),
                                       .sin = pass.rotary.sin.data(),
                                       .position_max = static_cast<std::int32_t>(pass.all_tokens()),
                                       .rotary_dim = config_.head_dim,
                                       .interleaved = true};
  ForRows(pass, [&](std::int64_t first, std::int64_t rows) {
    const Matrix normed = normed_memory_.At(rows, config_.dim());
    const Matrix qkv = wide_memory_.At(rows, 3 * own);
    NormRows(0, pass, {first, first + rows}, normed);
    operators_.Linear(normed, *block.self.qkv, qkv);
    const Matrix k = qkv.Columns(own, own);
    NormAcross(qkv.Columns(0, own), block.self.norm_q, q.Rows(first, rows));
    NormAcross(k, block.self.norm_k, k);
    const auto positions =
        std::span<const std::int32_t>(pass.positions)
            .subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(rows));
    operators_.Rotary(q.Rows(first, rows), own_heads(), positions, rotary);
    operators_.Rotary(k, own_heads(), positions, rotary);
    if (sequence_.alone()) {
      self_keys_->Store(operators_, 0, first, k, qkv.Columns(2 * own, own));
    } else {
      operators_.Copy(qkv.Columns(own, 2 * own), kv.Rows(first, rows));
    }
  });
}

/// `normed` = rows' own layer norm, shifted and scaled by their lanes' factors `shift` and the one
/// behind it, once what the last block adds to them is added.
void WanTransformer::NormRows(std::int32_t shift, WanPass& pass, const RowRange& range,
                              const Matrix& normed) {
  ForLanes(pass, range, [&](const RowRange& piece, const auto& factor) {
    operators_.AddLayerNorm(pass.rows.Rows(piece.begin, SizeOf(piece)),
                            pass.delta.Rows(piece.begin, SizeOf(piece)), factor(shift + 1),
                            factor(shift), config_.epsilon,
                            normed.Rows(piece.begin - range.begin, SizeOf(piece)));
  });
}

/// What the block adds to `range` of rows, times their lanes' factors `gate`.
void WanTransformer::GateDelta(std::int32_t gate, const WanPass& pass, const RowRange& range) {
  ForLanes(pass, range, [&](const RowRange& piece, const auto& factor) {
    operators_.ScaleColumns(pass.delta.Rows(piece.begin, SizeOf(piece)), factor(gate));
  });
}

void WanTransformer::FeedForward(const Block& block, WanPass& pass) {
  ForRows(pass, [&](std::int64_t first, std::int64_t rows) {
    const RowRange range = {first, first + rows};
    const Matrix normed = normed_memory_.At(rows, config_.dim());
    const Matrix wide = wide_memory_.At(rows, SizeOf(FeatureCut().columns));
    NormRows(3, pass, range, normed);
    operators_.Linear(normed, *block.up, wide);
    operators_.Activate(wide, kernels::Activation::kGeluTanh);
    SumLinear(wide, *block.down, block.down_bias, pass.delta.Rows(first, rows));
    GateDelta(5, pass, range);
  });
}

Matrix WanTransformer::FinishRows(WanPass& pass) {
  const Matrix patches = wide_memory_.At(pass.rows.rows, config_.patch_out());
  FillFactors(weights_->out_table_, pass.time, pass.lanes);
  ForRows(pass, [&](std::int64_t first, std::int64_t rows) {
    const Matrix normed = normed_memory_.At(rows, config_.dim());
    NormRows(0, pass, {first, first + rows}, normed);
    operators_.Linear(normed, *weights_->out_, patches.Rows(first, rows));
  });
  return patches;
}

void WanTransformer::PlacePatches(const WanPass& pass, const Matrix& patches,
                                  std::span<float> velocity) const {
  PX_ASSERT(patches.rows == pass.all_tokens() &&
            std::ssize(velocity) == config_.out_channels * pass.latents.pixels());
  ForPatches(pass, config_.patch, config_.out_channels, false,
             [&](std::int64_t row, std::int64_t column, std::int64_t index) {
               velocity[static_cast<std::size_t>(index)] = patches.f32(row)[column];
             });
}

void WanTransformer::Finish(WanPass& pass, std::span<float> velocity) {
  PX_ASSERT(pass.tokens() == pass.all_tokens());
  const auto lane_size = static_cast<std::size_t>(config_.out_channels * pass.latents.pixels());
  const Matrix patches = FinishRows(pass);
  for (std::int32_t lane = 0; lane < pass.lanes; ++lane) {
    PlacePatches(pass, patches.Rows(lane * pass.tokens(), pass.tokens()),
                 velocity.subspan(static_cast<std::size_t>(lane) * lane_size, lane_size));
  }
}

}  // namespace pixii::model
