// The secret that all processes of a cluster have: whoever cannot prove to know it is a stranger.
//
// Thread: a value.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "base/mac.h"
#include "base/result.h"

namespace pixii::transport {

class ClusterKey final {
 public:
  static constexpr std::size_t kSecretBytesMin = 16;

  /// `secret`: what a key file holds; white space at its end does not count. Errors:
  /// kInvalidArgument if it is shorter than kSecretBytesMin.
  static Result<ClusterKey> FromSecret(std::string_view secret);

  /// Equal for equal keys, labels and bytes; tells nothing of the key or of other labels.
  Mac Derive(std::string_view label, std::string_view bytes) const;

 private:
  explicit ClusterKey(const Mac& key) : key_(key) {}

  Mac key_;
};

}  // namespace pixii::transport
