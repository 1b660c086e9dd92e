// How long a step of a mock engine takes: a function of what the step computes.
//
// Thread: functions and values. docs/formats/mock_profile.md
// Source: spec/dynamo-core.md F.6 (the polynomial of Dynamo's mocker), F.4 (profiles).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pixii::engine {

/// What a step computes. A sequence with one new token decodes, with more it is prefilled.
struct MockStep {
  std::uint32_t prefill_sequences = 0;
  std::uint64_t prefill_tokens = 0;  // new ones, what is cached left out
  std::uint32_t decode_sequences = 0;
  std::uint64_t decode_context_tokens = 0;  // of the sequences that decode, all together
  std::uint64_t context_tokens = 0;         // of all sequences
  std::uint64_t cache_tokens = 0;           // that the KV cache holds
};

/// Measured times of an engine, between which others are taken to lie on straight lines.
struct MockProfile {
  std::vector<double> prefill_tokens;         // new tokens of a step, rising
  std::vector<double> prefill_ms;             // [prefill_tokens]
  std::vector<double> decode_kv_tokens;       // of context of a step, rising
  std::vector<double> decode_context_tokens;  // of one sequence on average, rising
  std::vector<double> decode_ms;              // [decode_kv_tokens][decode_context_tokens]

  /// Beyond the last measured count the last line goes on.
  double PrefillMs(double tokens) const;
  /// Beyond the ends of both axes it stays what it is there.
  double DecodeMs(double kv_tokens, double context_tokens) const;
};

inline constexpr std::size_t kMockProfilePointsMax = 1U << 16;  // of one array

/// Reads docs/formats/mock_profile.md. Errors: kInvalidArgument naming what is wrong.
Result<MockProfile> ParseMockProfile(std::string_view json);

enum class MockTimingModel : std::uint8_t {
  kLinear,      // sums of what a step, a token and a token of context take
  kPolynomial,  // F.6
  kProfile,     // MockProfile
};

/// Virtual time of a step: of the simulator's clock, or of the real one if the engine runs there.
/// All 0: steps take no time but their own.
struct MockTiming {
  // kLinear
  std::int64_t step_ns = 0;   // every step
  std::int64_t token_ns = 0;  // every token computed
  std::optional<std::int64_t> decode_ns =
      {};                             // in its place where a sequence has a single new token
  std::int64_t context_token_ns = 0;  // every token of context read
  // Of all models.
  MockTimingModel model = MockTimingModel::kLinear;
  MockProfile profile = {};
  double speedup = 1;         // divides all of it
  double decode_speedup = 1;  // divides the part of sequences that decode once more
};

/// The polynomial's two halves.
double PolynomialPrefillMs(double new_tokens);
/// `share`: of the KV cache, 0 .. 1, that the context of decoding sequences takes.
double PolynomialDecodeMs(double share);

/// Nanoseconds, never below 0.
std::int64_t MockStepTime(const MockTiming& timing, const MockStep& step);

}  // namespace pixii::engine
