#include "apps/dit_ranks.h"

#include <algorithm>

#include "apps/model_host.h"
#include "rt/process.h"

namespace pixii::apps {

Result<std::unique_ptr<kernels::Operators>> MakePipelineOperators(const EngineFlags& flags,
                                                                  kernels::WorkGate* gate) {
  EngineFlags whole = flags;
  whole.tensor_parallel_size = 1;  // MakeOperators would divide the threads by it
  return MakeOperators(whole, gate);
}

model::WanRankOptions DitRanksOf(const EngineFlags& flags) {
  model::WanRankOptions options = {
      .cfg_count = static_cast<std::int32_t>(flags.dit_cfg_size),
      .sequence_count = static_cast<std::int32_t>(flags.dit_ulysses_size),
      .tensor_count = static_cast<std::int32_t>(flags.tensor_parallel_size)};
  const std::int64_t ranks = options.count();
  options.make_operators = [flags, ranks]() -> Result<std::unique_ptr<kernels::Operators>> {
    EngineFlags own = flags;
    if (own.threads == 0) {
      PX_TRY(const rt::MachineLimits machine, rt::ReadMachineLimits());
      own.threads = machine.cpu_count;
    }
    own.threads = std::max<std::int64_t>(own.threads / ranks, 1);
    return MakePipelineOperators(own);
  };
  return options;
}

}  // namespace pixii::apps
