// Frames of a multiplexed connection: many calls, each a stream of messages, over one byte stream.
//
// Thread: values. docs/formats/mux.md
// A frame is a header of 20 bytes and its payload, all numbers little-endian:
//   u24 payload bytes | u8 kind, its top bit: more follows | u64 stream | u32 checksum of the
//   payload | u32 checksum of the 16 bytes before
// A checksum is the low half of XXH3-64: what TCP's own sum lets through must not become a token.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace pixii::wire {

inline constexpr std::uint32_t kMuxHeaderBytes = 20;
inline constexpr std::uint32_t kMuxPayloadBytesMax = 64 * 1024;  // of one frame

enum class MuxKind : std::uint8_t {
  kHello = 1,   // first from either side, stream 0: MuxHello
  kCall = 2,    // opens a stream: MuxCall
  kData = 3,    // a message of a stream, or a part of one
  kEnd = 4,     // the answering side ends the stream: empty, or an error
  kCancel = 5,  // the calling side wants no more of the stream: empty
  kCredit = 6,  // u64: so many bytes of the stream's messages were read
  kPing = 7,    // stream 0, u64 that comes back
  kPong = 8,
  kGoAway = 9,  // stream 0: take no new calls here; what runs goes on
};

struct MuxHeader {
  std::uint32_t payload_bytes = 0;
  MuxKind kind{};
  bool more = false;  // of kData: the message goes on in the stream's next frame
  std::uint64_t stream = 0;
  std::uint32_t payload_checksum = 0;  // put in by AppendMuxFrame
};

/// Appends header and payload, whose length and checksum it puts in. Pre: payload.size() <=
/// kMuxPayloadBytesMax.
void AppendMuxFrame(std::string& out, const MuxHeader& header, std::string_view payload);

/// The header at the start of `bytes`; nothing if fewer than kMuxHeaderBytes are there. Errors:
/// kDataCorrupt for a wrong checksum, an unknown kind, a part of anything but data, a payload above
/// kMuxPayloadBytesMax.
Result<std::optional<MuxHeader>> ReadMuxHeader(std::string_view bytes);

/// Whether these are the bytes that were sent behind `header`. Errors: kDataCorrupt.
Result<void> CheckMuxPayload(const MuxHeader& header, std::string_view payload);

struct MuxHello {
  static constexpr std::uint32_t kMagic = 0x784D7850;  // "PxMx"
  static constexpr std::uint32_t kWindowBytesMin = 4096;

  std::uint32_t magic = 0;
  std::uint32_t version_min = 0;
  std::uint32_t version_max = 0;
  std::uint32_t window_bytes = 0;  // unread ones of a stream, above which no message begins
  std::string name;                // of the process, for logs
};

inline constexpr std::uint32_t kMuxVersionMin = 1;  // that this program speaks
inline constexpr std::uint32_t kMuxVersionMax = 1;

struct MuxCall {
  std::string method;
  std::int64_t deadline_left_ns = 0;  // 0: none
};

}  // namespace pixii::wire
