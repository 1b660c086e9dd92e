// What sockets can do beyond byte streams: many pieces of memory in one call, straight from and to
// where they belong; and, between processes of one host, descriptors and who the peer is.
//
// Thread: as the stream. Source: readv(2), unix(7).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "rt/fd.h"
#include "rt/net.h"

namespace pixii::rt {

inline constexpr std::size_t kSocketPartsMax = 64;  // of one call; more are left for the next
inline constexpr std::size_t kDescriptorsPerMessageMax = 4;

/// What a process of this host is to the kernel.
struct PeerCredentials {
  std::uint32_t user = 0;
  std::int32_t process = 0;
};

class SocketParts {
 public:
  /// Reads what is there into `parts`, in order. Nothing: no bytes are there now; 0: the peer ended
  /// its side. Errors: kUnavailable, kCancelled. Pre: not every part is empty.
  virtual Result<std::optional<std::size_t>> TryReadParts(
      std::span<const std::span<std::byte>> parts) = 0;

  /// Takes as much as goes without waiting, 0 .. all.
  virtual Result<std::size_t> TryWriteParts(std::span<const std::span<const std::byte>> parts) = 0;

  /// Waits until such a call may do something; false at `deadline`.
  virtual Task<bool> WaitReadable(Time deadline) = 0;
  virtual Task<bool> WaitWritable(Time deadline) = 0;

  /// Of a Unix socket only. Errors: kUnsupported.
  virtual Result<PeerCredentials> credentials() const = 0;

  /// Of a Unix socket only: from now on descriptors that come with bytes are kept, at most
  /// `count_max` that nobody took; others are closed.
  virtual void KeepDescriptors(std::size_t count_max) = 0;
  virtual std::vector<Fd> TakeDescriptors() = 0;

  /// Sends `bytes` with copies of `fds` at their first one. Returns how many bytes were taken; 0:
  /// the socket is full, nothing went. Pre: 1 .. kDescriptorsPerMessageMax of them.
  virtual Result<std::size_t> TryWriteWithDescriptors(std::span<const std::byte> bytes,
                                                      std::span<const int> fds) = 0;

 protected:
  ~SocketParts() = default;
};

/// Null for streams that are no sockets: TLS, simulated ones.
SocketParts* PartsOf(Stream& stream);

/// The user that this process runs as.
std::uint32_t OwnUser();

}  // namespace pixii::rt
