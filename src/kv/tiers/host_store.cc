#include "kv/tiers/host_store.h"

#include <cstring>
#include <utility>

namespace pixii::kv {

HostStore::HostStore(const BlockShape& shape, std::uint32_t slot_count)
    : shape_(shape), memory_(slot_count * shape.payload_bytes()), blocks_(slot_count) {}

std::span<std::byte> HostStore::bytes(std::uint32_t slot) {
  return memory_.bytes().subspan(slot * shape_.payload_bytes(), shape_.payload_bytes());
}

Result<void> HostStore::Write(std::uint32_t slot, StoredBlock block,
                              std::span<const std::byte> payload) {
  if (block.checksums.empty()) {
    block.checksums.resize(shape_.slice_count());
    CopyAndSum(shape_, payload, bytes(slot), block.checksums);
  } else {
    std::memcpy(bytes(slot).data(), payload.data(), payload.size());
  }
  blocks_[slot] = std::move(block);
  return {};
}

BlockFault HostStore::Read(std::uint32_t slot, const Hash128& /*hash*/, StoredBlock& block,
                           std::span<const std::byte>& payload) {
  if (!blocks_[slot].root) {
    return BlockFault::kMissing;
  }
  block = blocks_[slot];
  payload = bytes(slot);
  return BlockFault::kNone;
}

}  // namespace pixii::kv
