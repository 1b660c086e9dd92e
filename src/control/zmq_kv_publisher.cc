#include "control/zmq_kv_publisher.h"

#include <algorithm>
#include <array>
#include <utility>

namespace pixii::control {

namespace {

constexpr std::size_t kReadBytes = 4096;
constexpr std::size_t kReplayBytes = 1U << 20;  // that a peer gets at once
constexpr rt::Duration kHandshakeTimeout = std::chrono::seconds(10);
constexpr rt::Duration kWriteTimeout = std::chrono::seconds(60);
constexpr rt::Duration kAcceptPause = std::chrono::milliseconds(100);
constexpr std::uint64_t kEnd = ~std::uint64_t{0};

}  // namespace

ZmqKvPublisher::ZmqKvPublisher(rt::Loop& loop, rt::Net& net, ZmqKvPublisherOptions options)
    : loop_(loop), net_(net), options_(std::move(options)) {}

ZmqKvPublisher::~ZmqKvPublisher() {
  *alive_ = false;
  tasks_.Clear();
}

Result<rt::Address> ZmqKvPublisher::Start(const rt::Address& events) {
  PX_TRY(events_, net_.Listen(events, {}));
  tasks_.Start(AcceptLoop(*events_, wire::ZmtpSocket::kPublisher));
  return events_->address();
}

Result<rt::Address> ZmqKvPublisher::StartReplay(const rt::Address& replay) {
  PX_TRY(replay_, net_.Listen(replay, {}));
  tasks_.Start(AcceptLoop(*replay_, wire::ZmtpSocket::kRouter));
  return replay_->address();
}

void ZmqKvPublisher::Publish(const wire::EngineKvBatch& batch) {
  std::string payload = wire::EncodeEngineKvBatch(batch, options_.form);
  const wire::ZmtpMessage message = {options_.topic, wire::EncodeEngineKvSequence(next_sequence()),
                                     payload};
  for (auto& [id, peer] : peers_) {
    if (!peer->zmtp.Wants(options_.topic)) {
      continue;
    }
    if (peer->zmtp.output_size_bytes() > options_.peer_bytes_max) {
      ++dropped_;
      continue;
    }
    peer->zmtp.Send(message);
    peer->wake.WakeAll();
  }
  batch_bytes_ += payload.size();
  batches_.push_back(std::move(payload));
  while (batches_.size() > options_.batches_max ||
         (batch_bytes_ > options_.bytes_max && batches_.size() > 1)) {
    batch_bytes_ -= batches_.front().size();
    batches_.pop_front();
    ++first_;
  }
}

rt::Task<void> ZmqKvPublisher::AcceptLoop(rt::Listener& listener, wire::ZmtpSocket own) {
  while (true) {
    auto accepting = listener.Accept();
    Result<std::unique_ptr<rt::Stream>> stream = co_await std::move(accepting);
    if (!stream && stream.error().code() == Code::kCancelled) {
      co_return;
    }
    if (!stream) {
      auto pause = loop_.SleepFor(kAcceptPause);  // descriptors are used up
      co_await std::move(pause);
      continue;
    }
    if (peers_.size() < options_.connection_count_max) {
      const std::uint64_t id = ++last_peer_;
      Peer& peer =
          *peers_.emplace(id, std::make_unique<Peer>(loop_, std::move(*stream), own)).first->second;
      peer.tasks.Start(WriteLoop(id, peer));
      peer.tasks.Start(ReadLoop(id, peer));
    }
  }
}

rt::Task<void> ZmqKvPublisher::ReadLoop(std::uint64_t id, Peer& peer) {
  std::array<char, kReadBytes> buffer;
  const rt::Time ready_by = loop_.Now() + kHandshakeTimeout;
  while (!peer.broken) {
    auto reading = peer.stream->Read(buffer, peer.zmtp.ready() ? rt::kNever : ready_by);
    const Result<std::size_t> read = co_await std::move(reading);
    if (!read || *read == 0) {
      break;
    }
    if (!peer.zmtp.Feed(std::string_view(buffer.data(), *read))) {
      ++malformed_;
      break;
    }
    for (wire::ZmtpMessage& message : peer.zmtp.TakeMessages()) {
      OnQuestion(peer, std::move(message));
    }
    peer.wake.WakeAll();
  }
  Forget(id, peer);
}

rt::Task<void> ZmqKvPublisher::WriteLoop(std::uint64_t id, Peer& peer) {
  while (!peer.broken) {
    FillReplays(peer);
    const std::string output = peer.zmtp.TakeOutput();
    if (output.empty()) {
      co_await peer.wake.Wait(rt::kNever);
      continue;
    }
    auto writing = peer.stream->Write(output, loop_.Now() + kWriteTimeout);
    const Result<void> written = co_await std::move(writing);
    if (!written) {
      break;
    }
  }
  Forget(id, peer);
}

// [envelope ..., 8 bytes of the first sequence wanted]
void ZmqKvPublisher::OnQuestion(Peer& peer, wire::ZmtpMessage message) {
  const Result<std::uint64_t> from = wire::DecodeEngineKvSequence(message.back());
  if (!from) {
    ++malformed_;
    return;
  }
  if (peer.replays.size() == kReplaysMax) {
    return;
  }
  message.pop_back();
  peer.replays.push_back({std::move(message), *from});
}

void ZmqKvPublisher::FillReplays(Peer& peer) {
  while (!peer.replays.empty() && peer.zmtp.output_size_bytes() < kReplayBytes) {
    Replay& replay = peer.replays.front();
    replay.next = std::max(replay.next, first_);
    wire::ZmtpMessage message = replay.envelope;
    const bool ends = replay.next >= next_sequence();
    message.push_back(wire::EncodeEngineKvSequence(ends ? kEnd : replay.next));
    message.push_back(ends ? std::string() : batches_[replay.next - first_]);
    peer.zmtp.Send(message);
    ++replay.next;
    if (ends) {
      peer.replays.pop_front();
    }
  }
}

// Later: a coroutine of the peer stands below this call.
void ZmqKvPublisher::Forget(std::uint64_t id, Peer& peer) {
  if (std::exchange(peer.broken, true)) {
    return;
  }
  peer.stream->Close();
  peer.wake.WakeAll();
  loop_.Post([this, id, alive = std::weak_ptr<bool>(alive_)] {
    if (const auto here = alive.lock(); here && *here) {
      peers_.erase(id);
    }
  });
}

}  // namespace pixii::control
