#include "model/gguf_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "base/checked.h"
#include "wire/json.h"
#include "wire/quoted.h"

namespace pixii::model {
namespace {

constexpr std::int64_t kSizeMax = std::int64_t{1} << 31;  // families know closer limits

/// What an architecture's files have of their own.
struct Architecture {
  std::string_view name;          // general.architecture
  std::string_view hugging_face;  // architectures[0]
  std::string_view model_type;
  std::string_view activation = "silu";
  bool permuted = false;        // rows of q and k lie in pairs
  bool norms_plus_one = false;  // norms were stored with 1 added
  bool four_norms = false;      // before and after attention and feed-forward
};

constexpr std::array<Architecture, 8> kArchitectures = {{
    {.name = "llama", .hugging_face = "LlamaForCausalLM", .model_type = "llama", .permuted = true},
    {.name = "qwen2", .hugging_face = "Qwen2ForCausalLM", .model_type = "qwen2"},
    {.name = "qwen3", .hugging_face = "Qwen3ForCausalLM", .model_type = "qwen3"},
    {.name = "qwen2moe", .hugging_face = "Qwen2MoeForCausalLM", .model_type = "qwen2_moe"},
    {.name = "qwen3moe", .hugging_face = "Qwen3MoeForCausalLM", .model_type = "qwen3_moe"},
    {.name = "phi3", .hugging_face = "Phi3ForCausalLM", .model_type = "phi3"},
    {.name = "gemma2",
     .hugging_face = "Gemma2ForCausalLM",
     .model_type = "gemma2",
     .activation = "gelu_pytorch_tanh",
     .norms_plus_one = true,
     .four_norms = true},
    {.name = "gemma3",
     .hugging_face = "Gemma3ForCausalLM",
     .model_type = "gemma3_text",
     .activation = "gelu_pytorch_tanh",
     .norms_plus_one = true,
     .four_norms = true},
}};

Result<const Architecture*> FindArchitecture(const GgufFile& file) {
  PX_TRY(const auto name, file.String("general.architecture"));
  if (!name) {
    return file.Bad("general.architecture", "is absent");
  }
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.name == *name) {
      return &architecture;
    }
  }
  std::string known;
  for (const Architecture& architecture : kArchitectures) {
    known.append(known.empty() ? "" : ", ").append(architecture.name);
  }
  return file.Unsupported(
      "general.architecture",
      fmt::format("= {} is not built; this build runs {}", wire::Quoted(*name), known));
}

/// Fills one JSON object from the keys of an architecture, and knows which it has read.
class ConfigWriter final {
 public:
  ConfigWriter(const GgufFile& file, const Architecture& architecture)
      : file_(file), prefix_(std::string(architecture.name) + ".") {}

  const GgufFile& file() const { return file_; }

  std::string Key(std::string_view suffix) const { return prefix_ + std::string(suffix); }

  Result<std::optional<std::int64_t>> Int(std::string_view suffix) {
    Known(suffix);
    return file_.Int(Key(suffix), 0, kSizeMax);
  }

  Result<std::optional<double>> Number(std::string_view suffix) {
    Known(suffix);
    return file_.Number(Key(suffix));
  }

  Result<std::optional<std::string_view>> String(std::string_view suffix) {
    Known(suffix);
    return file_.String(Key(suffix));
  }

  /// An integer, or a list with one for each layer, all equal.
  Result<std::optional<std::int64_t>> SameInt(std::string_view suffix) {
    const GgufValue* value = file_.Find(Key(suffix));
    if (value == nullptr || !value->is_array) {
      return Int(suffix);
    }
    Known(suffix);
    PX_TRY(const auto values, file_.Numbers(Key(suffix)));
    if (values.empty() || values[0] < 0 || values[0] > static_cast<double>(kSizeMax) ||
        std::any_of(values.begin(), values.end(), [&](double v) { return v != values[0]; })) {
      return file_.Unsupported(Key(suffix), "differs between layers, which is not built");
    }
    return static_cast<std::int64_t>(values[0]);
  }

