#include "control/discovery_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "control/etcd_store.h"
#include "control/file_store.h"
#include "control/kube_store.h"
#include "rt/file.h"
#include "rt/tls.h"

namespace pixii::control {

namespace {

constexpr std::string_view kFilePrefix = "file:";
constexpr std::string_view kEtcdPrefix = "etcd://";
constexpr std::string_view kKubePrefix = "kubernetes://";
constexpr std::uint64_t kNamespaceFileBytesMax = 1024;

// RFC 1123 label.
bool IsNamespace(std::string_view text) {
  const auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !text.empty() && text.size() <= 63 && plain(text.front()) && plain(text.back()) &&
         std::ranges::all_of(text, [&](char c) { return plain(c) || c == '-'; });
}

// "HOST:PORT[/NAMESPACE]"
Result<KubeAccess> ParseKubeAccess(std::string_view text) {
  KubeAccess access;
  const std::size_t slash = text.find('/');
  PX_TRY(access.server, rt::ParseAddress(text.substr(0, slash)));
  if (access.server.port == 0) {
    return Fail(Code::kInvalidArgument,
                fmt::format("'{}{}' names no host and port", kKubePrefix, text));
  }
  if (slash != std::string_view::npos) {
    access.space = text.substr(slash + 1);
  }
  if (!IsNamespace(access.space)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("'{}' is no namespace of Kubernetes", access.space));
  }
  return access;
}

}  // namespace

Result<DiscoverySource> ParseDiscoverySource(std::string_view text) {
  DiscoverySource source;
  if (text == "mem") {
    return source;
  }
  if (text == "kubernetes") {
    source.kind = DiscoverySource::Kind::kKubernetes;
    return source;
  }
  if (text.starts_with(kKubePrefix)) {
    source.kind = DiscoverySource::Kind::kKubernetes;
    PX_TRY(source.kube, ParseKubeAccess(text.substr(kKubePrefix.size())));
    return source;
  }
  if (text.starts_with(kFilePrefix) && text.size() > kFilePrefix.size()) {
    source.kind = DiscoverySource::Kind::kFile;
    source.folder = text.substr(kFilePrefix.size());
    return source;
  }
  if (text.starts_with(kEtcdPrefix)) {
    source.kind = DiscoverySource::Kind::kEtcd;
    std::string_view rest = text.substr(kEtcdPrefix.size());
    while (true) {
      const std::size_t comma = rest.find(',');
      PX_TRY(rt::Address address, rt::ParseAddress(rest.substr(0, comma)));
      if (address.port == 0) {
        return Fail(Code::kInvalidArgument, fmt::format("'{}' names no host and port", text));
      }
      source.endpoints.push_back(std::move(address));
      if (comma == std::string_view::npos) {
        return source;
      }
      rest.remove_prefix(comma + 1);
    }
  }
  return Fail(Code::kInvalidArgument,
              fmt::format("'{}' is none of file:DIR, etcd://HOST:PORT, kubernetes, "
                          "kubernetes://HOST:PORT/NAMESPACE",
                          text));
}

Result<void> UsePod(DiscoverySource& source, const PodSurroundings& pod) {
  KubeAccess access;
  const char* end = pod.port.data() + pod.port.size();
  const auto [stop, error] = std::from_chars(pod.port.data(), end, access.server.port);
  if (pod.host.empty() || error != std::errc() || stop != end || access.server.port == 0) {
    return Fail(Code::kInvalidArgument,
                "this is no pod of a Kubernetes cluster: KUBERNETES_SERVICE_HOST and "
                "KUBERNETES_SERVICE_PORT name no server; outside of one give "
                "kubernetes://HOST:PORT/NAMESPACE, for example of kubectl proxy");
  }
  access.server.host = pod.host;
  access.token_file = pod.folder + "/token";
  Result<std::string> space = rt::ReadFile(pod.folder + "/namespace", kNamespaceFileBytesMax);
  if (!space) {
    return Fail(Code::kInvalidArgument,
                fmt::format("the pod has no service account: {}", space.error().detail()));
  }
  while (!space->empty() && static_cast<unsigned char>(space->back()) <= ' ') {
    space->pop_back();
  }
  if (!IsNamespace(*space)) {
    return Fail(Code::kInvalidArgument, fmt::format("{}/namespace holds no namespace", pod.folder));
  }
  access.space = std::move(*space);
  PX_TRY(access.tls, rt::TlsContext::ForClient({.authorities = pod.folder + "/ca.crt"}, pod.host));
  source.kube = std::move(access);
  return {};
}

std::unique_ptr<LeaseStore> OpenLeaseStore(const DiscoverySource& source, const StorePlace& place,
                                           LeaseOptions lease) {
  switch (source.kind) {
    case DiscoverySource::Kind::kFile:
      return std::make_unique<FileStore>(place.loop,
                                         FileStoreOptions{.folder = source.folder, .lease = lease});
    case DiscoverySource::Kind::kEtcd: {
      EtcdStoreOptions options;
      options.endpoints = source.endpoints;
      options.lease = lease;
      return std::make_unique<EtcdStore>(place.loop, place.net, std::move(options));
    }
    case DiscoverySource::Kind::kKubernetes: {
      KubeStoreOptions options;
      options.access = source.kube;
      options.lease = lease;
      return std::make_unique<KubeStore>(place.loop, place.net, std::move(options));
    }
    case DiscoverySource::Kind::kMem:
      break;
  }
  return std::make_unique<MemStore>(
      place.loop, place.hub ? place.hub : std::make_shared<MemHub>(place.loop, lease));
}

}  // namespace pixii::control
