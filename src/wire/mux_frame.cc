#include "wire/mux_frame.h"

#include <fmt/format.h>

#include <span>

#include "base/assert.h"
#include "base/hash.h"

namespace pixii::wire {

namespace {

constexpr unsigned kMoreBit = 0x80;

void AppendNumber(std::string& out, std::uint64_t value, unsigned size) {
  for (unsigned i = 0; i < size; ++i) {
    out.push_back(static_cast<char>(value >> 8 * i));
  }
}

std::uint64_t NumberAt(std::string_view bytes, std::size_t at, std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t i = size; i-- > 0;) {
    value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  }
  return value;
}

std::uint32_t Checksum(std::string_view bytes) {
  return static_cast<std::uint32_t>(Hash64(std::as_bytes(std::span(bytes))));
}

}  // namespace

void AppendMuxFrame(std::string& out, const MuxHeader& header, std::string_view payload) {
  PX_ASSERT(payload.size() <= kMuxPayloadBytesMax);
  const std::size_t begin = out.size();
  AppendNumber(out, payload.size(), 3);
  AppendNumber(out, static_cast<unsigned>(header.kind) | (header.more ? kMoreBit : 0), 1);
  AppendNumber(out, header.stream, 8);
  AppendNumber(out, Checksum(payload), 4);
  AppendNumber(out, Checksum(std::string_view(out).substr(begin)), 4);
  out.append(payload);
}

Result<std::optional<MuxHeader>> ReadMuxHeader(std::string_view bytes) {
  if (bytes.size() < kMuxHeaderBytes) {
    return std::nullopt;
  }
  if (NumberAt(bytes, 16, 4) != Checksum(bytes.substr(0, 16))) {
    return Fail(Code::kDataCorrupt, "the header of a frame was changed on its way");
  }
  const auto kind = static_cast<unsigned char>(bytes[3]);
  const MuxHeader header{.payload_bytes = static_cast<std::uint32_t>(NumberAt(bytes, 0, 3)),
                         .kind = static_cast<MuxKind>(kind & ~kMoreBit),
                         .more = (kind & kMoreBit) != 0,
                         .stream = NumberAt(bytes, 4, 8),
                         .payload_checksum = static_cast<std::uint32_t>(NumberAt(bytes, 12, 4))};
  if (header.kind < MuxKind::kHello || header.kind > MuxKind::kGoAway) {
    return Fail(Code::kDataCorrupt,
                fmt::format("frame kind {} is unknown", static_cast<unsigned>(header.kind)));
  }
  if (header.more && header.kind != MuxKind::kData) {
    return Fail(Code::kDataCorrupt,
                fmt::format("a part of a frame of kind {}", static_cast<unsigned>(header.kind)));
  }
  if (header.payload_bytes > kMuxPayloadBytesMax) {
    return Fail(Code::kDataCorrupt, fmt::format("a frame of {} bytes, at most {} are allowed",
                                                header.payload_bytes, kMuxPayloadBytesMax));
  }
  return header;
}

Result<void> CheckMuxPayload(const MuxHeader& header, std::string_view payload) {
  if (Checksum(payload) != header.payload_checksum) {
    return Fail(Code::kDataCorrupt, fmt::format("a frame of kind {} was changed on its way",
                                                static_cast<unsigned>(header.kind)));
  }
  return {};
}

}  // namespace pixii::wire
