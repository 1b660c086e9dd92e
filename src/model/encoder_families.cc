#include "model/encoder_families.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace pixii::model {
namespace {

struct EncoderFamily {
  std::string_view stem;  // of the architecture: "Bert" of BertModel
  std::string_view model_type;
  Result<EncoderSpec> (*describe)(const ConfigReader& config);
};

constexpr std::array<EncoderFamily, 5> kFamilies = {{
    {"Bert", "bert", DescribeBert},
    {"Roberta", "roberta", DescribeRoberta},
    {"XLMRoberta", "xlm-roberta", DescribeRoberta},
    {"Camembert", "camembert", DescribeRoberta},
    {"DistilBert", "distilbert", DescribeDistilBert},
}};

constexpr std::string_view kClassifier = "ForSequenceClassification";
/// A checkpoint of a bare encoder, or of one with a head that nobody asks for here.
constexpr std::array<std::string_view, 2> kBare = {"Model", "ForMaskedLM"};

/// The family and what follows its stem in the architecture; null if it is no encoder.
struct Choice {
  const EncoderFamily* family = nullptr;
  std::string_view suffix;
};

Choice ChooseByName(std::string_view architecture) {
  for (const EncoderFamily& family : kFamilies) {
    if (!architecture.starts_with(family.stem)) {
      continue;
    }
    const std::string_view suffix = architecture.substr(family.stem.size());
    if (suffix == kClassifier || std::ranges::find(kBare, suffix) != kBare.end()) {
      return {&family, suffix};
    }
  }
  return {};
}

struct Named {
  std::string architecture;
  Choice choice;
};

Result<Named> Choose(const ConfigReader& config) {
  PX_TRY(const auto architectures, config.Strings("architectures"));
  Named named;
  if (architectures.size() == 1) {
    named.architecture = architectures[0];
    named.choice = ChooseByName(named.architecture);
  } else if (architectures.empty()) {
    PX_TRY(const std::string type, config.String("model_type", ""));
    const auto* family = std::ranges::find(kFamilies, type, &EncoderFamily::model_type);
    if (family != kFamilies.end()) {
      named.architecture = fmt::format("{}{}", family->stem, kBare[0]);
      named.choice = {family, kBare[0]};
    }
  }
  if (named.choice.family != nullptr) {
    named.choice.suffix =
        std::string_view(named.architecture).substr(named.choice.family->stem.size());
  }
  return named;
}

Result<kernels::Activation> ReadActivation(const ConfigReader& config, std::string_view key) {
  PX_TRY(const std::string name, config.String(key, "gelu"));
  if (name == "gelu") {
    return kernels::Activation::kGelu;
  }
  if (name == "gelu_new" || name == "gelu_pytorch_tanh") {
    return kernels::Activation::kGeluTanh;
  }
  if (name == "relu") {
    return kernels::Activation::kRelu;
  }
  if (name == "silu" || name == "swish") {
    return kernels::Activation::kSilu;
  }
  return config.Unsupported(
      key, "is not built; this build runs gelu, gelu_new, gelu_pytorch_tanh, relu, silu");
}

Result<void> RefuseWhatIsNotBuilt(const ConfigReader& config) {
  for (const std::string_view key : {"quantization_config", "compression_config"}) {
    if (config.Find(key) != nullptr) {
      return config.Unsupported(key, "is not built for encoders");
    }
  }
  for (const std::string_view key : {"is_decoder", "add_cross_attention"}) {
    PX_TRY(const bool on, config.Bool(key, false));
    if (on) {
      return config.Unsupported(key, "is not built for encoders");
    }
  }
  PX_TRY(const std::string positions, config.String("position_embedding_type", "absolute"));
  if (positions != "absolute") {
    return config.Unsupported("position_embedding_type", "is not built; absolute is");
  }
  return {};
}

}  // namespace

std::string EncoderArchitectures() {
  std::string out;
  for (const EncoderFamily& family : kFamilies) {
    for (const std::string_view suffix : {kBare[0], kClassifier}) {
      out += fmt::format("{}{}{}", out.empty() ? "" : ", ", family.stem, suffix);
    }
  }
  return out;
}

Result<bool> IsEncoder(const ConfigReader& config) {
  PX_TRY(const Named named, Choose(config));
  return named.choice.family != nullptr;
}

Result<std::int32_t> ReadClassCount(const ConfigReader& config) {
  if (const wire::Json* labels = config.Find("id2label"); labels != nullptr) {
    const auto count = labels->is_object() ? std::ssize(labels->object()) : 0;
    if (count < 1 || count > kClassCountMax) {
      return config.Bad("id2label",
                        fmt::format("is not an object of 1 to {} labels", kClassCountMax));
    }
    return static_cast<std::int32_t>(count);
  }
  PX_TRY(const std::int64_t count, config.Int("num_labels", {1, kClassCountMax}, 2));
  return static_cast<std::int32_t>(count);
}

Result<EncoderSpec> ReadEncoderSizes(const ConfigReader& config, const EncoderKeys& keys) {
  EncoderSpec spec;
  const auto read = [&](std::string_view key, std::int64_t max, std::int32_t& out) -> Result<void> {
    PX_TRY(const std::int64_t value, config.Int(key, {1, max}));
    out = static_cast<std::int32_t>(value);
    return {};
  };
  PX_CHECK_OK(read(keys.hidden_size, kHiddenSizeMax, spec.hidden_size));
  PX_CHECK_OK(read(keys.intermediate_size, kIntermediateSizeMax, spec.intermediate_size));
  PX_CHECK_OK(read("vocab_size", kVocabSizeMax, spec.vocab_size));
  PX_CHECK_OK(read(keys.layer_count, kLayerCountMax, spec.layer_count));
  PX_CHECK_OK(read(keys.head_count, kHeadCountMax, spec.head_count));
  PX_CHECK_OK(read("max_position_embeddings", kContextTokensMax, spec.position_count));
  if (spec.hidden_size % spec.head_count != 0 || spec.head_dim() > kernels::kHeadDimMax) {
    return config.Bad(keys.head_count,
                      fmt::format("does not divide {} = {} into heads of at most {}",
                                  keys.hidden_size, spec.hidden_size, kernels::kHeadDimMax));
  }
  PX_TRY(spec.activation, ReadActivation(config, keys.activation));
  return spec;
}

Result<EncoderSpec> DescribeEncoder(const ConfigReader& config) {
  PX_TRY(const Named named, Choose(config));
  PX_CHECK_OK(RefuseWhatIsNotBuilt(config));
  PX_TRY(EncoderSpec spec, named.choice.family->describe(config));
  spec.architecture = named.architecture;
  if (named.choice.suffix == kClassifier) {
    PX_TRY(spec.head.class_count, ReadClassCount(config));
  }
  return spec;
}

}  // namespace pixii::model
