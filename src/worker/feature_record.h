// Where what a tower made of a picture can be had, as bytes, and whether it is of use here.
//
// Thread: pure functions. docs/formats/features.md
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/hash.h"
#include "base/result.h"
#include "wire/messages/media.h"

namespace pixii::worker {

inline constexpr std::size_t kFeatureRecordBytesMax = 64U << 10U;

/// What both sides must have in common.
struct FeatureTerms {
  std::string model_fingerprint;
  std::string numerics_id;  // what a tower's bits depend on
  std::uint32_t row_size = 0;
};

std::string EncodeFeatureRecord(const wire::FeatureRecord& record, const HashKey& key);

/// Errors: kDataCorrupt (no record, or not of this key), kUnsupported, kTooLarge.
Result<wire::FeatureRecord> DecodeFeatureRecord(std::string_view bytes, const HashKey& key);

/// Whether `record` is of `item`, and made as a tower here would make it. Errors: kInvalidArgument
/// naming what differs, with both values.
Result<void> CheckFeatureRecord(const wire::FeatureRecord& record, const wire::MediaItem& item,
                                const FeatureTerms& own);

/// The proof of a record's bytes, for this item alone.
Hash128 FeatureSum(std::string_view digest, std::span<const std::byte> bytes, const HashKey& key);

}  // namespace pixii::worker
