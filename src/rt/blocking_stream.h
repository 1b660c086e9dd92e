// A connection whose calls wait: for threads that have nothing else to do, never for a loop.
//
// Thread: one at a time. It has a loop of its own, which runs while a call does.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "base/result.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "rt/time.h"
#include "rt/tls.h"

namespace pixii::rt {

class BlockingStream final {
 public:
  /// Connects to `address`, whose host may be a name (its lookup has limits of its own), as a
  /// client of `tls` unless that is null; what follows has the rest of `limit`, until Begin.
  /// Errors: kUnavailable, kDeadlineExceeded, kInvalidArgument, kResourceExhausted.
  static Result<std::unique_ptr<BlockingStream>> Connect(
      const Address& address, Duration limit, std::shared_ptr<const TlsContext> tls = nullptr);

  /// All calls until the next Begin end within `limit`.
  void Begin(Duration limit);

  /// Of that limit; none if it is negative.
  Duration left() const { return deadline_ - loop_->Now(); }

  /// All of `bytes`. Errors: kUnavailable if the connection broke, kDeadlineExceeded; it is of no
  /// use any more then.
  Result<void> Send(std::span<const std::byte> bytes);

  /// Waits for bytes and reads 1 .. out.size() of them. Errors as Send; kUnavailable if the peer
  /// ends its side before.
  Result<std::size_t> ReceiveSome(std::span<std::byte> out);

  /// Fills `out`. Errors as ReceiveSome.
  Result<void> Receive(std::span<std::byte> out);

  /// The peer has ended its side, or bytes were there that nobody asked for: it is of no use then.
  bool stale();

 private:
  explicit BlockingStream(std::unique_ptr<Loop> loop);

  std::unique_ptr<Loop> loop_;
  std::unique_ptr<Net> net_;
  std::unique_ptr<Net> tls_net_;  // null: without TLS
  std::unique_ptr<Stream> stream_;
  Time deadline_{};
};

}  // namespace pixii::rt
