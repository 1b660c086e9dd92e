#include "kv/tiers/object_store.h"

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
                         const DiskModel& model, std::shared_ptr<const BlockSealer> sealer,
                         ListLimits limits)
    : service_(std::move(service)),
      record_(shape, model, std::move(sealer)),
      limits_(std::move(limits)),
      prefix_(fmt::format("pixii-kv/v{}/{:016x}/", kStoredBlockVersion, record_.scope())) {
  limits_.stopping = stopping_flag();
}

Result<void> ObjectStore::Write(std::uint32_t /*slot*/, StoredBlock block,
                                std::span<const std::byte> payload) {
  const Hash128 hash = block.hash;
  PX_CHECK_OK(record_.Encode(std::move(block), payload, object_));
  return service_->Put(NameOf(hash), object_);
}

BlockFault ObjectStore::Read(std::uint32_t /*slot*/, const Hash128& hash, StoredBlock& block,
                             std::span<const std::byte>& payload) {
  Result<std::string> got = service_->Get(NameOf(hash), record_.size_bytes());
  if (!got) {
    if (got.error().code() == Code::kNotFound) {
      return BlockFault::kMissing;
    }
    if (got.error().code() == Code::kTooLarge) {
      return BlockFault::kShape;
    }
    SetTrouble(got.error().detail());
    return BlockFault::kIo;
  }
  object_ = std::move(*got);
  return record_.Decode(std::as_writable_bytes(std::span(object_)), block, payload);
}

void ObjectStore::Drop(std::uint32_t /*slot*/, const Hash128& hash) {
  static_cast<void>(service_->Delete(NameOf(hash)));  // else it stays until it is written again
}

void ObjectStore::Scan(const std::function<bool(Found)>& on_found,
                       const std::function<void(BlockFault)>& on_fault) {
  ListWatch watch(limits_);
  const Result<void> listed = service_->List(prefix_, watch, [&](std::string_view name) {
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
    SetTrouble(listed.error().detail());
    on_fault(BlockFault::kIo);
  }
}

}  // namespace pixii::kv
