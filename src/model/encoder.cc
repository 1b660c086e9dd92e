#include "model/encoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/assert.h"
#include "model/step_check.h"

namespace pixii::model {
namespace {

using kernels::Matrix;

constexpr std::int64_t kFeedForwardScratchMax = std::int64_t{64} << 20;  // bytes
constexpr std::int64_t kFeedForwardRowsMin = 512;

Matrix RowsAt(float* data, std::int64_t rows, std::int64_t cols) {
  return {data, kernels::DType::kF32, rows, cols, cols};
}

}  // namespace

EncoderWorkspacePlan EncoderWorkspace(const EncoderSpec& spec, const LoadOptions& options) {
  const std::int64_t rows = options.step_tokens_max;
  const std::int64_t features = spec.intermediate_size;
  const std::int64_t rows_in_budget =
      kFeedForwardScratchMax / (features * std::int64_t{sizeof(float)});
  const std::int64_t feed_forward_rows =
      std::min(rows, std::max(kFeedForwardRowsMin, rows_in_budget));
  return {.stream = 2 * rows * spec.hidden_size,
          .scratch = std::max(4 * rows * spec.hidden_size, feed_forward_rows * features),
          .feed_forward_rows = feed_forward_rows};
}

Result<std::unique_ptr<LanguageModel>> Encoder::Create(EncoderSpec encoder_spec, ModelSpec spec,
                                                       Weights& weights,
                                                       kernels::Operators& operators,
                                                       const LoadOptions& options) {
  if (!operators.on_host()) {
    return Fail(Code::kUnsupported,
                fmt::format("{}: encoders are not built for {}; use a CPU backend",
                            encoder_spec.architecture, operators.name()));
  }
  PX_TRY(LoadOptions checked, CheckLoadOptions(options, encoder_spec.context_tokens_max()));
  // A text is never cut, so a step holds the longest one.
  checked.step_tokens_max = std::max(checked.step_tokens_max, checked.context_tokens_max);
  spec.context_tokens_max = checked.context_tokens_max;
  auto encoder = std::make_unique<Encoder>(CreateOnly{}, std::move(encoder_spec), std::move(spec),
                                           operators, checked);
  PX_CHECK_OK(encoder->PrepareWeights(weights));
  PX_CHECK_OK(encoder->AllocateWorkspace());
  return std::unique_ptr<LanguageModel>(std::move(encoder));
}

Result<void> Encoder::PrepareWeights(Weights& weights) {
  const EncoderNames& names = encoder_.names;
  const std::int64_t hidden = encoder_.hidden_size;
  PX_TRY(word_, PrepareTable(names.word, encoder_.vocab_size, weights));
  PX_TRY(position_, PrepareTable(names.position, encoder_.position_count, weights));
  if (encoder_.token_type_count > 0) {
    PX_TRY(token_type_, PrepareTable(names.token_type, encoder_.token_type_count, weights));
  }
  PX_TRY(embedding_norm_, PrepareNorm(names.embedding_norm, weights));
  layers_.resize(static_cast<std::size_t>(encoder_.layer_count));
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    std::vector<std::string> qkv;
    for (const std::string& part : names.qkv) {
      qkv.push_back(LayerName(part, i));
    }
    PX_TRY(layer.qkv, PrepareLinear(qkv, hidden, hidden, 1, weights));
    PX_TRY(layer.o,
           PrepareLinear({LayerName(names.o, i)}, hidden, hidden, kRowParallelShards, weights));
    PX_TRY(layer.attention_norm, PrepareNorm(LayerName(names.attention_norm, i), weights));
    PX_TRY(layer.up,
           PrepareLinear({LayerName(names.up, i)}, encoder_.intermediate_size, hidden, 1, weights));
    PX_TRY(layer.down, PrepareLinear({LayerName(names.down, i)}, hidden, encoder_.intermediate_size,
                                     kRowParallelShards, weights));
    PX_TRY(layer.output_norm, PrepareNorm(LayerName(names.output_norm, i), weights));
  }
  if (encoder_.head.class_count > 0) {
    PX_TRY(head_dense_, PrepareLinear({encoder_.head.dense}, hidden, hidden, 1, weights));
    PX_TRY(head_out_,
           PrepareLinear({encoder_.head.out}, encoder_.head.class_count, hidden, 1, weights));
  }
  return {};
}

