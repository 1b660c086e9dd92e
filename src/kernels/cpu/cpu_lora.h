// A low-rank pair as the CPU kernels read it: bf16 where both halves are, else fp32.
//
// Thread: made once, then read by all workers.
#pragma once

#include <memory>

#include "base/result.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/operators.h"

namespace pixii::kernels {

class CpuLora final : public LoraWeight {
 public:
  /// Pre: CheckLoraParts passed. Errors: kResourceExhausted.
  static Result<std::unique_ptr<LoraWeight>> Pack(const WeightPart& down, const WeightPart& up,
                                                  float scale);

  CpuLora(std::int64_t in_features, std::int64_t out_features, std::int64_t rank)
      : LoraWeight(in_features, out_features, rank) {}

  const LoraView& view() const { return view_; }

 private:
  LoraView view_;
  Buffer buffer_;
};

}  // namespace pixii::kernels
