// Whole messages between two processes of this host, each with a descriptor if wanted.
//
// Thread: one at a time. Blocks its caller: never on a loop.
// Source: SOCK_SEQPACKET in unix(7), SCM_RIGHTS in cmsg(3).
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <utility>

#include "base/result.h"
#include "rt/fd.h"
#include "rt/time.h"

namespace pixii::rt {

class MessageSocket final {
 public:
  MessageSocket() = default;

  explicit MessageSocket(Fd fd) : fd_(std::move(fd)) {}

  /// Two that are connected. The first stays with this process when it starts others. Errors:
  /// kResourceExhausted.
  static Result<std::pair<MessageSocket, MessageSocket>> Pair();

  /// `passed`: goes with the message; null: none. Errors: kDisconnected if nobody is at the other
  /// end, kUnavailable.
  Result<void> Send(std::span<const std::byte> message, const Fd* passed);

  struct Received {
    std::size_t size_bytes = 0;  // of the message; longer than `into`: what was cut is lost
    Fd passed;                   // none: no descriptor came
  };

  /// The next message; waits for it, for `patience` if given. Errors: kDisconnected if the other
  /// end is closed, kDeadlineExceeded, kUnavailable.
  Result<Received> Receive(std::span<std::byte> into, std::optional<Duration> patience);

  const Fd& fd() const { return fd_; }

  void Close() { fd_.Close(); }

 private:
  Fd fd_;
};

}  // namespace pixii::rt
