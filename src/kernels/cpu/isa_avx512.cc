// The kernels in AVX-512 F, BW, DQ and VL. Compiled with those flags: see kernel_table.h for what
// may be included here.
#include "kernels/cpu/simd_avx512.h"
// clang-format off: each of these needs the ones before it
#include "kernels/cpu/simd_math.h"
#include "kernels/cpu/simd_rows.h"
#include "kernels/cpu/simd_gemm.h"
#include "kernels/cpu/simd_attention.h"
#include "kernels/cpu/simd_roof.h"
// clang-format on

namespace pixii::kernels {
namespace {

constexpr KernelTable kTable = {
    .k_align = 2,
    .linear_scratch_bytes = LinearScratchBytes,
    .linear = LinearFma,
    .rms_norm = RmsNorm,
    .rotary = Rotary,
    .add = Add,
    .activation_mul = ActivationMul,
    .embed = Embed,
    .store_kv = StoreKv,
    .attention_scratch_bytes = AttentionScratchBytes,
    .attention = Attention,
    .attention_join = AttentionJoin,
    .read_stream = ReadStream,
    .multiply_adds_f32 = MultiplyAdds,
    .multiply_adds_bf16 = MultiplyAdds,
};

}  // namespace

const KernelTable& Avx512Kernels() { return kTable; }

}  // namespace pixii::kernels
