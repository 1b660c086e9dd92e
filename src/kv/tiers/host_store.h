// Blocks in this process's memory (G2).
//
// Thread: each slot belongs to one thread at a time: to whoever writes it, then to its readers.
#pragma once

#include <vector>

#include "kv/tiers/block_store.h"
#include "rt/block_file.h"

namespace pixii::kv {

class HostStore final : public BlockStore {
 public:
  HostStore(const BlockShape& shape, std::uint32_t slot_count);

  Result<void> Write(std::uint32_t slot, StoredBlock block,
                     std::span<const std::byte> payload) override;
  BlockFault Read(std::uint32_t slot, const Hash128& hash, StoredBlock& block,
                  std::span<const std::byte>& payload) override;

  /// Where the bytes of `slot` are.
  std::span<std::byte> bytes(std::uint32_t slot);

 private:
  BlockShape shape_;
  rt::AlignedBytes memory_;          // [slot][payload]
  std::vector<StoredBlock> blocks_;  // [slot]; no root: nothing is there
};

}  // namespace pixii::kv
