#include "model/vision_tower.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/assert.h"
#include "base/checked.h"
#include "kernels/weight_source.h"
#include "model/checkpoint.h"
#include "model/config.h"

namespace pixii::model {
namespace {

using kernels::Matrix;

constexpr std::int32_t kBlockTokens = 64;                                // of the scratch cache
constexpr std::int64_t kFeedForwardScratchMax = std::int64_t{64} << 20;  // bytes
constexpr std::int64_t kFeedForwardRowsMin = 512;

Matrix RowsAt(float* data, std::int64_t rows, std::int64_t cols) {
  return {data, kernels::DType::kF32, rows, cols, cols};
}

/// Operators take what they read and what they write alike.
Matrix Readable(std::span<const float> values, std::int64_t rows, std::int64_t cols) {
  return RowsAt(const_cast<float*>(values.data()), rows, cols);
}

void Clear(const Matrix& rows) {
  std::memset(rows.data, 0, static_cast<std::size_t>(rows.rows * rows.cols) * sizeof(float));
}

/// Rows in sequences of `sizes`, each in blocks of its own.
kernels::StepBatch MakeSequences(std::span<const std::int32_t> sizes) {
  kernels::StepBatch out;
  std::int32_t row = 0;
  std::int32_t next_block = 0;
  for (const std::int32_t size : sizes) {
    const std::int32_t blocks = CeilDiv(size, kBlockTokens);
    out.sequences.push_back({.token_begin = row,
                             .token_count = size,
                             .context_tokens = size,
                             .block_begin = next_block,
                             .block_count = blocks});
    for (std::int32_t i = 0; i < size; ++i) {
      out.token_ids.push_back(0);
      out.positions.push_back(i);
      out.slots.push_back(next_block * kBlockTokens + i);
    }
    for (std::int32_t i = 0; i < blocks; ++i) {
      out.block_table.push_back(next_block++);
    }
    row += size;
  }
  return out;
}

std::int64_t FeedForwardRows(const VisionSpec& spec, std::int64_t rows) {
  const std::int64_t row_bytes =
      std::int64_t{spec.intermediate_size} * (spec.gated ? 3 : 1) * std::int64_t{sizeof(float)};
  return std::min(rows, std::max(kFeedForwardRowsMin, kFeedForwardScratchMax / row_bytes));
}

}  // namespace

Result<std::unique_ptr<VisionTower>> VisionTower::Load(const std::string& folder_path,
                                                       kernels::Operators& operators,
                                                       const VisionOptions& options) {
  PX_TRY(const CheckpointFolder folder, CheckpointFolder::Open(folder_path));
  PX_TRY(ModelConfig config, LoadConfig(folder));
  if (!config.vision) {
    return Fail(
        Code::kUnsupported,
        fmt::format("{}: {} has no vision tower", folder_path,
                    config.encoder ? config.encoder->architecture : config.decoder.architecture),
        "architectures");
  }
  PX_TRY(const Checkpoint checkpoint, Checkpoint::Open(folder));
  ResolveNames(checkpoint, config);
  PX_CHECK_OK(CheckTensors(config, checkpoint));
  const std::unique_ptr<Weights> weights = MakeCheckpointWeights(checkpoint, {});
  return Create(*std::move(config.vision), *weights, operators, options);
}

Result<std::unique_ptr<VisionTower>> VisionTower::Create(VisionSpec spec, Weights& weights,
                                                         kernels::Operators& operators,
                                                         const VisionOptions& options) {
  if (!operators.on_host()) {
    return Fail(Code::kUnsupported,
                fmt::format("{}: vision towers run on the CPU only, not on {}", spec.architecture,
                            operators.name()),
                "device");
  }
  auto tower = std::make_unique<VisionTower>(CreateOnly{}, std::move(spec), operators, options);
  PX_CHECK_OK(tower->PrepareWeights(weights));
  return tower;
}

Result<void> VisionTower::PrepareWeights(Weights& weights) {
  const VisionNames& names = spec_.names;
  const std::int64_t hidden = spec_.hidden_size;
  PX_TRY(patch_,
         PrepareLinear({names.patch}, 0, hidden, spec_.patch_values(), spec_.patch_bias, weights));
  if (spec_.has_class_token()) {
    PX_TRY(const auto values, weights.Vector(names.class_token, hidden));
    PX_TRY(class_token_, Keep(values));
  }
  if (!names.positions.empty()) {
    PX_TRY(const kernels::WeightPart part,
           weights.Part(names.positions + ".weight", spec_.position_count, hidden));
    if (spec_.interpolated_positions) {
      std::vector<float> values(static_cast<std::size_t>(spec_.position_count * hidden));
      for (std::int64_t row = 0; row < spec_.position_count; ++row) {
        kernels::ReadRow(part, row, values.data() + row * hidden);
      }
      PX_TRY(table_, Keep(values));
    } else {
      PX_TRY(positions_, operators_.PrepareEmbedding(part));
    }
    weights.Release();
  }
  if (!names.entry_norm.empty()) {
    PX_TRY(entry_norm_, PrepareNorm(names.entry_norm, 0, hidden, weights));
  }
  for (std::size_t i = 0; i < static_cast<std::size_t>(spec_.depth()); ++i) {
    EncoderBlock& block = blocks_.emplace_back();
    const std::int64_t features = spec_.intermediate_size;
    PX_TRY(block.attention_norm, PrepareNorm(names.attention_norm, i, hidden, weights));
    PX_TRY(block.qkv, PrepareLinear(names.qkv, i, 3 * hidden, hidden, true, weights));
    PX_TRY(block.out, PrepareLinear({names.attention_out}, i, hidden, hidden, true, weights));
    PX_TRY(block.feed_forward_norm, PrepareNorm(names.feed_forward_norm, i, hidden, weights));
    PX_TRY(block.up,
           PrepareLinear(names.up, i, features * std::ssize(names.up), hidden, true, weights));
    PX_TRY(block.down, PrepareLinear({names.down}, i, hidden, features, true, weights));
  }
  if (!names.exit_norm.empty()) {
    PX_TRY(exit_norm_, PrepareNorm(names.exit_norm, 0, hidden, weights));
  }
  if (spec_.projector == ProjectorKind::kMeans) {
    PX_TRY(projector_, PrepareMeansProjector(weights));
    return {};
  }
  const std::int64_t merged = std::int64_t{spec_.merge_size} * spec_.merge_size;
  PX_TRY(projector_,
         PrepareProjector(names.projector, 0, hidden, spec_.feature_size() * merged, weights));
  for (std::size_t level = 0; level < spec_.deepstack_layers.size(); ++level) {
    PX_TRY(Projector projector,
           PrepareProjector(names.deepstack, level, hidden * merged, hidden * merged, weights));
    deepstack_.push_back(std::move(projector));
  }
  if (!names.newline.empty()) {
    PX_TRY(const auto values, weights.Vector(names.newline, spec_.out_size));
    PX_TRY(newline_, Keep(values));
  }
  return {};
}

Result<std::unique_ptr<kernels::LinearWeight>> VisionTower::PrepareLinear(
    const std::vector<std::string>& names, std::size_t layer, std::int64_t rows, std::int64_t cols,
    bool bias, Weights& weights) {
  std::vector<kernels::WeightPart> parts;
  std::vector<std::vector<float>> biases;
  const std::int64_t part_rows = rows / std::ssize(names);
  for (const std::string& pattern : names) {
    const std::string name = LayerName(pattern, layer);
    PX_TRY(kernels::WeightPart part, weights.Part(name + ".weight", part_rows, cols));
    if (bias) {
      PX_TRY(std::vector<float> values, weights.Vector(name + ".bias", part_rows));
      part.bias = biases.emplace_back(std::move(values)).data();
    }
    parts.push_back(part);
  }
  auto prepared = operators_.PrepareLinear(parts, {.compute = options_.compute});
  weights.Release();
  return prepared;
}

Result<NormWeights> VisionTower::PrepareNorm(const std::string& name, std::size_t layer,
                                             std::int64_t size, Weights& weights) {
  NormWeights norm;
  const std::string module = LayerName(name, layer);
  PX_TRY(const auto values, weights.Vector(module + ".weight", size));
  PX_TRY(norm.weight, Keep(values));
  if (!spec_.rms_norm) {
    PX_TRY(const auto bias, weights.Vector(module + ".bias", size));
    PX_TRY(norm.bias, Keep(bias));
  }
  return norm;
}

Result<VisionTower::Projector> VisionTower::PrepareMeansProjector(Weights& weights) {
  Projector out;
  const std::int64_t in = spec_.hidden_size;
  PX_TRY(const auto norm, weights.Vector(spec_.names.projector.norm, in));
  PX_TRY(out.norm.weight, Keep(norm));
  PX_TRY(const kernels::WeightPart stored,
         weights.Part(spec_.names.projector.out, in, spec_.out_size));
  std::vector<float> row(static_cast<std::size_t>(spec_.out_size));
  std::vector<float> turned(row.size() * static_cast<std::size_t>(in));
  for (std::int64_t i = 0; i < in; ++i) {
    kernels::ReadRow(stored, i, row.data());
    for (std::size_t o = 0; o < row.size(); ++o) {
      turned[o * static_cast<std::size_t>(in) + static_cast<std::size_t>(i)] = row[o];
    }
  }
  const kernels::WeightPart part{
      .data = turned.data(), .rows = std::int64_t{spec_.out_size}, .cols = in};
  PX_TRY(out.out, operators_.PrepareLinear({&part, 1}, {.compute = options_.compute}));
  weights.Release();
  return out;
}

Result<VisionTower::Projector> VisionTower::PrepareProjector(const ProjectorNames& names,
                                                             std::size_t level,
                                                             std::int64_t norm_size,
                                                             std::int64_t in, Weights& weights) {
  Projector out;
  if (names.in.empty()) {
    return out;
  }
  if (!names.norm.empty()) {
    PX_TRY(out.norm, PrepareNorm(names.norm, level, norm_size, weights));
  }
  PX_TRY(out.in,
         PrepareLinear({names.in}, level, spec_.projector_size, in, spec_.projector_bias, weights));
  PX_TRY(out.out, PrepareLinear({names.out}, level, spec_.out_size, spec_.projector_size,
                                spec_.projector_bias, weights));
  return out;
}

Result<std::span<const float>> VisionTower::Keep(std::span<const float> values) {
  PX_TRY(kernels::Buffer buffer, operators_.Allocate(values.size_bytes()));
  std::memcpy(buffer.data(), values.data(), values.size_bytes());
  vectors_.push_back(std::move(buffer));
  return std::span(static_cast<const float*>(vectors_.back().data()), values.size());
}

Result<void> VisionTower::CheckInput(const VisionInput& input) const {
  PX_CHECK_OK(CheckGrid(spec_, input.grid));
  if (input.grid.patches() > options_.patches_max) {
    return Fail(Code::kTooLarge,
                fmt::format("a picture of {} patches; the tower takes at most {}",
                            input.grid.patches(), options_.patches_max),
                "patches");
  }
  if (!spec_.tiles.pinpoints.empty()) {
    if (input.source.width == 0 || input.source.height == 0) {
      return Fail(Code::kInvalidArgument, "a picture in tiles has no size", "source");
    }
    const media::TilePlan plan = PlanTiles(spec_, input.source);
    if (input.grid.frames != 1 + plan.tiles()) {
      return Fail(
          Code::kInvalidArgument,
          fmt::format("a picture of {} x {} pixels is {} tiles and itself, not {}",
                      input.source.width, input.source.height, plan.tiles(), input.grid.frames),
          "patches");
    }
  }
  const auto wanted = static_cast<std::size_t>(input.grid.patches() * spec_.patch_values());
  if (input.patches.size() != wanted) {
    return Fail(Code::kInvalidArgument,
                fmt::format("patches are {} values, the grid has {}", input.patches.size(), wanted),
                "patches");
  }
  return {};
}

/// Everything that follows from the grid alone.
VisionTower::Picture VisionTower::Plan(const PatchGrid& grid) const {
  Picture out;
  out.grid = grid;
  const auto frame_rows = static_cast<std::int32_t>(spec_.frame_rows(grid));
  out.rows = std::int64_t{grid.frames} * frame_rows;
  const std::vector<std::int32_t> frames(static_cast<std::size_t>(grid.frames), frame_rows);
  out.frames = MakeSequences(frames);
  const std::int32_t merged = spec_.merge_size * spec_.merge_size;
  if (spec_.window_size > 0) {
    const MediaGrid cells = spec_.media_grid(grid);
    out.windows = MakeWindows(cells, spec_.window_size / spec_.patch_size / spec_.merge_size);
    std::vector<std::int32_t> sizes = out.windows.sizes;
    for (std::int32_t& size : sizes) {
      size *= merged;
    }
    out.cells = MakeSequences(sizes);
  }
  if (spec_.rotary) {
    const std::vector<PatchPlace> frame = PatchPlaces(grid, spec_.merge_size);
    std::vector<PatchPlace> places;
    for (std::int64_t row = 0; row < out.rows; ++row) {
      const std::int64_t from =
          out.windows.order.empty()
              ? row
              : std::int64_t{out.windows.order[static_cast<std::size_t>(row / merged)]} * merged +
                    row % merged;
      places.push_back(frame[static_cast<std::size_t>(from % frame_rows)]);
    }
    out.factors = VisionRotary(places, spec_.head_dim(), spec_.rotary_theta);
    out.row_numbers.resize(static_cast<std::size_t>(out.rows));
    std::iota(out.row_numbers.begin(), out.row_numbers.end(), 0);
  }
  return out;
}

/// Scratch for the picture; what is there already may be larger.
Result<void> VisionTower::Reserve(const Picture& picture) {
  const auto blocks = static_cast<std::int32_t>(
      std::max(picture.frames.block_table.size(), picture.cells.block_table.size()));
  if (blocks > cache_.block_count) {
    cache_.layout = {.layer_count = 1,
                     .kv_head_count = spec_.head_count,
                     .key_dim = spec_.head_dim(),
                     .value_dim = spec_.head_dim(),
                     .value_in_key = false,
                     .block_tokens = kBlockTokens,
                     .dtype = kernels::KvDType::kF32};
    cache_.block_count = 0;
    PX_TRY(cache_.buffer, operators_.Allocate(static_cast<std::size_t>(blocks) *
                                              cache_.layout.block_size_bytes()));
    cache_.block_count = blocks;
  }
  if (picture.rows <= scratch_rows_) {
    return {};
  }
  const std::int64_t rows = picture.rows;
  const std::int64_t hidden = spec_.hidden_size;
  const std::int64_t merged = std::int64_t{spec_.merge_size} * spec_.merge_size;
  const std::int64_t feed_forward =
      FeedForwardRows(spec_, rows) * std::int64_t{spec_.intermediate_size} * (spec_.gated ? 3 : 1);
  const std::int64_t projector =
      CeilDiv(rows, merged) * (spec_.projector_size + std::int64_t{spec_.out_size});
  const std::int64_t scratch = std::max({rows * 4 * hidden, feed_forward, projector});
  const auto size_of = [](std::int64_t floats) {
    return static_cast<std::size_t>(floats) * sizeof(float);
  };
  scratch_rows_ = 0;
  PX_TRY(stream_, operators_.Allocate(size_of(3 * rows * hidden)));
  PX_TRY(scratch_, operators_.Allocate(size_of(scratch)));
  PX_TRY(features_, operators_.Allocate(size_of(rows * spec_.feature_size())));
  scratch_rows_ = rows;
  return {};
}

/// delta = patches as rows of the stream, in the order of windows and with class tokens.
void VisionTower::EmbedPatches(const VisionInput& input, const Picture& picture, const Rows& rows) {
  const std::int64_t patches = input.grid.patches();
  const Matrix in = Readable(input.patches, patches, spec_.patch_values());
  if (!picture.windows.order.empty()) {
    const std::int64_t merged = std::int64_t{spec_.merge_size} * spec_.merge_size;
    operators_.Linear(in, *patch_, rows.normed);
    const std::int64_t cell = merged * spec_.hidden_size;
    operators_.GatherRows(RowsAt(rows.normed.f32(), patches / merged, cell), picture.windows.order,
                          RowsAt(rows.delta.f32(), patches / merged, cell));
    return;
  }
  if (!spec_.has_class_token()) {
    operators_.Linear(in, *patch_, rows.delta);
    return;
  }
  const std::int64_t frame_rows = spec_.frame_rows(input.grid);
  const Matrix embedded = rows.normed.Rows(0, patches);
  operators_.Linear(in, *patch_, embedded);
  for (std::int64_t frame = 0; frame < input.grid.frames; ++frame) {
    operators_.Copy(Readable(class_token_, 1, spec_.hidden_size),
                    rows.delta.Rows(frame * frame_rows, 1));
    operators_.Copy(embedded.Rows(frame * (frame_rows - 1), frame_rows - 1),
                    rows.delta.Rows(frame * frame_rows + 1, frame_rows - 1));
  }
}

/// residual = learned positions, or nothing.
void VisionTower::AddPositions(const Picture& picture, const Rows& rows) {
  if (positions_ != nullptr && spec_.merge_size == 1) {
    operators_.Embed(*positions_, picture.frames.positions, 1.0F, rows.residual);
    return;
  }
  if (positions_ != nullptr) {
    // Of a frame; rows of one token lie together.
    const std::vector<PatchPlace> places = PatchPlaces(picture.grid, spec_.merge_size);
    std::vector<std::int32_t> ids;
    for (std::int64_t row = 0; row < picture.rows; ++row) {
      const PatchPlace& place = places[static_cast<std::size_t>(row % std::ssize(places))];
      ids.push_back(place.row * picture.grid.cols + place.col);
    }
    operators_.Embed(*positions_, ids, 1.0F, rows.residual);
    return;
  }
  if (table_.empty()) {
    Clear(rows.residual);
    return;
  }
  const std::vector<PatchPlace> places = PatchPlaces(picture.grid, spec_.merge_size);
  const auto side = static_cast<std::int32_t>(std::lround(std::sqrt(spec_.position_count)));
  const std::vector<float> frame =
      StretchPositions(table_, side, spec_.hidden_size, picture.grid, places);
  const std::int64_t count = std::ssize(places);
  for (std::int64_t begin = 0; begin < rows.residual.rows; begin += count) {
    operators_.Copy(Readable(frame, count, spec_.hidden_size), rows.residual.Rows(begin, count));
  }
}

/// residual += delta, out = norm(residual).
void VisionTower::AddNorm(const NormWeights& norm, const Matrix& residual, const Matrix& delta,
                          const Matrix& out) {
  if (spec_.rms_norm) {
    operators_.AddRmsNorm(residual, delta, norm.weight, 0.0F, spec_.norm_epsilon, out);
  } else {
    operators_.AddLayerNorm(residual, delta, norm.weight, norm.bias, spec_.norm_epsilon, out);
  }
}

void VisionTower::RunBlock(std::size_t index, const Picture& picture, const Rows& rows) {
  const EncoderBlock& block = blocks_[index];
  const std::int64_t hidden = spec_.hidden_size;
  const std::int32_t heads = spec_.head_count;
  auto* scratch = static_cast<float*>(scratch_.data());
  const Matrix qkv = RowsAt(scratch, picture.rows, 3 * hidden);
  const Matrix attention = RowsAt(scratch + picture.rows * 3 * hidden, picture.rows, hidden);
  const bool windows = spec_.window_size > 0 && !spec_.full_layers[index];
  const kernels::StepBatch& step = windows ? picture.cells : picture.frames;
  AddNorm(block.attention_norm, rows.residual, rows.delta, rows.normed);
  operators_.Linear(rows.normed, *block.qkv, qkv);
  if (spec_.rotary) {
    const kernels::RotaryTable table = {.cos = picture.factors.data(),
                                        .sin = picture.factors.data() + picture.factors.size() / 2,
                                        .position_max = static_cast<std::int32_t>(picture.rows),
                                        .rotary_dim = spec_.head_dim()};
    operators_.Rotary(qkv.Columns(0, hidden), heads, picture.row_numbers, table);
    operators_.Rotary(qkv.Columns(hidden, hidden), heads, picture.row_numbers, table);
  }
  operators_.StoreKv(qkv.Columns(hidden, hidden), qkv.Columns(2 * hidden, hidden), step.slots, 0,
                     cache_);
  operators_.PagedAttention(qkv.Columns(0, hidden), step, 0, cache_,
                            {.head_count = heads,
                             .kv_head_count = heads,
                             .key_dim = spec_.head_dim(),
                             .value_dim = spec_.head_dim(),
                             .scale = 1.0F / std::sqrt(static_cast<float>(spec_.head_dim())),
                             .window_tokens = 0,
                             .soft_cap = 0.0F,
                             .sinks = nullptr,
                             .bidirectional = true},
                            attention);
  operators_.Linear(attention, *block.out, rows.delta);
  AddNorm(block.feed_forward_norm, rows.residual, rows.delta, rows.normed);
  RunFeedForward(block, rows);
}

/// delta = feed-forward of normed, in chunks that fit the scratch memory.
void VisionTower::RunFeedForward(const EncoderBlock& block, const Rows& rows) {
  auto* scratch = static_cast<float*>(scratch_.data());
  const std::int64_t features = spec_.intermediate_size;
  const std::int64_t step = FeedForwardRows(spec_, rows.normed.rows);
  for (std::int64_t begin = 0; begin < rows.normed.rows; begin += step) {
    const std::int64_t count = std::min(step, rows.normed.rows - begin);
    const Matrix up = RowsAt(scratch, count, block.up->out_features());
    Matrix active = up;
    operators_.Linear(rows.normed.Rows(begin, count), *block.up, up);
    if (spec_.gated) {
      active = RowsAt(scratch + count * up.cols, count, features);
      operators_.ActivationMul(up, spec_.activation, active);
    } else {
      operators_.Activate(up, spec_.activation);
    }
    operators_.Linear(active, *block.down, rows.delta.Rows(begin, count));
  }
}

/// Copies the stream after block `index` to the features where the projector reads it.
void VisionTower::TakeFeatures(std::size_t index, const Picture& picture, const Rows& rows) {
  const auto found = std::ranges::find(spec_.feature_layers, static_cast<std::int32_t>(index) + 1);
  if (found == spec_.feature_layers.end()) {
    return;
  }
  const Matrix features =
      RowsAt(static_cast<float*>(features_.data()), picture.rows, spec_.feature_size());
  const std::int64_t column = (found - spec_.feature_layers.begin()) * spec_.hidden_size;
  operators_.Copy(rows.residual, features.Columns(column, spec_.hidden_size));
}

/// The stream after the last block to tokens.
void VisionTower::ProjectMeans(const Picture& picture, const Rows& rows, const Matrix& out) {
  const std::int64_t hidden = spec_.hidden_size;
  const std::int64_t merged = std::int64_t{spec_.merge_size} * spec_.merge_size;
  Matrix states = rows.residual;
  if (!exit_norm_.weight.empty()) {
    AddNorm(exit_norm_, rows.residual, rows.delta, rows.normed);
    states = rows.normed;
  }
  const Matrix means = RowsAt(static_cast<float*>(scratch_.data()), picture.rows / merged, hidden);
  const Matrix normed = RowsAt(means.f32() + means.rows * hidden, means.rows, hidden);
  for (std::int64_t token = 0; token < means.rows; ++token) {
    for (std::int64_t i = 0; i < hidden; ++i) {
      float sum = 0.0F;
      for (std::int64_t patch = 0; patch < merged; ++patch) {
        sum += states.f32(token * merged + patch)[i];
      }
      means.f32(token)[i] = sum / static_cast<float>(merged);
    }
  }
  operators_.RmsNorm(means, projector_.norm.weight, 1.0F, spec_.norm_epsilon, normed);
  operators_.Linear(normed, *projector_.out, out);
}

/// Rows of `in` to tokens: `out` has one for each `in` row, in the order of the input.
void VisionTower::Project(const Projector& projector, const Matrix& in, const Picture& picture,
                          const Matrix& out) {
  auto* scratch = static_cast<float*>(scratch_.data());
  const Matrix middle = RowsAt(scratch, in.rows, spec_.projector_size);
  operators_.Linear(in, *projector.in, middle);
  operators_.Activate(middle, spec_.projector_activation);
  if (picture.windows.order.empty()) {
    operators_.Linear(middle, *projector.out, out);
    return;
  }
  const Matrix ordered = RowsAt(scratch + in.rows * middle.cols, in.rows, spec_.out_size);
  operators_.Linear(middle, *projector.out, ordered);
  operators_.GatherRows(ordered, InverseOrder(picture.windows.order), out);
}

Result<void> VisionTower::CheckRows(const Matrix& rows) {
  std::vector<std::int32_t> flags(static_cast<std::size_t>(rows.rows));
  operators_.FindNonFinite(rows, flags);
  PX_CHECK_OK(operators_.Synchronize());
  const auto faulty = std::ranges::count(flags, 1);
  if (faulty > 0) {
    return Fail(Code::kModelFault,
                fmt::format("{} of {} rows of a picture hold values that are not finite", faulty,
                            rows.rows));
  }
  return {};
}

Result<VisionFeatures> VisionTower::Encode(const VisionInput& input) {
  PX_CHECK_OK(CheckInput(input));
  const Picture picture = Plan(input.grid);
  PX_CHECK_OK(Reserve(picture));
  const std::int64_t hidden = spec_.hidden_size;
  const std::int64_t merged = std::int64_t{spec_.merge_size} * spec_.merge_size;
  auto* stream = static_cast<float*>(stream_.data());
  const auto part = [&](std::int64_t index) {
    return RowsAt(stream + index * picture.rows * hidden, picture.rows, hidden);
  };
  const Rows rows = {.residual = part(0), .normed = part(1), .delta = part(2)};

  VisionFeatures out;
  out.rows = static_cast<std::int32_t>(spec_.projected_rows(input.grid));
  out.size = spec_.out_size;
  out.levels = static_cast<std::int32_t>(deepstack_.size());
  const auto size = static_cast<std::size_t>(out.rows) * static_cast<std::size_t>(out.size);
  out.rows_data.resize(size);
  out.layers_data.resize(size * deepstack_.size());

  EmbedPatches(input, picture, rows);
  AddPositions(picture, rows);
  if (!entry_norm_.weight.empty()) {
    AddNorm(entry_norm_, rows.residual, rows.delta, rows.residual);
    Clear(rows.delta);
  }
  const Matrix cells = RowsAt(rows.residual.f32(), picture.rows / merged, hidden * merged);
  const Matrix nothing = RowsAt(rows.delta.f32(), cells.rows, cells.cols);
  const Matrix normed = RowsAt(rows.normed.f32(), cells.rows, cells.cols);
  std::size_t level = 0;
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    RunBlock(i, picture, rows);
    operators_.Add(rows.residual, rows.delta);
    Clear(rows.delta);
    TakeFeatures(i, picture, rows);
    if (level < deepstack_.size() &&
        spec_.deepstack_layers[level] == static_cast<std::int32_t>(i)) {
      AddNorm(deepstack_[level].norm, cells, nothing, normed);
      Matrix to = RowsAt(out.layers_data.data(), out.rows, out.size * std::int64_t{out.levels})
                      .Columns(static_cast<std::int64_t>(level) * out.size, out.size);
      Project(deepstack_[level], normed, picture, to);
      ++level;
    }
  }
  const Matrix result = RowsAt(out.rows_data.data(), out.rows, out.size);
  if (spec_.projector == ProjectorKind::kMeans) {
    ProjectMeans(picture, rows, result);
  } else if (!projector_.norm.weight.empty()) {
    AddNorm(projector_.norm, rows.residual, rows.delta, rows.normed);
    Project(projector_, normed, picture, result);
  } else {
    Matrix features =
        RowsAt(static_cast<float*>(features_.data()), picture.rows, spec_.feature_size());
    std::vector<std::int32_t> kept;
    const std::int64_t frame_rows = spec_.frame_rows(input.grid);
    for (std::int32_t row = 0; row < picture.rows && spec_.drop_first; ++row) {
      if (row % frame_rows != 0) {
        kept.push_back(row);
      }
    }
    if (!kept.empty()) {
      // The stream is spent, but may be narrower than the features: rows move up in place.
      for (std::size_t i = 0; i < kept.size(); ++i) {
        operators_.Copy(features.Rows(kept[i], 1), features.Rows(static_cast<std::int64_t>(i), 1));
      }
      features = features.Rows(0, std::ssize(kept));
    }
    if (projector_.in == nullptr) {
      operators_.Copy(features, result);
    } else {
      Project(projector_, features, picture, result);
    }
  }
  PX_CHECK_OK(CheckRows(result));
  PX_CHECK_OK(
      CheckRows(RowsAt(out.layers_data.data(), out.rows * std::int64_t{out.levels}, out.size)));
  if (!spec_.tiles.pinpoints.empty()) {
    out.rows_data = PackTiles(PlanTiles(spec_, input.source), out.rows_data, newline_);
    out.rows = static_cast<std::int32_t>(out.rows_data.size() / newline_.size());
  }
  return out;
}

}  // namespace pixii::model
