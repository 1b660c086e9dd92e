#include "apps/planner_profile.h"

#include <fmt/format.h>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "rt/file.h"

namespace pixii::apps {

namespace {

using wire::Json;

constexpr std::uint64_t kProfileBytesMax = 16U << 20U;

Json Numbers(const std::vector<double>& values) {
  Json::Array out;
  for (const double value : values) {
    out.emplace_back(value);
  }
  return out;
}

// `value` stays as it is where the file does not say it.
Result<void> ReadLimit(const Json& json, const char* member, double& value) {
  const Json* found = json.Find(member);
  if (found == nullptr) {
    return {};
  }
  const std::optional<double> number = found->AsDouble();
  if (!number || !(*number >= 1) || *number > 1e12) {
    return Fail(Code::kInvalidArgument, fmt::format("{}: must be a number from 1 to 1e12", member),
                member);
  }
  value = *number;
  return {};
}

}  // namespace

Result<EngineProfile> ParseEngineProfile(const std::string& text) {
  EngineProfile out;
  PX_TRY(out.times, engine::ParseMockProfile(text));
  PX_TRY(const Json json, wire::ParseJson(text));
  PX_CHECK_OK(ReadLimit(json, "kv_tokens", out.kv_tokens));
  PX_CHECK_OK(ReadLimit(json, "sequences_max", out.sequences_max));
  PX_CHECK_OK(ReadLimit(json, "batch_tokens_max", out.batch_tokens_max));
  return out;
}

Result<EngineProfile> ReadEngineProfile(const std::string& path) {
  constexpr const char* kName = "profile.json";
  const std::string inside = fmt::format("{}/{}", path, kName);
  const bool in_folder = rt::StatFile(inside).value_or(std::nullopt).has_value();
  const std::string& file = in_folder ? inside : path;
  Result<std::string> text = rt::ReadFile(file, kProfileBytesMax);
  if (!text) {
    return Fail(text.error().code(), fmt::format("{}; pixii profile MODEL --output {} writes one",
                                                 text.error().detail(), path));
  }
  Result<EngineProfile> profile = ParseEngineProfile(*text);
  if (!profile) {
    return Fail(profile.error().code(), fmt::format("{}: {}", file, profile.error().detail()));
  }
  return profile;
}

Json ProfileJson(const EngineProfile& profile) {
  Json out{Json::Object{}};
  out.Set("prefill_isl", Numbers(profile.times.prefill_tokens));
  out.Set("prefill_ttft_ms", Numbers(profile.times.prefill_ms));
  out.Set("decode_active_kv_tokens", Numbers(profile.times.decode_kv_tokens));
  out.Set("decode_context_length", Numbers(profile.times.decode_context_tokens));
  const std::size_t columns = profile.times.decode_context_tokens.size();
  Json::Array rows;
  for (std::size_t row = 0; row < profile.times.decode_kv_tokens.size(); ++row) {
    const auto begin = profile.times.decode_ms.begin() + static_cast<std::ptrdiff_t>(row * columns);
    rows.push_back(Numbers({begin, begin + static_cast<std::ptrdiff_t>(columns)}));
  }
  out.Set("decode_itl_ms", std::move(rows));
  out.Set("kv_tokens", profile.kv_tokens);
  out.Set("sequences_max", profile.sequences_max);
  out.Set("batch_tokens_max", profile.batch_tokens_max);
  return out;
}

control::EngineModel PlannedEngine(const EngineProfile& profile) {
  const auto times = std::make_shared<const engine::MockProfile>(profile.times);
  return {.prefill_ms = [times](double tokens) { return times->PrefillMs(tokens); },
          .decode_ms = [times](double kv, double context) { return times->DecodeMs(kv, context); },
          .kv_tokens = profile.kv_tokens,
          .sequences_max = profile.sequences_max,
          .batch_tokens_max = profile.batch_tokens_max};
}

}  // namespace pixii::apps
