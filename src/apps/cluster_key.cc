#include "apps/cluster_key.h"

#include <fmt/format.h>

#include <optional>
#include <span>

#include "rt/file.h"
#include "rt/random.h"

namespace pixii::apps {

namespace {

constexpr std::size_t kKeyBytesMin = 32;
constexpr std::uint64_t kKeyBytesMax = 4096;

}  // namespace

Result<std::string> ReadClusterKey(const std::string& path) {
  if (path.empty()) {
    return std::string();
  }
  Result<std::string> key = rt::ReadFile(path, kKeyBytesMax);
  if (!key) {
    return Fail(key.error().code(), "cluster-key: " + key.error().detail(), "cluster-key");
  }
  if (key->size() < kKeyBytesMin) {
    return Fail(Code::kInvalidArgument,
                fmt::format("cluster-key: {} holds {} bytes; a key has at least {}", path,
                            key->size(), kKeyBytesMin),
                "cluster-key");
  }
  return key;
}

Result<void> MakeClusterKey(const std::string& path) {
  PX_TRY(const std::optional<rt::FileInfo> info, rt::StatFile(path));
  if (info) {
    return {};
  }
  std::string key(kKeyBytesMin, '\0');
  rt::FillFromSystem(std::as_writable_bytes(std::span(key)));
  return rt::WriteFileAtomic(path, key, 0600);
}

}  // namespace pixii::apps
