// The kernels in AVX-512 with VNNI: those of AVX-512, but for linears of integer codes. Compiled
// with those flags: see kernel_table.h for what may be included here.
#include "kernels/cpu/simd_avx512.h"
// clang-format off: each of these needs the ones before it
#include "kernels/cpu/simd_math.h"
#include "kernels/cpu/simd_int_avx512.h"
#include "kernels/cpu/simd_int_vnni.h"
#include "kernels/cpu/simd_integer.h"
// clang-format on

namespace pixii::kernels {

const KernelTable& Avx512VnniKernels() {
  static const KernelTable table = [] {
    KernelTable out = Avx512Kernels();
    out.integers = MakeIntegerKernels();
    return out;
  }();
  return table;
}

}  // namespace pixii::kernels
