#include "frontend/routing_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "frontend/field_error.h"
#include "frontend/openai_request.h"
#include "frontend/session_headers.h"

namespace pixii::frontend {

using wire::Json;

namespace {

constexpr std::size_t kTaintsMax = 64;
constexpr std::size_t kTaintBytesMax = 256;
constexpr double kFactorMax = 1e6;  // of an override
constexpr double kWeightMax = 1000;

Result<double> ReadNumber(const std::string& field, const Json& value, double low, double high) {
  const double number = value.is_number() ? value.AsDouble().value_or(std::nan("")) : std::nan("");
  if (!(number >= low && number <= high)) {
    return Bad(field, fmt::format("{} is not a number in [{}, {}]", Shown(value), low, high));
  }
  return number;
}

Result<bool> ReadSwitch(const std::string& field, const Json& value) {
  if (!value.is_bool()) {
    return Bad(field, fmt::format("{} is not true or false", Shown(value)));
  }
  return value.boolean();
}

Result<std::string> CheckTaint(const std::string& field, const std::string& taint) {
  if (taint.empty() || taint.size() > kTaintBytesMax) {
    return Bad(field, fmt::format("a taint has 1 to {} bytes", kTaintBytesMax));
  }
  return taint;
}

Result<void> ReadRequired(const std::string& field, const Json& value, wire::RoutingHints& hints) {
  if (!value.is_array() || value.array().size() > kTaintsMax) {
    return Bad(field, fmt::format("must be a list of at most {} taints", kTaintsMax));
  }
  for (const Json& taint : value.array()) {
    if (!taint.is_string()) {
      return Bad(field, fmt::format("{} is not a string", Shown(taint)));
    }
    PX_TRY(std::string checked, CheckTaint(field, taint.string()));
    hints.required_taints.push_back(std::move(checked));
  }
  return {};
}

Result<void> ReadPreferred(const std::string& field, const Json& value, wire::RoutingHints& hints) {
  if (!value.is_object() || value.object().size() > kTaintsMax) {
    return Bad(field,
               fmt::format("must be an object of at most {} taints and their weights", kTaintsMax));
  }
  for (const auto& [taint, weight] : value.object()) {
    PX_TRY(std::string checked, CheckTaint(field, taint));
    PX_TRY(const double number, ReadNumber(At(field, taint), weight, -kWeightMax, kWeightMax));
    hints.preferred_taints.push_back({std::move(checked), number});
  }
  return {};
}

/// The first of `names` that the request has.
struct Header {
  std::string_view name;
  std::string_view value;
};

std::optional<Header> FindHeader(const wire::HttpRequest& headers,
                                 std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    if (const std::optional<std::string_view> value = headers.Field(name)) {
      return Header{name, *value};
    }
  }
  return std::nullopt;
}

template <class Number>
Result<Number> NumberOf(const Header& header, Number low, Number high) {
  Number out{};
  const char* end = header.value.data() + header.value.size();
  const auto [stop, error] = std::from_chars(header.value.data(), end, out);
  if (error != std::errc() || stop != end || out < low || out > high) {
    return Bad(header.name, fmt::format("{} is not a number in [{}, {}]",
                                        Json(header.value.substr(0, 60)).Dump(), low, high));
  }
  return out;
}

wire::RoutingHints& HintsOf(wire::GenerateRequest& request) {
  return request.routing ? *request.routing : request.routing.emplace();
}

constexpr std::uint64_t kWorkerIdMax = std::numeric_limits<std::int64_t>::max();
constexpr auto kRankMax = static_cast<std::uint32_t>(std::numeric_limits<std::int32_t>::max());

}  // namespace

Result<std::uint64_t> ReadWorkerId(std::string_view field, const Json& value) {
  const std::optional<std::int64_t> id =
      value.IsIntegerLiteral() ? value.AsInt() : std::optional<std::int64_t>();
  if (!id || *id < 1) {
    return Bad(field, fmt::format("{} is not the id of a worker", Shown(value)));
  }
  return static_cast<std::uint64_t>(*id);
}

