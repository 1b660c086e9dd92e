#include "engine/executor.h"

namespace pixii::engine {

Result<void> StepExecutor::CopyBlocks(std::span<const BlockCopy> /*copies*/) {
  return Fail(Code::kUnsupported, "this executor keeps no blocks outside its cache");
}

Result<void> StepExecutor::SetAdapter(std::uint32_t /*slot*/, const AdapterWeights* /*weights*/) {
  return Fail(Code::kUnsupported, "this executor runs no adapters");
}

Result<void> StepExecutor::Release(const MemoryParts& /*parts*/) {
  return Fail(Code::kUnsupported, "this executor cannot give its memory back");
}

Result<void> StepExecutor::Restore(const MemoryParts& /*parts*/) {
  return Fail(Code::kUnsupported, "this executor cannot give its memory back");
}

}  // namespace pixii::engine
