// What a run steps through, whatever the family: lanes that know their texts and pictures, and one
// pass after another through a transformer's blocks.
//
// Thread: one caller, that of the pipeline. Lanes are requests with their prompts, then, of guided
// runs, the same without them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "kernels/tensor.h"
#include "model/diffusion/rows.h"

namespace pixii::model {

/// One pass through a transformer on its way through the blocks. Its memory is its own, so that
/// others may run between two blocks.
struct DenoisePass {
  /// Before the blocks: remembers what they begin with.
  void KeepBegin();
  /// Behind the blocks: what they added in all becomes `residual`.
  void KeepChange();
  /// In place of the blocks: they add what they added when they ran last.
  void Reuse(std::int32_t block_count);

  std::int32_t lanes = 0;
  std::int32_t next_block = 0;
  std::vector<float> time;  // [lanes, dim] embedding of each timestep
  RowMemory rows_memory;
  RowMemory delta_memory;
  kernels::Matrix rows;   // [lanes * tokens, dim] residual stream
  kernels::Matrix delta;  // what the last block adds to it
  RowMemory residual_memory;
  kernels::Matrix residual;  // of runs that reuse steps
};

class DenoiseLanes {
 public:
  virtual ~DenoiseLanes() = default;

  /// Whether Condition has nothing left to do.
  virtual bool ready() const = 0;

  /// Does the next piece of what is computed once: the texts, a picture's features, or one latent
  /// frame of what a video begins with. Pre: !ready(). Errors: those of the encoders.
  virtual Result<void> Condition() = 0;

  /// Begins a pass over `latents` [lanes, channels, volume]. Pre: ready().
  virtual Result<void> Begin(std::span<const float> latents, float timestep) = 0;

  /// Blocks of this pass that ran.
  virtual std::int32_t next_block() const = 0;

  /// Runs the next block. Errors: kResourceExhausted.
  virtual Result<void> RunBlock() = 0;

  /// Writes velocities, as large as the latents. Pre: the blocks ran, or were reused.
  virtual Result<void> Finish(std::span<float> velocity) = 0;

  // For runs that reuse steps.

  /// Embedding of the timestep, which all lanes have, [dim]. Pre: a pass began.
  virtual std::span<const float> time() const = 0;

  virtual void KeepBegin() = 0;
  virtual void KeepChange() = 0;
  virtual void Reuse() = 0;
};

/// Lanes with a single pass of kind Pass, derived from DenoisePass.
template <class Pass>
class OnePassLanes : public DenoiseLanes {
 public:
  explicit OnePassLanes(std::int32_t block_count) : block_count_(block_count) {}

  std::int32_t next_block() const final { return pass_.next_block; }

  std::span<const float> time() const final {
    return std::span(pass_.time).first(static_cast<std::size_t>(pass_.rows.cols));
  }

  void KeepBegin() final { pass_.KeepBegin(); }

  void KeepChange() final { pass_.KeepChange(); }

  void Reuse() final { pass_.Reuse(block_count_); }

 protected:
  Pass pass_;

 private:
  std::int32_t block_count_;
};

}  // namespace pixii::model
