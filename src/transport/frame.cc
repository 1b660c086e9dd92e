#include "transport/frame.h"

#include <fmt/format.h>

#include <cstring>

#include "base/checked.h"
#include "transport/bytes.h"
#include "transport/window.h"

namespace pixii::transport {

namespace {

constexpr std::size_t kCheckedBytes = kFrameHeaderBytes - sizeof(std::uint64_t);
constexpr std::uint8_t kFlagChecked = 1;

std::uint64_t HeaderCheck(const FrameHeaderBytes& bytes, const HashKey& key, std::uint64_t number) {
  std::array<std::byte, kFrameHeaderBytes> covered = bytes;
  for (std::size_t i = 0; i < sizeof(number); ++i) {
    covered[kCheckedBytes + i] = static_cast<std::byte>(number >> (8 * i));
  }
  return key.Digest(covered).low;
}

}  // namespace

FrameHeaderBytes PackFrameHeader(const FrameHeader& header, const HashKey& key,
                                 std::uint64_t number) {
  std::string text;
  Append(text, header.payload_bytes);
  Append(text, static_cast<std::uint8_t>(header.kind));
  Append(text, header.checked ? kFlagChecked : std::uint8_t{0});
  Append(text, std::uint16_t{0});
  Append(text, header.transfer);
  Append(text, header.checksum);
  FrameHeaderBytes out{};
  std::memcpy(out.data(), text.data(), text.size());
  text.clear();
  Append(text, HeaderCheck(out, key, number));
  std::memcpy(out.data() + kCheckedBytes, text.data(), text.size());
  return out;
}

Result<FrameHeader> UnpackFrameHeader(const FrameHeaderBytes& bytes, const HashKey& key,
                                      std::uint64_t number) {
  Reader reader({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  FrameHeader header;
  header.payload_bytes = reader.Take<std::uint32_t>();
  const auto kind = reader.Take<std::uint8_t>();
  const auto flags = reader.Take<std::uint8_t>();
  const auto reserved = reader.Take<std::uint16_t>();
  header.transfer = reader.Take<std::uint64_t>();
  header.checksum = reader.Take<std::uint64_t>();
  if (reader.Take<std::uint64_t>() != HeaderCheck(bytes, key, number)) {
    return Fail(Code::kDataCorrupt, "the header of a frame has a wrong checksum");
  }
  header.kind = static_cast<FrameKind>(kind);
  header.checked = (flags & kFlagChecked) != 0;
  const std::uint32_t bytes_max =
      header.kind == FrameKind::kData ? kChunkBytesMax : kControlBytesMax;
  if (kind < static_cast<std::uint8_t>(FrameKind::kRead) ||
      kind > static_cast<std::uint8_t>(kLastFrameKind) || flags > kFlagChecked || reserved != 0 ||
      header.payload_bytes > bytes_max) {
    return Fail(Code::kDataCorrupt, fmt::format("a frame of kind {} with flags {} and {} bytes",
                                                kind, flags, header.payload_bytes));
  }
  return header;
}

HashKey FrameKey(const Mac& key) {
  return HashKey({reinterpret_cast<const char*>(key.data()), key.size()});
}

std::string EncodeDescriptors(std::span<const Descriptor> descriptors) {
  std::string out;
  out.reserve(4 + 32 * descriptors.size());
  Append(out, static_cast<std::uint32_t>(descriptors.size()));
  for (const Descriptor& each : descriptors) {
    Append(out, static_cast<std::uint64_t>(each.region));
    Append(out, each.offset);
    Append(out, each.size_bytes);
    Append(out, each.generation);
  }
  return out;
}

Result<std::vector<Descriptor>> DecodeDescriptors(std::string_view bytes) {
  Reader reader(bytes);
  const auto count = reader.Take<std::uint32_t>();
  if (count == 0 || count > kDescriptorsMax || reader.left().size() != std::size_t{32} * count) {
    return Fail(Code::kDataCorrupt, fmt::format("{} descriptors in {} bytes", count, bytes.size()));
  }
  std::vector<Descriptor> out(count);
  std::uint64_t sum = 0;
  for (Descriptor& each : out) {
    each.region = static_cast<RegionKey>(reader.Take<std::uint64_t>());
    each.offset = reader.Take<std::uint64_t>();
    each.size_bytes = reader.Take<std::uint64_t>();
    each.generation = reader.Take<std::uint64_t>();
    const std::optional<std::uint64_t> next = CheckedAdd(sum, each.size_bytes);
    if (!next || each.size_bytes == 0 || each.generation > kGenerationMax) {
      return Fail(Code::kDataCorrupt, "a descriptor of no bytes, of too many, or of no generation");
    }
    sum = *next;
  }
  return out;
}

}  // namespace pixii::transport
