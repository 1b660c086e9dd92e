// Answers calls of many connections. docs/subsystems/control.md
//
// Thread: one loop.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "control/mux_connection.h"
#include "rt/loop.h"
#include "rt/net.h"

namespace pixii::control {

/// A call that a peer made.
struct CallId {
  std::uint64_t connection = 0;
  StreamId stream{};

  friend auto operator<=>(const CallId&, const CallId&) = default;
};

class MuxService {
 public:
  virtual void OnCall(CallId call, std::string_view method, rt::Duration deadline_left) = 0;
  /// The first one comes with the call.
  virtual void OnMessage(CallId call, std::string message) = 0;
  /// The caller wants no more, or its connection broke. Not after End.
  virtual void OnGone(CallId call) = 0;

  /// What was sent has left.
  virtual void OnDrained(CallId /*call*/) {}

 protected:
  ~MuxService() = default;
};

class MuxServer final {
 public:
  static constexpr std::size_t kConnectionsMax = 4096;

  /// All outlive it.
  MuxServer(rt::Loop& loop, rt::Net& net, MuxOptions options, MuxService& service);

  MuxServer(const MuxServer&) = delete;
  MuxServer& operator=(const MuxServer&) = delete;
  /// Closes every connection; the service hears nothing any more. Not from inside its calls.
  ~MuxServer();

  /// Listens; returns the bound address.
  Result<rt::Address> Start(const rt::Address& address);

  /// No effect on a call that is gone. Errors: kTooLarge.
  Result<void> Send(CallId call, std::string message);
  void End(CallId call, std::optional<Error> error);

  std::size_t queued_bytes(CallId call) const;

  /// Of all calls of its connection together.
  std::size_t connection_queued_bytes(CallId call) const;

  /// What the caller's process said it is; empty: nothing, or it is gone.
  std::string peer_name(CallId call) const;

  /// Takes no new calls and no new connections.
  void GoAway();

  std::size_t connection_count() const { return peers_.size(); }

 private:
  class Peer;

  rt::Task<void> AcceptLoop();
  Peer* Find(CallId call) const;
  void Forget(std::uint64_t connection);

  rt::Loop& loop_;
  rt::Net& net_;
  MuxOptions options_;
  MuxService& service_;
  std::unique_ptr<rt::Listener> listener_;
  std::map<std::uint64_t, std::unique_ptr<Peer>> peers_;
  std::uint64_t last_connection_ = 0;
  bool going_away_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // on the loop alone
  rt::SpawnedTasks tasks_;  // last: their frames use what stands above
};

}  // namespace pixii::control
