// What stands before the bytes of a KV block wherever it is kept outside the cache: whose they are,
// in full, and one checksum for each slice. docs/formats/kv_block.md
//
// Thread: values and functions.
// A block is believed only after Prove: every field of its identity is compared with what is
// wanted, not only its hash, and every byte is summed. Source: architecture.md section 5.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/ids.h"
#include "kv/block_identity.h"
#include "kv/tiers/block_shape.h"

namespace pixii::kv {

inline constexpr std::uint32_t kStoredBlockVersion = 1;
inline constexpr std::size_t kStoredBlockAlignment = 4096;  // bytes, of header and of payload

/// Why a stored block is not the wanted one. A closed set: metrics have it as a label.
enum class BlockFault : std::uint8_t {
  kNone,
  kMissing,     // it is not there any more
  kIo,          // the system failed to read it
  kTruncated,   // less is there than its header says
  kHeader,      // no header, or its checksum is wrong
  kVersion,     // of another version of the format
  kIdentity,    // another block's
  kRoot,        // of another model, numerics, dtype, adapter, tenant or salt
  kTokens,      // of other tokens
  kShape,       // of another layout
  kGeneration,  // an older one of the same place
  kChecksum,    // its bytes are not those that were written
};

std::string_view FaultName(BlockFault fault);

/// Whether bytes were there and were wrong. The others are a store that failed or forgot.
constexpr bool IsIntegrityFault(BlockFault fault) { return fault >= BlockFault::kTruncated; }

struct StoredBlock {
  Hash128 hash;
  Hash128 parent;  // of a first block the root's
  std::shared_ptr<const BlockRoot> root;
  std::uint64_t generation = 0;              // of the place; counts writes to it
  std::uint32_t index = 0;                   // in its chain
  std::int32_t priority = 0;                 // of the requests that used it
  std::uint32_t frequency = 0;               // as OffloadFilter counts
  std::optional<std::uint64_t> public_hash;  // of the chain up to it, as routers know it
  std::uint64_t public_parent = 0;           // of the chain before it, if index > 0
  BlockShape shape;
  std::vector<TokenId> tokens;           // [shape.block_tokens()]
  std::vector<std::uint32_t> checksums;  // [shape.slice_count()]
};

/// The fields of BlockRoot::bytes. Nothing if these are not such bytes.
std::optional<BlockRootFields> ReadRootBytes(std::string_view bytes);

/// Bytes of a header, padding included, that has room for a root, an adapter and a salt of
/// `text_bytes` together.
std::size_t HeaderCapacity(const BlockShape& shape, std::size_t text_bytes);

/// Writes the header and fills the rest of `out` with zeros. False: it does not fit.
bool EncodeHeader(const StoredBlock& block, std::span<std::byte> out);

/// Reads what EncodeHeader wrote; `bytes` as it was given `out`. kNone, kHeader or kVersion.
BlockFault DecodeHeader(std::span<const std::byte> bytes, StoredBlock& block);

/// The sum of each slice. `out` [shape.slice_count()], `payload` [shape.payload_bytes()].
void SumSlices(const BlockShape& shape, std::span<const std::byte> payload,
               std::span<std::uint32_t> out);

/// Copies `payload` and sums the copy's slices.
void CopyAndSum(const BlockShape& shape, std::span<const std::byte> payload,
                std::span<std::byte> copy, std::span<std::uint32_t> sums);

/// What somebody wants: everything that its bytes must be of.
struct WantedBlock {
  Hash128 hash;
  Hash128 parent;
  std::shared_ptr<const BlockRoot> root;
  std::uint32_t index = 0;
  std::vector<TokenId> tokens;
  std::uint64_t generation = 0;  // 0: any, of stores that others write to as well
};

/// Whether the header is of the wanted block. The first difference, or kNone.
BlockFault CompareHeader(const StoredBlock& block, const WantedBlock& wanted,
                         const BlockShape& shape);

/// Whether `payload` has the sums that the header says. kNone or kChecksum.
BlockFault CheckPayload(const StoredBlock& block, std::span<const std::byte> payload);

}  // namespace pixii::kv
