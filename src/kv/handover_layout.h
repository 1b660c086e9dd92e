// Blocks of a hand-over that are cut otherwise than this cache's: by tensor or pipeline
// parallelism, or by tokens of a block.
//
// Thread: immutable once made. docs/kv_transfer.md, docs/formats/kv_layout.md
// Their blocks are read whole into memory of their own and proven there; what is proven is then put
// where it belongs in blocks of ours.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "kv/block_identity.h"
#include "kv/connector.h"
#include "kv/reshard.h"
#include "wire/messages/handover.h"

namespace pixii::kv {

class HandoverLayout final {
 public:
  /// Null where their blocks are as ours. Errors: kInvalidArgument, kUnsupported naming what
  /// differs with both values, kDataCorrupt.
  static Result<std::shared_ptr<const HandoverLayout>> Create(const wire::KvLayoutRecord& theirs,
                                                              const BlockGeometry& ours);

  explicit HandoverLayout(Reshard reshard) : reshard_(std::move(reshard)) {}

  /// How many blocks of ours, from the first on, the record's blocks give, if they are those of
  /// `chain`; none if they are others. Their identities are made anew from our tokens.
  std::uint32_t Usable(const wire::HandoverRecord& record, const BlockChain& chain,
                       const BlockIdentity& identity) const;

  /// Their blocks that `count` of ours from `first` on need.
  Interval Sources(std::uint32_t first, std::uint32_t count) const;

  /// How many blocks of ours their first `count` give.
  std::uint32_t WholeOf(std::uint32_t count) const {
    return count * reshard_.source().block_tokens / reshard_.target().block_tokens;
  }

  std::uint64_t source_size_bytes() const {
    return reshard_.source().rank_offset_bytes(reshard_.source().rank_count());
  }

  /// Puts what `sources` hold, their blocks `from` on one behind the other, into `targets`, ours
  /// from `first` on. Returns how many of these are whole now, from the first on.
  std::uint32_t Fill(std::span<const std::byte> sources, Interval from, std::uint32_t first,
                     std::span<const BlockMemory> targets) const;

 private:
  Reshard reshard_;
};

inline constexpr std::size_t kHandoverHashBytes = 16;

/// Identities as bytes, kHandoverHashBytes each, low half first.
std::string PackHashes(std::span<const Hash128> hashes);

}  // namespace pixii::kv