Result<std::unique_ptr<kernels::LinearWeight>> Encoder::PrepareTable(const std::string& name,
                                                                     std::int64_t rows,
                                                                     Weights& weights) {
  PX_TRY(const kernels::WeightPart table,
         weights.Part(name + ".weight", rows, encoder_.hidden_size));
  auto prepared = operators_.PrepareEmbedding(table);
  weights.Release();
  return prepared;
}

Result<AdaptedLinear> Encoder::PrepareLinear(const std::vector<std::string>& names,
                                             std::int64_t rows, std::int64_t cols,
                                             std::int32_t k_shards, Weights& weights) {
  std::vector<AdaptableLinear> linears;
  std::vector<kernels::WeightPart> parts;
  std::vector<std::vector<float>> biases(names.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    PX_TRY(kernels::WeightPart part, weights.Part(names[i] + ".weight", rows, cols));
    PX_TRY(biases[i], weights.Vector(names[i] + ".bias", rows));
    part.bias = biases[i].data();
    parts.push_back(part);
    linears.push_back({.name = names[i], .in_features = cols, .out_features = rows});
  }
  AdaptedLinear out;
  PX_TRY(out.weight,
         operators_.PrepareLinear(parts, {.compute = options_.compute, .k_shards = k_shards}));
  std::vector<LinearRows> whole;
  for (AdaptableLinear& linear : linears) {
    const std::int64_t rows_of = linear.out_features;
    whole.push_back({.linear = std::move(linear), .rows = {{0, rows_of}}});
  }
  out.sites = adapters_.Add(whole);
  weights.Release();
  return out;
}

Result<NormWeights> Encoder::PrepareNorm(const std::string& name, Weights& weights) {
  NormWeights norm;
  PX_TRY(norm.weight, KeepVector(name + ".weight", weights));
  PX_TRY(norm.bias, KeepVector(name + ".bias", weights));
  return norm;
}

Result<std::span<const float>> Encoder::KeepVector(const std::string& name, Weights& weights) {
  PX_TRY(const std::vector<float> values, weights.Vector(name, encoder_.hidden_size));
  PX_TRY(kernels::Buffer buffer, operators_.Allocate(values.size() * sizeof(float)));
  std::memcpy(buffer.data(), values.data(), values.size() * sizeof(float));
  vectors_.push_back(std::move(buffer));
  return std::span(static_cast<const float*>(vectors_.back().data()), values.size());
}

Result<void> Encoder::AllocateWorkspace() {
  plan_ = EncoderWorkspace(encoder_, options_);
  const std::int64_t rows = options_.step_tokens_max;
  PX_TRY(stream_, operators_.Allocate(static_cast<std::size_t>(plan_.stream) * sizeof(float)));
  PX_TRY(scratch_, operators_.Allocate(static_cast<std::size_t>(plan_.scratch) * sizeof(float)));
  PX_TRY(flags_, operators_.Allocate(static_cast<std::size_t>(rows) * sizeof(std::int32_t)));
  positions_.reserve(static_cast<std::size_t>(rows));
  no_types_.resize(static_cast<std::size_t>(rows));
  faulty_rows_.reserve(static_cast<std::size_t>(rows));
  first_slots_.reserve(static_cast<std::size_t>(rows));
  return {};
}

kernels::KvLayout Encoder::MakeKvLayout(std::int32_t block_tokens,
                                        kernels::KvDType /*dtype*/) const {
  return {.layer_count = 1,
          .kv_head_count = encoder_.head_count,
          .key_dim = encoder_.head_dim(),
          .value_dim = encoder_.head_dim(),
          .value_in_key = false,
          .block_tokens = block_tokens,
          .dtype = kernels::KvDType::kF32};
}

