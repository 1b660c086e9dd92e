// Adapters of diffusion models (LoRA), added to the weights while these are read.
//
// A file holds pairs: down [rank, in], up [out, rank]; a linear's weight becomes
// weight + sum over the files of scale * alpha / rank * up * down, in fp32.
//
// Thread: one caller, while a pipeline is loaded. The files are hostile until Open has succeeded.
// Source: names as diffusers, PEFT, the original Wan repository and kohya's scripts write them.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/checkpoint.h"

namespace pixii::model {

inline constexpr std::size_t kLoraFilesMax = 64;
inline constexpr std::int64_t kMergedRankMax = 4096;

struct LoraFile {
  /// A safetensors file, or a folder with adapter_model.safetensors or
  /// pytorch_lora_weights.safetensors.
  std::string path;
  double scale = 1.0;
};

/// "FILE" or "FILE=0.5". Errors: kInvalidArgument naming the flag's value.
Result<LoraFile> ParseLoraFile(std::string_view text);

class LoraMerger final {
 public:
  /// Errors: kNotFound, kDataCorrupt (broken file, half a pair), kUnsupported naming a key that is
  /// no half of a pair (DoRA, differences, biases).
  static Result<LoraMerger> Open(std::span<const LoraFile> files);

  /// Whether an adapter has something for linear `name` ("blocks.0.attn1.to_q") of `part`
  /// ("transformer").
  bool Changes(std::string_view part, std::string_view name) const;

  struct Shape {
    std::int64_t rows = 0;
    std::int64_t cols = 0;
  };

  /// Adds to `values` [rows, cols] of that linear. Errors: kDataCorrupt naming a key whose shape
  /// does not fit, or that holds a value that is not finite.
  Result<void> Merge(std::string_view part, std::string_view name, const Shape& shape,
                     std::span<float> values);

  /// Errors: kUnsupported naming a key that changed nothing.
  Result<void> CheckAllUsed() const;

 private:
  struct Pair {
    std::size_t file = 0;
    const CheckpointTensor* down = nullptr;
    const CheckpointTensor* up = nullptr;
    float alpha = 0.0F;
    bool has_alpha = false;
    bool used = false;
  };

  struct File {
    std::string path;
    Checkpoint tensors;
    double scale = 1.0;
    double alpha = 0.0;    // of pairs that do not say; 0: their rank
    bool by_root = false;  // divided by the rank's square root (rsLoRA)
  };

  Result<void> AddFile(const LoraFile& file);
  Result<void> AddTensor(std::size_t file, const CheckpointTensor& tensor);
  Result<void> CheckPairs() const;
  Result<std::vector<float>> Values(const File& file, const CheckpointTensor& tensor) const;

  std::vector<File> files_;
  /// By the module's name as the file has it, without "base_model.model.".
  std::map<std::string, std::vector<Pair>, std::less<>> pairs_;
};

}  // namespace pixii::model
