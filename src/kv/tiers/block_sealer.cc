#include "kv/tiers/block_sealer.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include <fmt/format.h>

#include "base/assert.h"
#include "rt/random.h"

namespace pixii::kv {

namespace {

constexpr std::string_view kMagic = "PXKVSEAL";
constexpr std::uint32_t kSealVersion = 1;
constexpr std::size_t kContextBytes = 16;  // of the prefix: magic, version, size
constexpr std::size_t kHeaderNonce = 16;
constexpr std::size_t kPayloadNonce = 28;
constexpr std::size_t kHeaderTag = 40;
constexpr std::size_t kPayloadTag = 56;
constexpr std::size_t kEnd = 72;

template <class T>
T Get(std::span<const std::byte> bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

template <class T>
void Put(std::span<std::byte> bytes, std::size_t offset, const T& value) {
  std::memcpy(bytes.data() + offset, &value, sizeof(T));
}

/// The bytes belong to this block at this place.
std::array<std::byte, 24> ContextOf(const StoredBlock& block) {
  std::array<std::byte, 24> context{};
  Put(std::span<std::byte>(context), 0, block.hash.low);
  Put(std::span<std::byte>(context), 8, block.hash.high);
  Put(std::span<std::byte>(context), 16, block.generation);
  return context;
}

}  // namespace

BlockSealer::BlockSealer(std::string_view secret)
    : secret_(secret), header_key_(secret, "pixii kv header") {}

SealKey BlockSealer::TenantKey(const StoredBlock& block) const {
  const std::optional<BlockRootFields> fields = ReadRootBytes(block.root->bytes);
  return {secret_, fmt::format("pixii kv tenant {}", fields ? fields->tenant : "")};
}

void BlockSealer::Seal(const StoredBlock& block, std::span<std::byte> header,
                       std::span<std::byte> payload) const {
  PX_ASSERT(header.size() > kPrefixBytes);
  std::ranges::fill(header.first(kPrefixBytes), std::byte{0});
  std::memcpy(header.data(), kMagic.data(), kMagic.size());
  Put(header, 8, kSealVersion);
  Put(header, 12, static_cast<std::uint32_t>(header.size()));
  SealNonce header_nonce;
  SealNonce payload_nonce;
  rt::FillFromSystem(header_nonce);
  rt::FillFromSystem(payload_nonce);
  Put(header, kHeaderNonce, header_nonce);
  Put(header, kPayloadNonce, payload_nonce);
  Put(header, kPayloadTag, TenantKey(block).Seal(payload_nonce, ContextOf(block), payload));
  Put(header, kHeaderTag,
      header_key_.Seal(header_nonce, header.first(kContextBytes), header.subspan(kPrefixBytes)));
}

BlockFault BlockSealer::OpenHeader(std::span<std::byte> header, StoredBlock& block) const {
  if (header.size() <= kPrefixBytes ||
      std::memcmp(header.data(), kMagic.data(), kMagic.size()) != 0 ||
      Get<std::uint32_t>(header, 12) != header.size() ||
      !std::ranges::all_of(header.subspan(kEnd, kPrefixBytes - kEnd),
                           [](std::byte byte) { return byte == std::byte{0}; })) {
    return BlockFault::kHeader;
  }
  if (Get<std::uint32_t>(header, 8) != kSealVersion) {
    return BlockFault::kVersion;
  }
  if (!header_key_.Open(Get<SealNonce>(header, kHeaderNonce), header.first(kContextBytes),
                        Get<SealTag>(header, kHeaderTag), header.subspan(kPrefixBytes))) {
    return BlockFault::kHeader;
  }
  return DecodeHeader(header.subspan(kPrefixBytes), block);
}

BlockFault BlockSealer::OpenPayload(std::span<const std::byte> header, const StoredBlock& block,
                                    std::span<std::byte> payload) const {
  return TenantKey(block).Open(Get<SealNonce>(header, kPayloadNonce), ContextOf(block),
                               Get<SealTag>(header, kPayloadTag), payload)
             ? BlockFault::kNone
             : BlockFault::kChecksum;
}

}  // namespace pixii::kv
