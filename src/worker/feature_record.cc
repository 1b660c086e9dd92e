#include "worker/feature_record.h"

#include <fmt/format.h>

#include "kv/signed_record.h"
#include "wire/messages/codec.h"

namespace pixii::worker {

namespace {

constexpr kv::RecordKind kFeatures{
    .magic = "PXFE", .abi = 1, .name = "record of features", .bytes_max = kFeatureRecordBytesMax};

template <class Value>
Result<void> Same(std::string_view what, const Value& theirs, const Value& ours) {
  if (theirs == ours) {
    return {};
  }
  return Fail(
      Code::kInvalidArgument,
      fmt::format("the {} of the worker that encodes is {}, here it is {}", what, theirs, ours),
      std::string(what));
}

}  // namespace

std::string EncodeFeatureRecord(const wire::FeatureRecord& record, const HashKey& key) {
  return kv::SignRecord(kFeatures, wire::Encode(record), key);
}

Result<wire::FeatureRecord> DecodeFeatureRecord(std::string_view bytes, const HashKey& key) {
  PX_TRY(const std::string_view body, kv::OpenRecord(kFeatures, bytes, key));
  Result<wire::FeatureRecord> record = wire::Decode<wire::FeatureRecord>(body);
  if (!record) {
    return Fail(Code::kDataCorrupt, record.error().detail());
  }
  return record;
}

Result<void> CheckFeatureRecord(const wire::FeatureRecord& record, const wire::MediaItem& item,
                                const FeatureTerms& own) {
  if (record.digest != item.digest) {
    return Fail(Code::kInvalidArgument, "the record is of another picture", "digest");
  }
  PX_CHECK_OK(Same("model", record.model_fingerprint, own.model_fingerprint));
  PX_CHECK_OK(Same("numerics_id", record.numerics_id, own.numerics_id));
  PX_CHECK_OK(Same("size of a row", record.row_size, own.row_size));
  return Same("number of rows", record.rows, item.count);
}

Hash128 FeatureSum(std::string_view digest, std::span<const std::byte> bytes, const HashKey& key) {
  const Hash128 item = key.Digest(std::as_bytes(std::span<const char>(digest)));
  return key.Chain(item, bytes);
}

}  // namespace pixii::worker
