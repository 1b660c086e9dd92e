#include "model/decoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/assert.h"
#include "kernels/weight_source.h"
#include "model/rotary.h"
#include "model/step_check.h"

namespace pixii::model {
namespace {

using kernels::Matrix;

/// The feed-forward runs in chunks of rows when a whole step's gate, up and product would take more
/// than this.
constexpr std::int64_t kFeedForwardScratchMax = std::int64_t{64} << 20;  // bytes
constexpr std::int64_t kFeedForwardRowsMin = 512;  // below this the weights' traffic would show

bool HasWindowRope(const DecoderSpec& spec) {
  return std::any_of(spec.layers.begin(), spec.layers.end(),
                     [](const LayerSpec& layer) { return layer.windowed_rope; });
}

/// Refuses what the backend has no operators for, before anything is loaded.
Result<void> CheckOperators(const DecoderSpec& spec, const kernels::Operators& operators,
                            bool adapters) {
  using Group = kernels::OperatorGroup;

  struct Need {
    Group group;
    bool needed;
    std::string_view what;
  };

  const bool caps = spec.head == HeadKind::kVocab && spec.logit_soft_cap > 0.0F;
  for (const Need& need : {Need{Group::kExperts, spec.any_experts(), "mixtures of experts"},
                           Need{Group::kSoftCap, caps, "soft caps of logits"},
                           Need{Group::kCopy, spec.is_latent(), "latent attention"},
                           Need{Group::kLora, adapters, "adapters"}}) {
    if (need.needed && !operators.Supports(need.group)) {
      return Fail(Code::kUnsupported,
                  fmt::format("{}: {} has no operators for {} yet", spec.architecture,
                              operators.name(), need.what),
                  "device");
    }
  }
  if (spec.is_draft_head() && !operators.on_host()) {
    return Fail(Code::kUnsupported,
                fmt::format("{}: draft heads run on the CPU only, not on {}", spec.architecture,
                            operators.name()),
                "device");
  }
  return {};
}

/// Calls `function(first row, index of it, count)` for each run of rows that lie together.
template <class Function>
void ForEachRun(std::span<const std::int32_t> rows, Function&& function) {
  for (std::size_t begin = 0; begin < rows.size();) {
    std::size_t end = begin + 1;
    while (end < rows.size() && rows[end] == rows[end - 1] + 1) {
      ++end;
    }
    function(rows[begin], static_cast<std::int64_t>(begin), static_cast<std::int64_t>(end - begin));
    begin = end;
  }
}

}  // namespace

WorkspacePlan MakeWorkspacePlan(const DecoderSpec& spec, const LoadOptions& options) {
  const std::int64_t rows = options.step_tokens_max;
  const std::int64_t context =
      options.context_tokens_max == 0 ? spec.context_tokens_max : options.context_tokens_max;
  const std::int64_t feed_forward_row = FeedForwardRowFloats(spec);
  const std::int64_t rows_in_budget =
      kFeedForwardScratchMax / (feed_forward_row * std::int64_t{sizeof(float)});
  const std::int64_t feed_forward_rows =
      std::min(rows, std::max(kFeedForwardRowsMin, rows_in_budget));
  const std::int64_t attention_row =
      std::max(AttentionRowFloats(spec),
               spec.is_draft_head() ? std::int64_t{2} * spec.hidden_size : std::int64_t{0});
  return {.stream = 3 * rows * spec.hidden_size,
          .scratch = std::max(rows * attention_row, feed_forward_rows * feed_forward_row),
          .rotary = context * spec.rotary_dim(spec.rope) * (HasWindowRope(spec) ? 2 : 1),
          .feed_forward_rows = static_cast<std::int32_t>(feed_forward_rows)};
}

Result<std::unique_ptr<LanguageModel>> Decoder::Create(DecoderSpec decoder_spec, ModelSpec spec,
                                                       Weights& weights,
                                                       kernels::Operators& operators,
                                                       const LoadOptions& options) {
  PX_CHECK_OK(CheckOperators(decoder_spec, operators, options.adapter_slots > 0));
  PX_TRY(LoadOptions checked, CheckLoadOptions(options, decoder_spec.context_tokens_max));
  if (decoder_spec.head == HeadKind::kNone) {
    checked.step_logit_rows_max = checked.step_tokens_max;  // pooling may want every row
  }
  spec.context_tokens_max = checked.context_tokens_max;
  if (decoder_spec.rope.follows_length() || decoder_spec.window_rope.follows_length()) {
    spec.rope_context_tokens = checked.context_tokens_max;
  }
  PX_TRY(ModelCut cut, CutModel(decoder_spec, options.place.share));
  auto decoder = std::make_unique<Decoder>(CreateOnly{}, std::move(decoder_spec), std::move(spec),
                                           operators, checked, std::move(cut));
  PX_CHECK_OK(decoder->PrepareWeights(weights));
  PX_CHECK_OK(decoder->AllocateWorkspace());
  return std::unique_ptr<LanguageModel>(std::move(decoder));
}

Result<void> Decoder::PrepareWeights(Weights& weights) {
  const WeightNames& names = decoder_.names;
  const bool tied = decoder_.tied_head && decoder_.head == HeadKind::kVocab;
  const bool last = cut_.share.last_stage();
  const std::vector<RowRange> own_vocab =
      ranks_.alone() ? std::vector<RowRange>() : std::vector<RowRange>{cut_.vocab};
  if (cut_.share.first_stage() || (tied && last)) {
    const std::string embed_name = names.embed + ".weight";
    PX_TRY(const auto table, weights.Part(embed_name, decoder_.vocab_size, decoder_.hidden_size));
    if (cut_.share.first_stage()) {
      std::vector<float> scales;
      const auto own = ranks_.alone() ? table : kernels::SliceRows(table, cut_.vocab, scales);
      PX_TRY(embed_, operators_.PrepareEmbedding(own));
    }
    if (tied && last) {
      PX_TRY(head_.weight, operators_.PrepareLinear(
                               {&table, 1}, {.compute = options_.compute, .rows = own_vocab}));
    }
    weights.Release();
  }
  if (tied) {
    const LinearRows head = {
        .linear = {.name = names.head,
                   .in_features = decoder_.hidden_size,
                   .out_features = decoder_.vocab_size},
        .rows = last ? std::vector<RowRange>{cut_.vocab} : std::vector<RowRange>()};
    head_.sites = adapters_.Add({&head, 1});
  }
  PX_TRY(rotary_, PrepareRotary(decoder_.rope));
  if (HasWindowRope(decoder_)) {
    PX_TRY(window_rotary_, PrepareRotary(decoder_.window_rope));
  }
  WeightLoader loader(weights, operators_, adapters_, options_.compute, buffers_, cut_);
  const std::size_t layer_count = decoder_.layers.size();
  layers_.reserve(layer_count);
  for (std::size_t i = 0; i < layer_count; ++i) {
    loader.SetHeld(cut_.holds(i));
    PX_CHECK_OK(PrepareLayer(i, loader));
    if (options_.progress) {  // embeddings and head are like one layer more
      options_.progress(static_cast<double>(i + 1) / static_cast<double>(layer_count + 1));
    }
  }
  loader.SetHeld(last);
  const FusionSpec& fusion = decoder_.fusion;
  if (decoder_.is_draft_head()) {
    const std::int64_t hidden = decoder_.hidden_size;
    PX_TRY(fusion_,
           loader.Linear({.names = fusion.project, .sizes = {hidden}, .cols = 2 * hidden}));
    PX_TRY(fusion_embed_norm_, loader.Norm(fusion.embed_norm, 0, hidden));
    PX_TRY(fusion_hidden_norm_, loader.Norm(fusion.hidden_norm, 0, hidden));
  }
  PX_TRY(final_norm_, loader.Norm(names.final_norm, 0, decoder_.hidden_size));
  if (!tied && decoder_.head != HeadKind::kNone) {
    PX_TRY(head_,
           loader.Linear(
               {.names = {{names.head}},
                .sizes = {decoder_.row_size()},
                .cols = decoder_.hidden_size,
                .rows = decoder_.head == HeadKind::kVocab ? own_vocab : std::vector<RowRange>()}));
  }
  return {};
}

Result<void> Decoder::PrepareLayer(std::size_t index, WeightLoader& loader) {
  const WeightNames& names = decoder_.names;
  const std::int64_t hidden = decoder_.hidden_size;
  Layer layer;
  const auto norm = [&](const std::string& pattern, std::span<const float>& out) -> Result<void> {
    PX_TRY(out, loader.Norm(pattern, index, hidden));
    return {};
  };
  if (decoder_.layers[index].input_norm) {
    PX_CHECK_OK(norm(names.input_norm, layer.input_norm));
  }
  PX_CHECK_OK(norm(names.attention_out_norm, layer.attention_out_norm));
  PX_CHECK_OK(norm(names.post_attention_norm, layer.post_attention_norm));
  PX_CHECK_OK(norm(names.feed_forward_out_norm, layer.feed_forward_out_norm));
  const bool windowed = decoder_.layers[index].windowed_rope;
  PX_TRY(layer.attention,
         MakeAttention(decoder_, index, windowed ? window_rotary_ : rotary_, loader));
  PX_TRY(layer.o, loader.Linear({.names = names.o,
                                 .layer = index,
                                 .sizes = {hidden},
                                 .cols = decoder_.attention_size(),
                                 .sum = &cut_.attention}));
  PX_TRY(layer.feed_forward, MakeFeedForward(decoder_, index, loader));
  if (loader.held()) {
    layers_.push_back(std::move(layer));
  }
  return {};
}

Result<kernels::RotaryTable> Decoder::PrepareRotary(const RopeSpec& rope) {
  const std::int32_t rotary_dim = decoder_.rotary_dim(rope);
  const std::vector<float> frequencies =
      InverseFrequencies(rope, rotary_dim, options_.context_tokens_max);
  const std::size_t size =
      frequencies.size() * static_cast<std::size_t>(options_.context_tokens_max);
  PX_TRY(kernels::Buffer buffer,
         kernels::AllocateFilled(operators_, 2 * size * sizeof(float), [&](void* host) {
           auto* values = static_cast<float*>(host);
           FillRotaryTable(frequencies, options_.context_tokens_max, rope.attention_factor,
                           {values, size}, {values + size, size});
         }));
  buffers_.push_back(std::move(buffer));
  const auto* cos = static_cast<const float*>(buffers_.back().data());
  return kernels::RotaryTable{.cos = cos,
                              .sin = cos + size,
                              .position_max = options_.context_tokens_max,
                              .rotary_dim = rotary_dim,
                              .interleaved = rope.interleaved};
}

Result<void> Decoder::AllocateWorkspace() {
  LoadOptions padded = options_;
  padded.step_tokens_max =
      static_cast<std::int32_t>(operators_.PaddedRows(options_.step_tokens_max));
  plan_ = MakeWorkspacePlan(decoder_, padded);
  PX_TRY(stream_, operators_.Allocate(static_cast<std::size_t>(plan_.stream) * sizeof(float)));
  PX_TRY(scratch_, operators_.Allocate(static_cast<std::size_t>(plan_.scratch) * sizeof(float)));
  const auto logit_rows =
      static_cast<std::size_t>(operators_.PaddedRows(options_.step_logit_rows_max));
  PX_TRY(flags_, operators_.Allocate(logit_rows * sizeof(std::int32_t)));
  if (!decoder_.rope.sections.empty() && operators_.on_host()) {
    rope_axes_ = AxesOfPairs(decoder_.rope, static_cast<std::size_t>(rotary_.rotary_dim) / 2);
    const auto rows = static_cast<std::size_t>(options_.step_tokens_max);
    rope_factors_.reserve(2 * rows * rope_axes_.size());
    row_numbers_.resize(rows);
    std::iota(row_numbers_.begin(), row_numbers_.end(), 0);
  }
  faulty_logit_rows_.reserve(logit_rows);
  logit_slots_.reserve(logit_rows);
  if (!operators_.on_host()) {
    PX_TRY(logits_, operators_.Allocate(logit_rows * static_cast<std::size_t>(decoder_.row_size()) *
                                        sizeof(float)));
    host_flags_.resize(logit_rows);
  }
  return {};
}

kernels::KvLayout Decoder::MakeKvLayout(std::int32_t block_tokens, kernels::KvDType dtype) const {
  return {.layer_count = static_cast<std::int32_t>(SizeOf(cut_.layers)),
          .kv_head_count = static_cast<std::int32_t>(cut_.kv_head_count()),
          .key_dim = decoder_.key_dim(),
          .value_dim = decoder_.value_dim(),
          .value_in_key = decoder_.is_latent(),
          .block_tokens = block_tokens,
          .dtype = dtype};
}

Result<void> Decoder::ValidateBatch(const kernels::StepBatch& batch, const kernels::KvCache& cache,
                                    std::size_t rows_size) const {
  const kernels::KvLayout& layout = cache.layout;
  PX_ASSERT(layout.layer_count == SizeOf(cut_.layers) &&
            layout.kv_head_count == cut_.kv_head_count() && layout.key_dim == decoder_.key_dim() &&
            layout.value_dim == decoder_.value_dim() &&
            layout.value_in_key == decoder_.is_latent() && layout.block_tokens > 0);
  const std::size_t states =
      decoder_.is_draft_head()
          ? batch.token_ids.size() * static_cast<std::size_t>(decoder_.hidden_size)
          : 0;
  if (batch.hidden_rows.size() != states) {
    return BadStep("hidden_rows",
                   fmt::format("are {} floats, not {}", batch.hidden_rows.size(), states));
  }
  PX_CHECK_OK(adapters_.CheckRows(batch.adapter_slots, batch.token_ids.size()));
  PX_CHECK_OK(ValidateEmbedded(batch));
  return CheckStep(batch,
                   {.vocab_size = decoder_.vocab_size,
                    .row_size = decoder_.row_size(),
                    .context_tokens_max = options_.context_tokens_max,
                    .step_tokens_max = options_.step_tokens_max,
                    .step_logit_rows_max = options_.step_logit_rows_max,
                    .block_tokens = layout.block_tokens,
                    .block_count = cache.block_count},
                   rows_size);
}

/// What a step gives besides text.
Result<void> Decoder::ValidateEmbedded(const kernels::StepBatch& batch) const {
  const std::size_t hidden = static_cast<std::size_t>(decoder_.hidden_size);
  const std::size_t count = batch.embedded_rows.size();
  if (!operators_.on_host() && (count > 0 || !batch.rope_positions.empty())) {
    return Fail(Code::kUnsupported,
                fmt::format("{}: rows of given embeddings and M-RoPE run on the CPU only, not on "
                            "{}",
                            decoder_.architecture, operators_.name()),
                "device");
  }
  if (decoder_.is_draft_head() && count > 0) {
    return BadStep("embedded_rows", "are not for draft heads");
  }
  PX_CHECK_OK(CheckEmbedded(batch, hidden));
  const std::size_t levels = count == 0 ? 0 : batch.layer_embeddings.size() / (count * hidden);
  if (levels >= decoder_.layers.size()) {
    return BadStep("layer_embeddings", fmt::format("have {} levels, the model {} layers", levels,
                                                   decoder_.layers.size()));
  }
  if (!batch.rope_positions.empty() && rope_axes_.empty()) {
    return BadStep("rope_positions", "are for models that turn by three positions");
  }
  const auto past = [&](std::int32_t position) {
    return position < 0 || position >= options_.context_tokens_max;
  };
  if (std::ranges::any_of(batch.rope_positions, past)) {
    return BadStep("rope_positions",
                   fmt::format("leave the context of {}", options_.context_tokens_max));
  }
  return {};
}

/// Each row's factors by its own three positions, from the table of one. The host's only.
void Decoder::FillRopeFactors(const kernels::StepBatch& batch, kernels::StepView& step) {
  if (batch.rope_positions.empty()) {
    return;
  }
  const std::size_t rows = batch.token_ids.size();
  const std::size_t pairs = rope_axes_.size();
  rope_factors_.resize(2 * rows * pairs);
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t pair = 0; pair < pairs; ++pair) {
      const auto position =
          static_cast<std::size_t>(batch.rope_positions[3 * row + rope_axes_[pair]]);
      rope_factors_[row * pairs + pair] = rotary_.cos[position * pairs + pair];
      rope_factors_[(rows + row) * pairs + pair] = rotary_.sin[position * pairs + pair];
    }
  }
  step.rope_factors = rope_factors_;
  step.row_numbers = std::span<const std::int32_t>(row_numbers_).first(rows);
}

