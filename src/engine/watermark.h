// A watermark in sampled tokens: a keyed half of the vocabulary, another one at each place, is made
// likelier; whoever has the key counts how often it was taken.
//
// Thread: pure functions.
// A token is green if a keyed hash of the tokens before it and of itself falls below `gamma`. Under
// the null hypothesis (text without the watermark) the number of green ones among T distinct
// (context, token) pairs is binomial, so z = (green - gamma T) / sqrt(T gamma (1 - gamma)).
// Source: Kirchenbauer et al., "A Watermark for Large Language Models" (2023), algorithm 2 and
// section 3; repeated pairs are counted once as its section 4 advises.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/ids.h"
#include "base/result.h"
#include "wire/json.h"

namespace pixii::engine {

struct WatermarkKey {
  std::uint64_t secret = 0;   // WatermarkSecret of the key's text
  double gamma = 0.5;         // share of the vocabulary that is green, (0, 1)
  std::uint32_t context = 1;  // tokens before that choose the green list, 1 .. 8
};

std::uint64_t WatermarkSecret(std::string_view key);

struct WatermarkOptions {
  WatermarkKey key;
  double delta = 2;  // added to the logits of green tokens
};

/// From {"key": text, "gamma", "delta", "context"}; all but the key may be absent. Errors:
/// kInvalidArgument naming the entry, its value and the range.
Result<WatermarkOptions> ReadWatermark(const wire::Json& config);

/// The hash of the last `key.context` tokens before a place; needs that many.
std::uint64_t WatermarkContext(const WatermarkKey& key, std::span<const TokenId> before);

bool IsGreen(const WatermarkKey& key, std::uint64_t context, TokenId token);

struct WatermarkScore {
  std::uint32_t scored = 0;  // distinct (context, token) pairs
  std::uint32_t green = 0;
  double z = 0;        // standard deviations above chance
  double p_value = 1;  // of at least this z by chance
};

/// Scores every token that has enough tokens before it. O(tokens log tokens).
WatermarkScore DetectWatermark(const WatermarkKey& key, std::span<const TokenId> tokens);

}  // namespace pixii::engine
