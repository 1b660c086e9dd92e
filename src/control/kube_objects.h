// How keys and leases stand in a Kubernetes API: a Lease per holder, a ConfigMap per key.
// docs/formats/discovery.md
//
// Thread: pure functions. Nothing here believes what it reads: an object that is not of this form
// is not one of ours.
// Source: Kubernetes API reference, Lease coordination.k8s.io/v1 and ConfigMap v1; RFC 1123 names.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "control/lease_store.h"
#include "rt/time.h"
#include "wire/json.h"

namespace pixii::control {

enum class KubeKind : std::uint8_t { kLease, kConfigMap, kService, kDeployment, kGraph };

/// Where the API serves objects of a kind.
struct KubePlace {
  std::string_view api_version;
  std::string_view plural;
  std::string_view kind;
};

KubePlace PlaceOf(KubeKind kind);

/// Objects with this label are ours.
inline constexpr std::string_view kKubeSelector = "pixii.dev/store=v1";
inline constexpr std::string_view kKubeHolderLabel = "pixii.dev/holder";
inline constexpr std::string_view kKubeKeyAnnotation = "pixii.dev/key";
/// The API takes no ConfigMap with more data; so every value has room in one.
inline constexpr std::size_t kKubeDataBytesMax = 1 << 20;
static_assert(kStoreValueBytesMax <= kKubeDataBytesMax);

/// Which object, and which state of it.
struct KubeVersion {
  std::string uid = {};
  std::string resource_version = {};

  friend bool operator==(const KubeVersion&, const KubeVersion&) = default;
};

/// A Lease as a reader sees it.
struct KubeLease {
  std::string name;
  KubeVersion version;
  std::string renew_time;    // a text that changes while the holder lives
  std::string holder;        // its holder's id
  rt::Duration duration{0};  // 1 s .. 1 h
};

/// A ConfigMap as a reader sees it.
struct KubeEntry {
  std::string name;
  KubeVersion version;
  std::string holder;  // it counts while that one's Lease is renewed
  std::string key;
  std::string value;
};

/// The member at the end of `path`, or null.
const wire::Json* FindAt(const wire::Json& json, std::initializer_list<std::string_view> path);
/// The text there; empty if there is none.
std::string TextAt(const wire::Json& json, std::initializer_list<std::string_view> path);
KubeVersion VersionOf(const wire::Json& object);
/// A resource version as a number, as they are in every server; 0 if this is none.
std::uint64_t ResourceNumber(std::string_view resource_version);

std::string KubeLeaseName(std::string_view holder);
/// A name that every key has of its own, of what names may have.
std::string KubeEntryName(std::string_view key);

/// "2026-01-31T23:59:59.000001Z".
std::string KubeMicroTime(rt::WallTime time);

wire::Json MakeKubeLease(const std::string& holder, rt::Duration ttl, rt::WallTime now);
/// What a renewal changes, as a merge patch.
wire::Json MakeKubeRenewal(rt::WallTime now);
/// `lease`: that of `holder`, which owns it: the cluster's garbage collector takes both.
wire::Json MakeKubeEntry(const std::string& key, const std::string& value,
                         const std::string& holder, const KubeVersion& lease);

/// Nothing if `object` is none of ours, or not whole.
std::optional<KubeLease> ReadKubeLease(const wire::Json& object);
std::optional<KubeEntry> ReadKubeEntry(const wire::Json& object);

}  // namespace pixii::control