/// The step's own embeddings over those that were looked up.
void Decoder::PutEmbeddings(const kernels::StepView& step, const Matrix& residual) {
  const Matrix given = {const_cast<float*>(step.embeddings.data()), kernels::DType::kF32,
                        static_cast<std::int64_t>(step.embedded_rows.size()), residual.cols,
                        residual.cols};
  ForEachRun(step.embedded_rows, [&](std::int64_t row, std::int64_t from, std::int64_t count) {
    operators_.Copy(given.Rows(from, count), residual.Rows(row, count));
  });
}

/// delta += what the step adds after `layer`, of the whole model.
void Decoder::AddLayerEmbeddings(const kernels::StepView& step, std::size_t layer,
                                 const Matrix& delta) {
  if (step.layer_embeddings.empty()) {
    return;
  }
  const auto count = static_cast<std::int64_t>(step.embedded_rows.size());
  const std::int64_t stride = static_cast<std::int64_t>(step.layer_embeddings.size()) / count;
  const auto level = static_cast<std::int64_t>(layer);
  if ((level + 1) * delta.cols > stride) {
    return;
  }
  const Matrix added = {const_cast<float*>(step.layer_embeddings.data()) + level * delta.cols,
                        kernels::DType::kF32, count, delta.cols, stride};
  ForEachRun(step.embedded_rows, [&](std::int64_t row, std::int64_t from, std::int64_t rows) {
    operators_.Add(delta.Rows(row, rows), added.Rows(from, rows));
  });
}

