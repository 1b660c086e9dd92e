// Stored blocks that only who has the secret can read, each tenant's bytes under a key of its own.
// docs/formats/kv_block.md
//
// Thread: immutable after construction; any.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/seal.h"
#include "kv/tiers/stored_block.h"

namespace pixii::kv {

class BlockSealer final {
 public:
  /// What stands before a sealed header, in the clear.
  static constexpr std::size_t kPrefixBytes = 96;

  explicit BlockSealer(std::string_view secret);

  /// `header` has the encoded one behind kPrefixBytes; both are encrypted in place.
  void Seal(const StoredBlock& block, std::span<std::byte> header,
            std::span<std::byte> payload) const;

  /// Decrypts the header in place and reads it. kNone, kHeader (also for another secret) or
  /// kVersion.
  BlockFault OpenHeader(std::span<std::byte> header, StoredBlock& block) const;

  /// Decrypts the payload in place. Pre: OpenHeader of the same `header` gave `block`. kNone or
  /// kChecksum.
  BlockFault OpenPayload(std::span<const std::byte> header, const StoredBlock& block,
                         std::span<std::byte> payload) const;

 private:
  SealKey TenantKey(const StoredBlock& block) const;

  std::string secret_;
  SealKey header_key_;
};

/// Where the header's own bytes begin in the room that it has.
inline std::span<std::byte> PlainHeader(const std::shared_ptr<const BlockSealer>& sealer,
                                        std::span<std::byte> header) {
  return sealer ? header.subspan(BlockSealer::kPrefixBytes) : header;
}

/// Reads a header, sealed or not.
inline BlockFault ReadHeader(const std::shared_ptr<const BlockSealer>& sealer,
                             std::span<std::byte> header, StoredBlock& block) {
  return sealer ? sealer->OpenHeader(header, block) : DecodeHeader(header, block);
}

}  // namespace pixii::kv
