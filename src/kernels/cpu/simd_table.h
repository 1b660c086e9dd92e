// The table that every instruction set offers; an isa file overrides what it does otherwise.
// Private to the isa files: in an anonymous namespace, because each compiles it with its own flags.
#pragma once

#include "kernels/cpu/kernel_table.h"

namespace pixii::kernels {
namespace {

constexpr KernelTable MakeKernelTable() {
  return {
      .k_align = 2,
      .pack_words = PackWords,
      .round_row = RoundRow,
      .linear = {.scratch_bytes = LinearScratchBytes,
                 .input_bytes = FmaInputBytes,
                 .row_blocks = BlockedRowBlocks,
                 .pack = PackBlocks<FmaUnits>,
                 .run = LinearFma,
                 .multiply_adds = MultiplyAdds},
      .integers = MakeIntegerKernels(),
      .rms_norm = RmsNorm,
      .layer_norm = LayerNorm,
      .scale_columns = ScaleColumns,
      .rotary = Rotary,
      .add = Add,
      .activation_mul = ActivationMul,
      .activate = Activate,
      .embed = Embed,
      .store_kv = StoreKv,
      .lora = Lora,
      .convolve = Convolve,
      .attention_scratch_bytes = AttentionScratchBytes,
      .attention = Attention,
      .attention_rounds = AttentionRounds,
      .attention_join = AttentionJoin,
      .read_stream = ReadStream,
      .multiply_adds_f32 = MultiplyAdds,
  };
}

}  // namespace
}  // namespace pixii::kernels
