// The messages of LMCache's remote server (`lm://`). docs/lmcache.md
//
// Thread: functions.
// Source: LMCache, lmcache/v1/protocol.py and lmcache/v1/server/__main__.py at commit c1a02cc8
// (facts only): requests of 186 bytes, replies of 36, native order, which is little-endian here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace pixii::wire {

inline constexpr std::size_t kLmcacheKeyBytesMax = 150;
inline constexpr std::size_t kLmcacheRequestBytes = 9 * 4 + kLmcacheKeyBytesMax;
inline constexpr std::size_t kLmcacheReplyBytes = 9 * 4;
/// Lengths are signed numbers of 32 bits.
inline constexpr std::uint64_t kLmcacheValueBytesMax = 0x7fffffff;

enum class LmcacheCommand : std::int32_t { kPut = 1, kGet = 2, kExist = 3, kList = 4, kHealth = 5 };

struct LmcacheReply {
  bool found = false;              // 200; else 400
  std::uint32_t length_bytes = 0;  // of what follows
};

using LmcacheRequestBytes = std::array<std::byte, kLmcacheRequestBytes>;

/// The key of one of our blocks: MODEL@WORLD@WORKER@HASH@DTYPE, as its servers take keys apart.
/// `scope` names model and layout, `hash` is hexadecimal.
std::string LmcacheKey(std::string_view scope, std::string_view hash);

/// `length` bytes follow a put; 0 with all others. Pre: key and length within the bounds above.
LmcacheRequestBytes EncodeLmcacheRequest(LmcacheCommand command, std::string_view key,
                                         std::uint32_t length);

/// Errors: kDataCorrupt naming the field, its value and what is allowed; kTooLarge past
/// `length_max`. The connection is out of step then.
Result<LmcacheReply> DecodeLmcacheReply(std::span<const std::byte, kLmcacheReplyBytes> bytes,
                                        std::uint64_t length_max);

}  // namespace pixii::wire
