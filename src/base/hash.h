// 128-bit XXH3 digests with a secret: identities that clients cannot forge and that survive
// restarts.
//
// Source: XXH3 (xxHash 0.8, Debian's libxxhash). Keyed through XXH3_128bits_withSeed over a
// secret-prefixed state.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace pixii {

struct Hash128 {
  std::uint64_t low = 0;
  std::uint64_t high = 0;

  friend auto operator<=>(const Hash128&, const Hash128&) = default;
};

struct Hash128Hasher {
  std::size_t operator()(const Hash128& hash) const { return hash.low; }
};

/// 32 hexadecimal digits, high half first.
std::string ToHex(const Hash128& hash);

/// Secret of at least 136 bytes derived from a key of any length; equal keys give equal secrets.
class HashKey final {
 public:
  explicit HashKey(std::string_view key);

  Hash128 Digest(std::span<const std::byte> bytes) const;
  /// Chains: digest of (parent, bytes).
  Hash128 Chain(const Hash128& parent, std::span<const std::byte> bytes) const;

 private:
  std::array<unsigned char, 192> secret_;
};

/// Unkeyed 64-bit XXH3, for tables and deterministic mock data; never for identity.
std::uint64_t Hash64(std::span<const std::byte> bytes, std::uint64_t seed = 0);

}  // namespace pixii
