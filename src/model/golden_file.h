// Golden files of a model folder: prompts, logits, hidden layers and greedy tokens of a reference
// implementation.
//
// Thread: values; tensors point into the Golden's own map.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/checkpoint.h"

namespace pixii::model {

inline constexpr std::uint64_t kGoldenJsonSizeMax = std::uint64_t{16}
                                                    << 20;  // bytes of golden.json

struct GreedyGolden {
  std::string name;  // "greedy.p7"
  std::vector<std::int32_t> prompt;
  std::vector<std::int32_t> tokens;  // what arg max gave, in order
  std::vector<double> margins;       // best minus second at each token; empty if not recorded
};

/// What a vision tower made of a prompt's pictures.
struct VisionGolden {
  std::vector<std::string> images;      // file names
  std::span<const float> pixels;        // patches, or [pictures, 3, side, side]
  std::span<const float> features;      // [placeholders, hidden_size]
  std::vector<std::int32_t> grids;      // [pictures, 3] frames, rows, columns of patches, or empty
  std::vector<std::int32_t> positions;  // [prompt, 3], or empty
};

struct LogitsGolden {
  std::string name;  // "p33"
  std::vector<std::int32_t> prompt;
  std::vector<std::int32_t> token_types;  // [prompt] or empty
  /// [rows, vocab]: the last rows of the prompt; or [1, features]: its vector or class logits.
  std::span<const float> logits;
  std::vector<std::span<const float>> hidden;  // [prompt, hidden_size] each; empty if not recorded
  std::optional<VisionGolden> vision;          // of a prompt with pictures
};

struct Golden {
  Checkpoint tensors;
  std::vector<LogitsGolden> logits;
  std::vector<GreedyGolden> greedy;
};

/// What the model gives.
struct GoldenSizes {
  std::int32_t vocab_size = 0;
  std::int32_t hidden_size = 0;
  std::string result = "logits";  // or "pooled", "classes": the tensor NAME.result
  std::int32_t result_size = 0;   // its columns
  std::int32_t context_tokens_max = 0;
};

/// Reads golden.json and golden.safetensors, either form. Errors: kNotFound, kDataCorrupt naming
/// file and key.
Result<Golden> LoadGolden(const CheckpointFolder& folder, const GoldenSizes& sizes);

}  // namespace pixii::model
