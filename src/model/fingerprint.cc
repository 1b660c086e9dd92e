#include "model/fingerprint.h"

#include <fmt/format.h>

#include "base/hash.h"

namespace pixii::model {
namespace {

/// Public and fixed: the fingerprint says which model, it does not keep secrets.
constexpr std::string_view kKey = "pixii model fingerprint 1";

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

Hash128 ChainTensor(const HashKey& key, Hash128 digest, const CheckpointTensor& tensor,
                    bool whole) {
  const StoredTensor& stored = tensor.stored;
  digest =
      key.Chain(digest, Bytes(fmt::format("{}\n{}\n{}", stored.name, StoredTypeName(stored.type),
                                          fmt::join(stored.shape, ","))));
  const std::uint64_t size = tensor.bytes.size();
  if (whole || size <= kFingerprintSampleSize * kFingerprintSampleCount) {
    return key.Chain(digest, tensor.bytes);
  }
  for (std::uint64_t i = 0; i < kFingerprintSampleCount; ++i) {
    const std::uint64_t offset =
        (size - kFingerprintSampleSize) / (kFingerprintSampleCount - 1) * i;
    const bool last = i + 1 == kFingerprintSampleCount;
    digest = key.Chain(digest, tensor.bytes.subspan(last ? size - kFingerprintSampleSize : offset,
                                                    kFingerprintSampleSize));
  }
  return digest;
}

}  // namespace

std::string Fingerprint(std::string_view config_text, const Checkpoint& checkpoint) {
  const HashKey key(kKey);
  Hash128 digest = key.Digest(Bytes(config_text));
  const bool whole = checkpoint.size_bytes() <= kFingerprintWholeMax;
  for (const CheckpointTensor& tensor : checkpoint.tensors()) {
    digest = ChainTensor(key, digest, tensor, whole);
  }
  return ToHex(digest);
}

}  // namespace pixii::model
