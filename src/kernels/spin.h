// What a loop does between two looks at memory that another core will write.
//
// Thread: any.
#pragma once

namespace pixii::kernels {

inline void SpinPause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  asm volatile("yield");
#endif
}

}  // namespace pixii::kernels
