// Sums of exponentials over a row of logits with the same bits on every machine: own exp, fixed
// order of additions.
//
// Thread: pure functions.
// A row is cut into blocks of 64; a block is summed in 8 float lanes joined by a fixed tree, blocks
// add up in double. Compiled without contraction, so a machine with fused multiply-add rounds no
// differently.
#pragma once

#include <cstddef>
#include <span>

namespace pixii::engine {

inline constexpr std::size_t kRowBlock = 64;

/// e^x for x <= 0: relative error below 2e-7; 0 below -87.
float ExpNegative(float x);

/// Natural logarithm: relative error below 1e-15 away from 1. Pre: x positive and finite.
double Ln(double x);

/// Largest element, NaN ignored; -infinity if there is none.
float RowMax(std::span<const float> row);

/// The same, and the largest of each block. Shape: block_max [ceil(row / kRowBlock)].
float RowMax(std::span<const float> row, std::span<float> block_max);

/// Index of the first largest element, NaN ignored; 0 if there is none. One pass.
std::size_t RowArgmax(std::span<const float> row);

/// weights[i] = exp((row[i] - max) / divisor) and block_sums[b] = sum of its block; returns their
/// sum in order. Shapes: weights [row], block_sums [ceil(row / kRowBlock)]. NaN gives weight 0.
/// Pre: divisor > 0, max finite.
double RowWeights(std::span<const float> row, float max, float divisor, std::span<float> weights,
                  std::span<double> block_sums);

/// log(sum(exp(row))). Pre: max finite, the largest element.
double LogSumExp(std::span<const float> row, float max);

}  // namespace pixii::engine