/// Shows the batch's rows without padding, copied to the host where they are not there.
Result<void> Decoder::Observe(const Observation& observation, std::size_t index,
                              const Matrix& rows) {
  if (observation.observer == nullptr) {
    return {};
  }
  Matrix shown = rows.Rows(0, static_cast<std::int64_t>(observation.row_count));
  std::vector<float> host;
  if (!operators_.on_host()) {
    PX_ASSERT(shown.stride == shown.cols);
    host.resize(static_cast<std::size_t>(shown.rows * shown.cols));
    operators_.Download(shown.data, std::as_writable_bytes(std::span(host)));
    shown.data = host.data();
  }
  PX_CHECK_OK(operators_.Synchronize());
  (*observation.observer)(static_cast<std::int32_t>(index), shown);
  return {};
}

void Decoder::Norm(const Matrix& in, std::span<const float> weight, const Matrix& out) {
  if (weight.empty()) {
    operators_.Copy(in, out);
    return;
  }
  operators_.RmsNorm(in, weight, decoder_.norm_offset, decoder_.norm_epsilon, out);
}

/// residual += delta, normed = norm(residual).
void Decoder::AddNorm(const Rows& rows, std::span<const float> weight) {
  if (weight.empty()) {
    operators_.Add(rows.residual, rows.delta);
    operators_.Copy(rows.residual, rows.normed);
    return;
  }
  operators_.AddRmsNorm(rows.residual, rows.delta, weight, decoder_.norm_offset,
                        decoder_.norm_epsilon, rows.normed);
}

