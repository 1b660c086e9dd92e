// Weights' rows to panels: a transposition of 32-bit words, each one fp32 or a pair of bf16.
//
// Include after one simd_*.h. Anonymous for the reason in kernel_table.h.
#pragma once

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

inline void PackWords(const PackWordsCall& call) {
  for (Index word = 0; word < call.words; word += 16) {
    const Index count = call.words - word < 16 ? call.words - word : 16;
    for (Index first = 0; first < call.row_count; first += 16) {
      Vec lines[16];
#pragma clang loop unroll(full)
      for (Index r = 0; r < 16; ++r) {
        if (first + r >= call.row_count) {
          lines[r] = Vec::Zero();
          continue;
        }
        // Mapped files need not align their tensors: these loads need no alignment.
        const auto* at = reinterpret_cast<const float*>(call.rows[first + r]) + word;
        Prefetch(at + 64);
        lines[r] = Vec::LoadPart(at, count);
      }
      Transpose(lines);
      float* out = static_cast<float*>(call.out) + word * call.outputs + first;
#pragma clang loop unroll(full)
      for (Index i = 0; i < 16; ++i) {
        if (i < count) {
          lines[i].Store(out + i * call.outputs);
        }
      }
    }
  }
}

inline void RoundRow(const float* in, Index count, std::uint16_t* out) {
  for (Index i = 0; i < count; i += 16) {
    Vec::LoadPart(in + i, count - i).StoreBf16(out + i, count - i);
  }
}

}  // namespace
}  // namespace pixii::kernels