  Result<void> CopyInt(std::string_view suffix, std::string_view name, bool required = false) {
    PX_TRY(const auto value, SameInt(suffix));
    if (!value && required) {
      return file_.Bad(Key(suffix), "is absent");
    }
    if (value) {
      json_.Set(std::string(name), *value);
    }
    return {};
  }

  Result<void> CopyNumber(std::string_view suffix, std::string_view name,
                          std::optional<double> fallback = {}) {
    PX_TRY(const auto value, Number(suffix));
    if (value || fallback) {
      json_.Set(std::string(name), value ? *value : *fallback);
    }
    return {};
  }

  /// Marks a key as read, or as one that changes nothing here.
  void Known(std::string_view suffix) { known_.push_back(Key(suffix)); }

  /// A key of the architecture that nobody has read may change what the model computes.
  Result<void> RefuseOthers() const {
    for (const std::string& key : file_.keys()) {
      if (key.starts_with(prefix_) &&
          std::find(known_.begin(), known_.end(), key) == known_.end()) {
        return file_.Unsupported(key, "is a key this build does not know");
      }
    }
    return {};
  }

  wire::Json& json() { return json_; }

 private:
  const GgufFile& file_;
  std::string prefix_;
  wire::Json json_{wire::Json::Object{}};
  std::vector<std::string> known_;
};

/// An F32 tensor of one dimension.
Result<std::vector<float>> ReadFactors(const GgufFile& file, const GgufTensor& tensor) {
  if (tensor.type != 0 || tensor.shape.size() != 1) {
    return Fail(Code::kUnsupported,
                fmt::format("{}: offset {}: tensor {} is not a row of F32", file.name(),
                            tensor.info_offset, wire::Quoted(tensor.name)),
                tensor.name);
  }
  std::vector<float> out(static_cast<std::size_t>(tensor.shape[0]));
  std::memcpy(out.data(), file.bytes().data() + tensor.file_offset, out.size() * sizeof(float));
  return out;
}

/// The factor that llama3 scaling gives frequency i of theta^(-2i / dims).
double Llama3Factor(double theta, std::size_t i, std::size_t dims, double factor, double original) {
  constexpr double kPi = 3.14159265358979323846;
  const double frequency =
      std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(dims));
  const double turns = original * frequency / (2.0 * kPi);  // over the original context
  if (turns < 1.0) {
    return factor;
  }
  if (turns > 4.0) {
    return 1.0;
  }
  const double smooth = (turns - 1.0) / 3.0;
  return 1.0 / ((1.0 - smooth) / factor + smooth);
}

/// Files of Llama 3.1 and later hold the factors of each frequency and not the formula: the formula
/// is found again, and proved against every factor.
Result<void> ReadRopeFactors(ConfigWriter& config, double theta) {
  const GgufTensor* tensor = config.file().FindTensor("rope_freqs.weight");
  if (tensor == nullptr) {
    return {};
  }
  PX_TRY(const std::vector<float> factors, ReadFactors(config.file(), *tensor));
  const auto [least, most] = std::minmax_element(factors.begin(), factors.end());
  if (*most == 1.0F && *least == 1.0F) {
    return {};
  }
  constexpr double kOriginal = 8192.0;
  constexpr double kTolerance = 1e-5;  // the writer computes in fp32
  for (std::size_t i = 0; i < factors.size(); ++i) {
    const double expected = Llama3Factor(theta, i, factors.size() * 2, *most, kOriginal);
    if (!(std::abs(factors[i] - expected) <= kTolerance * expected)) {
      return config.file().Unsupported(
          tensor->name, fmt::format("has factor {} of frequency {}, llama3 scaling by {} from {} "
                                    "tokens has {}",
                                    factors[i], i, *most, kOriginal, expected));
    }
  }
  wire::Json rope(wire::Json::Object{});
  rope.Set("rope_type", "llama3");
  rope.Set("factor", static_cast<double>(*most));
  rope.Set("low_freq_factor", 1.0);
  rope.Set("high_freq_factor", 4.0);
  rope.Set("original_max_position_embeddings", std::int64_t{8192});
  config.json().Set("rope_scaling", std::move(rope));
  return {};
}

