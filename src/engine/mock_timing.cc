#include "engine/mock_timing.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "wire/json.h"

namespace pixii::engine {

namespace {

constexpr double kNanosecondsPerMs = 1e6;

struct Parts {
  double prefill_ns = 0;  // and all that is not of decoding alone
  double decode_ns = 0;
};

Parts LinearParts(const MockTiming& timing, const MockStep& step) {
  const auto times = [](std::int64_t ns, std::uint64_t count) {
    return static_cast<double>(ns) * static_cast<double>(count);
  };
  return {.prefill_ns = static_cast<double>(timing.step_ns) +
                        times(timing.context_token_ns, step.context_tokens) +
                        times(timing.token_ns, step.prefill_tokens),
          .decode_ns = times(timing.decode_ns.value_or(timing.token_ns), step.decode_sequences)};
}

Parts PolynomialParts(const MockStep& step) {
  Parts out;
  if (step.prefill_sequences > 0) {
    out.prefill_ns =
        PolynomialPrefillMs(static_cast<double>(step.prefill_tokens)) * kNanosecondsPerMs;
  }
  if (step.decode_sequences > 0) {
    const double share = step.cache_tokens == 0 ? 1
                                                : static_cast<double>(step.decode_context_tokens) /
                                                      static_cast<double>(step.cache_tokens);
    out.decode_ns = PolynomialDecodeMs(std::min(share, 1.0)) * kNanosecondsPerMs;
  }
  return out;
}

Parts ProfileParts(const MockProfile& profile, const MockStep& step) {
  Parts out;
  if (step.prefill_sequences > 0) {
    out.prefill_ns =
        profile.PrefillMs(static_cast<double>(step.prefill_tokens)) * kNanosecondsPerMs;
  }
  if (step.decode_sequences > 0) {
    const auto kv_tokens = static_cast<double>(step.decode_context_tokens);
    out.decode_ns =
        profile.DecodeMs(kv_tokens, kv_tokens / step.decode_sequences) * kNanosecondsPerMs;
  }
  return out;
}

/// Where a value lies on an axis: between `index` and the next point, `fraction` of the way.
struct Place {
  std::size_t index = 0;
  double fraction = 0;
};

// Pre: the axis rises and is not empty. The fraction is above 1 beyond the end.
Place Locate(const std::vector<double>& axis, double value) {
  if (axis.size() == 1 || value <= axis[0]) {
    return {};
  }
  const auto above = std::ranges::upper_bound(axis, value);
  const auto index = std::min(static_cast<std::size_t>(above - axis.begin()), axis.size() - 1) - 1;
  return {index, (value - axis[index]) / (axis[index + 1] - axis[index])};
}

Place Clamped(Place place) {
  place.fraction = std::min(place.fraction, 1.0);
  return place;
}

Result<std::vector<double>> ReadNumbers(const wire::Json& json, std::string_view name) {
  std::vector<double> out;
  if (!json.is_array() || json.array().empty() || json.array().size() > kMockProfilePointsMax) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{}: must be an array of 1 to {} numbers", name, kMockProfilePointsMax),
                std::string(name));
  }
  for (const wire::Json& one : json.array()) {
    const std::optional<double> value = one.AsDouble();
    if (!value || *value < 0) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("{}: {} is no number of 0 or more", name, one.Dump()),
                  std::string(name));
    }
    out.push_back(*value);
  }
  return out;
}

Result<std::vector<double>> ReadMember(const wire::Json& json, std::string_view name) {
  const wire::Json* member = json.Find(name);
  if (member == nullptr) {
    return Fail(Code::kInvalidArgument, fmt::format("{}: the profile lacks it", name),
                std::string(name));
  }
  return ReadNumbers(*member, name);
}

Result<std::vector<double>> ReadAxis(const wire::Json& json, std::string_view name) {
  PX_TRY(std::vector<double> axis, ReadMember(json, name));
  if (std::ranges::adjacent_find(axis, std::greater_equal<>()) != axis.end()) {
    return Fail(Code::kInvalidArgument, fmt::format("{}: its numbers must rise", name),
                std::string(name));
  }
  return axis;
}

