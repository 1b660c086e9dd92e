#include "kv/tiers/object_store.h"

#include <cstring>
#include <optional>
#include <utility>

#include <fmt/format.h>

namespace pixii::kv {

namespace {

std::optional<std::uint64_t> ReadHex(std::string_view text) {
  std::uint64_t value = 0;
  for (const char c : text) {
    if ((c < '0' || c > '9') && (c < 'a' || c > 'f')) {
      return std::nullopt;
    }
    value = value << 4U | static_cast<std::uint64_t>(c <= '9' ? c - '0' : c - 'a' + 10);
  }
  return value;
}

}  // namespace

ObjectStore::ObjectStore(std::unique_ptr<ObjectService> service, const BlockShape& shape,
                         const DiskModel& model, std::shared_ptr<const BlockSealer> sealer)
    : service_(std::move(service)), shape_(shape), sealer_(std::move(sealer)), header_bytes_(0) {
  const DiskHeader header = MakeDiskHeader(shape, model, sealer_ != nullptr);
  header_bytes_ = header.header_bytes;
  rt::AlignedBytes encoded(kStoredBlockAlignment);
  EncodeDiskHeader(header, encoded.bytes());
  prefix_ = fmt::format("pixii-kv/v{}/{:016x}/", kStoredBlockVersion, Hash64(encoded.bytes()));
}

Result<void> ObjectStore::Write(std::uint32_t /*slot*/, StoredBlock block,
                                std::span<const std::byte> payload) {
  object_.resize(header_bytes_ + payload.size());
  const std::span<std::byte> bytes = std::as_writable_bytes(std::span(object_));
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
  return service_->Put(NameOf(block.hash), object_);
}

BlockFault ObjectStore::Read(std::uint32_t /*slot*/, const Hash128& hash, StoredBlock& block,
                             std::span<const std::byte>& payload) {
  const std::uint64_t size = header_bytes_ + shape_.payload_bytes();
  Result<std::string> got = service_->Get(NameOf(hash), size);
  if (!got) {
    return got.error().code() == Code::kNotFound   ? BlockFault::kMissing
           : got.error().code() == Code::kTooLarge ? BlockFault::kShape
                                                   : BlockFault::kIo;
  }
  object_ = std::move(*got);
  if (object_.size() != size) {
    return BlockFault::kTruncated;
  }
  const std::span<std::byte> bytes = std::as_writable_bytes(std::span(object_));
  const BlockFault fault = ReadHeader(sealer_, bytes.first(header_bytes_), block);
  payload = bytes.subspan(header_bytes_);
  return fault == BlockFault::kNone && sealer_
             ? sealer_->OpenPayload(bytes.first(header_bytes_), block, bytes.subspan(header_bytes_))
             : fault;
}

void ObjectStore::Drop(std::uint32_t /*slot*/, const Hash128& hash) {
  static_cast<void>(service_->Delete(NameOf(hash)));  // else it stays until it is written again
}

void ObjectStore::Scan(const std::function<bool(Found)>& on_found,
                       const std::function<void(BlockFault)>& on_fault) {
  const Result<void> listed = service_->List(prefix_, [&](std::string_view name) {
    if (!name.starts_with(prefix_) || name.size() != prefix_.size() + 32) {
      return true;  // nobody's of ours
    }
    name.remove_prefix(prefix_.size());
    const std::optional<std::uint64_t> high = ReadHex(name.substr(0, 16));
    const std::optional<std::uint64_t> low = ReadHex(name.substr(16));
    if (!high || !low) {
      return true;
    }
    Found found;
    found.block.hash = {*low, *high};
    return on_found(std::move(found));
  });
  if (!listed) {
    on_fault(BlockFault::kIo);
  }
}

}  // namespace pixii::kv
