#include "kv/signed_record.h"

#include <fmt/format.h>

#include <span>

#include "kv/little_endian.h"

namespace pixii::kv {

namespace {

constexpr std::size_t kHeadBytes = 5;
constexpr std::size_t kDigestBytes = 16;

std::span<const std::byte> BytesOf(std::string_view text) {
  return std::as_bytes(std::span<const char>(text.data(), text.size()));
}

}  // namespace

std::string SignRecord(const RecordKind& kind, std::string_view body, const HashKey& key) {
  std::string out(kind.magic);
  out.push_back(static_cast<char>(kind.abi));
  out += body;
  const Hash128 digest = key.Digest(BytesOf(out));
  Put(out, digest.low);
  Put(out, digest.high);
  return out;
}

Result<std::string_view> OpenRecord(const RecordKind& kind, std::string_view bytes,
                                    const HashKey& key) {
  if (bytes.size() > kind.bytes_max) {
    return Fail(Code::kTooLarge, fmt::format("a {} of {} bytes; {} are allowed", kind.name,
                                             bytes.size(), kind.bytes_max));
  }
  if (bytes.size() < kHeadBytes + kDigestBytes || !bytes.starts_with(kind.magic)) {
    return Fail(Code::kDataCorrupt, fmt::format("it is no {}", kind.name));
  }
  const auto abi = static_cast<std::uint8_t>(bytes[kind.magic.size()]);
  if (abi != kind.abi) {
    return Fail(Code::kUnsupported, fmt::format("a {} of version {}; this worker reads version {}",
                                                kind.name, abi, kind.abi));
  }
  const std::string_view signed_part = bytes.substr(0, bytes.size() - kDigestBytes);
  const Hash128 digest{.low = Get<std::uint64_t>(bytes, signed_part.size()),
                       .high = Get<std::uint64_t>(bytes, signed_part.size() + 8)};
  if (key.Digest(BytesOf(signed_part)) != digest) {
    return Fail(
        Code::kDataCorrupt,
        fmt::format("the {} was changed on its way, or made under another cluster key", kind.name));
  }
  return signed_part.substr(kHeadBytes);
}

}  // namespace pixii::kv