Result<void> CheckCount(std::string_view name, std::size_t count, std::size_t wanted) {
  if (count != wanted) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{}: has {} numbers, its axis {}", name, count, wanted),
                std::string(name));
  }
  return {};
}

}  // namespace

double PolynomialPrefillMs(double new_tokens) {
  return std::max(
      0.0, 4.209989e-07 * new_tokens * new_tokens + 1.518344e-02 * new_tokens + 1.650142e+01);
}

double PolynomialDecodeMs(double share) {
  return std::max(1.0, -25.74 * share * share + 54.01 * share + 5.74);
}

double MockProfile::PrefillMs(double tokens) const {
  const Place at = Locate(prefill_tokens, tokens);
  const double here = prefill_ms[at.index];
  const double next = prefill_ms[std::min(at.index + 1, prefill_ms.size() - 1)];
  return std::max(here + (next - here) * at.fraction, 0.0);
}

double MockProfile::DecodeMs(double kv_tokens, double context_tokens) const {
  const Place row = Clamped(Locate(decode_kv_tokens, kv_tokens));
  const Place column = Clamped(Locate(decode_context_tokens, context_tokens));
  const std::size_t columns = decode_context_tokens.size();
  const auto in_row = [&](std::size_t index) {
    const double* values = &decode_ms[std::min(index, decode_kv_tokens.size() - 1) * columns];
    const double here = values[column.index];
    return here + (values[std::min(column.index + 1, columns - 1)] - here) * column.fraction;
  };
  const double here = in_row(row.index);
  return here + (in_row(row.index + 1) - here) * row.fraction;
}

Result<MockProfile> ParseMockProfile(std::string_view json) {
  PX_TRY(const wire::Json parsed, wire::ParseJson(json));
  if (!parsed.is_object()) {
    return Fail(Code::kInvalidArgument, "a profile must be a JSON object");
  }
  MockProfile out;
  PX_TRY(out.prefill_tokens, ReadAxis(parsed, "prefill_isl"));
  PX_TRY(out.prefill_ms, ReadMember(parsed, "prefill_ttft_ms"));
  PX_CHECK_OK(CheckCount("prefill_ttft_ms", out.prefill_ms.size(), out.prefill_tokens.size()));
  PX_TRY(out.decode_kv_tokens, ReadAxis(parsed, "decode_active_kv_tokens"));
  PX_TRY(out.decode_context_tokens, ReadAxis(parsed, "decode_context_length"));
  const wire::Json* rows = parsed.Find("decode_itl_ms");
  if (rows == nullptr || !rows->is_array()) {
    return Fail(Code::kInvalidArgument, "decode_itl_ms: must be an array of arrays of numbers",
                "decode_itl_ms");
  }
  PX_CHECK_OK(CheckCount("decode_itl_ms", rows->array().size(), out.decode_kv_tokens.size()));
  for (const wire::Json& row : rows->array()) {
    PX_TRY(const std::vector<double> numbers, ReadNumbers(row, "decode_itl_ms"));
    PX_CHECK_OK(CheckCount("decode_itl_ms", numbers.size(), out.decode_context_tokens.size()));
    out.decode_ms.insert(out.decode_ms.end(), numbers.begin(), numbers.end());
  }
  return out;
}

std::int64_t MockStepTime(const MockTiming& timing, const MockStep& step) {
  const Parts parts = timing.model == MockTimingModel::kPolynomial ? PolynomialParts(step)
                      : timing.model == MockTimingModel::kProfile
                          ? ProfileParts(timing.profile, step)
                          : LinearParts(timing, step);
  const double total =
      (parts.prefill_ns + parts.decode_ns / timing.decode_speedup) / timing.speedup;
  return std::max<std::int64_t>(static_cast<std::int64_t>(total), 0);
}

}  // namespace pixii::engine
