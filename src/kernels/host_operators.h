// What all backends on the host's own memory share: nothing is copied, padded or recorded.
//
// Thread: as Operators.
#pragma once

#include <memory>
#include <span>

#include "kernels/operators.h"
#include "kernels/roof.h"

namespace pixii::kernels {

/// Asserts that attention's shapes agree with each other and with the cache.
void CheckAttention(const Matrix& q, const StepView& batch, const KvLayout& layout,
                    const AttentionOptions& options, const Matrix& out);

/// Queries times the keys that each sees, of all sequences.
double AttentionPairs(const StepView& batch, const AttentionOptions& options);

/// Rows of `x` that share their factors, of which there are x.cols or a multiple. Asserts that the
/// rows are so many runs.
std::int64_t RowsOfRun(const Matrix& x, std::span<const float> factors);

/// Asserts that a convolution's shapes agree with each other.
void CheckConvolution(const Matrix& in, const ConvolutionShape& shape, const LinearWeight& weight,
                      const Matrix& out);

/// Asserts that ExpertLinear's shapes agree and every choice is an expert. Returns K.
std::int64_t CheckExperts(const Matrix& in, std::span<const std::int32_t> experts,
                          std::span<const std::unique_ptr<LinearWeight>> weights,
                          const Matrix& out);

class HostOperators : public Operators {
 public:
  bool on_host() const final { return true; }

  bool Supports(OperatorGroup /*group*/) const final { return true; }

  void Upload(std::span<const std::byte> from, void* to) final;
  void Download(const void* from, std::span<std::byte> to) final;

  std::int64_t PaddedRows(std::int64_t rows) const final { return rows; }

  StepView UploadStep(const StepView& step) final { return step; }

  void FindNonFinite(const Matrix& in, std::span<std::int32_t> flags) override;

  void ClampedActivationMul(const Matrix& gate_up, float alpha, float limit,
                            const Matrix& out) override;
  void SoftCap(const Matrix& x, float cap) override;
  void Copy(const Matrix& in, const Matrix& out) override;
  void SigmoidScale(const Matrix& x, const Matrix& gate) override;
  void Route(const Matrix& logits, std::span<const float> correction, const RouteOptions& options,
             std::span<std::int32_t> experts, const Matrix& weights) override;
  void CombineExperts(const Matrix& in, const Matrix& weights, const Matrix& out) override;

  Result<void> Synchronize() final { return {}; }

  const MultiplyAdds& multiply_adds_run() const { return multiply_adds_run_; }

 protected:
  void RunStepErased(const StepKey& /*key*/, StepFunction call, void* callee) final {
    call(callee);
  }

  MultiplyAdds multiply_adds_run_;  // of backends that count
};

}  // namespace pixii::kernels
