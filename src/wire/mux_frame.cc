#include "wire/mux_frame.h"

#include <fmt/format.h>

#include <array>

#include "base/assert.h"

namespace pixii::wire {

namespace {

void AppendU32(std::string& out, std::uint32_t value) {
  const std::array<char, 4> bytes = {static_cast<char>(value), static_cast<char>(value >> 8),
                                     static_cast<char>(value >> 16),
                                     static_cast<char>(value >> 24)};
  out.append(bytes.data(), bytes.size());
}

std::uint32_t U32At(std::string_view bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 4; i-- > 0;) {
    value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  }
  return value;
}

}  // namespace

void AppendMuxFrame(std::string& out, MuxKind kind, std::uint8_t flags, std::uint32_t stream,
                    std::string_view payload) {
  PX_ASSERT(payload.size() <= kMuxPayloadBytesMax);
  AppendU32(out, static_cast<std::uint32_t>(payload.size()));
  AppendU32(out, static_cast<std::uint32_t>(kind) | static_cast<std::uint32_t>(flags) << 8);
  AppendU32(out, stream);
  out.append(payload);
}

Result<std::optional<MuxHeader>> ReadMuxHeader(std::string_view bytes) {
  if (bytes.size() < kMuxHeaderBytes) {
    return std::nullopt;
  }
  const std::uint32_t middle = U32At(bytes, 4);
  MuxHeader header{.payload_bytes = U32At(bytes, 0),
                   .kind = static_cast<MuxKind>(middle & 0xFF),
                   .flags = static_cast<std::uint8_t>(middle >> 8),
                   .stream = U32At(bytes, 8)};
  if (header.kind < MuxKind::kHello || header.kind > MuxKind::kGoAway) {
    return Fail(Code::kDataCorrupt, fmt::format("frame kind {} is unknown", middle & 0xFF));
  }
  if (middle >> 16 != 0 || header.flags > (header.kind == MuxKind::kData ? kMuxMore : 0)) {
    return Fail(Code::kDataCorrupt, fmt::format("flags of a frame: {:#x}", middle >> 8));
  }
  if (header.payload_bytes > kMuxPayloadBytesMax) {
    return Fail(Code::kDataCorrupt, fmt::format("a frame of {} bytes, at most {} are allowed",
                                                header.payload_bytes, kMuxPayloadBytesMax));
  }
  return header;
}

}  // namespace pixii::wire
