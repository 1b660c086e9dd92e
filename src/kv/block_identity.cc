#include "kv/block_identity.h"

#include <cstddef>
#include <utility>

namespace pixii::kv {

namespace {

std::uint64_t LowBits(int count) {
  if (count <= 0) {
    return 0;
  }
  return count >= 64 ? ~0ULL : (1ULL << count) - 1;
}

void AppendField(std::string& out, std::string_view field) {
  std::uint64_t size = field.size();
  for (int shift = 0; shift < 64; shift += 8) {
    out.push_back(static_cast<char>(size >> shift & 0xff));
  }
  out += field;
}

}  // namespace

BlockIdentity::BlockIdentity(std::string_view key, int hash_bits)
    : key_(key), low_mask_(LowBits(hash_bits)), high_mask_(LowBits(hash_bits - 64)) {}

std::shared_ptr<const BlockRoot> BlockIdentity::MakeRoot(const BlockRootFields& fields) const {
  BlockRoot root;
  for (std::string_view field : {fields.model_fingerprint, fields.numerics_id, fields.kv_dtype,
                                 fields.adapter, fields.tenant, fields.salt}) {
    AppendField(root.bytes, field);
  }
  root.hash = Weaken(key_.Digest(std::as_bytes(std::span(root.bytes))));
  root.public_seed = fields.public_seed;
  root.public_adapter = fields.public_adapter;
  root.public_salt = fields.public_salt;
  return std::make_shared<const BlockRoot>(std::move(root));
}

Hash128 BlockIdentity::Chain(const Hash128& parent, std::span<const TokenId> tokens) const {
  return Weaken(key_.Chain(parent, std::as_bytes(tokens)));
}

Hash128 BlockIdentity::Weaken(Hash128 hash) const {
  return {hash.low & low_mask_, hash.high & high_mask_};
}

}  // namespace pixii::kv
