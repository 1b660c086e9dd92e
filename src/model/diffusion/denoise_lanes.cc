#include "model/diffusion/denoise_lanes.h"

#include <algorithm>
#include <functional>

namespace pixii::model {
namespace {

using kernels::Matrix;

/// to = a combined with b, by element; all of equal shape and dense.
template <class Operation>
void Combine(const Matrix& a, const Matrix& b, const Matrix& to, const Operation& operation) {
  std::transform(a.f32(), a.f32() + a.rows * a.cols, b.f32(), to.f32(), operation);
}

void Copy(const Matrix& from, const Matrix& to) {
  std::copy_n(from.f32(), from.rows * from.cols, to.f32());
}

}  // namespace

void DenoisePass::KeepBegin() {
  residual = residual_memory.At(rows.rows, rows.cols);
  Copy(rows, residual);
}

void DenoisePass::KeepChange() {
  Combine(rows, residual, residual, std::minus<>());
  Combine(residual, delta, residual, std::plus<>());
}

void DenoisePass::Reuse(std::int32_t block_count) {
  Copy(residual, delta);
  next_block = block_count;
}

}  // namespace pixii::model
