// The kernels in AVX-512 with BF16. Compiled with those flags: see kernel_table.h for what
// may be included here.
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
#include "kernels/cpu/simd_dot.h"
#include "kernels/cpu/simd_table.h"
// clang-format on

namespace pixii::kernels {
namespace {

constexpr KernelTable MakeTable() {
  KernelTable table = MakeKernelTable();
  table.linear.input_bytes = DotInputBytes;
  table.linear.pack = PackDot;
  table.linear.run = LinearDot;
  table.linear.multiply_adds = MultiplyAddsDot;
  return table;
}

constexpr KernelTable kTable = MakeTable();

}  // namespace

const KernelTable& Avx512Bf16Kernels() { return kTable; }

}  // namespace pixii::kernels
