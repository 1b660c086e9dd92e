#include <fmt/format.h>

#include <array>

#include "kernels/cpu/cpu_features.h"
#include "kernels/operators.h"

namespace pixii::kernels {

std::span<const CpuIsa> AvailableIsas() {
  static const std::vector<CpuIsa> isas = [] {
    const CpuFeatures features = DetectCpuFeatures();
    std::vector<CpuIsa> out;
    if (features.avx2) {
      out.push_back(CpuIsa::kAvx2);
    }
    if (features.avx512) {
      out.push_back(CpuIsa::kAvx512);
    }
    return out;
  }();
  return isas;
}

std::string_view IsaName(CpuIsa isa) {
  constexpr std::array<std::string_view, 5> kNames = {"auto", "avx2", "avx512", "avx512bf16",
                                                      "amx"};
  return kNames[static_cast<std::size_t>(isa)];
}

Result<std::unique_ptr<Operators>> MakeCpuOperators(const CpuOptions& options) {
  if (options.thread_count < 0 || options.thread_count > 256) {
    return Fail(Code::kInvalidArgument,
                fmt::format("threads is {}, must be 0 .. 256", options.thread_count), "threads");
  }
  return MakeReferenceOperators();
}

}  // namespace pixii::kernels
