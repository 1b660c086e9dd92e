// The kernels in NEON, which every 64-bit ARM processor has. Compiled without flags: see
// kernel_table.h for what may be included here.
#include "kernels/cpu/simd_neon.h"
// clang-format off: each of these needs the ones before it
#include "kernels/cpu/simd_math.h"
#include "kernels/cpu/simd_rows.h"
#include "kernels/cpu/simd_lora.h"
#include "kernels/cpu/simd_gemm.h"
#include "kernels/cpu/simd_blocked.h"
#include "kernels/cpu/simd_convolution.h"
#include "kernels/cpu/simd_int_neon.h"
#include "kernels/cpu/simd_int_widened.h"
#include "kernels/cpu/simd_integer.h"
#include "kernels/cpu/simd_pack.h"
#include "kernels/cpu/simd_attention.h"
#include "kernels/cpu/simd_roof.h"
#include "kernels/cpu/simd_table.h"
// clang-format on

namespace pixii::kernels {
namespace {

constexpr KernelTable kTable = MakeKernelTable();

}  // namespace

const KernelTable& NeonKernels() { return kTable; }

}  // namespace pixii::kernels
