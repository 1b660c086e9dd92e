// The record of a hand-over as bytes, and whether it is of use here.
//
// Thread: pure functions. docs/formats/handover.md
// "PXHO", a version byte, the message in MessagePack (wire/messages/handover.h), then a digest of
// all before under the cluster's key: a record that was changed on its way, or that a stranger
// made, is no record.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/hash.h"
#include "base/result.h"
#include "wire/messages/handover.h"

namespace pixii::kv {

inline constexpr std::uint8_t kHandoverAbi = 1;
inline constexpr std::size_t kHandoverRecordBytesMax = 32U << 20U;

/// One block of a record: which of the region's windows it is, and what proves its bytes.
struct HandoverBlock {
  std::uint32_t block = 0;
  std::uint32_t generation = 0;
  Hash128 sum;  // keyed digest of its bytes

  friend bool operator==(const HandoverBlock&, const HandoverBlock&) = default;
};

inline constexpr std::size_t kHandoverBlockBytes = 24;

std::string PackBlocks(std::span<const HandoverBlock> blocks);
std::uint32_t PackedBlockCount(const wire::HandoverRecord& record);
/// Pre: index < PackedBlockCount(record).
HandoverBlock PackedBlock(const wire::HandoverRecord& record, std::uint32_t index);

std::string EncodeHandover(const wire::HandoverRecord& record, const HashKey& key);

/// Errors: kDataCorrupt (no record, or not of this key), kUnsupported (another version, with both
/// numbers), kTooLarge.
Result<wire::HandoverRecord> DecodeHandover(std::string_view bytes, const HashKey& key);

/// Whether blocks of `theirs` can be used by whoever says `ours`: only agent, region and blocks may
/// differ, and their size where both say how blocks are cut (kv/handover_layout.h). Errors:
/// kInvalidArgument naming what differs, with both values.
Result<void> CheckHandover(const wire::HandoverRecord& theirs, const wire::HandoverRecord& ours);

}  // namespace pixii::kv
