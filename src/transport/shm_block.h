// The memory that one client and one server share besides regions: lanes of the client's writes,
// and a ring of notifications from client to server.
//
// Thread: the client's side under a lock of the client's, the server's under one of the server's;
// nothing that the other side puts here is believed. docs/formats/transfer.md
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "transport/agent.h"
#include "transport/window.h"

namespace pixii::transport {

inline constexpr std::string_view kShmChannel = "shm";  // in handshakes
inline constexpr std::uint32_t kShmLanes = 8;           // threads of a client that copy at a time
inline constexpr std::uint32_t kRingLines = 1024;       // 64 KiB
inline constexpr std::size_t kRingLineBytes = 56;       // of a notification in one line

/// `tag`: number of the line since the ring began, plus 1, << 16 | bytes of the notification that
/// are left, this line's included. 0 bytes stand as 1 line.
struct alignas(64) RingLine {
  std::atomic<std::uint64_t> tag{0};
  std::array<char, kRingLineBytes> bytes{};
};

static_assert(sizeof(RingLine) == 64);

struct ShmBlock {
  static constexpr std::uint64_t kMagic = 0x314D685378695078;  // "xPixShM1" in memory order

  alignas(64) std::uint64_t magic = kMagic;
  std::uint64_t polled = 0;  // 1: the server never sleeps
  /// Lines that the server has taken: the client may write those 1,024 before.
  alignas(64) std::atomic<std::uint64_t> taken{0};
  /// 1: the server sleeps; the client sets it to 0 and wakes it over the socket.
  alignas(64) std::atomic<std::uint32_t> sleeping{0};
  std::array<WriteLane, kShmLanes> lanes;
  std::array<RingLine, kRingLines> ring;
};

/// What goes over the socket after the handshake, both ways.
struct ShmMessage {
  enum Kind : std::uint64_t {
    kBlock = 1,     // server: size of the ShmBlock; its descriptor
    kAsk = 2,       // client: a region
    kRegion = 3,    // server: a region; descriptors of its memory and its words
    kNoRegion = 4,  // server: the region, and 1 if it is there but cannot be mapped
    kGone = 5,      // server: the region is no more
    kWake = 6,      // client: the ring has something
  };

  std::uint64_t kind = 0;
  std::uint64_t region = 0;
  std::uint64_t file_bytes = 0;
  std::uint64_t offset = 0;
  std::uint64_t size_bytes = 0;
  std::uint64_t window_bytes = 0;
  std::uint64_t words = 0;
  std::uint64_t code = 0;
};

static_assert(sizeof(ShmMessage) == 64);

/// The client's end of the ring.
class RingWriter final {
 public:
  explicit RingWriter(ShmBlock& block) : block_(block) {}

  /// Whether it has room now.
  bool Fits(std::size_t size_bytes);
  /// False: no room. The caller wakes the server if WantsWake().
  bool Push(std::string_view bytes);
  /// Once for each sleep of the server's.
  bool WantsWake();

 private:
  ShmBlock& block_;
  std::uint64_t next_ = 0;
  std::uint64_t taken_ = 0;  // as last seen
};

/// The server's end.
class RingReader final {
 public:
  explicit RingReader(ShmBlock& block) : block_(block) {}

  /// The next whole notification; nothing if there is none. Errors: kDataCorrupt.
  Result<std::optional<std::string_view>> Pop();

  /// Sleeps unless something came; false: look again.
  bool Sleep();

 private:
  ShmBlock& block_;
  std::uint64_t next_ = 0;
  std::string partial_;
  bool taken_ = true;  // partial_ was given out
};

}  // namespace pixii::transport
