// What all backends on the host's own memory share: nothing is copied, padded or recorded.
//
// Thread: as Operators.
#pragma once

#include "kernels/operators.h"

namespace pixii::kernels {

/// Asserts that attention's shapes agree with each other and with the cache.
void CheckAttention(const Matrix& q, const StepView& batch, const KvLayout& layout,
                    const AttentionOptions& options, const Matrix& out);

class HostOperators : public Operators {
 public:
  bool on_host() const final { return true; }

  void Upload(std::span<const std::byte> from, void* to) final;
  void Download(const void* from, std::span<std::byte> to) final;

  std::int64_t PaddedRows(std::int64_t rows) const final { return rows; }

  StepView UploadStep(const StepView& step) final { return step; }

  void FindNonFinite(const Matrix& in, std::span<std::int32_t> flags) override;

  Result<void> Synchronize() final { return {}; }

 protected:
  void RunStepErased(const StepKey& /*key*/, StepFunction call, void* callee) final {
    call(callee);
  }
};

}  // namespace pixii::kernels
