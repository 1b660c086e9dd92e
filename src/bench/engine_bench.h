// Prefill and decode rates of a random-weight model beside what this host could do at best,
// measured between the runs.
//
// Thread: the caller's, and the operators' pool. Takes the machine for itself.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "bench/report.h"
#include "kernels/operators.h"
#include "model/language_model.h"
#include "model/weights.h"

namespace pixii::bench {

struct EngineBenchOptions {
  std::string shape;  // one of model::Shapes()
  kernels::ComputeType compute = kernels::ComputeType::kBf16;
  model::RandomForm form = model::RandomForm::kBf16;  // codes go with kInt8
  kernels::CpuOptions cpu;                            // of one rank
  model::RankOptions ranks;                           // that hold the model together
  std::uint32_t repeats = 5;  // rounds; each measures both limits and every case once
};

/// Figures gemm (a layer's linears at 512 rows, in G multiply-adds/s), prefill_512, prefill_2048,
/// decode_b1, decode_b1_ctx2048, decode_b4 and decode_b16 in tokens/s, each beside its bound:
/// multiply-adds over their peak, or bytes over the read bandwidth, whichever takes longer; and the
/// limits themselves. Linears count against the peak of what multiplies their weights, attention
/// and routers against that of fp32; only what is run counts, experts as the router chose them.
/// decode_ctx2048_of_ctx0: rate of decode_b1_ctx2048 over that of decode_b1, steps in turns.
/// repack: seconds that packing 1e9 weights of the form takes, as when they are loaded. Errors:
/// kNotFound (shape), kResourceExhausted, kUnsupported (instruction set).
Result<std::vector<Figure>> BenchEngine(const EngineBenchOptions& options);

}  // namespace pixii::bench
