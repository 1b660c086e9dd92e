#include "model/lora_adapter.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>

#include "base/digest.h"
#include "model/config_reader.h"
#include "model/finite.h"
#include "model/safetensors.h"
#include "wire/quoted.h"

namespace pixii::model {
namespace {

constexpr std::string_view kConfigName = "adapter_config.json";
constexpr std::string_view kWeightsName = "adapter_model.safetensors";
constexpr std::string_view kPrefix = "base_model.model.";
constexpr double kAlphaMax = 1e6;

// Keys that say how the adapter was trained, or nothing at all.
constexpr auto kHarmlessKeys = std::to_array<std::string_view>({
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
});

/// null, false, "", [] and {} ask for nothing.
bool AsksForNothing(const wire::Json& value) {
  switch (value.kind()) {
    case wire::Json::Kind::kNull:
      return true;
    case wire::Json::Kind::kBool:
      return !value.boolean();
    case wire::Json::Kind::kString:
      return value.string().empty();
    case wire::Json::Kind::kArray:
      return value.array().empty();
    case wire::Json::Kind::kObject:
      return value.object().empty();
    case wire::Json::Kind::kNumber:
      return false;
  }
  return false;
}

/// Whether `pattern` names `module` or an end of it at a dot.
bool NamesModule(std::string_view pattern, std::string_view module) {
  return module == pattern || (module.size() > pattern.size() && module.ends_with(pattern) &&
                               module[module.size() - pattern.size() - 1] == '.');
}

/// A module of `patterns`' keys and what stands behind it. Keys that are regular expressions are
/// refused.
Result<void> ReadPattern(const ConfigReader& config, const wire::Json& json, std::string_view key,
                         std::vector<std::pair<std::string, double>>& out) {
  const wire::Json* patterns = json.Find(key);
  if (patterns == nullptr || AsksForNothing(*patterns)) {
    return {};
  }
  if (!patterns->is_object()) {
    return config.Bad(key, "is no object");
  }
  for (const auto& [name, value] : patterns->object()) {
    const bool plain = std::all_of(name.begin(), name.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '_' || c == '.';
    });
    const std::optional<double> number = value.AsDouble();
    if (!plain || name.empty()) {
      return config.Unsupported(key,
                                "has a key that is a regular expression; plain names are read");
    }
    if (!number || *number <= 0 || *number > kAlphaMax) {
      return config.Bad(key, fmt::format("has a value that is not in 0 to {}", kAlphaMax));
    }
    out.emplace_back(name, *number);
  }
  return {};
}

/// What adapter_config.json says of ranks and scales.
struct AdapterConfig {
  std::int64_t rank = 8;
  double alpha = 8;
  bool square_root = false;  // use_rslora
  std::vector<std::pair<std::string, double>> ranks;
  std::vector<std::pair<std::string, double>> alphas;
  std::vector<std::string> targets;  // empty: any module that has tensors

  bool Targets(std::string_view module) const {
    return targets.empty() || std::any_of(targets.begin(), targets.end(), [&](const auto& target) {
             return NamesModule(target, module);
           });
  }

  std::int64_t RankOf(std::string_view module) const {
    for (const auto& [name, value] : ranks) {
      if (NamesModule(name, module)) {
        return static_cast<std::int64_t>(value);
      }
    }
    return rank;
  }

