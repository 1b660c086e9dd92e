#include "model/diffusion/clip_text_encoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "model/config_reader.h"
#include "model/diffusion/lane_attention.h"
#include "model/diffusion/rows.h"
#include "model/vision_families.h"

namespace pixii::model {

using kernels::Matrix;

Result<ClipTextConfig> ParseClipTextConfig(const wire::Json& json, const std::string& file_name) {
  const ConfigReader reader(json, file_name);
  ClipTextConfig out;
  PX_TRY(const std::string type, reader.String("model_type", "clip_text_model"));
  if (type != "clip_text_model") {
    return reader.Unsupported("model_type", "is not clip_text_model");
  }
  const auto read = [&](std::string_view key, std::int64_t max, std::int32_t& to,
                        std::optional<std::int64_t> fallback = {}) -> Result<void> {
    PX_TRY(const std::int64_t value, reader.Int(key, {1, max}, fallback));
    to = static_cast<std::int32_t>(value);
    return {};
  };
  PX_CHECK_OK(read("vocab_size", 1 << 24, out.vocab_size, 49408));
  PX_CHECK_OK(read("hidden_size", 1 << 16, out.hidden_size, 512));
  PX_CHECK_OK(read("intermediate_size", 1 << 20, out.intermediate_size, 2048));
  PX_CHECK_OK(read("num_hidden_layers", 1024, out.layer_count, 12));
  PX_CHECK_OK(read("num_attention_heads", 1024, out.head_count, 8));
  PX_CHECK_OK(read("max_position_embeddings", 4096, out.tokens_max, 77));
  PX_CHECK_OK(read("eos_token_id", 1 << 24, out.end_token, 49407));
  if (out.hidden_size % out.head_count != 0 ||
      out.hidden_size / out.head_count > kernels::kHeadDimMax) {
    return reader.Bad("num_attention_heads",
                      fmt::format("does not divide hidden_size {} into heads of at most {}",
                                  out.hidden_size, kernels::kHeadDimMax));
  }
  PX_TRY(out.activation, ReadVisionActivation(reader, "hidden_act", "quick_gelu"));
  PX_TRY(const double epsilon, reader.Number("layer_norm_eps", {0.0, 1.0}, 1e-5));
  out.epsilon = static_cast<float>(epsilon);
  return out;
}

std::size_t PooledLength(const ClipTextConfig& config, std::span<const std::int32_t> ids) {
  constexpr std::int32_t kOldEndToken = 2;
  const auto end = config.end_token == kOldEndToken ? std::max_element(ids.begin(), ids.end())
                                                    : std::ranges::find(ids, config.end_token);
  return end == ids.end() ? 1 : static_cast<std::size_t>(end - ids.begin()) + 1;
}

Result<std::unique_ptr<ClipTextEncoder>> ClipTextEncoder::Load(const CheckpointFolder& folder,
                                                               kernels::Operators& operators,
                                                               kernels::ComputeType compute,
                                                               LoraMerger* loras) {
  PX_TRY(const wire::Json json, ReadPartConfig(folder, "config.json"));
  PX_TRY(const ClipTextConfig config, ParseClipTextConfig(json, folder.path() + "/config.json"));
  PX_TRY(const Checkpoint checkpoint, Checkpoint::Open(folder));
  auto encoder = std::make_unique<ClipTextEncoder>(CreateOnly{}, config, operators);
  WeightReader reader(checkpoint, folder.path(), operators, encoder->vectors_, compute);
  reader.MergeFrom(loras, "text_encoder");
  PX_CHECK_OK(encoder->Prepare(reader));
  return encoder;
}

Result<void> ClipTextEncoder::Prepare(WeightReader& reader) {
  const std::int64_t d = config_.hidden_size;
  const std::string root =
      reader.Has("text_model.final_layer_norm.weight") ? "text_model." : std::string();
  PX_TRY(table_, reader.Table(root + "embeddings.token_embedding.weight", config_.vocab_size, d));
  PX_TRY(positions_,
         reader.Table(root + "embeddings.position_embedding.weight", config_.tokens_max, d));
  reader.Ignore(root + "embeddings.position_ids");
  reader.Ignore("text_projection.");
  for (std::int32_t i = 0; i < config_.layer_count; ++i) {
    const std::string name = fmt::format("{}encoder.layers.{}.", root, i);
    EncoderBlock layer;
    PX_TRY(layer.attention_norm, reader.Norm(name + "layer_norm1", d));
    PX_TRY(layer.qkv, reader.Linear({.parts = {{name + "self_attn.q_proj", d},
                                               {name + "self_attn.k_proj", d},
                                               {name + "self_attn.v_proj", d}},
                                     .cols = d}));
    PX_TRY(layer.out, reader.Linear({.parts = {{name + "self_attn.out_proj", d}}, .cols = d}));
    PX_TRY(layer.feed_forward_norm, reader.Norm(name + "layer_norm2", d));
    PX_TRY(layer.up,
           reader.Linear({.parts = {{name + "mlp.fc1", config_.intermediate_size}}, .cols = d}));
    PX_TRY(layer.down,
           reader.Linear({.parts = {{name + "mlp.fc2", d}}, .cols = config_.intermediate_size}));
    layers_.push_back(std::move(layer));
  }
  PX_TRY(final_norm_, reader.Norm(root + "final_layer_norm", d));
  return reader.CheckAllRead();
}

Result<std::vector<float>> ClipTextEncoder::Pool(std::span<const std::int32_t> all) {
  if (all.empty() || std::ssize(all) > config_.tokens_max) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("prompt has {} tokens, must have 1 to {}", all.size(), config_.tokens_max),
        "prompt");
  }
  for (const std::int32_t id : all) {
    if (id < 0 || id >= config_.vocab_size) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("prompt has token {}, the text encoder knows those below {}", id,
                              config_.vocab_size),
                  "prompt");
    }
  }
  const std::span<const std::int32_t> ids = all.first(PooledLength(config_, all));
  const auto tokens = static_cast<std::int32_t>(ids.size());
  const std::int64_t d = config_.hidden_size;
  const std::int32_t head_dim = config_.hidden_size / config_.head_count;
  PX_TRY(LaneKeys keys,
         LaneKeys::Create(operators_,
                          {.heads = config_.head_count, .head_dim = head_dim, .tokens = tokens}));
  RowMemory memory[6];
  const Matrix x = memory[0].At(tokens, d);
  const Matrix delta = memory[1].At(tokens, d);
  const Matrix normed = memory[2].At(tokens, d);
  const Matrix qkv = memory[3].At(tokens, 3 * d);
  const Matrix mixed = memory[4].At(tokens, d);
  const Matrix wide = memory[5].At(tokens, config_.intermediate_size);
  std::vector<std::int32_t> places(ids.size());
  std::iota(places.begin(), places.end(), 0);
  operators_.Embed(*table_, ids, 1.0F, x);
  operators_.Embed(*positions_, places, 1.0F, delta);
  for (const EncoderBlock& layer : layers_) {
    operators_.AddLayerNorm(x, delta, layer.attention_norm.weight, layer.attention_norm.bias,
                            config_.epsilon, normed);
    operators_.Linear(normed, *layer.qkv, qkv);
    keys.Store(operators_, 0, 0, qkv.Columns(d, d), qkv.Columns(2 * d, d));
    keys.Attend(
        operators_,
        {.tokens = tokens, .scale = 1.0F / std::sqrt(static_cast<float>(head_dim)), .causal = true},
        qkv.Columns(0, d), mixed);
    operators_.Linear(mixed, *layer.out, delta);
    operators_.AddLayerNorm(x, delta, layer.feed_forward_norm.weight, layer.feed_forward_norm.bias,
                            config_.epsilon, normed);
    operators_.Linear(normed, *layer.up, wide);
    operators_.Activate(wide, config_.activation);
    operators_.Linear(wide, *layer.down, delta);
  }
  operators_.AddLayerNorm(x, delta, final_norm_.weight, final_norm_.bias, config_.epsilon, normed);
  const float* last = normed.f32(tokens - 1);
  return std::vector<float>(last, last + d);
}

}  // namespace pixii::model
