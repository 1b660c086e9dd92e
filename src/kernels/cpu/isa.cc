#include "kernels/cpu/isa.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_features.h"
#include "kernels/cpu/cpu_weight.h"
#include "kernels/cpu/memory.h"
#include "kernels/thread_pool.h"

namespace pixii::kernels {
namespace {

constexpr std::array kIsas = {
#if defined(__x86_64__)
    Isa{CpuIsa::kAvx2, "cpu-avx2", "fma-2", Avx2Kernels},
    Isa{CpuIsa::kAvx512, "cpu-avx512", "fma-2", Avx512Kernels},
    Isa{CpuIsa::kAvx512Vnni, "cpu-avx512vnni", "fma-2", Avx512VnniKernels},
    Isa{CpuIsa::kAvx512Bf16, "cpu-avx512bf16", "bf16dot-2", Avx512Bf16Kernels},
    Isa{CpuIsa::kAmx, "cpu-amx", "amx-4", AmxKernels},
#else
    Isa{CpuIsa::kNeon, "cpu-neon", "fma-2", NeonKernels},
    Isa{CpuIsa::kNeonI8mm, "cpu-neoni8mm", "fma-2", NeonI8mmKernels},
#endif
};

bool HostRuns(CpuIsa isa, const CpuFeatures& features) {
  switch (isa) {
    case CpuIsa::kAvx2:
      return features.avx2;
    case CpuIsa::kAvx512:
      return features.avx512;
    case CpuIsa::kAvx512Vnni:
      return features.avx512_vnni;
    case CpuIsa::kAvx512Bf16:
      return features.avx512_vnni && features.avx512_bf16;
    case CpuIsa::kAmx:
      return features.avx512_vnni && features.amx_bf16 && RequestAmx();
    case CpuIsa::kNeon:
      return features.neon;
    case CpuIsa::kNeonI8mm:
      return features.neon_i8mm;
    case CpuIsa::kAuto:
      break;
  }
  return false;
}

/// A linear of small whole numbers, exact in bf16 and in any order of sums: an instruction set that
/// cannot do it (an emulator, a hypervisor that loses register state) is not offered.
bool MultipliesExactly(const KernelTable& kernels) {
  constexpr Index kM = 35;  // more than one row block of any kernel
  constexpr Index kN = 45;
  constexpr Index kK = 300;  // more than one K block
  std::vector<float> in(kM * kK);
  std::vector<float> values(kN * kK);
  for (std::size_t i = 0; i < in.size(); ++i) {
    in[i] = static_cast<float>(static_cast<int>(i * 7 % 11) - 5);
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(static_cast<int>(i * 5 % 13) - 6);
  }
  const WeightPart part{
      .data = values.data(), .dtype = DType::kF32, .rows = kN, .cols = kK, .bias = nullptr};
  ThreadPool alone(1);
  const auto weight =
      CpuWeight::PackLinear({&part, 1}, {.compute = ComputeType::kBf16}, kernels, alone);
  if (!weight) {
    return false;
  }
  const PackedWeight& packed = static_cast<const CpuWeight&>(**weight).packed();
  const auto scratch =
      AllocateHostMemory(static_cast<std::size_t>(kernels.linear.scratch_bytes(packed, kM)));
  if (!scratch) {
    return false;
  }
  std::vector<float> out(kM * kN);
  const auto input =
      AllocateHostMemory(static_cast<std::size_t>(kernels.linear.input_bytes(packed, kM)));
  if (!input) {
    return false;
  }
  LinearCall call{.in = in.data(),
                  .in_stride = kK,
                  .out = out.data(),
                  .out_stride = kN,
                  .row_end = kM,
                  .panel_end = (kN + kPanelOutputs - 1) / kPanelOutputs,
                  .weight = &packed,
                  .scratch = scratch->data()};
  if (input->size_bytes() > 0) {
    call.packed_input = input->data();
    call.block_end = kernels.linear.row_blocks(packed, kM);
    kernels.linear.pack(call);
  }
  kernels.linear.run(call);
  for (Index m = 0; m < kM; ++m) {
    for (Index n = 0; n < kN; ++n) {
      float sum = 0.0F;
      for (Index k = 0; k < kK; ++k) {
        sum +=
            in[static_cast<std::size_t>(m * kK + k)] * values[static_cast<std::size_t>(n * kK + k)];
      }
      if (out[static_cast<std::size_t>(m * kN + n)] != sum) {
        return false;
      }
    }
  }
  return true;
}

const Isa& Find(CpuIsa wanted) {
  return *std::find_if(kIsas.begin(), kIsas.end(),
                       [&](const Isa& isa) { return isa.isa == wanted; });
}

/// The last, so the best, of those that give the bits of the first, which all processors have. Pre:
/// `available` is not empty.
CpuIsa BestPortable(std::span<const CpuIsa> available) {
  CpuIsa best = available.front();
  for (const CpuIsa isa : available) {
    if (Find(isa).numerics == kIsas.front().numerics) {
      best = isa;
    }
  }
  return best;
}

std::string ListNames(std::span<const CpuIsa> isas) {
  std::string out;
  for (const CpuIsa isa : isas) {
    out += fmt::format("{}{}", out.empty() ? "" : ", ", IsaName(isa));
  }
  return out.empty() ? "none" : out;
}

}  // namespace

std::span<const CpuIsa> AvailableIsas() {
  static const std::vector<CpuIsa> isas = [] {
    const CpuFeatures features = DetectCpuFeatures();
    std::vector<CpuIsa> out;
    for (const Isa& isa : kIsas) {
      if (HostRuns(isa.isa, features) && MultipliesExactly(isa.kernels())) {
        out.push_back(isa.isa);
      }
    }
    return out;
  }();
  return isas;
}

std::span<const CpuIsa> BuiltIsas() {
  static constexpr auto kBuilt = [] {
    std::array<CpuIsa, kIsas.size()> out{};
    std::transform(kIsas.begin(), kIsas.end(), out.begin(), [](const Isa& one) { return one.isa; });
    return out;
  }();
  return kBuilt;
}

std::string_view IsaName(CpuIsa isa) {
  constexpr std::array<std::string_view, 8> kNames = {"auto",       "avx2", "avx512", "avx512vnni",
                                                      "avx512bf16", "amx",  "neon",   "neoni8mm"};
  return kNames[static_cast<std::size_t>(isa)];
}

std::int32_t UsableCoreCount() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) {
    return 1;
  }
  return std::clamp(CPU_COUNT(&set), 1, ThreadPool::kThreadCountMax);
}

Result<CpuChoice> ChooseCpu(const CpuOptions& options) {
  if (options.thread_count < 0 || options.thread_count > ThreadPool::kThreadCountMax) {
    return Fail(Code::kInvalidArgument,
                fmt::format("threads is {}, must be 0 .. {}", options.thread_count,
                            ThreadPool::kThreadCountMax),
                "threads");
  }
  const std::span<const CpuIsa> available = AvailableIsas();
  if (available.empty()) {
    return Fail(Code::kUnsupported,
                "this processor has no AVX2 with FMA and F16C, which pixii needs at least");
  }
  const CpuIsa wanted = options.isa != CpuIsa::kAuto ? options.isa
                        : options.portable           ? BestPortable(available)
                                                     : available.back();
  if (std::find(available.begin(), available.end(), wanted) == available.end()) {
    return Fail(Code::kUnsupported,
                fmt::format("this processor does not run {}; it has {}", IsaName(wanted),
                            ListNames(available)),
                "isa");
  }
  return CpuChoice{&Find(wanted),
                   options.thread_count == 0 ? UsableCoreCount() : options.thread_count};
}

}  // namespace pixii::kernels
