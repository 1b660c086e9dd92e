// What adapters cost: a decode step in which every sequence has an adapter of its own, beside the
// same step without.
//
// Thread: the caller's, and the operators' pool. Takes the machine for itself.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "bench/engine_bench.h"
#include "bench/report.h"

namespace pixii::bench {

struct AdapterBenchOptions {
  EngineBenchOptions engine;
  std::uint32_t adapter_count = 64;  // and sequences of the step, 1 .. 4096
  std::uint32_t rank = 16;           // 1 .. 256
};

/// Random adapters of every linear but the head. Figures decode_bN and decode_bN_adapters in
/// tokens/s, the latter beside the former as its limit, and adapter_step_cost: how many times the
/// base step an adapted one takes, the median over runs side by side. Errors: as BenchEngine.
Result<std::vector<Figure>> BenchAdapters(const AdapterBenchOptions& options);

}  // namespace pixii::bench
