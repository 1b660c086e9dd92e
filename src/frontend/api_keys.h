// Who may use the API: keys, known only by their SHA-256, compared in constant time.
//
// Thread: immutable.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pixii::frontend {

class ApiKeys final {
 public:
  /// Everybody may use the API.
  ApiKeys() = default;

  /// The content of a key file: one key a line; empty lines and lines with "#" in front are
  /// skipped. Errors: kInvalidArgument naming the line: a key has 8 to 256 visible ASCII
  /// characters; at least one key.
  static Result<ApiKeys> Parse(std::string_view file);

  bool open() const { return digests_.empty(); }

  /// The tenant of an Authorization header's value ("Bearer KEY"), empty if everybody may; nothing
  /// if refused.
  std::optional<std::string> Authenticate(std::optional<std::string_view> authorization) const;

 private:
  std::vector<std::string> digests_;  // SHA-256 of each key, hexadecimal
};

}  // namespace pixii::frontend