wire::Json ToArray(const std::vector<float>& values) {
  wire::Json::Array out;
  for (const float value : values) {
    out.emplace_back(static_cast<double>(value));
  }
  return out;
}

/// Phi-3's two lists of factors.
Result<bool> ReadLongRope(ConfigWriter& config) {
  const GgufTensor* longer = config.file().FindTensor("rope_factors_long.weight");
  const GgufTensor* shorter = config.file().FindTensor("rope_factors_short.weight");
  if (longer == nullptr || shorter == nullptr) {
    return false;
  }
  PX_TRY(const auto long_factors, ReadFactors(config.file(), *longer));
  PX_TRY(const auto short_factors, ReadFactors(config.file(), *shorter));
  wire::Json rope(wire::Json::Object{});
  rope.Set("type", "longrope");
  rope.Set("long_factor", ToArray(long_factors));
  rope.Set("short_factor", ToArray(short_factors));
  config.json().Set("rope_scaling", std::move(rope));
  return true;
}

Result<void> ReadRope(ConfigWriter& config) {
  PX_TRY(const auto base, config.Number("rope.freq_base"));
  const double theta = base.value_or(10000.0);
  config.json().Set("rope_theta", theta);
  PX_TRY(const auto original, config.Int("rope.scaling.original_context_length"));
  PX_TRY(const auto type, config.String("rope.scaling.type"));
  PX_TRY(const auto scaling, config.Number("rope.scaling.factor"));
  PX_TRY(const auto linear, config.Number("rope.scale_linear"));
  PX_TRY(const auto attention, config.Number("rope.scaling.attn_factor"));
  config.Known("rope.scaling.finetuned");
  PX_TRY(const bool long_rope, ReadLongRope(config));
  if (long_rope) {
    if (original) {
      config.json().Set("original_max_position_embeddings", *original);
    }
    return {};  // attn_factor follows from the lengths, as the family computes it
  }
  if (attention && *attention != 1.0) {
    return config.file().Unsupported(config.Key("rope.scaling.attn_factor"),
                                     fmt::format("= {} is not built", *attention));
  }
  const double factor = scaling.value_or(linear.value_or(1.0));
  const std::string_view kind = type.value_or(linear && factor != 1.0 ? "linear" : "none");
  if (kind != "none" && kind != "linear" && kind != "yarn") {
    return config.file().Unsupported(config.Key("rope.scaling.type"),
                                     fmt::format("= {} is not built", wire::Quoted(kind)));
  }
  if (kind == "none" || factor == 1.0) {
    return ReadRopeFactors(config, theta);
  }
  wire::Json rope(wire::Json::Object{});
  rope.Set("rope_type", std::string(kind));
  rope.Set("factor", factor);
  if (kind == "yarn") {
    if (original) {
      rope.Set("original_max_position_embeddings", *original);
    }
    for (const std::string_view name : {"beta_fast", "beta_slow"}) {
      PX_TRY(const auto value, config.Number("rope.scaling.yarn_" + std::string(name)));
      if (value) {
        rope.Set(std::string(name), *value);
      }
    }
  }
  config.json().Set("rope_scaling", std::move(rope));
  return {};
}

Result<void> ReadExperts(ConfigWriter& config, std::string_view architecture) {
  PX_TRY(const auto experts, config.Int("expert_count"));
  PX_TRY(const auto used, config.Int("expert_used_count"));
  if (experts.value_or(0) == 0) {
    return {};
  }
  wire::Json& json = config.json();
  json.Set("num_experts_per_tok", used.value_or(0));
  if (architecture == "llama") {
    json.Set("architectures", wire::Json::Array{"MixtralForCausalLM"});
    json.Set("model_type", "mixtral");
    json.Set("num_local_experts", *experts);
    config.Known("expert_feed_forward_length");
    return {};
  }
  json.Set("num_experts", *experts);
  json.Set("norm_topk_prob", architecture == "qwen3moe");
  json.Set("decoder_sparse_step", 1);
  json.Set("mlp_only_layers", wire::Json::Array{});
  PX_CHECK_OK(config.CopyInt("expert_feed_forward_length", "moe_intermediate_size", true));
  return config.CopyInt("expert_shared_feed_forward_length", "shared_expert_intermediate_size");
}