/// delta = feed-forward of normed, in chunks that fit the scratch memory.
void Decoder::RunFeedForward(const Layer& layer, const Rows& rows) {
  const std::span<const std::int32_t> slots = adapters_.rows();
  for (std::int64_t begin = 0; begin < rows.normed.rows; begin += plan_.feed_forward_rows) {
    const std::int64_t count =
        std::min<std::int64_t>(plan_.feed_forward_rows, rows.normed.rows - begin);
    if (!slots.empty()) {
      adapters_.SetRows(
          slots.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count)));
    }
    layer.feed_forward->Run(rows.normed.Rows(begin, count), rows.delta.Rows(begin, count),
                            scratch());
  }
  adapters_.SetRows(slots);
  if (!layer.feed_forward_out_norm.empty()) {
    Norm(rows.delta, layer.feed_forward_out_norm, rows.delta);
  }
}

/// From here on the rows are those whose logits are wanted.
void Decoder::KeepLogitSlots(const kernels::StepView& step) {
  if (step.adapter_slots.empty()) {
    return;
  }
  logit_slots_.clear();
  for (const std::int32_t row : step.logit_rows) {
    logit_slots_.push_back(step.adapter_slots[static_cast<std::size_t>(row)]);
  }
  adapters_.SetRows(logit_slots_);
}