Result<void> Encoder::ValidateBatch(const kernels::StepBatch& batch, const kernels::KvCache& cache,
                                    std::size_t rows_size) const {
  const kernels::KvLayout& layout = cache.layout;
  PX_ASSERT(layout.layer_count == 1 && layout.kv_head_count == encoder_.head_count &&
            layout.key_dim == encoder_.head_dim() && layout.block_tokens > 0);
  PX_CHECK_OK(CheckStep(batch,
                        {.vocab_size = encoder_.vocab_size,
                         .row_size = encoder_.row_size(),
                         .context_tokens_max = options_.context_tokens_max,
                         .step_tokens_max = options_.step_tokens_max,
                         .step_logit_rows_max = options_.step_tokens_max,
                         .block_tokens = layout.block_tokens,
                         .block_count = cache.block_count},
                        rows_size));
  PX_CHECK_OK(adapters_.CheckRows(batch.adapter_slots, batch.token_ids.size()));
  if (!batch.embedded_rows.empty() || !batch.rope_positions.empty()) {
    return BadStep("embedded_rows", "are for decoders: an encoder reads text");
  }
  std::size_t next_row = 0;
  for (const kernels::StepSequence& sequence : batch.sequences) {
    if (sequence.context_tokens != sequence.token_count) {
      return BadStep("sequences", "cut a text: an encoder takes all its tokens in one step");
    }
    for (; next_row < batch.logit_rows.size() &&
           batch.logit_rows[next_row] < sequence.token_begin + sequence.token_count;
         ++next_row) {
      if (encoder_.head.class_count > 0 && batch.logit_rows[next_row] != sequence.token_begin) {
        return BadStep("logit_rows", "are not first rows of texts: classes are read there");
      }
    }
  }
  const std::vector<std::int32_t>& types = batch.token_types;
  if (!types.empty() && types.size() != batch.token_ids.size()) {
    return BadStep("token_types", "do not have one entry for each token");
  }
  const auto known = [&](std::int32_t type) {
    return type >= 0 && type < std::max(1, encoder_.token_type_count);
  };
  if (!std::ranges::all_of(types, known)) {
    return BadStep("token_types",
                   fmt::format("leave the {} types of the model", encoder_.token_type_count));
  }
  return {};
}

/// A text's positions count from 0; RoBERTa's from padding_id + 1, and padding counts for none.
void Encoder::FillPositions(const kernels::StepBatch& batch) {
  positions_.clear();
  if (encoder_.padding_id < 0) {
    positions_.assign(batch.positions.begin(), batch.positions.end());
    return;
  }
  for (std::size_t t = 0, count = 0; t < batch.token_ids.size(); ++t) {
    count = batch.positions[t] == 0 ? 0 : count;
    const bool padding = batch.token_ids[t] == encoder_.padding_id;
    count += padding ? 0 : 1;
    positions_.push_back(encoder_.padding_id + (padding ? 0 : static_cast<std::int32_t>(count)));
  }
}

/// rows = norm(word + position + type).
void Encoder::EmbedTokens(const kernels::StepBatch& batch, const Matrix& rows,
                          const Matrix& delta) {
  operators_.Embed(*word_, batch.token_ids, 1.0F, rows);
  if (encoder_.token_type_count > 0) {
    const std::span<const std::int32_t> types =
        batch.token_types.empty()
            ? std::span<const std::int32_t>(no_types_).first(static_cast<std::size_t>(rows.rows))
            : std::span<const std::int32_t>(batch.token_types);
    operators_.Embed(*token_type_, types, 1.0F, delta);
    operators_.Add(rows, delta);
  }
  operators_.Embed(*position_, positions_, 1.0F, delta);
  operators_.AddLayerNorm(rows, delta, embedding_norm_.weight, embedding_norm_.bias,
                          encoder_.norm_epsilon, rows);
}

void Encoder::RunLayer(const Layer& layer, const kernels::StepBatch& batch, kernels::KvCache& cache,
                       const Matrix& rows, const Matrix& delta) {
  const std::int64_t hidden = encoder_.hidden_size;
  auto* scratch = static_cast<float*>(scratch_.data());
  const Matrix qkv = RowsAt(scratch, rows.rows, 3 * hidden);
  const Matrix attention = RowsAt(scratch + rows.rows * 3 * hidden, rows.rows, hidden);
  adapters_.Run(rows, layer.qkv, qkv);
  operators_.StoreKv(qkv.Columns(hidden, hidden), qkv.Columns(2 * hidden, hidden), batch.slots, 0,
                     cache);
  operators_.PagedAttention(qkv.Columns(0, hidden), batch, 0, cache,
                            {.head_count = encoder_.head_count,
                             .kv_head_count = encoder_.head_count,
                             .key_dim = encoder_.head_dim(),
                             .value_dim = encoder_.head_dim(),
                             .scale = 1.0F / std::sqrt(static_cast<float>(encoder_.head_dim())),
                             .window_tokens = 0,
                             .soft_cap = 0.0F,
                             .sinks = nullptr,
                             .bidirectional = true},
                            attention);
  adapters_.Run(attention, layer.o, delta);
  operators_.AddLayerNorm(rows, delta, layer.attention_norm.weight, layer.attention_norm.bias,
                          encoder_.norm_epsilon, rows);
  const std::span<const std::int32_t> slots = adapters_.rows();
  for (std::int64_t begin = 0; begin < rows.rows; begin += plan_.feed_forward_rows) {
    const std::int64_t count = std::min(plan_.feed_forward_rows, rows.rows - begin);
    if (!slots.empty()) {
      adapters_.SetRows(
          slots.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count)));
    }
    const Matrix up = RowsAt(scratch, count, encoder_.intermediate_size);
    adapters_.Run(rows.Rows(begin, count), layer.up, up);
    operators_.Activate(up, encoder_.activation);
    adapters_.Run(up, layer.down, delta.Rows(begin, count));
  }
  adapters_.SetRows(slots);
  operators_.AddLayerNorm(rows, delta, layer.output_norm.weight, layer.output_norm.bias,
                          encoder_.norm_epsilon, rows);
}

