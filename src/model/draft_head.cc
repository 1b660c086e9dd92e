#include "model/draft_head.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "model/config.h"
#include "model/decoder.h"
#include "model/families.h"

namespace pixii::model {
namespace {

bool HasWeight(const Checkpoint& checkpoint, const std::string& name) {
  return checkpoint.Find(name + ".weight") != nullptr;
}

/// Reads a head's own tensors, and from the target those that it shares.
class SharedWeights final : public Weights {
 public:
  SharedWeights(std::unique_ptr<Weights> own, std::unique_ptr<Weights> target,
                std::map<std::string, std::string> shared)
      : own_(std::move(own)), target_(std::move(target)), shared_(std::move(shared)) {}

  Result<kernels::WeightPart> Part(const std::string& name, std::int64_t rows,
                                   std::int64_t cols) override {
    const auto found = shared_.find(name);
    return found == shared_.end() ? own_->Part(name, rows, cols)
                                  : target_->Part(found->second, rows, cols);
  }

  Result<kernels::WeightPart> Slice(const StackedSlice& slice) override {
    return own_->Slice(slice);
  }

  Result<std::vector<float>> Vector(const std::string& name, std::int64_t size) override {
    return own_->Vector(name, size);
  }

  void Release() override {
    own_->Release();
    target_->Release();
  }

