// One table of operator cases, run on every backend: the same seeded inputs, the results as a flat
// list of floats.
//
// Thread: values; a case builds its own inputs from its name each time it runs.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels/operators.h"

namespace pixii::kernels::testing {

struct OperatorCase {
  std::string name;  // also the seed of its inputs
  std::function<std::vector<float>(Operators&)> run;
  /// Largest sum of squared differences from ref over the sum of squares of ref; 0 = equal bits.
  double nmse_max = 0.0;
};

std::vector<OperatorCase> LinearCases();
std::vector<OperatorCase> CodedCases();
std::vector<OperatorCase> RowCases();
std::vector<OperatorCase> AttentionCases();
std::vector<OperatorCase> LoraCases();
std::vector<OperatorCase> ExpertCases();
std::vector<OperatorCase> DiffusionCases();

/// All of the above.
std::vector<OperatorCase> AllCases();

/// Sum of squared differences over the sum of squares of `expected`; both empty: 0.
double Nmse(const std::vector<float>& expected, const std::vector<float>& actual);

/// Index of the first float whose bits differ, or -1. Sizes must be equal.
std::ptrdiff_t FirstDifference(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace pixii::kernels::testing
