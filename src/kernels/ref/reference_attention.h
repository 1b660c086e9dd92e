// KV store and paged attention by plain loops; the definition of the KV cache's formats. Private to
// ref/.
#pragma once

#include <span>

#include "kernels/operators.h"

namespace pixii::kernels {

void ReferenceStoreKv(const Matrix& k, const Matrix& v, std::span<const std::int32_t> slots,
                      std::int32_t layer, KvCache& cache);
void ReferencePagedAttention(const Matrix& q, const StepView& batch, std::int32_t layer,
                             const KvCache& cache, const AttentionOptions& options,
                             const Matrix& out);

}  // namespace pixii::kernels
