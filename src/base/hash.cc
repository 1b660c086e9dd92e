#include "base/hash.h"

// The state type and the secret generator are behind this switch in xxHash 0.8; both are stable
// there.
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include <cstdio>

#include "base/assert.h"

namespace pixii {

std::string ToHex(const Hash128& hash) {
  char text[33];
  std::snprintf(text, sizeof(text), "%016llx%016llx", static_cast<unsigned long long>(hash.high),
                static_cast<unsigned long long>(hash.low));
  return text;
}

HashKey::HashKey(std::string_view key) : secret_{} {
  static_assert(sizeof(secret_) >= XXH3_SECRET_SIZE_MIN);
  XXH3_generateSecret(secret_.data(), secret_.size(), key.data(), key.size());
}

Hash128 HashKey::Digest(std::span<const std::byte> bytes) const {
  XXH128_hash_t hash =
      XXH3_128bits_withSecret(bytes.data(), bytes.size(), secret_.data(), secret_.size());
  return {hash.low64, hash.high64};
}

Hash128 HashKey::Chain(const Hash128& parent, std::span<const std::byte> bytes) const {
  XXH3_state_t state;
  XXH3_INITSTATE(&state);
  XXH3_128bits_reset_withSecret(&state, secret_.data(), secret_.size());
  XXH3_128bits_update(&state, &parent, sizeof(parent));
  XXH3_128bits_update(&state, bytes.data(), bytes.size());
  XXH128_hash_t hash = XXH3_128bits_digest(&state);
  return {hash.low64, hash.high64};
}

std::uint64_t Hash64(std::span<const std::byte> bytes, std::uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

}  // namespace pixii
