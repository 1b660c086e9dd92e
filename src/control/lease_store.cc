#include "control/lease_store.h"

#include <fmt/format.h>

#include <algorithm>

namespace pixii::control {

Result<void> CheckStoreEntry(const std::string& key, const std::string& value) {
  if (key.empty() || key.size() > kStoreKeyBytesMax) {
    return Fail(Code::kInvalidArgument, fmt::format("a key of {} bytes; it may have 1 to {}",
                                                    key.size(), kStoreKeyBytesMax));
  }
  if (!std::ranges::all_of(key, [](char c) { return c > 0x20 && c < 0x7f; })) {
    return Fail(Code::kInvalidArgument, "a key has other bytes than printable ASCII");
  }
  if (value.size() > kStoreValueBytesMax) {
    return Fail(Code::kTooLarge, fmt::format("the value of '{}' has {} bytes; it may have {}", key,
                                             value.size(), kStoreValueBytesMax));
  }
  return {};
}

}  // namespace pixii::control
