#include "model/sentence_modules.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "model/checkpoint.h"
#include "model/config_reader.h"
#include "model/decoder_spec.h"
#include "model/finite.h"
#include "wire/quoted.h"

namespace pixii::model {
namespace {

constexpr std::string_view kModulesName = "modules.json";
constexpr std::string_view kConfigName = "config.json";

struct ModeKey {
  PoolMode mode;
  std::string_view key;   // of the older form, a bool each
  std::string_view name;  // of the newer form, in "pooling_mode"
};

constexpr std::array<ModeKey, 6> kModeKeys = {{
    {PoolMode::kCls, "pooling_mode_cls_token", "cls"},
    {PoolMode::kMax, "pooling_mode_max_tokens", "max"},
    {PoolMode::kMean, "pooling_mode_mean_tokens", "mean"},
    {PoolMode::kMeanSqrtLen, "pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"},
    {PoolMode::kWeightedMean, "pooling_mode_weightedmean_tokens", "weightedmean"},
    {PoolMode::kLastToken, "pooling_mode_lasttoken", "lasttoken"},
}};

Result<std::vector<PoolMode>> ReadModes(const ConfigReader& config) {
  std::vector<PoolMode> modes;
  if (const wire::Json* named = config.Find("pooling_mode"); named != nullptr) {
    std::vector<std::string> names;
    if (named->is_string()) {
      names.push_back(named->string());
    } else {
      PX_TRY(names, config.Strings("pooling_mode"));
    }
    for (const std::string& name : names) {
      const auto known = std::ranges::find(kModeKeys, name, &ModeKey::name);
      if (known == kModeKeys.end()) {
        return config.Unsupported("pooling_mode", "is not built");
      }
      modes.push_back(known->mode);
    }
    std::ranges::sort(modes);
    modes.erase(std::ranges::unique(modes).begin(), modes.end());
  } else {
    for (const ModeKey& known : kModeKeys) {
      // As the reference: mean unless the file says otherwise.
      PX_TRY(const bool on, config.Bool(known.key, known.mode == PoolMode::kMean));
      if (on) {
        modes.push_back(known.mode);
      }
    }
  }
  if (modes.empty()) {
    return config.Bad("pooling_mode_mean_tokens", "and all other modes are off");
  }
  return modes;
}

Result<PoolActivation> ReadActivation(const ConfigReader& config) {
  constexpr std::string_view kKey = "activation_function";
  PX_TRY(const std::string name, config.String(kKey, "torch.nn.modules.activation.Tanh"));
  const std::string_view last = std::string_view(name).substr(name.rfind('.') + 1);
  constexpr std::array<std::pair<std::string_view, PoolActivation>, 5> kKnown = {{
      {"Identity", PoolActivation::kIdentity},
      {"Tanh", PoolActivation::kTanh},
      {"ReLU", PoolActivation::kRelu},
      {"GELU", PoolActivation::kGelu},
      {"Sigmoid", PoolActivation::kSigmoid},
  }};
  const auto* found =
      std::ranges::find(kKnown, last, &std::pair<std::string_view, PoolActivation>::first);
  if (found == kKnown.end()) {
    return config.Unsupported(kKey, "is not built");
  }
  return found->second;
}

/// The only tensors of a dense module, as fp32.
Result<std::vector<float>> ReadTensor(const Checkpoint& checkpoint, const std::string& name,
                                      const std::vector<std::int64_t>& shape) {
  const CheckpointTensor* tensor = checkpoint.Find(name);
  if (tensor == nullptr || tensor->stored.shape != shape || !AsWeightType(tensor->stored.type)) {
    return Fail(Code::kDataCorrupt,
                fmt::format("{}: {} of shape [{}] in F32, F16 or BF16 is missing",
                            checkpoint.file_names()[0], name, fmt::join(shape, ", ")),
                name);
  }
  PX_CHECK_OK(CheckFinite(checkpoint, *tensor, tensor->bytes));
  const kernels::DType dtype = *AsWeightType(tensor->stored.type);
  std::vector<float> out(tensor->bytes.size() / kernels::SizeOf(dtype));
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::byte* from = tensor->bytes.data() + i * kernels::SizeOf(dtype);
    std::uint16_t bits = 0;
    if (dtype == kernels::DType::kF32) {
      std::memcpy(&out[i], from, sizeof(float));
      continue;
    }
    std::memcpy(&bits, from, sizeof(bits));
    out[i] =
        dtype == kernels::DType::kBf16 ? kernels::FloatFromBf16(bits) : kernels::FloatFromF16(bits);
  }
  return out;
}

class ModulesLoader final {
 public:
  explicit ModulesLoader(const CheckpointFolder& folder) : folder_(folder) {}

