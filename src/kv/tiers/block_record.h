// A block as one piece of bytes that whoever else keeps: header, perhaps sealed, and payload.
// docs/formats/kv_block.md
//
// Thread: immutable after construction; any.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "kv/tiers/block_sealer.h"
#include "kv/tiers/disk_store.h"
#include "kv/tiers/stored_block.h"

namespace pixii::kv {

class BlockRecord final {
 public:
  BlockRecord(const BlockShape& shape, const DiskModel& model,
              std::shared_ptr<const BlockSealer> sealer);

  /// Of every record.
  std::size_t size_bytes() const { return header_bytes_ + shape_.payload_bytes(); }

  const BlockShape& shape() const { return shape_; }

  /// Names shape, model and sealing: records of another scope are of no use.
  std::uint64_t scope() const { return scope_; }

  /// Makes the checksums if `block` has none; `out` gets size_bytes(). Errors: kTooLarge if the
  /// header does not fit.
  Result<void> Encode(StoredBlock block, std::span<const std::byte> payload,
                      std::string& out) const;

  /// Nothing of it is proven yet. `payload` lies in `record`, which is decrypted in place.
  BlockFault Decode(std::span<std::byte> record, StoredBlock& block,
                    std::span<const std::byte>& payload) const;

 private:
  BlockShape shape_;
  std::shared_ptr<const BlockSealer> sealer_;
  std::size_t header_bytes_;
  std::uint64_t scope_;
};

}  // namespace pixii::kv
