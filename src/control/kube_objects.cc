#include "control/kube_objects.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <utility>

#include "base/digest.h"
#include "base/utf8.h"
#include "wire/base64.h"

namespace pixii::control {

namespace {

using wire::Json;

constexpr std::size_t kNameDigits = 40;  // of SHA-256: 160 bits
constexpr std::string_view kStoreLabel = "pixii.dev/store";
constexpr std::string_view kStoreVersion = "v1";
constexpr std::string_view kLeaseApi = "coordination.k8s.io/v1";
constexpr std::string_view kValueName = "value";

Json MetadataOf(std::string name, const std::string& holder) {
  Json labels{Json::Object{}};
  labels.Set(kStoreLabel, kStoreVersion);
  labels.Set(kKubeHolderLabel, holder);
  Json metadata{Json::Object{}};
  metadata.Set("name", std::move(name));
  metadata.Set("labels", std::move(labels));
  return metadata;
}

bool IsOfStore(const Json& object) {
  return TextAt(object, {"metadata", "labels", kStoreLabel}) == kStoreVersion;
}

// Under `data` if it is text, which people can read, else in base64 under `binaryData`.
std::optional<std::string> ValueOf(const Json& object) {
  if (const Json* text = FindAt(object, {"data", kValueName})) {
    return text->is_string() ? std::optional<std::string>(text->string()) : std::nullopt;
  }
  const Json* bytes = FindAt(object, {"binaryData", kValueName});
  return bytes != nullptr && bytes->is_string() ? wire::DecodeBase64(bytes->string())
                                                : std::nullopt;
}

}  // namespace

KubePlace PlaceOf(KubeKind kind) {
  switch (kind) {
    case KubeKind::kLease:
      return {.api_version = kLeaseApi, .plural = "leases", .kind = "Lease"};
    case KubeKind::kConfigMap:
      return {.api_version = "v1", .plural = "configmaps", .kind = "ConfigMap"};
    case KubeKind::kService:
      return {.api_version = "v1", .plural = "services", .kind = "Service"};
    case KubeKind::kDeployment:
      return {.api_version = "apps/v1", .plural = "deployments", .kind = "Deployment"};
    case KubeKind::kGraph:
      break;
  }
  return {.api_version = "nvidia.com/v1beta1",
          .plural = "dynamographdeployments",
          .kind = "DynamoGraphDeployment"};
}

const Json* FindAt(const Json& json, std::initializer_list<std::string_view> path) {
  const Json* at = &json;
  for (const std::string_view name : path) {
    at = at == nullptr ? nullptr : at->Find(name);
  }
  return at;
}

std::string TextAt(const Json& json, std::initializer_list<std::string_view> path) {
  const Json* at = FindAt(json, path);
  return at != nullptr && at->is_string() ? at->string() : std::string();
}

KubeVersion VersionOf(const Json& object) {
  return KubeVersion{.uid = TextAt(object, {"metadata", "uid"}),
                     .resource_version = TextAt(object, {"metadata", "resourceVersion"})};
}

std::uint64_t ResourceNumber(std::string_view resource_version) {
  std::uint64_t number = 0;
  const char* end = resource_version.data() + resource_version.size();
  const auto [stop, error] = std::from_chars(resource_version.data(), end, number);
  return error == std::errc() && stop == end ? number : 0;
}

std::string KubeLeaseName(std::string_view holder) { return fmt::format("pixii-{}", holder); }

std::string KubeEntryName(std::string_view key) {
  return fmt::format("pixii-key-{}", Sha256Hex(key).substr(0, kNameDigits));
}

std::string KubeMicroTime(rt::WallTime time) {
  const std::chrono::sys_seconds seconds{std::chrono::seconds(time.unix_seconds)};
  const auto day = std::chrono::floor<std::chrono::days>(seconds);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(seconds - day);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count(),
                     time.nanoseconds / 1000);
}

Json MakeKubeLease(const std::string& holder, rt::Duration ttl, rt::WallTime now) {
  Json spec{Json::Object{}};
  spec.Set("holderIdentity", holder);
  spec.Set("leaseDurationSeconds",
           static_cast<std::int64_t>(std::chrono::ceil<std::chrono::seconds>(ttl).count()));
  spec.Set("acquireTime", KubeMicroTime(now));
  spec.Set("renewTime", KubeMicroTime(now));
  Json lease{Json::Object{}};
  lease.Set("apiVersion", kLeaseApi);
  lease.Set("kind", "Lease");
  lease.Set("metadata", MetadataOf(KubeLeaseName(holder), holder));
  lease.Set("spec", std::move(spec));
  return lease;
}

Json MakeKubeRenewal(rt::WallTime now) {
  Json spec{Json::Object{}};
  spec.Set("renewTime", KubeMicroTime(now));
  Json patch{Json::Object{}};
  patch.Set("spec", std::move(spec));
  return patch;
}

Json MakeKubeEntry(const std::string& key, const std::string& value, const std::string& holder,
                   const KubeVersion& lease) {
  Json owner{Json::Object{}};
  owner.Set("apiVersion", kLeaseApi);
  owner.Set("kind", "Lease");
  owner.Set("name", KubeLeaseName(holder));
  owner.Set("uid", lease.uid);
  Json annotations{Json::Object{}};
  annotations.Set(kKubeKeyAnnotation, key);
  Json metadata = MetadataOf(KubeEntryName(key), holder);
  metadata.Set("annotations", std::move(annotations));
  metadata.Set("ownerReferences", Json::Array{std::move(owner)});
  const bool is_text = IsValidUtf8(value);
  Json data{Json::Object{}};
  data.Set(kValueName, is_text ? value : wire::EncodeBase64(value));
  Json entry{Json::Object{}};
  entry.Set("apiVersion", "v1");
  entry.Set("kind", "ConfigMap");
  entry.Set("metadata", std::move(metadata));
  entry.Set(is_text ? "data" : "binaryData", std::move(data));
  return entry;
}

std::optional<KubeLease> ReadKubeLease(const Json& object) {
  KubeLease lease{.name = TextAt(object, {"metadata", "name"}),
                  .version = VersionOf(object),
                  .renew_time = TextAt(object, {"spec", "renewTime"}),
                  .holder = TextAt(object, {"spec", "holderIdentity"})};
  const Json* duration = FindAt(object, {"spec", "leaseDurationSeconds"});
  const std::int64_t seconds = duration == nullptr ? 0 : duration->AsInt().value_or(0);
  if (!IsOfStore(object) || lease.version.uid.empty() || lease.holder.empty() ||
      lease.name != KubeLeaseName(lease.holder) || seconds < 1) {
    return std::nullopt;
  }
  lease.duration = std::chrono::seconds(std::min<std::int64_t>(seconds, 3600));
  return lease;
}

std::optional<KubeEntry> ReadKubeEntry(const Json& object) {
  KubeEntry entry{.name = TextAt(object, {"metadata", "name"}),
                  .version = VersionOf(object),
                  .holder = TextAt(object, {"metadata", "labels", kKubeHolderLabel}),
                  .key = TextAt(object, {"metadata", "annotations", kKubeKeyAnnotation}),
                  .value = {}};
  std::optional<std::string> value = ValueOf(object);
  if (!IsOfStore(object) || !value || entry.holder.empty() || entry.version.uid.empty() ||
      entry.name != KubeEntryName(entry.key) || !CheckStoreEntry(entry.key, *value)) {
    return std::nullopt;
  }
  entry.value = std::move(*value);
  return entry;
}

}  // namespace pixii::control