  float ScaleOf(std::string_view module) const {
    double numerator = alpha;
    for (const auto& [name, value] : alphas) {
      if (NamesModule(name, module)) {
        numerator = value;
        break;
      }
    }
    const auto of_rank = static_cast<double>(RankOf(module));
    return static_cast<float>(numerator / (square_root ? std::sqrt(of_rank) : of_rank));
  }
};

Result<void> RefuseWhatIsNotBuilt(const ConfigReader& config, const wire::Json& json) {
  PX_TRY(const std::string type, config.String("peft_type", "LORA"));
  if (type != "LORA") {
    return config.Unsupported("peft_type", "is not built; this build runs LORA");
  }
  PX_TRY(const std::string bias, config.String("bias", "none"));
  if (bias != "none") {
    return config.Unsupported("bias", "is not built; this build runs adapters without biases");
  }
  for (const auto& [key, value] : json.object()) {
    const bool harmless =
        std::find(kHarmlessKeys.begin(), kHarmlessKeys.end(), key) != kHarmlessKeys.end();
    if (!harmless && !AsksForNothing(value)) {
      return config.Unsupported(key, "is not built, and would change what the adapter computes");
    }
  }
  return {};
}

/// A list of names, or a string: "all-linear", or one name.
Result<std::vector<std::string>> ReadTargets(const ConfigReader& config) {
  const wire::Json* targets = config.Find("target_modules");
  if (targets == nullptr) {
    return std::vector<std::string>();
  }
  if (targets->is_array()) {
    return config.Strings("target_modules");
  }
  PX_TRY(const std::string one, config.String("target_modules"));
  if (one == "all-linear") {
    return std::vector<std::string>();
  }
  return config.Unsupported("target_modules",
                            "is a regular expression; a list of names or all-linear is read");
}

Result<AdapterConfig> ReadAdapterConfig(std::string_view text) {
  PX_TRY(const wire::Json json, ParseConfigJson(text, kConfigName));
  if (!json.is_object()) {
    return Fail(Code::kDataCorrupt, fmt::format("{}: is no JSON object", kConfigName));
  }
  const ConfigReader config(json, std::string(kConfigName));
  PX_CHECK_OK(RefuseWhatIsNotBuilt(config, json));
  AdapterConfig out;
  PX_TRY(out.rank, config.Int("r", {1, kernels::kLoraRankMax}, 8));
  PX_TRY(out.alpha, config.Number("lora_alpha", {0.0, kAlphaMax}, 8.0));
  PX_TRY(out.square_root, config.Bool("use_rslora", false));
  PX_TRY(out.targets, ReadTargets(config));
  PX_CHECK_OK(ReadPattern(config, json, "rank_pattern", out.ranks));
  PX_CHECK_OK(ReadPattern(config, json, "alpha_pattern", out.alphas));
  return out;
}

/// "model.layers.0.self_attn.q_proj" and which half, from a tensor's name.
struct HalfName {
  std::string module;
  bool up = false;
};

tl::unexpected<Error> BadTensor(Code code, const StoredTensor& tensor, std::string_view what) {
  return Fail(code,
              fmt::format("{}: offset {}: tensor {} {}", kWeightsName, tensor.file_offset,
                          wire::Quoted(tensor.name), what),
              tensor.name);
}

Result<HalfName> ParseHalfName(const StoredTensor& tensor) {
  std::string_view name = tensor.name;
  if (name.find("lora_embedding_") != std::string_view::npos) {
    return BadTensor(Code::kUnsupported, tensor,
                     "changes an embedding, which is not built; train without the embeddings");
  }
  if (name.find("lora_magnitude_vector") != std::string_view::npos) {
    return BadTensor(Code::kUnsupported, tensor, "is of DoRA, which is not built");
  }
  if (name.starts_with(kPrefix)) {
    name.remove_prefix(kPrefix.size());
  }
  for (const std::string_view end :
       {".lora_A.weight", ".lora_B.weight", ".lora_A.default.weight", ".lora_B.default.weight"}) {
    if (name.ends_with(end) && name.size() > end.size()) {
      return HalfName{std::string(name.substr(0, name.size() - end.size())), end[6] == 'B'};
    }
  }
  return BadTensor(Code::kUnsupported, tensor,
                   "is no lora_A or lora_B of a linear, so the adapter would be run without it");
}

struct Halves {
  const StoredTensor* down = nullptr;
  const StoredTensor* up = nullptr;
};

Result<std::map<std::string, Halves>> Pair(const SafetensorsHeader& header) {
  std::map<std::string, Halves> out;
  for (const StoredTensor& tensor : header.tensors) {
    PX_TRY(const HalfName half, ParseHalfName(tensor));
    Halves& halves = out[half.module];
    const StoredTensor*& place = half.up ? halves.up : halves.down;
    if (place != nullptr) {
      return BadTensor(Code::kDataCorrupt, tensor, "stands there twice, under two names");
    }
    place = &tensor;
  }
  return out;
}

/// Checks both halves of `module` against the linear and the config.
Result<void> CheckHalves(const std::string& module, const Halves& halves,
                         const AdaptableLinear& linear, const AdapterConfig& config,
                         const LoraLimits& limits) {
  if (halves.down == nullptr || halves.up == nullptr) {
    const StoredTensor& there = halves.down != nullptr ? *halves.down : *halves.up;
    return BadTensor(Code::kDataCorrupt, there, "is there without its other half");
  }
  const std::int64_t rank = config.RankOf(module);
  if (rank > limits.rank_max) {
    return BadTensor(Code::kUnsupported, *halves.down,
                     fmt::format("has rank {}, allowed is at most {}", rank, limits.rank_max));
  }
  const std::vector<std::int64_t> down_shape = {rank, linear.in_features};
  const std::vector<std::int64_t> up_shape = {linear.out_features, rank};
  for (const auto& [tensor, shape] :
       {std::pair(halves.down, &down_shape), {halves.up, &up_shape}}) {
    if (tensor->shape != *shape) {
      return BadTensor(
          Code::kDataCorrupt, *tensor,
          fmt::format("has shape [{}], model and {} ask for [{}]", fmt::join(tensor->shape, ", "),
                      kConfigName, fmt::join(*shape, ", ")));
    }
    if (!AsWeightType(tensor->type)) {
      return BadTensor(Code::kUnsupported, *tensor,
                       fmt::format("has dtype {}; this build runs F32, F16 and BF16 adapters",
                                   StoredTypeName(tensor->type)));
    }
  }
  return {};
}

/// The two tensors of an adapter that belong to one linear.
struct Fitting {
  std::size_t linear = 0;
  const std::string& module;
  const Halves& halves;
};

/// All that can be said without the tensors' values. What it gives refers to `modules`.
Result<std::vector<Fitting>> Fit(const std::map<std::string, Halves>& modules,
                                 const AdapterConfig& config,
                                 std::span<const AdaptableLinear> linears,
                                 const LoraLimits& limits) {
  std::vector<Fitting> out;
  for (std::size_t i = 0; i < linears.size(); ++i) {
    const auto found = modules.find(linears[i].name);
    if (found == modules.end()) {
      continue;
    }
    const auto& [module, halves] = *found;
    PX_CHECK_OK(CheckHalves(module, halves, linears[i], config, limits));
    if (!config.Targets(module)) {
      return BadTensor(
          Code::kDataCorrupt, *halves.down,
          fmt::format("is of a module that target_modules in {} does not name", kConfigName));
    }
    out.push_back({.linear = i, .module = module, .halves = halves});
  }
  if (out.size() != modules.size()) {
    for (const auto& [module, halves] : modules) {
      const bool known =
          std::any_of(linears.begin(), linears.end(),
                      [&](const AdaptableLinear& one) { return one.name == module; });
      if (!known) {
        return BadTensor(Code::kUnsupported, halves.down != nullptr ? *halves.down : *halves.up,
                         "is of a module that this model does not run as a linear");
      }
    }
  }
  if (out.empty()) {
    return Fail(Code::kDataCorrupt, fmt::format("{}: holds no tensors", kWeightsName));
  }
  return out;
}

Result<void> RefusePickle(const CheckpointFolder& folder) {
  if (!folder.Has(kWeightsName) && folder.Has("adapter_model.bin")) {
    return Fail(
        Code::kUnsupported,
        fmt::format("{}: adapter_model.bin is a pickle, which is not read; save the adapter "
                    "as safetensors",
                    folder.path()));
  }
  return {};
}

}  // namespace

