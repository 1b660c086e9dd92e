// TLS 1.2 and 1.3 over byte streams. OpenSSL only transforms bytes in memory, so a TLS stream runs
// on any Stream: sockets and the simulator's alike.
//
// Thread: a context is immutable and shared; streams and nets belong to one loop.
// Source: RFC 8446; OpenSSL 3 manual, BIO_s_mem(3), SSL_read_ex(3).
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string>

#include "base/result.h"
#include "rt/net.h"

namespace pixii::rt {

/// PEM files of one side.
struct TlsFiles {
  std::string certificate = {};  // own certificate first, then those that lead to its authority
  std::string key = {};          // of the certificate
  std::string authorities = {};  // whose certificates the peer may have
};

using TlsKey = std::array<std::byte, 32>;

/// Keys and rules of one side of connections.
class TlsContext final {
 public:
  /// A server shows `certificate`; with `authorities` a client must show one signed by them.
  /// Errors: kInvalidArgument naming the file that cannot be used.
  static Result<std::shared_ptr<const TlsContext>> ForServer(const TlsFiles& files);

  /// A client believes servers that `authorities` signed and whose certificate is for
  /// `server_name`, a host name or numeric address; it shows `certificate` if there is one. Errors
  /// as above.
  static Result<std::shared_ptr<const TlsContext>> ForClient(const TlsFiles& files,
                                                             std::string server_name);

  /// Both sides have the same key of 32 random bytes and no certificates: TLS 1.3 with a pre-shared
  /// key. Whoever has another key is refused by either side.
  static Result<std::shared_ptr<const TlsContext>> ForServerWithKey(const TlsKey& key);
  static Result<std::shared_ptr<const TlsContext>> ForClientWithKey(const TlsKey& key);

  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

 private:
  friend class TlsStream;
  struct Parts;

  explicit TlsContext(std::unique_ptr<Parts> parts);
  static Result<std::shared_ptr<const TlsContext>> WithKey(const TlsKey& key, bool server);

  std::unique_ptr<Parts> parts_;
};

/// `inner` with what both sides write encrypted. A server's handshake happens within the first
/// Read; until then nothing can be written. A peer that ends without saying so in TLS is
/// kUnavailable, not an end. What TryWrite did not take must be written next, as it stands.
std::unique_ptr<Stream> MakeTlsStream(Loop& loop, std::unique_ptr<Stream> inner,
                                      std::shared_ptr<const TlsContext> context);

/// The context of a server that may get another while it listens: connections that come later use
/// that. Thread: one loop.
struct TlsSlot {
  std::shared_ptr<const TlsContext> context;
};

/// Listeners of `inner` whose connections are TLS, as servers of `server`; Connect makes clients of
/// `client` and ends after the handshake. Either may be null if that side is not used. `inner`
/// outlives it.
std::unique_ptr<Net> MakeTlsNet(Loop& loop, Net& inner, std::shared_ptr<const TlsContext> server,
                                std::shared_ptr<const TlsContext> client);
/// The same, with a server's context that may change. `server` is not null.
std::unique_ptr<Net> MakeTlsNet(Loop& loop, Net& inner, std::shared_ptr<const TlsSlot> server,
                                std::shared_ptr<const TlsContext> client);

}  // namespace pixii::rt
