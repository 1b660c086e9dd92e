#include "control/zmq_pull.h"

#include <array>
#include <string>
#include <utility>

namespace pixii::control {

namespace {

constexpr std::size_t kReadBytes = 16384;
constexpr rt::Duration kHandshakeTimeout = std::chrono::seconds(10);
constexpr rt::Duration kWriteTimeout = std::chrono::seconds(10);  // of a few bytes now and then
constexpr rt::Duration kAcceptPause = std::chrono::milliseconds(100);

}  // namespace

Result<rt::Address> ZmqPull::Start(const rt::Address& address) {
  PX_TRY(listener_, net_.Listen(address, {}));
  tasks_.Start(AcceptLoop());
  return listener_->address();
}

rt::Task<void> ZmqPull::AcceptLoop() {
  while (true) {
    auto accepting = listener_->Accept();
    Result<std::unique_ptr<rt::Stream>> stream = co_await std::move(accepting);
    if (!stream && stream.error().code() == Code::kCancelled) {
      co_return;
    }
    if (!stream) {
      auto pause = loop_.SleepFor(kAcceptPause);  // descriptors are used up
      co_await std::move(pause);
      continue;
    }
    if (peers_.size() < kPeersMax) {
      const std::uint64_t id = ++last_peer_;
      Peer& peer = *peers_.emplace(id, std::make_unique<Peer>()).first->second;
      peer.stream = std::move(*stream);
      peer.tasks.Start(ReadLoop(id, peer));
    }
  }
}

// What is to be written is the handshake, and answers to PING.
rt::Task<void> ZmqPull::ReadLoop(std::uint64_t id, Peer& peer) {
  std::array<char, kReadBytes> buffer;
  const rt::Time ready_by = loop_.Now() + kHandshakeTimeout;
  while (true) {
    if (const std::string output = peer.zmtp.TakeOutput(); !output.empty()) {
      auto writing = peer.stream->Write(output, loop_.Now() + kWriteTimeout);
      const Result<void> written = co_await std::move(writing);
      if (!written) {
        break;
      }
    }
    auto reading = peer.stream->Read(buffer, peer.zmtp.ready() ? rt::kNever : ready_by);
    const Result<std::size_t> read = co_await std::move(reading);
    if (!read || *read == 0 || !peer.zmtp.Feed(std::string_view(buffer.data(), *read))) {
      break;
    }
    for (wire::ZmtpMessage& message : peer.zmtp.TakeMessages()) {
      on_message_(std::move(message));
    }
  }
  peer.stream->Close();
  // Later: this coroutine is the peer's.
  loop_.Post([this, id, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) {
      peers_.erase(id);
    }
  });
}

}  // namespace pixii::control
