#include "kv/tiers/block_store.h"

#include <utility>

namespace pixii::kv {

void BlockStore::ReadMany(std::span<const Ask> asks, const Wanted& wanted, const OnRead& on_read) {
  for (std::size_t i = 0; i < asks.size(); ++i) {
    if (!wanted(i)) {
      continue;
    }
    StoredBlock block;
    std::span<const std::byte> payload;
    const BlockFault fault = Read(asks[i].slot, asks[i].hash, block, payload);
    on_read(i, fault, block, payload);
  }
}

std::vector<Result<void>> BlockStore::WriteMany(std::span<const std::uint32_t> slots,
                                                const Source& source) {
  std::vector<Result<void>> results;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    StoredBlock block;
    std::span<const std::byte> payload;
    results.push_back(source(i, block, payload)
                          ? Write(slots[i], std::move(block), payload)
                          : Fail(Code::kTooLarge, "the block is not there any more"));
  }
  return results;
}

}  // namespace pixii::kv