/// After the last attention only rows whose logits are wanted go on; the others' K and V are stored
/// already.
Decoder::Rows Decoder::KeepLogitRows(const kernels::StepView& step, const Rows& rows,
                                     Matrix& attention) {
  const auto count = static_cast<std::int64_t>(step.logit_rows.size());
  // Attention's first scratch is spent, and so is normed: the kept rows go there.
  const Matrix kept_attention = scratch().At(0, count, attention.cols);
  const Rows kept = {.residual = rows.normed.Rows(0, count),
                     .normed = rows.residual.Rows(0, count),
                     .delta = rows.delta.Rows(0, count)};
  if (attention.cols > 0) {
    operators_.GatherRows(attention, step.logit_rows, kept_attention);
  }
  operators_.GatherRows(rows.residual, step.logit_rows, kept.residual);
  KeepLogitSlots(step);
  attention = kept_attention;
  return kept;
}

/// The stream before the first layer. Attention's scratch is free yet.
void Decoder::Enter(const kernels::StepView& step, const Rows& rows) {
  if (!cut_.share.first_stage()) {
    ranks_.Receive(rows.residual);
    return;
  }
  if (!ranks_.alone()) {
    ranks_.Embed(operators_, *embed_, step.token_ids, decoder_.embed_scale, rows.residual);
    PutEmbeddings(step, rows.residual);
    return;
  }
  operators_.Embed(*embed_, step.token_ids, decoder_.embed_scale, rows.residual);
  PutEmbeddings(step, rows.residual);
  if (!decoder_.is_draft_head()) {
    return;
  }
  const std::int64_t hidden = decoder_.hidden_size;
  const Matrix both = scratch().At(0, rows.residual.rows, 2 * hidden);
  Norm(rows.residual, fusion_embed_norm_, both.Columns(0, hidden));
  std::memcpy(rows.normed.data, step.hidden_rows.data(), step.hidden_rows.size_bytes());
  Norm(rows.normed, fusion_hidden_norm_, both.Columns(hidden, hidden));
  adapters_.Run(both, fusion_, rows.residual);
}