/// Gemma's constants that files do not hold.
Result<void> ReadGemma(ConfigWriter& config, std::string_view architecture, std::int64_t layers,
                       std::int64_t hidden, std::int64_t heads, std::int64_t head_dim) {
  wire::Json& json = config.json();
  const bool third = architecture == "gemma3";
  // The 27-billion models alone scale by the width of a head as hidden_size has it.
  const bool largest = layers == (third ? 62 : 46);
  json.Set("query_pre_attn_scalar", largest && heads > 0 ? hidden / heads : head_dim);
  if (third) {
    json.Set("rope_local_base_freq", 10000.0);
    json.Set("sliding_window_pattern", 6);
    return {};
  }
  PX_CHECK_OK(config.CopyNumber("attn_logit_softcapping", "attn_logit_softcapping", 50.0));
  return config.CopyNumber("final_logit_softcapping", "final_logit_softcapping", 30.0);
}

Result<void> ReadTokens(ConfigWriter& config, std::int64_t vocab_size) {
  const GgufFile& file = config.file();
  wire::Json::Array eos;
  for (const std::string_view key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                     "tokenizer.ggml.eom_token_id"}) {
    PX_TRY(const auto id, file.Int(key, 0, kSizeMax * 2));
    if (id && *id < vocab_size) {
      eos.emplace_back(*id);
    }
  }
  config.json().Set("eos_token_id", std::move(eos));
  PX_TRY(const auto bos, file.Int("tokenizer.ggml.bos_token_id", 0, kSizeMax * 2));
  if (bos && *bos < vocab_size) {
    config.json().Set("bos_token_id", *bos);
  }
  return {};
}

/// "blk.12.attn_q.weight" -> 12 and "attn_q.weight"; nothing if it is no tensor of a layer.
std::optional<std::pair<std::int64_t, std::string_view>> SplitLayer(std::string_view name) {
  constexpr std::string_view kPrefix = "blk.";
  if (!name.starts_with(kPrefix)) {
    return std::nullopt;
  }
  name.remove_prefix(kPrefix.size());
  std::int64_t layer = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
  name.remove_prefix(static_cast<std::size_t>(end - name.data()));
  if (error != std::errc() || !name.starts_with('.')) {
    return std::nullopt;
  }
  return std::pair{layer, name.substr(1)};
}

struct Rename {
  std::string_view from;
  std::string_view to;
};

constexpr Rename kLayerNames[] = {
    {"attn_norm", "input_layernorm"},
    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},
    {"attn_qkv", "self_attn.qkv_proj"},
    {"attn_output", "self_attn.o_proj"},
    {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
    {"ffn_gate_shexp", "mlp.shared_expert.gate_proj"},
    {"ffn_up_shexp", "mlp.shared_expert.up_proj"},
    {"ffn_down_shexp", "mlp.shared_expert.down_proj"},
    {"ffn_gate_inp_shexp", "mlp.shared_expert_gate"},
};

constexpr Rename kExpertNames[] = {
    {"ffn_gate", "gate_proj"},
    {"ffn_up", "up_proj"},
    {"ffn_down", "down_proj"},
};

constexpr Rename kMixtralExpertNames[] = {
    {"ffn_gate", "w1"},
    {"ffn_up", "w3"},
    {"ffn_down", "w2"},
};

std::string_view Lookup(std::span<const Rename> table, std::string_view from) {
  const auto found = std::find_if(table.begin(), table.end(),
                                  [&](const Rename& rename) { return rename.from == from; });
  return found == table.end() ? std::string_view() : found->to;
}

