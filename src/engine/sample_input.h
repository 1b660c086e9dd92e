// What a token is drawn from beside its row of logits.
//
// Thread: a view; everything it points to lives for the call.
#pragma once

#include <cstdint>
#include <span>

#include "base/ids.h"
#include "wire/messages/generate.h"

namespace pixii::engine {

struct SampleInput {
  const wire::SamplingParams* params = nullptr;
  const wire::StopConditions* stop = nullptr;
  std::span<const TokenId> prompt;
  std::span<const TokenId> generated;  // its size is the output position
  std::uint32_t choice = 0;
  /// Mirostat's mean surprise in bits, updated by a draw. Never null with mirostat.
  float* mirostat_mean = nullptr;
};

/// What a row says when nothing may follow: every token is excluded.
inline constexpr TokenId kNoToken = -1;

/// Mirostat's mean before the first token.
inline float FirstMirostatMean(const wire::MirostatParams& params) { return 2 * params.tau; }

}  // namespace pixii::engine