/// The columns of attention's output that this rank's o multiplies.
Matrix Decoder::RunAttention(const Layer& layer, const kernels::StepView& step,
                             kernels::KvCache& cache, const Rows& rows) {
  const Matrix out = layer.attention->Run(rows.normed, step, cache, scratch());
  const RowRange& columns = cut_.attention.columns;
  const std::int64_t first = cut_.heads.begin * (decoder_.attention_size() / decoder_.head_count);
  return out.Columns(columns.begin - first, SizeOf(columns));
}

/// Of a row of the result, what this rank writes.
RowRange Decoder::OwnColumns() const {
  if (!cut_.share.last_stage()) {
    return {};
  }
  if (decoder_.head == HeadKind::kVocab) {
    return cut_.vocab;
  }
  return {0, cut_.share.tensor_rank == 0 ? decoder_.row_size() : 0};
}

/// Logits of `step` to the backend's memory at `logits`, whether they are finite to flags_. Called
/// once per key of RunStep on a device: reads nothing of the host's that may change.
Result<void> Decoder::RunLayers(const kernels::StepView& step, kernels::KvCache& cache,
                                const Observation& observation, bool every_row, float* logits) {
  const auto row_count = static_cast<std::int64_t>(step.token_ids.size());
  const auto logit_count = static_cast<std::int64_t>(step.logit_rows.size());
  const std::int64_t hidden = decoder_.hidden_size;
  const auto stream_rows = [&](std::int64_t part) {
    return Matrix{static_cast<float*>(stream_.data()) + part * (plan_.stream / 3),
                  kernels::DType::kF32, row_count, hidden, hidden};
  };
  Rows rows = {.residual = stream_rows(0), .normed = stream_rows(1), .delta = stream_rows(2)};

  adapters_.SetRows(step.adapter_slots);
  Enter(step, rows);
  const bool keep = cut_.share.last_stage() && observation.observer == nullptr && !every_row;
  for (std::size_t i = 0; i < layers_.size() && !ranks_.failed(); ++i) {
    const Layer& layer = layers_[i];
    if (i == 0) {
      Norm(rows.residual, layer.input_norm, rows.normed);
    } else {
      AddNorm(rows, layer.input_norm);
    }
    PX_CHECK_OK(
        Observe(observation, static_cast<std::size_t>(cut_.layers.begin) + i, rows.residual));
    Matrix attention = RunAttention(layer, step, cache, rows);
    if (i + 1 == layers_.size() && keep) {
      if (logit_count == 0) {
        return ranks_.TakeError();
      }
      rows = KeepLogitRows(step, rows, attention);
    }
    adapters_.Run(attention, layer.o, rows.delta);
    if (!layer.attention_out_norm.empty()) {
      Norm(rows.delta, layer.attention_out_norm, rows.delta);
    }
    AddNorm(rows, layer.post_attention_norm);
    RunFeedForward(layer, rows);
    AddLayerEmbeddings(step, static_cast<std::size_t>(cut_.layers.begin) + i, rows.delta);
  }
  PX_CHECK_OK(ranks_.TakeError());
  if (!cut_.share.last_stage()) {
    operators_.Add(rows.residual, rows.delta);
    ranks_.Send(rows.residual);
    return ranks_.TakeError();
  }
  return RunEnd(step, observation, every_row, rows, logits);
}

