// What a KV block is: a chain of keyed 128-bit hashes over everything that its bytes depend on.
//
// Thread: immutable after construction.
// hash(block i) = Chain(hash(block i - 1), its tokens); hash(block -1) = Digest(root).
// Source: architecture.md section 5.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/hash.h"
#include "base/ids.h"

namespace pixii::kv {

/// What all blocks of a request have in common.
struct BlockRootFields {
  std::string_view model_fingerprint;
  std::string_view numerics_id;
  std::string_view kv_dtype;
  std::string_view adapter;       // name and version; empty: none
  std::string_view tenant;        // from the authenticated key
  std::string_view salt;          // a client's own: it shares with nobody who does not know it
  std::uint64_t public_seed = 0;  // of the blocks' public hashes; no part of their identity
  // What those hashes are of, for listeners that make them themselves; no part of it either.
  std::string_view public_adapter = {};  // name; empty: the model alone
  std::string_view public_salt = {};     // wire::PublicSalt
};

/// The start of a chain: the fields in full, so that a hit compares them and not only their hash.
struct BlockRoot {
  std::string
      bytes;  // each field with its length in front: no two sets of fields give the same bytes
  Hash128 hash;
  std::uint64_t public_seed = 0;
  std::string public_adapter;
  std::string public_salt;
};

class BlockIdentity final {
 public:
  /// `hash_bits` below 128 zeroes the other bits: tests use it to force collisions.
  explicit BlockIdentity(std::string_view key, int hash_bits = 128);

  std::shared_ptr<const BlockRoot> MakeRoot(const BlockRootFields& fields) const;

  /// Hash of the block with `tokens` that follows the block (or root) with hash `parent`.
  Hash128 Chain(const Hash128& parent, std::span<const TokenId> tokens) const;

 private:
  Hash128 Weaken(Hash128 hash) const;

  HashKey key_;
  std::uint64_t low_mask_;
  std::uint64_t high_mask_;
};

}  // namespace pixii::kv