  Result<SentenceModules> Load() {
    PX_TRY(out_.text, folder_.ReadText(kModulesName, kConfigSizeMax));
    const auto parsed = wire::ParseJson(out_.text);
    if (!parsed) {
      return Fail(Code::kDataCorrupt, fmt::format("{}: {}", kModulesName, parsed.error().detail()));
    }
    const wire::Json& json = *parsed;
    if (!json.is_array() || json.array().size() > kModuleCountMax) {
      return Fail(Code::kDataCorrupt, fmt::format("{} is not a list of at most {} modules",
                                                  kModulesName, kModuleCountMax));
    }
    for (const wire::Json& item : json.array()) {
      if (!item.is_object()) {
        return Fail(Code::kDataCorrupt, fmt::format("{} holds no object", kModulesName));
      }
      PX_CHECK_OK(AddModule(ConfigReader(item, std::string(kModulesName))));
    }
    return std::move(out_);
  }

 private:
  Result<void> AddModule(const ConfigReader& module) {
    PX_TRY(const std::string type, module.String("type"));
    PX_TRY(const std::string path, module.String("path", ""));
    const std::string_view kind = std::string_view(type).substr(type.rfind('.') + 1);
    if (kind == "Transformer") {
      if (!path.empty()) {
        return module.Unsupported("path", "is not built: the transformer lies in the folder");
      }
      return {};
    }
    if (kind == "Pooling" && !out_.pooling) {
      return AddPooling(path);
    }
    if (kind == "Normalize" && out_.pooling) {
      out_.pooling->stages.push_back({.normalize = true});
      return {};
    }
    if (kind == "Dense" && out_.pooling) {
      return AddDense(path);
    }
    if (kind == "LogitScore" && !out_.pooling && !out_.score) {
      return AddScore(path);
    }
    return module.Unsupported("type", "is not built at this place");
  }

  /// Reads config.json of the module's folder.
  Result<wire::Json> ReadConfig(const CheckpointFolder& folder) {
    PX_TRY(const std::string text, folder.ReadText(kConfigName, kConfigSizeMax));
    out_.text += text;
    return ParseConfigJson(text, folder.path() + "/" + std::string(kConfigName));
  }

  Result<void> AddPooling(const std::string& path) {
    PX_TRY(const CheckpointFolder folder, folder_.Subfolder(path));
    PX_TRY(const wire::Json json, ReadConfig(folder));
    const ConfigReader config(json, folder.path() + "/" + std::string(kConfigName));
    PoolingSpec& spec = out_.pooling.emplace();
    PX_TRY(spec.modes, ReadModes(config));
    PX_TRY(spec.include_prompt, config.Bool("include_prompt", true));
    return {};
  }

  Result<void> AddDense(const std::string& path) {
    PX_TRY(const CheckpointFolder folder, folder_.Subfolder(path));
    PX_TRY(const wire::Json json, ReadConfig(folder));
    const ConfigReader config(json, folder.path() + "/" + std::string(kConfigName));
    PX_TRY(const std::int64_t in, config.Int("in_features", {1, kModuleFeaturesMax}));
    PX_TRY(const std::int64_t out, config.Int("out_features", {1, kModuleFeaturesMax}));
    PX_TRY(const bool bias, config.Bool("bias", true));
    PoolStage stage;
    stage.in_features = static_cast<std::int32_t>(in);
    stage.out_features = static_cast<std::int32_t>(out);
    PX_TRY(stage.activation, ReadActivation(config));
    PX_TRY(const Checkpoint checkpoint, Checkpoint::OpenFile(folder, "model.safetensors"));
    PX_TRY(stage.weight, ReadTensor(checkpoint, "linear.weight", {out, in}));
    if (bias) {
      PX_TRY(stage.bias, ReadTensor(checkpoint, "linear.bias", {out}));
    }
    for (const CheckpointTensor& tensor : checkpoint.tensors()) {
      out_.text.append(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
    }
    out_.pooling->stages.push_back(std::move(stage));
    return {};
  }

  Result<void> AddScore(const std::string& path) {
    PX_TRY(const CheckpointFolder folder, folder_.Subfolder(path));
    PX_TRY(const wire::Json json, ReadConfig(folder));
    const ConfigReader config(json, folder.path() + "/" + std::string(kConfigName));
    constexpr IntRange kIds = {0, kVocabSizeMax - 1};
    PX_TRY(const std::int64_t yes, config.Int("true_token_id", kIds));
    PX_TRY(const std::int64_t no, config.Int("false_token_id", {-1, kIds.max}, std::int64_t{-1}));
    out_.score = {static_cast<std::int32_t>(yes), static_cast<std::int32_t>(no)};
    return {};
  }

  const CheckpointFolder& folder_;
  SentenceModules out_;
};

}  // namespace

Result<SentenceModules> LoadSentenceModules(const CheckpointFolder& folder) {
  if (!folder.Has(kModulesName)) {
    return SentenceModules{};
  }
  return ModulesLoader(folder).Load();
}

}  // namespace pixii::model
