#include "kv/handover_record.h"

#include <fmt/format.h>

#include <cstring>

#include "base/assert.h"
#include "wire/messages/codec.h"

namespace pixii::kv {

namespace {

constexpr std::string_view kMagic = "PXHO";
constexpr std::size_t kHeadBytes = 5;
constexpr std::size_t kDigestBytes = 16;

template <class Number>
void Put(std::string& out, Number value) {
  for (std::size_t i = 0; i < sizeof(Number); ++i) {
    out.push_back(static_cast<char>(static_cast<unsigned char>(value >> (8 * i))));
  }
}

template <class Number>
Number Get(std::string_view bytes, std::size_t at) {
  Number value = 0;
  for (std::size_t i = 0; i < sizeof(Number); ++i) {
    value |= static_cast<Number>(static_cast<unsigned char>(bytes[at + i])) << (8 * i);
  }
  return value;
}

std::span<const std::byte> BytesOf(std::string_view text) {
  return std::as_bytes(std::span<const char>(text.data(), text.size()));
}

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
  std::string out(kMagic);
  out.push_back(static_cast<char>(kHandoverAbi));
  out += wire::Encode(record);
  const Hash128 digest = key.Digest(BytesOf(out));
  Put(out, digest.low);
  Put(out, digest.high);
  return out;
}

Result<wire::HandoverRecord> DecodeHandover(std::string_view bytes, const HashKey& key) {
  if (bytes.size() > kHandoverRecordBytesMax) {
    return Fail(Code::kTooLarge, fmt::format("a hand-over record of {} bytes; {} are allowed",
                                             bytes.size(), kHandoverRecordBytesMax));
  }
  if (bytes.size() < kHeadBytes + kDigestBytes || !bytes.starts_with(kMagic)) {
    return Fail(Code::kDataCorrupt, "it is no hand-over record");
  }
  const std::uint8_t abi = static_cast<std::uint8_t>(bytes[kMagic.size()]);
  if (abi != kHandoverAbi) {
    return Fail(Code::kUnsupported,
                fmt::format("a hand-over record of version {}; this worker reads version {}", abi,
                            kHandoverAbi));
  }
  const std::string_view signed_part = bytes.substr(0, bytes.size() - kDigestBytes);
  const Hash128 digest{.low = Get<std::uint64_t>(bytes, signed_part.size()),
                       .high = Get<std::uint64_t>(bytes, signed_part.size() + 8)};
  if (key.Digest(BytesOf(signed_part)) != digest) {
    return Fail(Code::kDataCorrupt,
                "the hand-over record was changed on its way, or made under another cluster key");
  }
  Result<wire::HandoverRecord> record =
      wire::Decode<wire::HandoverRecord>(signed_part.substr(kHeadBytes));
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