/// Names the tensors of one file.
class TensorNamer final {
 public:
  TensorNamer(const GgufFile& file, const Architecture& architecture, std::int64_t head_rows)
      : file_(file),
        architecture_(architecture),
        head_rows_(head_rows),
        mixtral_(architecture.name == "llama") {}

  Result<void> Add(const GgufTensor& tensor) {
    // GgufConfig reads these.
    if (tensor.name == "rope_freqs.weight" || tensor.name == "rope_factors_long.weight" ||
        tensor.name == "rope_factors_short.weight") {
      return {};
    }
    for (const Rename& rename : {Rename{"token_embd.weight", "model.embed_tokens.weight"},
                                 Rename{"output_norm.weight", "model.norm.weight"},
                                 Rename{"output.weight", "lm_head.weight"}}) {
      if (tensor.name == rename.from) {
        Push(tensor, std::string(rename.to));
        return {};
      }
    }
    const auto place = SplitLayer(tensor.name);
    if (!place || !AddOfLayer(tensor, place->first, place->second)) {
      return Fail(Code::kUnsupported,
                  fmt::format("{}: offset {}: tensor {} has no place in {}", file_.name(),
                              tensor.info_offset, wire::Quoted(tensor.name), architecture_.name),
                  tensor.name);
    }
    return {};
  }

  std::vector<GgufNamed> TakeNames() { return std::move(names_); }

 private:
  GgufNamed& Push(const GgufTensor& tensor, std::string name) {
    const bool norm = name.ends_with("norm.weight");
    names_.push_back({.name = std::move(name),
                      .tensor = &tensor,
                      .added = architecture_.norms_plus_one && norm ? 1.0F : 0.0F});
    return names_.back();
  }

  bool AddOfLayer(const GgufTensor& tensor, std::int64_t layer, std::string_view rest) {
    const std::size_t dot = rest.rfind('.');
    const std::string_view suffix = dot == std::string_view::npos ? "" : rest.substr(dot);
    if (suffix != ".weight" && suffix != ".bias") {
      return false;
    }
    const std::string_view base = rest.substr(0, dot);
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    if (AddExperts(tensor, prefix, base, suffix)) {
      return true;
    }
    const std::string name = LayerName(base);
    if (name.empty()) {
      return false;
    }
    GgufNamed& added = Push(tensor, fmt::format("{}{}{}", prefix, name, suffix));
    added.one_row = base == "ffn_gate_inp_shexp";
    if (architecture_.permuted && (base == "attn_q" || base == "attn_k")) {
      added.head_rows = head_rows_;
    }
    return true;
  }

  std::string LayerName(std::string_view base) const {
    if (base == "ffn_gate_inp") {
      return mixtral_ ? "block_sparse_moe.gate" : "mlp.gate";
    }
    if (base == "ffn_up" && architecture_.name == "phi3") {
      return "mlp.gate_up_proj";
    }
    if (architecture_.four_norms) {
      if (base == "post_attention_norm") {
        return "post_attention_layernorm";
      }
      if (base == "post_ffw_norm") {
        return "post_feedforward_layernorm";
      }
    }
    if (base == "ffn_norm") {
      return architecture_.four_norms ? "pre_feedforward_layernorm" : "post_attention_layernorm";
    }
    return std::string(Lookup(kLayerNames, base));
  }

  std::string ExpertName(const std::string& prefix, std::int64_t expert, std::string_view base,
                         std::string_view suffix) const {
    return mixtral_ ? fmt::format("{}block_sparse_moe.experts.{}.{}{}", prefix, expert,
                                  Lookup(kMixtralExpertNames, base), suffix)
                    : fmt::format("{}mlp.experts.{}.{}{}", prefix, expert,
                                  Lookup(kExpertNames, base), suffix);
  }

