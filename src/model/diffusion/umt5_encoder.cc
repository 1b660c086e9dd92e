#include "model/diffusion/umt5_encoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "model/config_reader.h"

namespace pixii::model {

using kernels::Matrix;

Result<Umt5Config> ParseUmt5Config(const wire::Json& json, const std::string& file_name) {
  const ConfigReader reader(json, file_name);
  Umt5Config out;
  PX_TRY(const std::string type, reader.String("model_type", "umt5"));
  if (type != "umt5" && type != "t5") {
    return reader.Unsupported("model_type", "is neither umt5 nor t5");
  }
  out.own_bias = type == "umt5";
  PX_TRY(const std::string activation, reader.String("feed_forward_proj", "gated-gelu"));
  if (activation != "gated-gelu") {
    return reader.Unsupported("feed_forward_proj", "is not gated-gelu");
  }
  const auto read = [&](std::string_view key, std::int64_t max, std::int32_t& to,
                        std::optional<std::int64_t> fallback = {}) -> Result<void> {
    PX_TRY(const std::int64_t value, reader.Int(key, {1, max}, fallback));
    to = static_cast<std::int32_t>(value);
    return {};
  };
  PX_CHECK_OK(read("vocab_size", 1 << 24, out.vocab_size));
  PX_CHECK_OK(read("d_model", 1 << 16, out.d_model));
  PX_CHECK_OK(read("d_kv", kernels::kHeadDimMax, out.d_kv));
  PX_CHECK_OK(read("d_ff", 1 << 20, out.d_ff));
  PX_CHECK_OK(read("num_layers", 1024, out.layer_count));
  PX_CHECK_OK(read("num_heads", 1024, out.head_count));
  PX_CHECK_OK(read("relative_attention_num_buckets", 1024, out.bucket_count, 32));
  PX_CHECK_OK(read("relative_attention_max_distance", 1 << 20, out.distance_max, 128));
  if (out.bucket_count % 4 != 0 || out.distance_max <= out.bucket_count / 4) {
    return reader.Bad("relative_attention_num_buckets",
                      "is no multiple of 4, or four times relative_attention_max_distance");
  }
  PX_TRY(const double epsilon, reader.Number("layer_norm_epsilon", {0.0, 1.0}, 1e-6));
  out.epsilon = static_cast<float>(epsilon);
  return out;
}

std::int32_t RelativeBucket(std::int32_t distance, std::int32_t bucket_count,
                            std::int32_t distance_max) {
  const std::int32_t half = bucket_count / 2;  // one for each direction
  const std::int32_t first = distance > 0 ? half : 0;
  const std::int32_t size = std::abs(distance);
  const std::int32_t exact = half / 2;
  if (size < exact) {
    return first + size;
  }
  // In fp32 as the model was trained: a bucket ends where the rounded logarithm says so.
  const float turns = std::log(static_cast<float>(size) / static_cast<float>(exact)) /
                      static_cast<float>(std::log(static_cast<double>(distance_max) / exact)) *
                      static_cast<float>(half - exact);
  return first + std::min(half - 1, exact + static_cast<std::int32_t>(turns));
}

Result<std::unique_ptr<Umt5Encoder>> Umt5Encoder::Load(const CheckpointFolder& folder,
                                                       kernels::Operators& operators,
                                                       kernels::ComputeType compute,
                                                       LoraMerger* loras, const std::string& part) {
  PX_TRY(const wire::Json json, ReadPartConfig(folder, "config.json"));
  PX_TRY(const Umt5Config config, ParseUmt5Config(json, folder.path() + "/config.json"));
  PX_TRY(const Checkpoint checkpoint, Checkpoint::Open(folder));
  auto encoder = std::make_unique<Umt5Encoder>(CreateOnly{}, config, operators);
  WeightReader reader(checkpoint, folder.path(), operators, encoder->vectors_, compute);
  reader.MergeFrom(loras, part);
  PX_CHECK_OK(encoder->Prepare(reader));
  return encoder;
}

Result<void> Umt5Encoder::Prepare(WeightReader& reader) {
  const std::int64_t d = config_.d_model;
  const std::int64_t inner = std::int64_t{config_.head_count} * config_.d_kv;
  // Saved under either name, or both.
  const bool shared = reader.Has("shared.weight");
  PX_TRY(table_, reader.Table(shared ? "shared.weight" : "encoder.embed_tokens.weight",
                              config_.vocab_size, d));
  reader.Ignore("encoder.embed_tokens.");
  reader.Ignore("decoder.");
  reader.Ignore("lm_head.");
  for (std::int32_t i = 0; i < config_.layer_count; ++i) {
    const std::string attention = fmt::format("encoder.block.{}.layer.0.", i);
    const std::string feed_forward = fmt::format("encoder.block.{}.layer.1.", i);
    Layer layer;
    PX_TRY(layer.attention_norm, reader.Vector(attention + "layer_norm.weight", {d}));
    PX_TRY(layer.qkv, reader.Linear({.parts = {{attention + "SelfAttention.q", inner},
                                               {attention + "SelfAttention.k", inner},
                                               {attention + "SelfAttention.v", inner}},
                                     .cols = d,
                                     .bias = false}));
    PX_TRY(layer.o,
           reader.Linear(
               {.parts = {{attention + "SelfAttention.o", d}}, .cols = inner, .bias = false}));
    if (config_.own_bias || i == 0) {
      PX_TRY(layer.bias_table,
             reader.Values(attention + "SelfAttention.relative_attention_bias.weight",
                           {config_.bucket_count, config_.head_count}));
    }
    PX_TRY(layer.feed_forward_norm, reader.Vector(feed_forward + "layer_norm.weight", {d}));
    PX_TRY(layer.gate_up,
           reader.Linear({.parts = {{feed_forward + "DenseReluDense.wi_0", config_.d_ff},
                                    {feed_forward + "DenseReluDense.wi_1", config_.d_ff}},
                          .cols = d,
                          .bias = false}));
    PX_TRY(layer.down, reader.Linear({.parts = {{feed_forward + "DenseReluDense.wo", d}},
                                      .cols = config_.d_ff,
                                      .bias = false}));
    layers_.push_back(std::move(layer));
  }
  PX_TRY(final_norm_, reader.Vector("encoder.final_layer_norm.weight", {d}));
  return reader.CheckAllRead();
}

std::vector<float> Umt5Encoder::PositionBias(const Layer& layer, std::int32_t tokens) const {
  const std::int32_t width = 2 * tokens - 1;
  std::vector<float> out(static_cast<std::size_t>(config_.head_count) *
                         static_cast<std::size_t>(width));
  for (std::int32_t i = 0; i < width; ++i) {
    const std::int32_t bucket =
        RelativeBucket(i - tokens + 1, config_.bucket_count, config_.distance_max);
    for (std::int32_t head = 0; head < config_.head_count; ++head) {
      out[static_cast<std::size_t>(head * width + i)] =
          layer.bias_table[static_cast<std::size_t>(bucket * config_.head_count + head)];
    }
  }
  return out;
}

Result<std::vector<float>> Umt5Encoder::Encode(std::span<const std::int32_t> ids) {
  if (ids.empty() || std::ssize(ids) > kPromptTokensMax) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("prompt has {} tokens, must have 1 to {}", ids.size(), kPromptTokensMax),
        "prompt");
  }
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= config_.vocab_size) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("prompt has token {}, the text encoder knows those below {}", id,
                              config_.vocab_size),
                  "prompt");
    }
  }
  const auto tokens = static_cast<std::int32_t>(ids.size());
  const std::int64_t inner = std::int64_t{config_.head_count} * config_.d_kv;
  PX_TRY(LaneKeys keys, LaneKeys::Create(operators_, {.heads = config_.head_count,
                                                      .head_dim = config_.d_kv,
                                                      .tokens = tokens}));
  RowMemory memory[6];
  const Matrix x = memory[0].At(tokens, config_.d_model);
  const Matrix normed = memory[1].At(tokens, config_.d_model);
  const Matrix qkv = memory[2].At(tokens, 3 * inner);
  const Matrix mixed = memory[3].At(tokens, inner);
  const Matrix gate_up = memory[4].At(tokens, 2 * std::int64_t{config_.d_ff});
  const Matrix active = memory[5].At(tokens, config_.d_ff);
  operators_.Embed(*table_, ids, 1.0F, x);
  std::vector<float> bias;
  for (const Layer& layer : layers_) {
    operators_.RmsNorm(x, layer.attention_norm, 0.0F, config_.epsilon, normed);
    operators_.Linear(normed, *layer.qkv, qkv);
    keys.Store(operators_, 0, 0, qkv.Columns(inner, inner), qkv.Columns(2 * inner, inner));
    if (!layer.bias_table.empty()) {
      bias = PositionBias(layer, tokens);
    }
    keys.Attend(operators_, {.tokens = tokens, .position_bias = bias.data(), .bias_reach = tokens},
                qkv.Columns(0, inner), mixed);
    operators_.Linear(mixed, *layer.o, normed);
    operators_.AddRmsNorm(x, normed, layer.feed_forward_norm, 0.0F, config_.epsilon, normed);
    operators_.Linear(normed, *layer.gate_up, gate_up);
    operators_.ActivationMul(gate_up, kernels::Activation::kGeluTanh, active);
    operators_.Linear(active, *layer.down, normed);
    operators_.Add(x, normed);
  }
  operators_.RmsNorm(x, final_norm_, 0.0F, config_.epsilon, normed);
  return std::vector<float>(normed.f32(), normed.f32() + tokens * config_.d_model);
}

}  // namespace pixii::model
