#include "control/kube_election.h"

#include <chrono>
#include <utility>

#include "control/kube_compare.h"

namespace pixii::control {

namespace {

using wire::Json;

Json SpecOf(const ElectionOptions& options, rt::WallTime wall) {
  Json spec{Json::Object{}};
  spec.Set("holderIdentity", options.identity);
  spec.Set(
      "leaseDurationSeconds",
      static_cast<std::int64_t>(std::chrono::ceil<std::chrono::seconds>(options.duration).count()));
  spec.Set("renewTime", KubeMicroTime(wall));
  return spec;
}

}  // namespace

std::optional<KubeElection::Write> KubeElection::OnRead(const Json* lease, rt::Time now,
                                                        rt::WallTime wall) {
  Json spec = SpecOf(options_, wall);
  if (lease == nullptr) {
    spec.Set("acquireTime", KubeMicroTime(wall));
    spec.Set("leaseTransitions", 0);
    Json metadata{Json::Object{}};
    metadata.Set("name", options_.name);
    Json object{Json::Object{}};
    object.Set("apiVersion", PlaceOf(KubeKind::kLease).api_version);
    object.Set("kind", PlaceOf(KubeKind::kLease).kind);
    object.Set("metadata", std::move(metadata));
    object.Set("spec", std::move(spec));
    return Write{.creates = true, .object = std::move(object)};
  }
  const std::string holder = TextAt(*lease, {"spec", "holderIdentity"});
  const std::string seen =
      VersionOf(*lease).uid + " " + holder + " " + TextAt(*lease, {"spec", "renewTime"});
  if (seen != seen_) {
    seen_ = seen;
    changed_at_ = now;
  }
  const bool ours = holder == options_.identity;
  if (!ours) {
    held_since_.reset();
  }
  // How long a Lease counts is what its holder wrote; nonsense counts as ours does.
  const Json* seconds = FindAt(*lease, {"spec", "leaseDurationSeconds"});
  const std::int64_t said = seconds == nullptr ? 0 : seconds->AsInt().value_or(0);
  const rt::Duration duration =
      said > 0 && said <= 3600 ? rt::Duration(std::chrono::seconds(said)) : options_.duration;
  if (!ours && !holder.empty() && now < changed_at_ + duration) {
    return std::nullopt;
  }
  if (!ours) {
    const Json* turns = FindAt(*lease, {"spec", "leaseTransitions"});
    spec.Set("acquireTime", KubeMicroTime(wall));
    spec.Set("leaseTransitions",
             (turns == nullptr ? 0 : turns->AsInt().value_or(0)) + std::int64_t{1});
  }
  Json object = *lease;  // with its version: only if it is still this
  object.Set("apiVersion", PlaceOf(KubeKind::kLease).api_version);
  object.Set("kind", PlaceOf(KubeKind::kLease).kind);
  const Json* before = lease->Find("spec");
  object.Set("spec", Overlay(before == nullptr ? Json(Json::Object{}) : *before, spec));
  return Write{.creates = false, .object = std::move(object)};
}

std::optional<Json> KubeElection::Release(const Json& lease, rt::WallTime wall) const {
  if (TextAt(lease, {"spec", "holderIdentity"}) != options_.identity) {
    return std::nullopt;
  }
  Json spec = SpecOf(options_, wall);
  spec.Set("holderIdentity", "");
  spec.Set("leaseDurationSeconds", 1);
  Json object = lease;
  object.Set("apiVersion", PlaceOf(KubeKind::kLease).api_version);
  object.Set("kind", PlaceOf(KubeKind::kLease).kind);
  object.Set("spec", Overlay(*lease.Find("spec"), spec));
  return object;
}

}  // namespace pixii::control