Result<LoraAdapter> LoraAdapter::Open(const CheckpointFolder& folder,
                                      std::span<const AdaptableLinear> linears,
                                      const LoraLimits& limits) {
  PX_CHECK_OK(RefusePickle(folder));
  PX_TRY(const std::string config_text, folder.ReadText(kConfigName, kConfigSizeMax));
  PX_TRY(const std::string weights, folder.ReadText(kWeightsName, limits.size_bytes_max));
  return Parse(config_text, weights, linears, limits);
}

Result<void> LoraAdapter::Check(const CheckpointFolder& folder,
                                std::span<const AdaptableLinear> linears,
                                const LoraLimits& limits) {
  PX_CHECK_OK(RefusePickle(folder));
  PX_TRY(const std::string config_text, folder.ReadText(kConfigName, kConfigSizeMax));
  PX_TRY(const AdapterConfig config, ReadAdapterConfig(config_text));
  PX_TRY(const rt::FileMap weights, folder.Map(kWeightsName));
  if (weights.bytes().size() > limits.size_bytes_max) {
    return Fail(Code::kTooLarge, fmt::format("{}: {} bytes, at most {} are read", kWeightsName,
                                             weights.bytes().size(), limits.size_bytes_max));
  }
  PX_TRY(const SafetensorsHeader header,
         ParseSafetensorsHeader(weights.bytes(), weights.bytes().size(), kWeightsName));
  PX_TRY(const auto modules, Pair(header));
  const auto fits = Fit(modules, config, linears, limits);
  return fits ? Result<void>() : Fail(fits.error());
}

