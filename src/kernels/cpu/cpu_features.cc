#include "kernels/cpu/cpu_features.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstring>

namespace pixii::kernels {
namespace {

// Bits of XCR0: which register files the kernel saves.
constexpr std::uint64_t kXcr0Avx = 0x6;      // SSE, AVX
constexpr std::uint64_t kXcr0Avx512 = 0xE6;  // and opmask, upper halves, upper registers
constexpr std::uint64_t kXcr0Amx = 0x60000;  // tile configuration, tile data
constexpr long kArchReqXcompPerm = 0x1023;   // ARCH_REQ_XCOMP_PERM
constexpr unsigned long kXfeatureTileData = 18;

struct CpuidLeaf {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
};

CpuidLeaf Cpuid(unsigned leaf, unsigned subleaf) {
  CpuidLeaf out;
  if (__get_cpuid_count(leaf, subleaf, &out.eax, &out.ebx, &out.ecx, &out.edx) == 0) {
    return {};
  }
  return out;
}

bool Bit(unsigned word, int bit) { return ((word >> bit) & 1U) != 0; }

std::uint64_t ReadXcr0() {
  unsigned low = 0;
  unsigned high = 0;
  asm("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (std::uint64_t{high} << 32U) | low;
}

bool HasAll(std::uint64_t value, std::uint64_t mask) { return (value & mask) == mask; }

}  // namespace

CpuFeatures DetectCpuFeatures() {
  CpuFeatures out;
  const CpuidLeaf basic = Cpuid(1, 0);
  if (!Bit(basic.ecx, 27)) {  // OSXSAVE
    return out;
  }
  const std::uint64_t xcr0 = ReadXcr0();
  const CpuidLeaf extended = Cpuid(7, 0);
  const CpuidLeaf extended1 = extended.eax >= 1 ? Cpuid(7, 1) : CpuidLeaf{};
  out.avx2 = HasAll(xcr0, kXcr0Avx) && Bit(basic.ecx, 12) && Bit(basic.ecx, 28) &&
             Bit(basic.ecx, 29) && Bit(extended.ebx, 5);
  out.avx512 = out.avx2 && HasAll(xcr0, kXcr0Avx512) && Bit(extended.ebx, 16) &&
               Bit(extended.ebx, 17) && Bit(extended.ebx, 30) && Bit(extended.ebx, 31);
  out.avx512_vnni = out.avx512 && Bit(extended.ecx, 11);
  out.avx512_bf16 = out.avx512 && Bit(extended1.eax, 5);
  const bool tiles = out.avx512_bf16 && HasAll(xcr0, kXcr0Amx) && Bit(extended.edx, 24);
  out.amx_bf16 = tiles && Bit(extended.edx, 22);
  out.amx_int8 = tiles && Bit(extended.edx, 25);
  return out;
}

bool RequestAmx() { return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureTileData) == 0; }

std::string CpuModelName() {
  std::array<char, 49> text{};
  for (unsigned i = 0; i < 3; ++i) {
    const CpuidLeaf leaf = Cpuid(0x80000002U + i, 0);
    std::memcpy(text.data() + std::size_t{i} * 16, &leaf, sizeof(leaf));
  }
  const std::string name(text.data());
  const std::size_t begin = name.find_first_not_of(' ');
  return begin == std::string::npos ? "unknown" : name.substr(begin);
}

}  // namespace pixii::kernels
