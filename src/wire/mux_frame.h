// Frames of a multiplexed connection: many calls, each a stream of messages, over one byte stream.
//
// Thread: values. docs/formats/mux.md
// A frame is a header of 12 bytes and its payload, all numbers little-endian:
//   u32 payload bytes | u8 kind | u8 flags | u16 zero | u32 stream
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace pixii::wire {

inline constexpr std::uint32_t kMuxHeaderBytes = 12;
inline constexpr std::uint32_t kMuxPayloadBytesMax = 64 * 1024;  // of one frame
inline constexpr std::uint8_t kMuxMore = 1;  // flag of kData: the message goes on in the next frame

enum class MuxKind : std::uint8_t {
  kHello = 1,   // first from either side, stream 0: MuxHello
  kCall = 2,    // opens a stream: MuxCall
  kData = 3,    // a message of a stream, or a part of one
  kEnd = 4,     // the answering side ends the stream: empty, or an error
  kCancel = 5,  // the calling side wants no more of the stream: empty
  kCredit = 6,  // u32: so many more payload bytes of kData may be sent on the stream
  kPing = 7,    // stream 0, u64 that comes back
  kPong = 8,
  kGoAway = 9,  // stream 0: take no new calls here; what runs goes on
};

struct MuxHeader {
  std::uint32_t payload_bytes = 0;
  MuxKind kind{};
  std::uint8_t flags = 0;
  std::uint32_t stream = 0;
};

/// Appends header and payload. Pre: payload.size() <= kMuxPayloadBytesMax.
void AppendMuxFrame(std::string& out, MuxKind kind, std::uint8_t flags, std::uint32_t stream,
                    std::string_view payload);

/// The header at the start of `bytes`; nothing if fewer than 12 are there. Errors: kDataCorrupt for
/// an unknown kind or flag, a payload above kMuxPayloadBytesMax, a reserved field that is not zero.
Result<std::optional<MuxHeader>> ReadMuxHeader(std::string_view bytes);

struct MuxHello {
  static constexpr std::uint32_t kMagic = 0x784D7850;  // "PxMx"

  std::uint32_t magic = 0;
  std::uint32_t version_min = 0;
  std::uint32_t version_max = 0;
  std::uint32_t window_bytes = 0;  // that a stream's other side may send before it gets credit
  std::string name;                // of the process, for logs
};

inline constexpr std::uint32_t kMuxVersionMin = 1;  // that this program speaks
inline constexpr std::uint32_t kMuxVersionMax = 1;

struct MuxCall {
  std::string method;
  std::int64_t deadline_left_ns = 0;  // 0: none
};

}  // namespace pixii::wire
