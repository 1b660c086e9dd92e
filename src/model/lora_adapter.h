// A LoRA adapter as PEFT writes it: adapter_config.json and adapter_model.safetensors, checked
// against the linears of a model. docs/formats/lora_adapter.md
//
// Thread: immutable after Open; owns its bytes. The files are hostile until Open has succeeded.
// Source: PEFT's LoraConfig (keys, defaults, scale = lora_alpha / r, or / sqrt(r) with use_rslora).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kernels/operators.h"
#include "model/checkpoint_folder.h"

namespace pixii::model {

/// A linear of a model that an adapter may change: one part of what may be a stacked weight.
struct AdaptableLinear {
  std::string name;  // as the checkpoint names it, without ".weight"
  std::int64_t in_features = 0;
  std::int64_t out_features = 0;
};

struct LoraLimits {
  std::int32_t rank_max = kernels::kLoraRankMax;          // 1 .. kLoraRankMax
  std::uint64_t size_bytes_max = std::uint64_t{4} << 30;  // of adapter_model.safetensors
};

/// down [rank, in_features], up [out_features, rank] in host memory of the adapter.
struct LoraPair {
  std::size_t linear = 0;  // index into the model's adaptable linears
  kernels::WeightPart down;
  kernels::WeightPart up;
  float scale = 1.0F;
};

class LoraAdapter final {
 public:
  /// Errors: kNotFound (no such files), kDataCorrupt (broken file, wrong shape, a half without the
  /// other), kUnsupported naming key, tensor and reason (embeddings, DoRA, biases, …).
  static Result<LoraAdapter> Open(const CheckpointFolder& folder,
                                  std::span<const AdaptableLinear> linears,
                                  const LoraLimits& limits);

  /// The same from the contents of the two files.
  static Result<LoraAdapter> Parse(std::string_view config_text, std::string_view weights,
                                   std::span<const AdaptableLinear> linears,
                                   const LoraLimits& limits);

  /// Whether Open would succeed, as far as that can be said without reading the weights: only the
  /// values are not looked at. Errors: as Open, kTooLarge.
  static Result<void> Check(const CheckpointFolder& folder,
                            std::span<const AdaptableLinear> linears, const LoraLimits& limits);

  /// At most one for each linear, in ascending order.
  std::span<const LoraPair> pairs() const { return pairs_; }

  std::int32_t rank_max() const { return rank_max_; }

  std::uint64_t size_bytes() const { return size_bytes_; }

  /// SHA-256 of both files: the version that KV blocks are told apart by.
  const std::string& fingerprint() const { return fingerprint_; }

 private:
  std::vector<std::vector<std::byte>> tensors_;  // what pairs_ point into
  std::vector<LoraPair> pairs_;
  std::int32_t rank_max_ = 0;
  std::uint64_t size_bytes_ = 0;
  std::string fingerprint_;
};

}  // namespace pixii::model
