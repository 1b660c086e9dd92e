#include "wire/lmcache.h"

#include <cstring>

#include <fmt/format.h>

#include "base/assert.h"

namespace pixii::wire {

namespace {

constexpr std::int32_t kFormatBinary = 4;  // MemoryFormat.BINARY: bytes that are no tensor
constexpr std::int32_t kDtypeUint8 = 6;
constexpr std::int32_t kFound = 200;
constexpr std::int32_t kNotFound = 400;

void PutInt(std::span<std::byte> bytes, std::size_t index, std::int32_t value) {
  std::memcpy(bytes.data() + index * 4, &value, 4);
}

std::int32_t GetInt(std::span<const std::byte> bytes, std::size_t index) {
  std::int32_t value = 0;
  std::memcpy(&value, bytes.data() + index * 4, 4);
  return value;
}

}  // namespace

std::string LmcacheKey(std::string_view scope, std::string_view hash) {
  return fmt::format("{}@1@0@{}@uint8", scope, hash);
}

LmcacheRequestBytes EncodeLmcacheRequest(LmcacheCommand command, std::string_view key,
                                         std::uint32_t length) {
  PX_ASSERT(key.size() <= kLmcacheKeyBytesMax && length <= kLmcacheValueBytesMax);
  LmcacheRequestBytes bytes;
  const auto size = static_cast<std::int32_t>(length);
  const std::array<std::int32_t, 9> ints{
      static_cast<std::int32_t>(command), size, kFormatBinary, kDtypeUint8, 0, size, 0, 0, 0};
  for (std::size_t i = 0; i < ints.size(); ++i) {
    PutInt(bytes, i, ints[i]);
  }
  std::memset(bytes.data() + 36, ' ', kLmcacheKeyBytesMax);
  std::memcpy(bytes.data() + 36, key.data(), key.size());
  return bytes;
}

// Format, dtype and shape are what we gave; where they stand differs between versions, so they are
// not looked at: the bytes prove themselves.
Result<LmcacheReply> DecodeLmcacheReply(std::span<const std::byte, kLmcacheReplyBytes> bytes,
                                        std::uint64_t length_max) {
  const std::int32_t code = GetInt(bytes, 0);
  const std::int32_t length = GetInt(bytes, 1);
  if (code != kFound && code != kNotFound) {
    return Fail(Code::kDataCorrupt, fmt::format("the server's code is {}; {} and {} are known",
                                                code, kFound, kNotFound));
  }
  if (length < 0) {
    return Fail(Code::kDataCorrupt, fmt::format("the server's length is {}", length));
  }
  if (static_cast<std::uint64_t>(length) > length_max) {
    return Fail(
        Code::kTooLarge,
        fmt::format("the server's length is {} bytes; at most {} are taken", length, length_max));
  }
  return LmcacheReply{.found = code == kFound, .length_bytes = static_cast<std::uint32_t>(length)};
}

}  // namespace pixii::wire