Result<wire::RouteOverride> ReadRouteOverride(std::string_view field, const Json& value) {
  wire::RouteOverride out;
  if (!value.is_object()) {
    return Bad(field, "must be an object");
  }
  const auto number = [](const std::string& name, const Json& from, std::optional<double>& to,
                         double high) -> Result<void> {
    PX_TRY(to, ReadNumber(name, from, 0, high));
    return {};
  };
  const auto flag = [](const std::string& name, const Json& from,
                       std::optional<bool>& to) -> Result<void> {
    PX_TRY(to, ReadSwitch(name, from));
    return {};
  };
  for (const auto& [key, member] : value.object()) {
    const std::string name = At(field, key);
    if (member.is_null()) {
      continue;
    }
    Result<void> read;
    if (key == "overlap_score_credit") {
      read = number(name, member, out.overlap_credit, kFactorMax);
    } else if (key == "prefill_load_scale") {
      read = number(name, member, out.prefill_load_scale, kFactorMax);
    } else if (key == "router_temperature") {
      read = number(name, member, out.temperature, kFactorMax);
    } else if (key == "shared_cache_multiplier") {
      read = number(name, member, out.shared_cache_multiplier, 1);
    } else if (key == "assume_kv_reuse") {
      read = flag(name, member, out.assume_kv_reuse);
    } else if (key == "track_prefill_tokens") {
      read = flag(name, member, out.track_prefill_tokens);
    } else {
      return Unknown(name);
    }
    PX_CHECK_OK(read);
  }
  return out;
}

Result<void> ReadRoutingConstraints(std::string_view field, const Json& value,
                                    wire::RoutingHints& hints) {
  if (!value.is_object()) {
    return Bad(field, "must be an object");
  }
  for (const auto& [key, member] : value.object()) {
    const std::string name = At(field, key);
    if (member.is_null()) {
      continue;
    }
    if (key == "required_taints") {
      PX_CHECK_OK(ReadRequired(name, member, hints));
    } else if (key == "preferred_taints") {
      PX_CHECK_OK(ReadPreferred(name, member, hints));
    } else {
      return Unknown(name);
    }
  }
  return {};
}

Result<void> ReadRoutingHeaders(const wire::HttpRequest& headers, wire::GenerateRequest& request) {
  if (const auto worker =
          FindHeader(headers, {"x-dynamo-worker-instance-id", "x-worker-instance-id"})) {
    PX_TRY(HintsOf(request).worker, NumberOf<std::uint64_t>(*worker, 1, kWorkerIdMax));
  }
  if (const auto rank =
          FindHeader(headers, {"x-dynamo-dp-rank", "x-dp-rank", "x-data-parallel-rank"})) {
    PX_TRY(request.dp_rank, NumberOf<std::uint32_t>(*rank, 0, kRankMax));
  }
  if (const auto priority = FindHeader(headers, {"x-dynamo-request-priority"})) {
    constexpr std::int32_t kMax = std::numeric_limits<std::int32_t>::max();
    PX_TRY(request.priority, NumberOf<std::int32_t>(*priority, -kMax, kMax));
  }
  if (const auto strict = FindHeader(headers, {"x-dynamo-request-strict-priority"})) {
    PX_TRY(HintsOf(request).strict_priority,
           NumberOf<std::uint32_t>(*strict, 0, std::numeric_limits<std::uint32_t>::max()));
  }
  PX_TRY(SessionIdentity session, ReadSession(headers));
  if (!session.id.empty()) {
    request.session = std::move(session.id);
    request.session_final = session.is_final;
  }
  if (const auto family = FindHeader(headers, {"x-dynamo-meta-policy-class"})) {
    PX_TRY(HintsOf(request).policy_class, ReadLabel(family->name, family->value));
  }
  return {};
}

}  // namespace pixii::frontend
