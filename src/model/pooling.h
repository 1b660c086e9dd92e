// From the hidden states of a text's tokens to its vector: pooling, dense layers, normalisation.
//
// Thread: immutable after Create; a State belongs to one text. Source: sentence-transformers'
// modules Pooling, Dense and Normalize (facts only). Numerics: sums over tokens are in fp64 in
// order of the text, so neither chunks nor the batch change a bit.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace pixii::model {

/// Several at once are put side by side in this order.
enum class PoolMode : std::uint8_t {
  kCls,  // the first token
  kMax,
  kMean,
  kMeanSqrtLen,   // sum over the root of the count
  kWeightedMean,  // the i-th token, from 1, counts i times
  kLastToken,
};

/// Rows of a text that are wanted.
enum class PoolRows : std::uint8_t { kFirst, kLast, kAll };

enum class PoolActivation : std::uint8_t { kIdentity, kTanh, kRelu, kGelu, kSigmoid };

/// What happens to the pooled vector, in order.
struct PoolStage {
  bool normalize = false;  // to length 1; else a dense layer
  std::int32_t in_features = 0;
  std::int32_t out_features = 0;
  std::vector<float> weight = {};  // [out_features, in_features]
  std::vector<float> bias = {};    // [out_features] or empty
  PoolActivation activation = PoolActivation::kTanh;
};

struct PoolingSpec {
  std::vector<PoolMode> modes = {PoolMode::kMean};  // at least one, ascending
  /// False: the tokens of an instruction in front of the text are not pooled; whoever makes the
  /// request says how many they are.
  bool include_prompt = true;
  std::vector<PoolStage> stages = {};
};

class Pooler final {
 public:
  /// Errors: kInvalidArgument if a stage does not take what the one before gives.
  static Result<Pooler> Create(PoolingSpec spec, std::int32_t hidden_size);

  struct State {
    std::vector<double> sum = {};
    std::vector<double> weighted = {};
    std::vector<float> max = {};
    std::vector<float> first = {};
    std::vector<float> last = {};
    std::uint32_t count = 0;    // of rows
    std::uint32_t skipped = 0;  // tokens in front that are not pooled; they count as places
  };

  const PoolingSpec& spec() const { return spec_; }

  PoolRows rows() const { return rows_; }

  /// Floats of a vector.
  std::int32_t features() const { return features_; }

  /// The next wanted row, [hidden_size], in order of the text.
  void Add(std::span<const float> row, State& state) const;

  /// The text's vector [features]. Pre: at least one row was added.
  std::vector<float> Finish(const State& state) const;

 private:
  Pooler() = default;

  bool Has(PoolMode mode) const;

  PoolingSpec spec_;
  PoolRows rows_ = PoolRows::kAll;
  std::int32_t hidden_size_ = 0;
  std::int32_t features_ = 0;
};

}  // namespace pixii::model
