// A weight as the CPU kernels read it: panels of a linear, or the rows of an embedding table.
//
// Thread: made once, then read by all workers.
#pragma once

#include <span>
#include <vector>

#include "base/result.h"
#include "kernels/cpu/cpu_integers.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/operators.h"
#include "kernels/thread_pool.h"

namespace pixii::kernels {

class CpuWeight final : public LinearWeight {
 public:
  /// Panels as in kernel_table.h; parts must have passed CheckParts. Errors: kResourceExhausted.
  static Result<std::unique_ptr<LinearWeight>> PackLinear(std::span<const WeightPart> parts,
                                                          const LinearOptions& options,
                                                          const KernelTable& kernels,
                                                          ThreadPool& pool);
  /// A copy of the table in its own dtype or codes. Errors: kResourceExhausted.
  static Result<std::unique_ptr<LinearWeight>> CopyTable(const WeightPart& table);

  CpuWeight(std::int64_t in_features, std::int64_t out_features)
      : LinearWeight(in_features, out_features) {}

  bool is_table() const { return packed_.panels == nullptr; }

  /// Pre: !is_table().
  const PackedWeight& packed() const { return packed_; }

  /// Pre: is_table().
  const void* table() const { return buffer_.data(); }

  Element table_element() const { return table_element_; }

  /// The table's own codes and scales, or a part whose code is kNone.
  const WeightPart& coded_table() const { return coded_table_; }

 private:
  static Result<std::unique_ptr<LinearWeight>> PackIntegers(std::span<const WeightPart> parts,
                                                            const LinearOptions& options,
                                                            const IntegerPlan& plan,
                                                            const PackTools& tools);

  PackedWeight packed_;
  IntegerPanels integers_;
  Element table_element_ = Element::kF32;
  WeightPart coded_table_;
  std::vector<float> scales_;  // of coded_table_, then its offsets
  Buffer buffer_;
  std::vector<float> bias_;
};

inline Element ElementOf(DType dtype) {
  return dtype == DType::kF32    ? Element::kF32
         : dtype == DType::kBf16 ? Element::kBf16
                                 : Element::kF16;
}

}  // namespace pixii::kernels
