// Small records that workers give each other through whoever routes: bytes of a kind and version,
// then a digest of all before under the cluster's key. One that was changed on its way, or that a
// stranger made, is no record.
//
// Thread: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/hash.h"
#include "base/result.h"

namespace pixii::kv {

struct RecordKind {
  std::string_view magic;  // 4 bytes
  std::uint8_t abi = 1;
  std::string_view name;  // in errors
  std::size_t bytes_max = 0;
};

std::string SignRecord(const RecordKind& kind, std::string_view body, const HashKey& key);

/// The body, a part of `bytes`. Errors: kDataCorrupt (no record, or not of this key), kUnsupported
/// (another version, with both numbers), kTooLarge.
Result<std::string_view> OpenRecord(const RecordKind& kind, std::string_view bytes,
                                    const HashKey& key);

}  // namespace pixii::kv
