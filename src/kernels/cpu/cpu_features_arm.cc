#include <asm/hwcap.h>
#include <fmt/format.h>
#include <sys/auxv.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "kernels/cpu/cpu_features.h"

namespace pixii::kernels {
namespace {

struct Part {
  std::uint32_t implementer;
  std::uint32_t part;
  const char* name;
};

// Of those that serve models; others are told by their numbers.
constexpr std::array kParts = {
    Part{0x41, 0xD08, "Arm Cortex-A72"},   Part{0x41, 0xD0B, "Arm Cortex-A76"},
    Part{0x41, 0xD0C, "Arm Neoverse N1"},  Part{0x41, 0xD40, "Arm Neoverse V1"},
    Part{0x41, 0xD49, "Arm Neoverse N2"},  Part{0x41, 0xD4F, "Arm Neoverse V2"},
    Part{0xC0, 0xAC3, "Ampere Altra One"},
};

bool Has(std::uint64_t word, std::uint64_t mask) { return (word & mask) == mask; }

}  // namespace

CpuFeatures DetectCpuFeatures() {
  CpuFeatures out;
  out.neon = Has(getauxval(AT_HWCAP), HWCAP_ASIMD);
  out.neon_i8mm = out.neon && Has(getauxval(AT_HWCAP2), HWCAP2_I8MM);
  return out;
}

bool RequestAmx() { return false; }

std::string CpuModelName() {
  if (!Has(getauxval(AT_HWCAP), HWCAP_CPUID)) {
    return "unknown";
  }
  std::uint64_t midr = 0;
  asm("mrs %0, MIDR_EL1" : "=r"(midr));  // the kernel answers for its processes
  const auto implementer = static_cast<std::uint32_t>((midr >> 24U) & 0xFFU);
  const auto part = static_cast<std::uint32_t>((midr >> 4U) & 0xFFFU);
  const auto* known = std::find_if(kParts.begin(), kParts.end(), [&](const Part& one) {
    return one.implementer == implementer && one.part == part;
  });
  return known != kParts.end()
             ? known->name
             : fmt::format("ARM processor {:#x} of implementer {:#x}", part, implementer);
}

}  // namespace pixii::kernels
