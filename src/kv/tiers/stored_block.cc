#include "kv/tiers/stored_block.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "base/assert.h"
#include "base/checked.h"
#include "kv/tiers/number_bytes.h"

namespace pixii::kv {

namespace {

constexpr std::string_view kMagic = "PXKVBLK\n";
constexpr std::size_t kFixedBytes = 192;
constexpr std::uint32_t kHasPublicHash = 1;
constexpr std::size_t kTextBytesMax = 1U << 20;
constexpr std::uint32_t kCountMax = 1U << 20;  // slices, tokens

void PutHash(std::span<std::byte> out, std::size_t offset, const Hash128& hash) {
  Put(out, offset, hash.low);
  Put(out, offset + 8, hash.high);
}

Hash128 GetHash(std::span<const std::byte> bytes, std::size_t offset) {
  return {Get<std::uint64_t>(bytes, offset), Get<std::uint64_t>(bytes, offset + 8)};
}

std::size_t RoundUp(std::size_t size, std::size_t unit) { return CeilDiv(size, unit) * unit; }

std::size_t EndOfTexts(std::size_t text_bytes) { return RoundUp(kFixedBytes + text_bytes, 4); }

std::size_t HeaderBytes(std::size_t text_bytes, std::size_t tokens, std::size_t slices) {
  return RoundUp(EndOfTexts(text_bytes) + 4 * (tokens + 2 * slices), 8) + 8;
}

std::uint32_t SumOf(std::span<const std::byte> slice) {
  return static_cast<std::uint32_t>(Hash64(slice));
}

/// Calls `fn` with each slice's number, offset and size.
template <class Fn>
void EachSlice(const BlockShape& shape, const Fn& fn) {
  std::size_t offset = 0;
  for (std::uint32_t number = 0; number < shape.slice_count(); ++number) {
    fn(number, offset, std::size_t{shape.slices()[number]});
    offset += shape.slices()[number];
  }
}

std::string_view Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

template <class T>
std::size_t PutAll(std::span<std::byte> out, std::size_t offset, const std::vector<T>& values) {
  static_assert(sizeof(T) == 4);
  if (!values.empty()) {  // memcpy takes no null
    std::memcpy(out.data() + offset, values.data(), 4 * values.size());
  }
  return offset + 4 * values.size();
}

template <class T>
std::size_t GetAll(std::span<const std::byte> bytes, std::size_t offset, std::vector<T>& values) {
  static_assert(sizeof(T) == 4);
  if (!values.empty()) {
    std::memcpy(values.data(), bytes.data() + offset, 4 * values.size());
  }
  return offset + 4 * values.size();
}

}  // namespace

std::string_view FaultName(BlockFault fault) {
  switch (fault) {
    case BlockFault::kNone:
      return "none";
    case BlockFault::kMissing:
      return "missing";
    case BlockFault::kIo:
      return "io";
    case BlockFault::kTruncated:
      return "truncated";
    case BlockFault::kHeader:
      return "header";
    case BlockFault::kVersion:
      return "version";
    case BlockFault::kIdentity:
      return "identity";
    case BlockFault::kRoot:
      return "root";
    case BlockFault::kTokens:
      return "tokens";
    case BlockFault::kShape:
      return "shape";
    case BlockFault::kGeneration:
      return "generation";
    case BlockFault::kChecksum:
      return "checksum";
  }
  return "none";
}

std::optional<BlockRootFields> ReadRootBytes(std::string_view bytes) {
  BlockRootFields fields;
  for (std::string_view* field : {&fields.model_fingerprint, &fields.numerics_id, &fields.kv_dtype,
                                  &fields.adapter, &fields.tenant, &fields.salt}) {
    if (bytes.size() < 8) {
      return std::nullopt;
    }
    const auto size = Get<std::uint64_t>(std::as_bytes(std::span(bytes)), 0);
    bytes.remove_prefix(8);
    if (size > bytes.size()) {
      return std::nullopt;
    }
    *field = bytes.substr(0, size);
    bytes.remove_prefix(size);
  }
  if (!bytes.empty()) {
    return std::nullopt;
  }
  return fields;
}

std::size_t HeaderCapacity(const BlockShape& shape, std::size_t text_bytes) {
  return RoundUp(HeaderBytes(text_bytes, shape.block_tokens(), shape.slice_count()),
                 kStoredBlockAlignment);
}

bool EncodeHeader(const StoredBlock& block, std::span<std::byte> out) {
  const BlockRoot& root = *block.root;
  const std::size_t text_bytes =
      root.bytes.size() + root.public_adapter.size() + root.public_salt.size();
  const std::size_t size = HeaderBytes(text_bytes, block.tokens.size(), block.checksums.size());
  if (size > out.size() || text_bytes > kTextBytesMax) {
    return false;
  }
  std::ranges::fill(out, std::byte{0});
  std::memcpy(out.data(), kMagic.data(), kMagic.size());
  Put(out, 8, kStoredBlockVersion);
  Put(out, 12, static_cast<std::uint32_t>(size));
  PutHash(out, 16, block.hash);
  PutHash(out, 32, block.parent);
  PutHash(out, 48, root.hash);
  Put(out, 64, block.generation);
  Put(out, 72, block.shape.payload_bytes());
  Put(out, 80, block.index);
  Put(out, 84, block.shape.block_tokens());
  Put(out, 88, block.shape.slice_count());
  Put(out, 112, block.public_hash ? kHasPublicHash : 0U);
  Put(out, 116, block.priority);
  Put(out, 120, block.public_hash.value_or(0));
  Put(out, 128, root.public_seed);
  Put(out, 136, static_cast<std::uint32_t>(root.bytes.size()));
  Put(out, 140, static_cast<std::uint32_t>(root.public_adapter.size()));
  Put(out, 144, static_cast<std::uint32_t>(root.public_salt.size()));
  Put(out, 148, block.frequency);
  Put(out, 152, block.public_parent);
  std::size_t offset = kFixedBytes;
  for (const std::string* text : {&root.bytes, &root.public_adapter, &root.public_salt}) {
    std::memcpy(out.data() + offset, text->data(), text->size());
    offset += text->size();
  }
  offset = PutAll(out, EndOfTexts(text_bytes), block.tokens);
  offset = PutAll(out, offset, block.shape.slices());
  PutAll(out, offset, block.checksums);
  Put(out, size - 8, Hash64(out.first(size - 8)));
  return true;
}

BlockFault DecodeHeader(std::span<const std::byte> bytes, StoredBlock& block) {
  if (bytes.size() < kFixedBytes + 8 || Text(bytes.first(8)) != kMagic) {
    return BlockFault::kHeader;
  }
  const auto version = Get<std::uint32_t>(bytes, 8);
  const auto size = Get<std::uint32_t>(bytes, 12);
  if (size < kFixedBytes + 8 || size > bytes.size() ||
      Get<std::uint64_t>(bytes, size - 8) != Hash64(bytes.first(size - 8)) ||
      !IsZero(bytes.subspan(size))) {
    return BlockFault::kHeader;
  }
  if (version != kStoredBlockVersion) {
    return BlockFault::kVersion;
  }
  // The sum is right: whoever wrote it meant it. It may still be somebody who means harm.
  const auto token_count = Get<std::uint32_t>(bytes, 84);
  const auto slice_count = Get<std::uint32_t>(bytes, 88);
  const std::size_t root_bytes = Get<std::uint32_t>(bytes, 136);
  const std::size_t adapter_bytes = Get<std::uint32_t>(bytes, 140);
  const std::size_t salt_bytes = Get<std::uint32_t>(bytes, 144);
  const std::size_t text_bytes = root_bytes + adapter_bytes + salt_bytes;
  const auto flags = Get<std::uint32_t>(bytes, 112);
  if (token_count > kCountMax || slice_count > kCountMax || text_bytes > kTextBytesMax ||
      (flags & ~kHasPublicHash) != 0 || HeaderBytes(text_bytes, token_count, slice_count) != size) {
    return BlockFault::kHeader;
  }
  std::vector<std::uint32_t> slices(slice_count);
  block.tokens.resize(token_count);
  block.checksums.resize(slice_count);
  std::size_t offset = GetAll(bytes, EndOfTexts(text_bytes), block.tokens);
  offset = GetAll(bytes, offset, slices);
  GetAll(bytes, offset, block.checksums);
  block.shape = BlockShape(token_count, std::move(slices));
  if (Get<std::uint64_t>(bytes, 72) != block.shape.payload_bytes()) {
    return BlockFault::kHeader;
  }
  BlockRoot root;
  root.bytes = Text(bytes.subspan(kFixedBytes, root_bytes));
  root.public_adapter = Text(bytes.subspan(kFixedBytes + root_bytes, adapter_bytes));
  root.public_salt = Text(bytes.subspan(kFixedBytes + root_bytes + adapter_bytes, salt_bytes));
  root.hash = GetHash(bytes, 48);
  root.public_seed = Get<std::uint64_t>(bytes, 128);
  if (!ReadRootBytes(root.bytes)) {
    return BlockFault::kHeader;
  }
  block.root = std::make_shared<const BlockRoot>(std::move(root));
  block.hash = GetHash(bytes, 16);
  block.parent = GetHash(bytes, 32);
  block.generation = Get<std::uint64_t>(bytes, 64);
  block.index = Get<std::uint32_t>(bytes, 80);
  block.priority = Get<std::int32_t>(bytes, 116);
  block.frequency = Get<std::uint32_t>(bytes, 148);
  block.public_parent = Get<std::uint64_t>(bytes, 152);
  block.public_hash =
      (flags & kHasPublicHash) != 0 ? std::optional(Get<std::uint64_t>(bytes, 120)) : std::nullopt;
  return BlockFault::kNone;
}

void SumSlices(const BlockShape& shape, std::span<const std::byte> payload,
               std::span<std::uint32_t> out) {
  PX_ASSERT(payload.size() == shape.payload_bytes() && out.size() == shape.slice_count());
  EachSlice(shape, [&](std::uint32_t number, std::size_t offset, std::size_t size) {
    out[number] = SumOf(payload.subspan(offset, size));
  });
}

// Slice by slice, so that what is summed is still near.
void CopyAndSum(const BlockShape& shape, std::span<const std::byte> payload,
                std::span<std::byte> copy, std::span<std::uint32_t> sums) {
  PX_ASSERT(payload.size() == shape.payload_bytes() && copy.size() >= payload.size());
  EachSlice(shape, [&](std::uint32_t number, std::size_t offset, std::size_t size) {
    std::memcpy(copy.data() + offset, payload.data() + offset, size);
    sums[number] = SumOf(copy.subspan(offset, size));
  });
}

BlockFault CompareHeader(const StoredBlock& block, const WantedBlock& wanted,
                         const BlockShape& shape) {
  if (block.shape != shape) {
    return BlockFault::kShape;
  }
  if (block.root->bytes != wanted.root->bytes) {
    return BlockFault::kRoot;
  }
  if (block.hash != wanted.hash || block.parent != wanted.parent || block.index != wanted.index) {
    return BlockFault::kIdentity;
  }
  if (block.tokens != wanted.tokens) {
    return BlockFault::kTokens;
  }
  if (wanted.generation != 0 && block.generation != wanted.generation) {
    return BlockFault::kGeneration;
  }
  return BlockFault::kNone;
}

BlockFault CheckPayload(const StoredBlock& block, std::span<const std::byte> payload) {
  BlockFault fault = BlockFault::kNone;
  EachSlice(block.shape, [&](std::uint32_t number, std::size_t offset, std::size_t size) {
    if (SumOf(payload.subspan(offset, size)) != block.checksums[number]) {
      fault = BlockFault::kChecksum;
    }
  });
  return fault;
}

}  // namespace pixii::kv
