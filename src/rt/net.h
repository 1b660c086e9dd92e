// Byte streams between processes, real or simulated. Coroutines wait on them; nothing blocks.
//
// Thread: a stream, listener or net belongs to one loop and is used on it alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "rt/loop.h"

namespace pixii::rt {

struct Address {
  std::string host;        // numeric IPv4 or IPv6, a name for Connect, or "unix:/path"
  std::uint16_t port = 0;  // 0 in Listen: the system picks

  std::string ToString() const;
};

/// "host:port", "[ipv6]:port" or "unix:/path", as ToString writes it. Errors: kInvalidArgument.
Result<Address> ParseAddress(std::string_view text);

class Stream {
 public:
  virtual ~Stream() = default;  // closes

  /// Waits for bytes and reads 1 .. out.size() of them; 0 means that the peer ended its side.
  /// Errors: kDeadlineExceeded at `deadline`, kUnavailable if the connection broke, kCancelled
  /// after Close(). Pre: no other Read waits.
  virtual Task<Result<std::size_t>> Read(std::span<char> out, Time deadline) = 0;

  /// Writes all of `bytes`, which the caller keeps alive. Errors as Read. Pre: no other Write
  /// waits.
  virtual Task<Result<void>> Write(std::string_view bytes, Time deadline) = 0;

  /// Tries to write without waiting; returns how many bytes were taken, 0 .. size. Errors:
  /// kUnavailable.
  virtual Result<std::size_t> TryWrite(std::string_view bytes) = 0;

  /// Ends our side; the peer reads 0 after what was written.
  virtual void ShutdownWrite() = 0;

  /// Closes; waiting calls resume with kCancelled. Idempotent.
  virtual void Close() = 0;

  /// Numeric address of the peer, for logs.
  virtual std::string peer() const = 0;
};

struct ListenOptions {
  std::uint32_t backlog_max = 1024;  // connections
  bool reuse_port = false;           // several loops share one port
};

class Listener {
 public:
  virtual ~Listener() = default;
  /// Errors: kCancelled after Close(); kResourceExhausted if descriptors are used up (retry later).
  virtual Task<Result<std::unique_ptr<Stream>>> Accept() = 0;
  virtual Address address() const = 0;  // with the port that was bound
  virtual void Close() = 0;
};

class Net {
 public:
  virtual ~Net() = default;
  /// Errors: kInvalidArgument (bad address), kUnavailable (in use, not ours), naming the address.
  virtual Result<std::unique_ptr<Listener>> Listen(const Address& address,
                                                   const ListenOptions& options) = 0;
  virtual Task<Result<std::unique_ptr<Stream>>> Connect(Address address, Time deadline) = 0;
};

/// The system's TCP and Unix sockets on `loop`, which outlives it. TCP_NODELAY is set.
std::unique_ptr<Net> MakeNet(Loop& loop);

}  // namespace pixii::rt