  /// "ffn_up_exps": all experts in one tensor; "ffn_up.3": one of them, as old files have it.
  bool AddExperts(const GgufTensor& tensor, const std::string& prefix, std::string_view base,
                  std::string_view suffix) {
    constexpr std::string_view kStack = "_exps";
    if (base.ends_with(kStack)) {
      base.remove_suffix(kStack.size());
      if (Lookup(kExpertNames, base).empty() || tensor.shape.size() != 3 ||
          tensor.shape[0] > kExpertCountMax) {
        return false;
      }
      for (std::int64_t expert = 0; expert < tensor.shape[0]; ++expert) {
        GgufNamed& added = Push(tensor, ExpertName(prefix, expert, base, suffix));
        added.index = expert;
        added.count = tensor.shape[0];
      }
      return true;
    }
    const std::size_t dot = base.find('.');
    std::int64_t expert = -1;
    if (dot == std::string_view::npos || Lookup(kExpertNames, base.substr(0, dot)).empty() ||
        std::from_chars(base.data() + dot + 1, base.data() + base.size(), expert).ptr !=
            base.data() + base.size() ||
        expert < 0) {
      return false;
    }
    Push(tensor, ExpertName(prefix, expert, base.substr(0, dot), suffix));
    return true;
  }

  static constexpr std::int64_t kExpertCountMax = 4096;

  const GgufFile& file_;
  const Architecture& architecture_;
  std::int64_t head_rows_;
  bool mixtral_;
  std::vector<GgufNamed> names_;
};

struct Sizes {
  std::int64_t layers = 0;
  std::int64_t hidden = 0;
  std::int64_t heads = 0;
  std::int64_t head_dim = 0;
};

/// The sizes that more than one reader needs. Errors: kDataCorrupt naming the key.
Result<Sizes> ReadSizes(ConfigWriter& config) {
  Sizes sizes;
  for (const auto& [suffix, out] :
       {std::pair{"block_count", &sizes.layers}, std::pair{"embedding_length", &sizes.hidden},
        std::pair{"attention.head_count", &sizes.heads}}) {
    PX_TRY(const auto value, config.SameInt(suffix));
    if (!value || *value == 0) {
      return config.file().Bad(config.Key(suffix), "is absent or 0");
    }
    *out = *value;
  }
  PX_TRY(const auto key_length, config.Int("attention.key_length"));
  PX_TRY(const auto value_length, config.Int("attention.value_length"));
  if (key_length && value_length && *key_length != *value_length) {
    return config.file().Unsupported(config.Key("attention.value_length"),
                                     "differs from attention.key_length, which is not built");
  }
  sizes.head_dim = key_length.value_or(value_length.value_or(sizes.hidden / sizes.heads));
  if (sizes.head_dim < 2 || sizes.head_dim % 2 != 0) {
    return config.file().Bad(config.Key("attention.key_length"),
                             fmt::format("(here {}) is not even", sizes.head_dim));
  }
  return sizes;
}

/// `rows` of the embeddings decide; what else states the size must agree.
Result<void> CheckVocabulary(ConfigWriter& config, std::int64_t rows) {
  PX_TRY(const auto stated, config.Int("vocab_size"));
  if (!stated) {
    return {};
  }
  if (*stated != rows) {
    return config.file().Bad(
        config.Key("vocab_size"),
        fmt::format("= {} differs from the {} rows of token_embd.weight", *stated, rows));
  }
  const GgufValue* tokens = config.file().Find("tokenizer.ggml.tokens");
  if (tokens != nullptr && tokens->is_array && std::cmp_not_equal(tokens->count, rows)) {
    return config.file().Bad(
        config.Key("vocab_size"),
        fmt::format("= {} differs from the {} of tokenizer.ggml.tokens", *stated, tokens->count));
  }
  return {};
}

