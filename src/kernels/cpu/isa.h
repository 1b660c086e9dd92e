// Which instruction sets are built, which of them this host runs, and what options mean here.
//
// Thread: pure.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/operators.h"

namespace pixii::kernels {

struct Isa {
  CpuIsa isa;
  std::string_view operators;  // Operators::name
  std::string_view numerics;   // Operators::numerics
  const KernelTable& (*kernels)();
};

/// The instruction set and number of workers that `options` ask for. Errors: as MakeCpuOperators.
struct CpuChoice {
  const Isa* isa = nullptr;
  std::int32_t thread_count = 1;
};

Result<CpuChoice> ChooseCpu(const CpuOptions& options);

/// Cores this process may use, 1 .. 256.
std::int32_t UsableCoreCount();

}  // namespace pixii::kernels