void Encoder::WriteRows(const kernels::StepBatch& batch, const Matrix& rows,
                        std::span<float> logits) {
  const auto count = static_cast<std::int64_t>(batch.logit_rows.size());
  const Matrix out = RowsAt(logits.data(), count, encoder_.row_size());
  const std::span<std::int32_t> flags(static_cast<std::int32_t*>(flags_.data()),
                                      batch.logit_rows.size());
  if (encoder_.head.class_count == 0) {
    operators_.GatherRows(rows, batch.logit_rows, out);
    operators_.FindNonFinite(out, flags);
    return;
  }
  auto* scratch = static_cast<float*>(scratch_.data());
  const Matrix first = RowsAt(scratch, count, encoder_.hidden_size);
  const Matrix dense = RowsAt(scratch + count * encoder_.hidden_size, count, encoder_.hidden_size);
  operators_.GatherRows(rows, batch.logit_rows, first);
  first_slots_.clear();
  for (const std::int32_t row : batch.logit_rows) {
    if (!batch.adapter_slots.empty()) {
      first_slots_.push_back(batch.adapter_slots[static_cast<std::size_t>(row)]);
    }
  }
  adapters_.SetRows(first_slots_);
  adapters_.Run(first, head_dense_, dense);
  operators_.Activate(dense, encoder_.head.activation);
  adapters_.Run(dense, head_out_, out);
  operators_.FindNonFinite(out, flags);
}

Result<void> Encoder::Observe(const HiddenObserver* observer, std::int32_t index,
                              const Matrix& rows) {
  if (observer != nullptr) {
    PX_CHECK_OK(operators_.Synchronize());
    (*observer)(index, rows);
  }
  return {};
}

Result<void> Encoder::Forward(const kernels::StepBatch& batch, kernels::KvCache& cache,
                              std::span<float> logits, const HiddenObserver* observer) {
  faulty_rows_.clear();
  PX_CHECK_OK(ValidateBatch(batch, cache, logits.size()));
  const auto token_count = static_cast<std::int64_t>(batch.token_ids.size());
  auto* stream = static_cast<float*>(stream_.data());
  const Matrix rows = RowsAt(stream, token_count, encoder_.hidden_size);
  const Matrix delta =
      RowsAt(stream + token_count * encoder_.hidden_size, token_count, encoder_.hidden_size);
  adapters_.SetRows(batch.adapter_slots);
  FillPositions(batch);
  EmbedTokens(batch, rows, delta);
  PX_CHECK_OK(Observe(observer, 0, rows));
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    RunLayer(layers_[i], batch, cache, rows, delta);
    PX_CHECK_OK(Observe(observer, static_cast<std::int32_t>(i) + 1, rows));
  }
  if (!batch.logit_rows.empty()) {
    WriteRows(batch, rows, logits);
  }
  return FindFaultyRows(batch.logit_rows.size());
}

/// Waits for the step; its flags become faulty_rows_.
Result<void> Encoder::FindFaultyRows(std::size_t row_count) {
  PX_CHECK_OK(operators_.Synchronize());
  const auto* flags = static_cast<const std::int32_t*>(flags_.data());
  for (std::size_t row = 0; row < row_count; ++row) {
    if (flags[row] != 0) {
      faulty_rows_.push_back(static_cast<std::int32_t>(row));
    }
  }
  if (!faulty_rows_.empty()) {
    return Fail(Code::kModelFault,
                fmt::format("{} of {} rows hold values that are not finite, the first is row {}",
                            faulty_rows_.size(), row_count, faulty_rows_[0]));
  }
  return {};
}

}  // namespace pixii::model
