#include "control/scale_order.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "wire/json.h"

namespace pixii::control {

namespace {

using wire::Json;

Json CountsJson(const std::vector<ScaleCount>& counts) {
  Json out{Json::Object{}};
  for (const ScaleCount& count : counts) {
    out.Set(count.component, std::int64_t{count.replicas});
  }
  return out;
}

tl::unexpected<Error> Wrong(const char* member, const char* what) {
  return Fail(Code::kInvalidArgument, fmt::format("{}: {}", member, what), member);
}

Result<Json> ReadObject(std::string_view text) {
  PX_TRY(Json json, wire::ParseJson(text));
  if (!json.is_object()) {
    return Fail(Code::kInvalidArgument, "no JSON object");
  }
  return json;
}

Result<std::int64_t> ReadId(const Json& json, const char* member) {
  const Json* value = json.Find(member);
  const std::optional<std::int64_t> id = value == nullptr ? std::nullopt : value->AsInt();
  if (!id || *id < 0) {
    return Wrong(member, "must be a count of 0 or more");
  }
  return *id;
}

Result<std::vector<ScaleCount>> ReadCounts(const Json& json) {
  constexpr const char* kMember = "components";
  const Json* value = json.Find(kMember);
  if (value == nullptr || !value->is_object()) {
    return Wrong(kMember, "must be an object of names to counts");
  }
  std::vector<ScaleCount> out;
  for (const auto& [component, count] : value->object()) {
    const std::optional<std::int64_t> replicas = count.AsInt();
    if (!replicas || *replicas < 0 || *replicas > kScaleReplicasMax) {
      return Wrong(kMember, "counts are whole numbers from 0 to 1048576");
    }
    out.push_back({.component = component, .replicas = static_cast<std::uint32_t>(*replicas)});
  }
  return out;
}

std::string ReadText(const Json& json, const char* member) {
  const Json* value = json.Find(member);
  return value != nullptr && value->is_string() ? value->string() : std::string();
}

}  // namespace

std::string ScalePrefix(std::string_view ns) { return fmt::format("v1/scaling/{}/", ns); }

std::string ScaleOrderKey(std::string_view ns) { return ScalePrefix(ns) + "wanted"; }

std::string ScaleReportKey(std::string_view ns) { return ScalePrefix(ns) + "scaled"; }

std::string EncodeScaleOrder(const ScaleOrder& order) {
  Json out{Json::Object{}};
  out.Set("decision_id", order.decision);
  out.Set("scaled_decision_id", order.done);
  out.Set("components", CountsJson(order.counts));
  out.Set("reason", order.reason);
  return out.Dump();
}

std::string EncodeScaleReport(const ScaleReport& report) {
  Json out{Json::Object{}};
  out.Set("scaled_decision_id", report.decision);
  out.Set("components", CountsJson(report.counts));
  out.Set("error", report.error);
  return out.Dump();
}

Result<ScaleOrder> DecodeScaleOrder(std::string_view text) {
  PX_TRY(const Json json, ReadObject(text));
  ScaleOrder out;
  PX_TRY(out.decision, ReadId(json, "decision_id"));
  PX_TRY(out.done, ReadId(json, "scaled_decision_id"));
  PX_TRY(out.counts, ReadCounts(json));
  out.reason = ReadText(json, "reason");
  return out;
}

Result<ScaleReport> DecodeScaleReport(std::string_view text) {
  PX_TRY(const Json json, ReadObject(text));
  ScaleReport out;
  PX_TRY(out.decision, ReadId(json, "scaled_decision_id"));
  PX_TRY(out.counts, ReadCounts(json));
  out.error = ReadText(json, "error");
  return out;
}

}  // namespace pixii::control
