// Turns a checkpoint's tensors into prepared weights of one backend: what every block of a model
// loads by.
//
// Thread: one caller, while a model is made.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "kernels/operators.h"
#include "model/adapted_linear.h"
#include "model/decoder_spec.h"
#include "model/weights.h"

namespace pixii::model {

/// Row-parallel projections sum K in this many shards, so that 1, 2, 4 and 8 devices give the same
/// bits.
inline constexpr std::int32_t kRowParallelShards = 8;

/// A block's piece of the step's scratch memory.
struct Scratch {
  float* data = nullptr;

  kernels::Matrix At(std::int64_t offset, std::int64_t rows, std::int64_t cols) const {
    return {data + offset, kernels::DType::kF32, rows, cols, cols};
  }
};

struct LinearRequest {
  const LinearNames& names;
  std::size_t layer = 0;
  std::vector<std::int64_t> sizes;  // rows of each part
  std::int64_t cols = 0;
  std::int32_t k_shards = 1;
};

class WeightLoader final {
 public:
  /// All outlive the loader; `adapters` learns of every linear, `vectors` keeps what Vector makes.
  WeightLoader(Weights& weights, kernels::Operators& operators, AdapterSlots& adapters,
               kernels::ComputeType compute, std::vector<kernels::Buffer>& vectors)
      : weights_(weights),
        operators_(operators),
        adapters_(adapters),
        compute_(compute),
        vectors_(vectors) {}

  Weights& weights() { return weights_; }

  kernels::Operators& operators() { return operators_; }

  AdapterSlots& adapters() { return adapters_; }

  Result<AdaptedLinear> Linear(const LinearRequest& request) { return Linear(request, compute_); }

  /// One expert's, whose outputs adapters change at `sites`: those of all experts.
  Result<std::unique_ptr<kernels::LinearWeight>> ExpertLinear(const LinearRequest& request,
                                                              const AdapterSites& sites,
                                                              std::int32_t expert);

  /// Routers: a rounded score could choose another expert, so they multiply in fp32.
  Result<AdaptedLinear> ExactLinear(const LinearRequest& request) {
    return Linear(request, kernels::ComputeType::kF32);
  }

  /// `parts` stacked, of which adapters know nothing; what they borrow is released.
  Result<std::unique_ptr<kernels::LinearWeight>> Stacked(std::span<const kernels::WeightPart> parts,
                                                         std::int32_t k_shards);

  /// Tensor `name` of [size] in the backend's memory.
  Result<std::span<const float>> Vector(const std::string& name, std::int64_t size);

  /// The norm named by `pattern`, without ".weight"; empty if the pattern is.
  Result<std::span<const float>> Norm(const std::string& pattern, std::size_t layer,
                                      std::int64_t size);

 private:
  /// Appends the names of the parts to `linears`.
  Result<std::unique_ptr<kernels::LinearWeight>> Prepare(const LinearRequest& request,
                                                         kernels::ComputeType compute,
                                                         std::vector<AdaptableLinear>& linears);
  Result<AdaptedLinear> Linear(const LinearRequest& request, kernels::ComputeType compute);

  Weights& weights_;
  kernels::Operators& operators_;
  AdapterSlots& adapters_;
  kernels::ComputeType compute_;
  std::vector<kernels::Buffer>& vectors_;
};

}  // namespace pixii::model
