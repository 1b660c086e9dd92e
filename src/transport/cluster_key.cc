#include "transport/cluster_key.h"

#include <fmt/format.h>

#include <span>
#include <string>

namespace pixii::transport {

Result<ClusterKey> ClusterKey::FromSecret(std::string_view secret) {
  while (!secret.empty() && (secret.back() == '\n' || secret.back() == '\r' ||
                             secret.back() == ' ' || secret.back() == '\t')) {
    secret.remove_suffix(1);
  }
  if (secret.size() < kSecretBytesMin) {
    return Fail(Code::kInvalidArgument,
                fmt::format("the cluster key has {} bytes; at least {}, best 32 random ones",
                            secret.size(), kSecretBytesMin),
                "cluster_key");
  }
  return ClusterKey(
      HmacSha256(std::as_bytes(std::span(secret.data(), secret.size())), "pixii cluster key 1"));
}

Mac ClusterKey::Derive(std::string_view label, std::string_view bytes) const {
  std::string text(label);
  text += '\0';
  text += bytes;
  return HmacSha256(key_, text);
}

}  // namespace pixii::transport
