// What instruction sets this host's processor and kernel let us use.
//
// Thread: pure reads of CPUID, of the auxiliary vector on ARM; RequestAmx changes the process once.
// Source: Intel SDM volume 1 sections 14.3, 15.2 and volume 2 CPUID leaves 1, 7.0, 7.1, 0xD; Linux
// Documentation/x86/xstate.rst, Documentation/arch/arm64/elf_hwcaps.rst and
// cpu-feature-registers.rst.
#pragma once

#include <cstdint>
#include <string>

namespace pixii::kernels {

struct CpuFeatures {
  bool avx2 = false;    // with FMA and F16C
  bool avx512 = false;  // F, BW, DQ, VL
  bool avx512_vnni = false;
  bool avx512_bf16 = false;
  bool amx_bf16 = false;  // processor and kernel have it; a process must still ask
  bool amx_int8 = false;
  bool neon = false;
  bool neon_i8mm = false;
};

CpuFeatures DetectCpuFeatures();

/// Asks the kernel for the tile registers, for all threads of this process made later. False if it
/// refuses.
bool RequestAmx();

/// "Intel(R) Xeon(R) Processor @ 2.50GHz", from CPUID leaves 0x80000002 to 4; on ARM from MIDR_EL1.
std::string CpuModelName();

}  // namespace pixii::kernels