Result<void> ReadCommonKeys(ConfigWriter& config, const Sizes& sizes) {
  wire::Json& json = config.json();
  json.Set("num_hidden_layers", sizes.layers);
  json.Set("hidden_size", sizes.hidden);
  json.Set("num_attention_heads", sizes.heads);
  json.Set("head_dim", sizes.head_dim);
  PX_CHECK_OK(config.CopyInt("attention.head_count_kv", "num_key_value_heads"));
  PX_CHECK_OK(config.CopyInt("feed_forward_length", "intermediate_size"));
  PX_CHECK_OK(config.CopyInt("context_length", "max_position_embeddings", true));
  PX_CHECK_OK(config.CopyNumber("attention.layer_norm_rms_epsilon", "rms_norm_eps"));
  PX_TRY(const auto window, config.Int("attention.sliding_window"));
  if (window && *window > 0) {
    json.Set("sliding_window", *window);
  }
  PX_TRY(const auto rotary, config.Int("rope.dimension_count"));
  if (rotary && (*rotary < 2 || *rotary % 2 != 0 || *rotary > sizes.head_dim)) {
    return config.file().Bad(config.Key("rope.dimension_count"),
                             fmt::format("= {} is not an even number from 2 to the head's size, {}",
                                         *rotary, sizes.head_dim));
  }
  if (rotary && *rotary != sizes.head_dim) {
    json.Set("partial_rotary_factor",
             static_cast<double>(*rotary) / static_cast<double>(sizes.head_dim));
  }
  const GgufTensor* table = config.file().FindTensor("token_embd.weight");
  if (table == nullptr || table->shape.size() != 2) {
    return Fail(Code::kDataCorrupt,
                fmt::format("{}: tensor token_embd.weight of two dimensions is missing",
                            config.file().name()),
                "token_embd.weight");
  }
  PX_CHECK_OK(CheckVocabulary(config, table->shape[0]));
  json.Set("vocab_size", table->shape[0]);
  json.Set("tie_word_embeddings", config.file().FindTensor("output.weight") == nullptr);
  json.Set("attention_bias", config.file().FindTensor("blk.0.attn_q.bias") != nullptr);
  json.Set("mlp_bias", config.file().FindTensor("blk.0.ffn_gate.bias") != nullptr);
  return ReadTokens(config, table->shape[0]);
}

}  // namespace

Result<std::string> GgufConfig(const GgufFile& file) {
  PX_TRY(const Architecture* architecture, FindArchitecture(file));
  PX_TRY(const auto parts, file.Int("split.count", 0, 65'535));
  if (parts.value_or(0) > 1) {
    return file.Unsupported("split.count",
                            fmt::format("= {}; this build reads whole files: merge them", *parts));
  }
  ConfigWriter config(file, *architecture);
  wire::Json& json = config.json();
  json.Set("architectures", wire::Json::Array{std::string(architecture->hugging_face)});
  json.Set("model_type", std::string(architecture->model_type));
  json.Set("hidden_act", std::string(architecture->activation));
  json.Set("hidden_activation", std::string(architecture->activation));
  PX_TRY(const Sizes sizes, ReadSizes(config));
  PX_CHECK_OK(ReadCommonKeys(config, sizes));
  PX_CHECK_OK(ReadRope(config));
  PX_CHECK_OK(ReadExperts(config, architecture->name));
  if (architecture->four_norms) {
    PX_CHECK_OK(ReadGemma(config, architecture->name, sizes.layers, sizes.hidden, sizes.heads,
                          sizes.head_dim));
  } else if (architecture->name == "llama" && json.Find("sliding_window") != nullptr &&
             json.Find("num_local_experts") == nullptr) {
    json.Set("architectures", wire::Json::Array{"MistralForCausalLM"});
    json.Set("model_type", "mistral");
  }
  PX_CHECK_OK(config.RefuseOthers());
  return json.Dump();
}

Result<std::vector<GgufNamed>> GgufTensorNames(const GgufFile& file) {
  PX_TRY(const Architecture* architecture, FindArchitecture(file));
  ConfigWriter config(file, *architecture);
  PX_TRY(const Sizes sizes, ReadSizes(config));
  TensorNamer namer(file, *architecture, sizes.head_dim);
  for (const GgufTensor& tensor : file.tensors()) {
    PX_CHECK_OK(namer.Add(tensor));
  }
  return namer.TakeNames();
}

}  // namespace pixii::model
