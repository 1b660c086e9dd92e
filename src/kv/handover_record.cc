#include "kv/handover_record.h"

#include <fmt/format.h>

#include "base/assert.h"
#include "kv/little_endian.h"
#include "kv/signed_record.h"
#include "wire/messages/codec.h"

namespace pixii::kv {

namespace {

constexpr RecordKind kHandover{.magic = "PXHO",
                               .abi = kHandoverAbi,
                               .name = "hand-over record",
                               .bytes_max = kHandoverRecordBytesMax};

Result<void> Same(std::string_view what, const std::string& theirs, const std::string& ours) {
  if (theirs == ours) {
    return {};
  }
  return Fail(
      Code::kInvalidArgument,
      fmt::format("the prefill worker's {} is {}, the decode worker's {}", what, theirs, ours),
      std::string(what));
}

}  // namespace

std::string PackBlocks(std::span<const HandoverBlock> blocks) {
  std::string out;
  out.reserve(blocks.size() * kHandoverBlockBytes);
  for (const HandoverBlock& block : blocks) {
    Put(out, block.block);
    Put(out, block.generation);
    Put(out, block.sum.low);
    Put(out, block.sum.high);
  }
  return out;
}

std::uint32_t PackedBlockCount(const wire::HandoverRecord& record) {
  return static_cast<std::uint32_t>(record.blocks.size() / kHandoverBlockBytes);
}

HandoverBlock PackedBlock(const wire::HandoverRecord& record, std::uint32_t index) {
  PX_ASSERT(index < PackedBlockCount(record));
  const std::size_t at = std::size_t{index} * kHandoverBlockBytes;
  return {.block = Get<std::uint32_t>(record.blocks, at),
          .generation = Get<std::uint32_t>(record.blocks, at + 4),
          .sum = {.low = Get<std::uint64_t>(record.blocks, at + 8),
                  .high = Get<std::uint64_t>(record.blocks, at + 16)}};
}

std::string EncodeHandover(const wire::HandoverRecord& record, const HashKey& key) {
  return SignRecord(kHandover, wire::Encode(record), key);
}

Result<wire::HandoverRecord> DecodeHandover(std::string_view bytes, const HashKey& key) {
  PX_TRY(const std::string_view body, OpenRecord(kHandover, bytes, key));
  Result<wire::HandoverRecord> record = wire::Decode<wire::HandoverRecord>(body);
  if (!record) {
    return Fail(Code::kDataCorrupt, record.error().detail());
  }
  if (record->blocks.size() % kHandoverBlockBytes != 0) {
    return Fail(Code::kDataCorrupt,
                fmt::format("{} bytes of blocks are no whole rows", record->blocks.size()));
  }
  return record;
}

Result<void> CheckHandover(const wire::HandoverRecord& theirs, const wire::HandoverRecord& ours) {
  PX_CHECK_OK(Same("model", theirs.model_fingerprint, ours.model_fingerprint));
  PX_CHECK_OK(Same("KV data type", theirs.layout.dtype, ours.layout.dtype));
  PX_CHECK_OK(Same("numerics_id", theirs.numerics_id, ours.numerics_id));
  if (theirs.layout.cut.empty() || ours.layout.cut.empty()) {
    PX_CHECK_OK(Same("tokens of a block", fmt::format("{}", theirs.layout.block_tokens),
                     fmt::format("{}", ours.layout.block_tokens)));
    PX_CHECK_OK(Same("bytes of a block", fmt::format("{}", theirs.layout.block_bytes),
                     fmt::format("{}", ours.layout.block_bytes)));
  }
  return Same("layout version", fmt::format("{}", theirs.layout.version),
              fmt::format("{}", ours.layout.version));
}

}  // namespace pixii::kv
