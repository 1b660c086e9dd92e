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
#include "model/model_cut.h"
#include "model/weights.h"

namespace pixii::model {

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
  const SumCut* sum = nullptr;      // of a row-parallel linear: what this rank has of K
  std::vector<RowRange> rows = {};  // what this rank computes of each size; empty: all
};

class WeightLoader final {
 public:
  /// All outlive the loader; `adapters` learns of every linear, `vectors` keeps what Vector makes.
  WeightLoader(Weights& weights, kernels::Operators& operators, AdapterSlots& adapters,
               kernels::ComputeType compute, std::vector<kernels::Buffer>& vectors,
               const ModelCut& cut)
      : weights_(weights),
        operators_(operators),
        adapters_(adapters),
        compute_(compute),
        vectors_(vectors),
        cut_(cut) {}

  Weights& weights() { return weights_; }

  kernels::Operators& operators() { return operators_; }

  AdapterSlots& adapters() { return adapters_; }

  /// What this rank holds; outlives what is loaded.
  const ModelCut& cut() const { return cut_; }

  /// Whether what is asked for from now on is this rank's to hold. If not, adapters still learn of
  /// linears, so that all ranks know the same ones, but nothing is read and results are empty.
  void SetHeld(bool held) { held_ = held; }

  bool held() const { return held_; }

  Result<AdaptedLinear> Linear(const LinearRequest& request) { return Linear(request, compute_); }

  /// One expert's, whose outputs adapters change at `sites`: those of all experts.
  Result<std::unique_ptr<kernels::LinearWeight>> ExpertLinear(const LinearRequest& request,
                                                              const AdapterSites& sites,
                                                              std::int32_t expert);

  /// Routers: a rounded score could choose another expert, so they multiply in fp32.
  Result<AdaptedLinear> ExactLinear(const LinearRequest& request) {
    return Linear(request, kernels::ComputeType::kF32);
  }

  /// `parts` stacked, of which adapters know nothing; what they borrow is released. `options` say
  /// what of them; what to compute in is the loader's.
  Result<std::unique_ptr<kernels::LinearWeight>> Stacked(std::span<const kernels::WeightPart> parts,
                                                         kernels::LinearOptions options = {});

  /// Tensor `name` of [size] in the backend's memory.
  Result<std::span<const float>> Vector(const std::string& name, std::int64_t size);

  /// The norm named by `pattern`, without ".weight"; empty if the pattern is.
  Result<std::span<const float>> Norm(const std::string& pattern, std::size_t layer,
                                      std::int64_t size);

 private:
  /// A weight whose sites are not known yet; `linears` become what it is made of.
  Result<AdaptedLinear> Prepare(const LinearRequest& request, kernels::ComputeType compute,
                                std::vector<LinearRows>& linears);
  Result<AdaptedLinear> Linear(const LinearRequest& request, kernels::ComputeType compute);

  Weights& weights_;
  kernels::Operators& operators_;
  AdapterSlots& adapters_;
  kernels::ComputeType compute_;
  std::vector<kernels::Buffer>& vectors_;
  const ModelCut& cut_;
  bool held_ = true;
};

/// The options by which a rank's part of a sum is prepared.
kernels::LinearOptions SumOptions(const SumCut& cut);

}  // namespace pixii::model