 private:
  std::unique_ptr<Weights> own_;
  std::unique_ptr<Weights> target_;
  std::map<std::string, std::string> shared_;  // a name of the head's to the target's
};

/// The target, opened to be read.
struct Target {
  ModelConfig config;
  Checkpoint checkpoint;
};

Result<Target> OpenTarget(const std::string& path) {
  PX_TRY(const CheckpointFolder folder, CheckpointFolder::Open(path));
  PX_TRY(ModelConfig config, LoadConfig(folder));
  PX_TRY(Checkpoint checkpoint, Checkpoint::Open(folder));
  if (config.encoder || config.vision || config.decoder.head != HeadKind::kVocab) {
    return Fail(Code::kUnsupported,
                fmt::format("{}: only generators that read text alone have draft heads", path),
                "speculation");
  }
  PX_CHECK_OK(CheckTensors(config, checkpoint));
  return Target{std::move(config), std::move(checkpoint)};
}

/// The first layer past `spec`'s last, as a decoder of its own.
DecoderSpec PredictionLayer(const DecoderSpec& target, const Checkpoint& checkpoint) {
  DecoderSpec spec = target;
  const std::string index = std::to_string(target.layers.size());
  ForEachName(spec, [&](std::string& name) {
    const std::size_t hole = name.find("{}");
    if (hole != std::string::npos) {
      name.replace(hole, 2, index);
    }
  });
  const std::string prefix = "model.layers." + index + ".";
  if (HasWeight(checkpoint, prefix + "embed_tokens")) {
    spec.names.embed = prefix + "embed_tokens";
  }
  if (HasWeight(checkpoint, prefix + "shared_head.head")) {
    spec.names.head = prefix + "shared_head.head";
    spec.tied_head = false;
  } else if (target.tied_head) {
    spec.names.head = target.names.embed;
    spec.tied_head = false;
  }
  spec.names.final_norm = prefix + "shared_head.norm";
  spec.fusion = {.project = {{prefix + "eh_proj"}},
                 .embed_norm = prefix + "enorm",
                 .hidden_norm = prefix + "hnorm"};
  spec.layers = {target.ahead_layers.front()};
  spec.ahead_layers.clear();
  return spec;
}

Result<std::unique_ptr<LanguageModel>> LoadPredictionLayer(const std::string& path,
                                                           kernels::Operators& operators,
                                                           const LoadOptions& options) {
  PX_TRY(Target target, OpenTarget(path));
  if (target.config.decoder.ahead_layers.empty()) {
    return Fail(Code::kUnsupported,
                fmt::format("{}: {} has no layers that predict ahead (num_nextn_predict_layers)",
                            path, target.config.decoder.architecture),
                "speculation");
  }
  ModelConfig config = target.config;
  config.decoder = PredictionLayer(target.config.decoder, target.checkpoint);
  PX_CHECK_OK(CheckPresent(ExpectedTensors(config.decoder), config.decoder.quantization,
                           target.checkpoint));
  PX_TRY(ModelSpec spec, MakeModelSpec(config, target.checkpoint));
  const auto weights = MakeCheckpointWeights(target.checkpoint, config.decoder.quantization);
  return Decoder::Create(std::move(config.decoder), std::move(spec), *weights, operators, options);
}

Result<DecoderSpec> DescribeEagle(const ConfigReader& config) {
  PX_TRY(const auto architectures, config.Strings("architectures"));
  const std::string name = architectures.empty() ? "" : architectures.front();
  if (name.find("Eagle3") != std::string::npos) {
    return config.Unsupported("architectures",
                              "is EAGLE-3, which reads three states of the target and guesses in a "
                              "vocabulary of its own; this build runs EAGLE-1 and 2");
  }
  // The first published folders call themselves what they were trained from.
  constexpr std::string_view kKnown[] = {"LlamaForCausalLMEagle", "EagleLlamaForCausalLM",
                                         "LlamaForCausalLM"};
  if (architectures.size() != 1 || std::ranges::find(kKnown, name) == std::ranges::end(kKnown)) {
    return config.Unsupported(
        "architectures",
        "is no EAGLE head; this build runs LlamaForCausalLMEagle, EagleLlamaForCausalLM");
  }
  PX_TRY(DecoderSpec spec, DescribeLlama(config));
  spec.architecture = name;
  spec.layers.front().input_norm = false;
  spec.names.final_norm.clear();
  spec.fusion.project = {{"model.fc"}};
  return spec;
}

/// Names as `checkpoint` has them; what is not there is the target's.
std::map<std::string, std::string> ResolveEagle(const Checkpoint& checkpoint,
                                                const DecoderSpec& target, DecoderSpec& spec) {
  if (!HasWeight(checkpoint, "model.fc")) {
    constexpr std::string_view kPrefix = "model.";
    ForEachName(spec, [&](std::string& name) {
      if (name.starts_with(kPrefix)) {
        name.erase(0, kPrefix.size());
      }
    });
  }
  spec.fusion.project.bias =
      checkpoint.Find(spec.fusion.project.parts.front() + ".bias") != nullptr;
  spec.tied_head = false;
  std::map<std::string, std::string> shared;
  if (!HasWeight(checkpoint, spec.names.embed)) {
    shared[spec.names.embed + ".weight"] = target.names.embed + ".weight";
  }
  if (!HasWeight(checkpoint, spec.names.head)) {
    shared[spec.names.head + ".weight"] =
        (target.tied_head ? target.names.embed : target.names.head) + ".weight";
  }
  return shared;
}

Result<std::unique_ptr<LanguageModel>> LoadEagle(const DraftHeadFolders& folders,
                                                 kernels::Operators& operators,
                                                 const LoadOptions& options) {
  PX_TRY(const Target target, OpenTarget(folders.target));
  PX_TRY(const CheckpointFolder folder, CheckpointFolder::Open(folders.eagle));
  ModelConfig config;
  PX_TRY(config.text, folder.ReadText("config.json", kConfigSizeMax));
  PX_TRY(const wire::Json json, ParseConfigJson(config.text, folders.eagle + "/config.json"));
  PX_TRY(config.decoder, DescribeEagle(ConfigReader(json, folders.eagle + "/config.json")));
  DecoderSpec& spec = config.decoder;
  const DecoderSpec& of = target.config.decoder;
  if (spec.hidden_size != of.hidden_size || spec.vocab_size != of.vocab_size) {
    return Fail(Code::kInvalidArgument,
                fmt::format("draft-model: {} reads states of {} and guesses among {} tokens, the "
                            "model gives states of {} and has {} tokens",
                            folders.eagle, spec.hidden_size, spec.vocab_size, of.hidden_size,
                            of.vocab_size),
                "draft-model");
  }
  PX_TRY(const Checkpoint checkpoint, Checkpoint::Open(folder));
  auto shared = ResolveEagle(checkpoint, of, spec);
  spec.embed_scale = of.embed_scale;
  std::vector<ExpectedTensor> expected = ExpectedTensors(spec);
  std::erase_if(expected,
                [&](const ExpectedTensor& tensor) { return shared.contains(tensor.name); });
  std::vector<std::string> harmless;
  for (std::size_t layer = 0; layer < spec.layers.size(); ++layer) {
    for (const std::string& pattern : spec.names.harmless) {
      harmless.push_back(LayerName(pattern, layer));
    }
  }
  PX_CHECK_OK(CheckTensors(expected, harmless, spec.architecture, checkpoint));
  PX_TRY(ModelSpec model_spec, MakeModelSpec(config, checkpoint));
  SharedWeights weights(MakeCheckpointWeights(checkpoint, {}),
                        MakeCheckpointWeights(target.checkpoint, of.quantization),
                        std::move(shared));
  return Decoder::Create(std::move(spec), std::move(model_spec), weights, operators, options);
}

}  // namespace

Result<std::unique_ptr<LanguageModel>> LoadDraftHead(const DraftHeadFolders& folders,
                                                     kernels::Operators& operators,
                                                     const LoadOptions& options) {
  return folders.eagle.empty() ? LoadPredictionLayer(folders.target, operators, options)
                               : LoadEagle(folders, operators, options);
}

}  // namespace pixii::model
