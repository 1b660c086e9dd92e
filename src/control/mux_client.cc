#include "control/mux_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace pixii::control {

MuxClient::MuxClient(rt::Loop& loop, rt::Net& net, MuxClientOptions options,
                     std::function<void(bool connected)> on_state)
    : loop_(loop),
      net_(net),
      options_(std::move(options)),
      on_state_(std::move(on_state)),
      broken_(loop) {
  tasks_.Start(ConnectLoop());
}

MuxClient::~MuxClient() {
  *alive_ = false;
  tasks_.Clear();
  if (connection_) {
    MuxConnection::Retire(std::move(connection_));
  }
}

rt::Task<void> MuxClient::ConnectLoop() {
  rt::Duration backoff = options_.backoff_min;
  while (true) {
    auto connecting = net_.Connect(options_.address, loop_.Now() + options_.connect_timeout);
    Result<std::unique_ptr<rt::Stream>> stream = co_await std::move(connecting);
    said_hello_ = false;
    if (stream) {
      broken_.Reset();
      peer_goes_away_ = false;
      wrong_peer_ = false;
      MuxListener& self = *this;
      connection_ = std::make_unique<MuxConnection>(loop_, std::move(*stream), options_.mux,
                                                    Mux::Side::kConnected, self);
      auto breaking = broken_.Wait();
      co_await std::move(breaking);
      connection_.reset();
    } else {
      trouble_ = stream.error().detail();
    }
    // A peer that lets itself be connected and then breaks is not asked without a pause, either.
    backoff = said_hello_ ? options_.backoff_min : backoff;
    const auto half = static_cast<std::uint64_t>(std::max<std::int64_t>(backoff.count() / 2, 1));
    auto pause = loop_.SleepFor(rt::Duration(half + loop_.random().Below(half)));
    co_await std::move(pause);
    backoff = std::min(backoff * 2, options_.backoff_max);
  }
}

// False: this is gone.
bool MuxClient::SetConnected(bool connected) {
  if (connected_ == connected) {
    return true;
  }
  connected_ = connected;
  const std::shared_ptr<bool> alive = alive_;
  const auto on_state = on_state_;  // it may destroy this
  on_state(connected);
  return *alive;
}

Result<MuxClient::CallKey> MuxClient::Call(std::string_view method, rt::Duration deadline_left,
                                           std::string message, CallHandlers handlers) {
  if (!connected_) {
    return Fail(Code::kUnavailable, options_.address.ToString() + ": " + trouble_);
  }
  if (peer_goes_away_) {
    return Fail(Code::kShuttingDown, options_.address.ToString() + " takes no new calls");
  }
  PX_TRY(const StreamId stream, connection_->Call(method, deadline_left, std::move(message)));
  const std::uint64_t key = ++last_call_;
  calls_.emplace(key, std::make_shared<Open>(Open{stream, std::move(handlers)}));
  keys_.emplace(static_cast<std::uint64_t>(stream), key);
  return CallKey{key};
}

void MuxClient::Send(CallKey call, std::string message) {
  const auto found = calls_.find(static_cast<std::uint64_t>(call));
  if (found != calls_.end() && connection_) {
    // Too large messages are refused by Call; what follows it is small.
    (void)connection_->Send(found->second->stream, std::move(message));
  }
}

std::size_t MuxClient::queued_bytes(CallKey call) const {
  const auto found = calls_.find(static_cast<std::uint64_t>(call));
  return found == calls_.end() || !connection_
             ? 0
             : connection_->mux().queued_bytes(found->second->stream);
}

void MuxClient::Cancel(CallKey call) {
  const auto found = calls_.find(static_cast<std::uint64_t>(call));
  if (found == calls_.end()) {
    return;
  }
  const StreamId stream = found->second->stream;
  keys_.erase(static_cast<std::uint64_t>(stream));
  calls_.erase(found);
  connection_->Cancel(stream);
}

std::shared_ptr<MuxClient::Open> MuxClient::Take(StreamId stream) {
  const auto key = keys_.find(static_cast<std::uint64_t>(stream));
  if (key == keys_.end()) {
    return nullptr;
  }
  auto open = calls_.extract(key->second);
  keys_.erase(key);
  return std::move(open.mapped());
}

void MuxClient::FailAll(const Error& error) {
  std::vector<std::uint64_t> keys;
  for (const auto& [key, open] : calls_) {
    keys.push_back(key);
  }
  std::ranges::sort(keys);  // in the order they were made: runs repeat exactly
  const std::shared_ptr<bool> alive = alive_;
  for (const std::uint64_t key : keys) {
    if (!*alive) {
      return;  // a handler destroyed this
    }
    const auto found = calls_.find(key);  // a handler may have given up another one
    if (found != calls_.end()) {
      if (const std::shared_ptr<Open> open = Take(found->second->stream)) {
        open->handlers.on_end(error);
      }
    }
  }
}

void MuxClient::OnMuxEvent(MuxConnection& connection, MuxEvent event) {
  switch (event.kind) {
    case MuxEvent::Kind::kReady:
      wrong_peer_ = !options_.expected_peer.empty() && !event.text.empty() &&
                    event.text != options_.expected_peer;
      if (wrong_peer_) {
        connection.Close(Error(Code::kUnavailable, fmt::format("it is '{}', not '{}'", event.text,
                                                               options_.expected_peer)));
      } else {
        said_hello_ = true;
        SetConnected(true);
      }
      return;
    case MuxEvent::Kind::kMessage: {
      connection.Consumed(event.stream, event.text.size());
      const auto key = keys_.find(static_cast<std::uint64_t>(event.stream));
      if (key != keys_.end()) {
        const std::shared_ptr<Open> open = calls_.at(key->second);  // it may give itself up
        open->handlers.on_message(std::move(event.text));
      }
      return;
    }
    case MuxEvent::Kind::kEnded:
      if (const std::shared_ptr<Open> open = Take(event.stream)) {
        open->handlers.on_end(std::move(event.error));
      }
      return;
    case MuxEvent::Kind::kGoingAway:
      peer_goes_away_ = true;
      if (const auto on_going_away = options_.on_going_away) {  // it may destroy this
        on_going_away();
      }
      return;
    case MuxEvent::Kind::kBroken: {
      trouble_ = event.error->detail();
      broken_.Set();  // heard of later, from the loop
      // First, so that whoever hears of a failed call does not try here again.
      if (SetConnected(false)) {
        FailAll(Error(Code::kDisconnected, event.error->detail()));
      }
      return;
    }
    case MuxEvent::Kind::kCalled:
    case MuxEvent::Kind::kCancelled:
    case MuxEvent::Kind::kDrained:
      return;
  }
}

}  // namespace pixii::control
