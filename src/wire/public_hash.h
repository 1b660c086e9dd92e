// The public hashes of KV blocks that workers and routers exchange: of a block's tokens, and of the
// chain of blocks up to it. Anybody can compute them; no block is believed because of one.
//
// Thread: functions.
// Source: spec/dynamo-core.md B.3. Of tokens: XXH3 of their little-endian 32-bit words, seeded;
// of a chain: XXH3 of the chain before and the block's hash, 8 bytes each, seed 1337.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/ids.h"

namespace pixii::wire {

inline constexpr std::uint64_t kPublicHashSeed = 1337;

/// Seed of the block hashes of requests with this salt and adapter; kPublicHashSeed if both are
/// empty, else the hash of a JSON object of those that are not.
std::uint64_t PublicHashSeed(std::string_view salt, std::string_view adapter);

/// Hash of one complete block. `media`: hashes of the objects that begin in it, in any order.
std::uint64_t PublicBlockHash(std::span<const TokenId> tokens, std::uint64_t seed,
                              std::span<const std::uint64_t> media = {});

/// Hashes of the complete blocks of `tokens`, in order. Pre: block_tokens > 0.
std::vector<std::uint64_t> PublicBlockHashes(std::span<const TokenId> tokens,
                                             std::uint32_t block_tokens, std::uint64_t seed);

/// Hash of the chain whose last block has hash `block`; `parent`: of the chain before it. The
/// chain of a first block is the block's hash itself.
std::uint64_t PublicChainHash(std::uint64_t parent, std::uint64_t block);

}  // namespace pixii::wire