/// From the stream after the last layer to logits.
Result<void> Decoder::RunEnd(const kernels::StepView& step, const Observation& observation,
                             bool every_row, const Rows& rows, float* logits) {
  const auto logit_count = static_cast<std::int64_t>(step.logit_rows.size());
  const RowRange columns = OwnColumns();
  const Matrix out =
      Matrix{logits, kernels::DType::kF32, logit_count, decoder_.row_size(), decoder_.row_size()}
          .Columns(columns.begin, SizeOf(columns));
  if (decoder_.head == HeadKind::kNone && observation.observer == nullptr && logit_count > 0 &&
      out.cols > 0) {
    operators_.AddRmsNorm(rows.residual, rows.delta, final_norm_, decoder_.norm_offset,
                          decoder_.norm_epsilon, out);
  } else {
    AddNorm(rows, final_norm_);
    PX_CHECK_OK(Observe(observation, decoder_.layers.size(), rows.normed));
    if (logit_count == 0 || out.cols == 0) {
      return {};
    }
    RunHead(step, rows, observation.observer != nullptr && !every_row, out);
  }
  operators_.FindNonFinite(
      out, {static_cast<std::int32_t*>(flags_.data()), static_cast<std::size_t>(logit_count)});
  return {};
}

/// Rows are all of the step's (`gather`), or already those that are wanted.
void Decoder::RunHead(const kernels::StepView& step, const Rows& rows, bool gather,
                      const Matrix& out) {
  if (decoder_.head == HeadKind::kNone) {
    operators_.GatherRows(rows.normed, step.logit_rows, out);
    return;
  }
  Matrix last = rows.normed;
  if (gather) {
    last = rows.residual.Rows(0, out.rows);
    operators_.GatherRows(rows.normed, step.logit_rows, last);
    KeepLogitSlots(step);
  }
  adapters_.Run(last, head_, out);
  if (decoder_.head == HeadKind::kVocab && decoder_.logit_soft_cap > 0.0F) {
    operators_.SoftCap(out, decoder_.logit_soft_cap);
  }
}

Result<void> Decoder::Forward(const kernels::StepBatch& batch, kernels::KvCache& cache,
                              std::span<float> logits, const HiddenObserver* observer) {
  faulty_logit_rows_.clear();
  PX_CHECK_OK(ValidateBatch(batch, cache, logits.size()));
  kernels::StepView step = operators_.UploadStep(batch);
  FillRopeFactors(batch, step);
  const bool every_row = batch.logit_rows.size() == batch.token_ids.size();
  float* out = operators_.on_host() ? logits.data() : static_cast<float*>(logits_.data());
  const Observation observation = {.observer = observer, .row_count = batch.token_ids.size()};
  if (observer != nullptr) {
    PX_CHECK_OK(RunLayers(step, cache, observation, every_row, out));
  } else {
    const kernels::StepKey key = {.owner = this,
                                  .cache = cache.buffer.data(),
                                  .rows = step.token_ids.size(),
                                  .logit_rows = step.logit_rows.size(),
                                  .every_row = every_row};
    Result<void> ran;
    operators_.RunStep(key, [&] { ran = RunLayers(step, cache, observation, every_row, out); });
    PX_CHECK_OK(ran);
  }
  operators_.Download(out, std::as_writable_bytes(logits));
  return FindFaultyRows(batch.logit_rows.size());
}

/// Waits for the step; its flags of the first `row_count` logit rows become faulty_logit_rows_.
Result<void> Decoder::FindFaultyRows(std::size_t row_count) {
  if (SizeOf(OwnColumns()) == 0) {
    return {};
  }
  const std::span<std::int32_t> flags = {
      operators_.on_host() ? static_cast<std::int32_t*>(flags_.data()) : host_flags_.data(),
      row_count};
  operators_.Download(flags_.data(), std::as_writable_bytes(flags));
  PX_CHECK_OK(operators_.Synchronize());
  for (std::size_t row = 0; row < row_count; ++row) {
    if (flags[row] != 0) {
      faulty_logit_rows_.push_back(static_cast<std::int32_t>(row));
    }
  }
  return CheckFaultyRows(faulty_logit_rows_, row_count);
}

}  // namespace pixii::model
