// Messages of fixed size over one Unix socket, with the descriptors that belong to them.
//
// Thread: one loop. Private to the shm transport. docs/formats/transfer.md
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "rt/loop.h"
#include "rt/net.h"
#include "rt/socket_parts.h"
#include "rt/sync.h"
#include "rt/task.h"
#include "transport/shm_block.h"

namespace pixii::transport {

class ShmSocket final {
 public:
  /// `stream` is a Unix socket's; at most `descriptors_max` that nobody took are kept.
  ShmSocket(rt::Loop& loop, std::unique_ptr<rt::Stream> stream, std::size_t descriptors_max);

  /// RunSender sends it. `keep`: what the descriptors belong to.
  void Send(const ShmMessage& message, std::vector<int> fds = {},
            std::shared_ptr<const void> keep = nullptr);

  /// The next message; nothing at the end.
  rt::Task<std::optional<ShmMessage>> Receive();

  /// Descriptors of the message that came last, in order.
  std::optional<rt::Fd> TakeDescriptor();

  /// Ends when the socket does.
  rt::Task<void> RunSender();

  void Close() { stream_->Close(); }

 private:
  struct Unsent {
    ShmMessage message;
    std::vector<int> fds;
    std::shared_ptr<const void> keep;
  };

  std::unique_ptr<rt::Stream> stream_;
  rt::SocketParts* parts_;
  std::deque<Unsent> unsent_;
  std::size_t sent_ = 0;
  std::deque<rt::Fd> descriptors_;
  rt::WaitList work_;
};

}  // namespace pixii::transport
