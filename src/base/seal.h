// Encryption that shows whether it was touched: AES-256-GCM, by OpenSSL.
//
// Thread: immutable after construction; any.
// A nonce is never used twice under one key: random ones of 96 bits, for 2^32 seals at most.
// Source: NIST SP 800-38D.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/mac.h"

namespace pixii {

using SealNonce = std::array<std::byte, 12>;
using SealTag = std::array<std::byte, 16>;

class SealKey final {
 public:
  /// The key for `purpose`, from a secret of any length: HKDF-SHA256 (RFC 5869).
  SealKey(std::string_view secret, std::string_view purpose);

  /// Encrypts `bytes` in place; `context` is not encrypted, but Open wants the same.
  SealTag Seal(const SealNonce& nonce, std::span<const std::byte> context,
               std::span<std::byte> bytes) const;

  /// Decrypts in place. False: key, nonce, context, tag or bytes are not what they were; `bytes`
  /// are then undefined.
  bool Open(const SealNonce& nonce, std::span<const std::byte> context, const SealTag& tag,
            std::span<std::byte> bytes) const;

 private:
  Mac key_;
};

}  // namespace pixii
