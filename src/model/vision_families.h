// The vision-language families this build runs: from config.json to a decoder and a tower.
//
// Thread: pure functions. Both config dialects are read: `text_config` beside `vision_config`, and
// text keys at the top; token ids by either name.
#pragma once

#include <string>
#include <utility>

#include "base/result.h"
#include "model/config_reader.h"
#include "model/decoder_spec.h"
#include "model/vision_spec.h"

namespace pixii::model {

struct VisionLanguageSpec {
  DecoderSpec decoder;
  VisionSpec vision;
};

/// Whether the config names such a model: by `architectures`, else by `model_type`.
Result<bool> IsVisionLanguage(const ConfigReader& config);

/// Pre: IsVisionLanguage. Errors: kUnsupported naming key and value of what cannot be run exactly;
/// kInvalidArgument for values out of range.
Result<VisionLanguageSpec> DescribeVisionLanguage(const ConfigReader& config);

/// "LlavaForConditionalGeneration, …": for refusals.
std::string VisionLanguageArchitectures();

/// Puts before the decoder's names the prefix that `checkpoint` uses.
void ResolveTextNames(const Checkpoint& checkpoint, DecoderSpec& decoder);

// One function a family, each reading `vision_config` into spec.vision; spec.decoder is set.
Result<void> DescribeLlavaVision(const ConfigReader& config, VisionLanguageSpec& spec);
Result<void> DescribeLlavaNextVision(const ConfigReader& config, VisionLanguageSpec& spec);
Result<void> DescribeOneVision(const ConfigReader& config, VisionLanguageSpec& spec);
Result<void> DescribeGemma3Vision(const ConfigReader& config, VisionLanguageSpec& spec);
Result<void> DescribeQwen2Vision(const ConfigReader& config, VisionLanguageSpec& spec);
Result<void> DescribeQwen25Vision(const ConfigReader& config, VisionLanguageSpec& spec);
Result<void> DescribeQwen3Vision(const ConfigReader& config, VisionLanguageSpec& spec);

/// CLIPVisionModel by itself, whose last hidden states but one are the features. `config` is its
/// own.
Result<VisionSpec> DescribeClipTower(const ConfigReader& config);

/// Sizes and names of a CLIP tower, else a SigLIP one, as their classes' defaults complete them.
Result<void> ReadClipTower(const ConfigReader& vision, bool clip, VisionSpec& spec);

/// A tower's activation by the name that configs have for it.
Result<kernels::Activation> ReadVisionActivation(const ConfigReader& config, std::string_view key,
                                                 std::string fallback);

/// An integer of [1, max].
Result<std::int32_t> ReadVisionSize(const ConfigReader& config, std::string_view key,
                                    std::int64_t max, std::optional<std::int64_t> fallback = {});

/// Checks that heads divide the width into even parts that attention takes.
Result<void> CheckVisionHeads(const ConfigReader& config, std::string_view key,
                              const VisionSpec& spec);

}  // namespace pixii::model