Result<LoraAdapter> LoraAdapter::Parse(std::string_view config_text, std::string_view weights,
                                       std::span<const AdaptableLinear> linears,
                                       const LoraLimits& limits) {
  PX_TRY(const AdapterConfig config, ReadAdapterConfig(config_text));
  PX_TRY(const SafetensorsHeader header,
         ParseSafetensorsHeader(std::as_bytes(std::span(weights)), weights.size(), kWeightsName));
  PX_TRY(const auto modules, Pair(header));

  LoraAdapter out;
  Digest digest(Digest::Kind::kSha256);
  digest.Update(fmt::format("{}:", config_text.size()));
  digest.Update(config_text);
  digest.Update(weights);
  out.fingerprint_ = digest.FinishHex();

  const auto keep = [&](const StoredTensor& tensor) {
    const char* begin = weights.data() + tensor.file_offset;
    auto& kept = out.tensors_.emplace_back(tensor.size_bytes);
    std::memcpy(kept.data(), begin, kept.size());
    out.size_bytes_ += kept.size();
    return kernels::WeightPart{.data = kept.data(),
                               .dtype = *AsWeightType(tensor.type),
                               .rows = tensor.shape[0],
                               .cols = tensor.shape[1]};
  };
  PX_TRY(const std::vector<Fitting> fittings, Fit(modules, config, linears, limits));
  for (const auto& [linear, module, halves] : fittings) {
    LoraPair pair{.linear = linear, .down = keep(*halves.down), .up = keep(*halves.up)};
    for (const StoredTensor* tensor : {halves.down, halves.up}) {
      const auto values =
          std::as_bytes(std::span(weights)).subspan(tensor->file_offset, tensor->size_bytes);
      if (const auto bad = FirstNotFinite(tensor->type, values)) {
        return BadTensor(Code::kDataCorrupt, *tensor,
                         fmt::format("is not finite at element {}", *bad));
      }
    }
    pair.scale = config.ScaleOf(module);
    out.rank_max_ = std::max(out.rank_max_, static_cast<std::int32_t>(pair.down.rows));
    out.pairs_.push_back(pair);
  }
  return out;
}

}  // namespace pixii::model
