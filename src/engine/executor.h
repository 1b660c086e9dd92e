// What the engine runs a step on: a real model on a device, or a mock with the same shape.
//
// Thread: the engine thread.
#pragma once

#include <cstdint>
#include <span>

#include "base/result.h"
#include "kernels/step.h"

namespace pixii::engine {

struct ExecutorLimits {
  std::uint32_t vocab_size = 0;
  std::uint32_t context_tokens_max = 0;
  std::uint32_t block_tokens = 0;
  std::uint32_t block_count = 0;
  std::uint32_t step_tokens_max = 0;
  std::uint32_t step_logit_rows_max = 0;
};

class StepExecutor {
 public:
  virtual ~StepExecutor() = default;
  virtual ExecutorLimits limits() const = 0;
  /// Runs the step; logits fp32 [R, vocab_size]. Errors: kModelFault; the batch's own slots are
  /// then undefined.
  virtual Result<void> Execute(const kernels::StepBatch& batch, std::span<float> logits) = 0;

  /// Nanoseconds of virtual time that the last Execute took; 0 for an executor that takes real
  /// time.
  virtual std::int64_t virtual_time_ns() const { return 0; }
};

}  // namespace pixii::engine
