// The kernels in AVX-512 with BF16 and AMX tiles. Compiled with those flags: see kernel_table.h for
// what may be included here.
#include "kernels/cpu/simd_avx512.h"
// clang-format off: each of these needs the ones before it
#include "kernels/cpu/simd_math.h"
#include "kernels/cpu/simd_rows.h"
#include "kernels/cpu/simd_lora.h"
#include "kernels/cpu/simd_gemm.h"
#include "kernels/cpu/simd_blocked.h"
#include "kernels/cpu/simd_convolution.h"
#include "kernels/cpu/simd_int_avx512.h"
#include "kernels/cpu/simd_int_vnni.h"
#include "kernels/cpu/simd_integer.h"
#include "kernels/cpu/simd_pack.h"
#include "kernels/cpu/simd_attention.h"
#include "kernels/cpu/simd_roof.h"
#include "kernels/cpu/simd_amx.h"
#include "kernels/cpu/simd_amx_attention.h"
#include "kernels/cpu/simd_table.h"
// clang-format on

namespace pixii::kernels {
namespace {

constexpr KernelTable MakeTable() {
  KernelTable table = MakeKernelTable();
  table.k_align = 32;
  table.linear.input_bytes = AmxInputBytes;
  table.linear.scratch_bytes = AmxScratchBytes;
  table.linear.row_blocks = AmxRowBlocks;
  table.linear.pack = PackAmx;
  table.linear.run = LinearAmx;
  table.linear.multiply_adds = MultiplyAddsAmx;
  table.attention_scratch_bytes = AmxAttentionScratchBytes;
  table.attention = AmxAttention;
  table.attention_rounds = UsesAmxAttention;
  return table;
}

constexpr KernelTable kTable = MakeTable();

}  // namespace

const KernelTable& AmxKernels() { return kTable; }

}  // namespace pixii::kernels
