#include "wire/public_hash.h"

// In line: a router computes tens of millions of chain hashes a second.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <string>

#include "wire/json.h"

namespace pixii::wire {

static_assert(std::endian::native == std::endian::little, "hashes are of little-endian words");

std::uint64_t PublicHashSeed(std::string_view salt, std::string_view adapter) {
  if (salt.empty() && adapter.empty()) {
    return kPublicHashSeed;
  }
  Json fields(Json::Object{});
  if (!salt.empty()) {
    fields.Set("salt", Json(salt));
  }
  if (!adapter.empty()) {
    fields.Set("lora_name", Json(adapter));
  }
  const std::string text = fields.Dump();
  return XXH3_64bits_withSeed(text.data(), text.size(), 0);
}

std::uint64_t PublicBlockHash(std::span<const TokenId> tokens, std::uint64_t seed,
                              std::span<const std::uint64_t> media) {
  if (media.empty()) {
    return XXH3_64bits_withSeed(tokens.data(), tokens.size_bytes(), seed);
  }
  std::vector<std::uint64_t> sorted(media.begin(), media.end());
  std::ranges::sort(sorted);
  std::string bytes(reinterpret_cast<const char*>(tokens.data()), tokens.size_bytes());
  bytes.append(reinterpret_cast<const char*>(sorted.data()), sorted.size() * sizeof(sorted[0]));
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

std::vector<std::uint64_t> PublicBlockHashes(std::span<const TokenId> tokens,
                                             std::uint32_t block_tokens, std::uint64_t seed) {
  std::vector<std::uint64_t> out;
  out.reserve(tokens.size() / block_tokens);
  for (std::size_t i = 0; i + block_tokens <= tokens.size(); i += block_tokens) {
    out.push_back(PublicBlockHash(tokens.subspan(i, block_tokens), seed));
  }
  return out;
}

std::uint64_t PublicChainHash(std::uint64_t parent, std::uint64_t block) {
  const std::uint64_t both[2] = {parent, block};
  return XXH3_64bits_withSeed(both, sizeof(both), kPublicHashSeed);
}

}  // namespace pixii::wire
