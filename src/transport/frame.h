// Frames of a tcp connection: a header that is checked by a keyed hash, and a payload.
//
// Thread: values. docs/formats/transfer.md
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/mac.h"
#include "base/result.h"
#include "transport/agent.h"

namespace pixii::transport {

inline constexpr std::size_t kFrameHeaderBytes = 32;
inline constexpr std::uint32_t kChunkBytesMax = 256 * 1024;                   // of one data frame
inline constexpr std::uint32_t kControlBytesMax = 12 + 32 * kDescriptorsMax;  // of any other

enum class FrameKind : std::uint8_t {
  kRead = 1,    // asks for bytes: descriptors
  kWrite = 2,   // announces bytes: descriptors
  kData = 3,    // the next bytes of a transfer
  kEnd = 4,     // a transfer is over: empty, or an error
  kCancel = 5,  // the client wants no more of it
  kCredit = 6,  // u64: so many bytes of its data were taken
  kNotify = 7,  // a notification
  kPing = 8,
  kPong = 9,
  // Of fabrics alone.
  kAddress = 10,  // the fabric's address of the sender
  kAsk = 11,      // u64: a region whose key is wanted
  kRegion = 12,   // a region of the sender's, and its keys
  kGone = 13,     // u64: no such region, or no more; u8: 1 if the fabric cannot reach it
  kBack = 14,     // u64: the sender has forgotten the key of that region
  kSources = 15,  // where the bytes of the write that follows are
};

inline constexpr FrameKind kLastFrameKind = FrameKind::kSources;

struct FrameHeader {
  std::uint32_t payload_bytes = 0;
  FrameKind kind{};
  bool checked = false;  // the payload has a checksum
  std::uint64_t transfer = 0;
  std::uint64_t checksum = 0;  // XXH3-64 of the payload
};

using FrameHeaderBytes = std::array<std::byte, kFrameHeaderBytes>;

/// `number`: of the frame in its direction, from 0.
FrameHeaderBytes PackFrameHeader(const FrameHeader& header, const HashKey& key,
                                 std::uint64_t number);
/// Errors: kDataCorrupt.
Result<FrameHeader> UnpackFrameHeader(const FrameHeaderBytes& bytes, const HashKey& key,
                                      std::uint64_t number);

HashKey FrameKey(const Mac& key);

std::string EncodeDescriptors(std::span<const Descriptor> descriptors);
/// Errors: kDataCorrupt.
Result<std::vector<Descriptor>> DecodeDescriptors(std::string_view bytes);

}  // namespace pixii::transport
