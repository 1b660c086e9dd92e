#include "control/discovery_source.h"

#include <fmt/format.h>

#include <utility>

#include "control/etcd_store.h"
#include "control/file_store.h"

namespace pixii::control {

namespace {

constexpr std::string_view kFilePrefix = "file:";
constexpr std::string_view kEtcdPrefix = "etcd://";

}  // namespace

Result<DiscoverySource> ParseDiscoverySource(std::string_view text) {
  DiscoverySource source;
  if (text == "mem") {
    return source;
  }
  if (text == "kubernetes") {
    return Fail(Code::kUnsupported, "discovery by Kubernetes is not part of this build; use etcd");
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
              fmt::format("'{}' is none of mem, file:DIR, etcd://HOST:PORT, kubernetes", text));
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
    case DiscoverySource::Kind::kMem:
      break;
  }
  return std::make_unique<MemStore>(
      place.loop, place.hub ? place.hub : std::make_shared<MemHub>(place.loop, lease));
}

}  // namespace pixii::control
