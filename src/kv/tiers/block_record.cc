#include "kv/tiers/block_record.h"

#include <cstring>
#include <utility>

#include <fmt/format.h>

namespace pixii::kv {

BlockRecord::BlockRecord(const BlockShape& shape, const DiskModel& model,
                         std::shared_ptr<const BlockSealer> sealer)
    : shape_(shape), sealer_(std::move(sealer)), header_bytes_(0), scope_(0) {
  const DiskHeader header = MakeDiskHeader(shape, model, sealer_ != nullptr);
  header_bytes_ = header.header_bytes;
  rt::AlignedBytes encoded(kStoredBlockAlignment);
  EncodeDiskHeader(header, encoded.bytes());
  scope_ = Hash64(encoded.bytes());
}

Result<void> BlockRecord::Encode(StoredBlock block, std::span<const std::byte> payload,
                                 std::string& out) const {
  out.resize(header_bytes_ + payload.size());
  const std::span<std::byte> bytes = std::as_writable_bytes(std::span(out));
  if (block.checksums.empty()) {
    block.checksums.resize(shape_.slice_count());
    CopyAndSum(shape_, payload, bytes.subspan(header_bytes_), block.checksums);
  } else {
    std::memcpy(bytes.data() + header_bytes_, payload.data(), payload.size());
  }
  block.generation = 0;  // names have none: whoever writes one writes the same block
  if (!EncodeHeader(block, PlainHeader(sealer_, bytes.first(header_bytes_)))) {
    return Fail(Code::kTooLarge,
                fmt::format("the header of a KV block takes more than {} bytes", header_bytes_));
  }
  if (sealer_) {
    sealer_->Seal(block, bytes.first(header_bytes_), bytes.subspan(header_bytes_));
  }
  return {};
}

BlockFault BlockRecord::Decode(std::span<std::byte> record, StoredBlock& block,
                               std::span<const std::byte>& payload) const {
  if (record.size() != size_bytes()) {
    return record.size() > size_bytes() ? BlockFault::kShape : BlockFault::kTruncated;
  }
  const std::span<std::byte> header = record.first(header_bytes_);
  const std::span<std::byte> bytes = record.subspan(header_bytes_);
  payload = bytes;
  const BlockFault fault = ReadHeader(sealer_, header, block);
  return fault == BlockFault::kNone && sealer_ ? sealer_->OpenPayload(header, block, bytes) : fault;
}

}  // namespace pixii::kv
