// A ZeroMQ PULL socket that others connect to and push messages into.
//
// Thread: one loop.
// Nobody is authenticated: for networks that are trusted. Who breaks the protocol is hung up on.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "base/result.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "rt/sync.h"
#include "wire/zmtp.h"

namespace pixii::control {

class ZmqPull final {
 public:
  static constexpr std::size_t kPeersMax = 256;  // further ones are hung up on

  using Handler = std::function<void(wire::ZmtpMessage message)>;

  /// `on_message` may not destroy it. All outlive it.
  ZmqPull(rt::Loop& loop, rt::Net& net, Handler on_message)
      : loop_(loop), net_(net), on_message_(std::move(on_message)) {}

  ZmqPull(const ZmqPull&) = delete;
  ZmqPull& operator=(const ZmqPull&) = delete;

  ~ZmqPull() { tasks_.Clear(); }

  /// Returns where it listens. Errors: those of Listen. Call once.
  Result<rt::Address> Start(const rt::Address& address);

 private:
  struct Peer {
    std::unique_ptr<rt::Stream> stream;
    wire::ZmtpConnection zmtp{wire::ZmtpSocket::kPull};
    rt::SpawnedTasks tasks;  // last: their frames use what stands above
  };

  rt::Task<void> AcceptLoop();
  rt::Task<void> ReadLoop(std::uint64_t id, Peer& peer);

  rt::Loop& loop_;
  rt::Net& net_;
  const Handler on_message_;
  std::unique_ptr<rt::Listener> listener_;
  std::map<std::uint64_t, std::unique_ptr<Peer>> peers_;
  std::uint64_t last_peer_ = 0;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // posts hold it weakly
  rt::SpawnedTasks tasks_;  // last: their frames use what stands above
};

}  // namespace pixii::control
