// Packs weights of integer codes into the panels of PackedIntegers (kernel_table.h).
//
// Thread: one caller; packing uses the pool.
#pragma once

#include <span>
#include <vector>

#include "base/result.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/integer_plan.h"
#include "kernels/operators.h"
#include "kernels/thread_pool.h"
#include "kernels/weight_source.h"

namespace pixii::kernels {

/// What a PackedIntegers points to.
struct IntegerPanels {
  PackedIntegers view;
  Buffer panels;
  Buffer scales;  // and offsets behind them
  std::vector<IntegerPieceView> pieces;
};

/// What packing runs on.
struct PackTools {
  const KernelTable& kernels;
  ThreadPool& pool;
};

/// Packs `rows` of `parts`. Errors: kResourceExhausted.
Result<IntegerPanels> PackIntegerPanels(std::span<const WeightPart> parts,
                                        const std::vector<PartRow>& rows, const IntegerPlan& plan,
                                        const PackTools& tools);

}  // namespace pixii::kernels
