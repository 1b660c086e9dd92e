// Calls one peer, over a connection that is made anew when it breaks.
//
// Thread: one loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/result.h"
#include "control/mux_connection.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "rt/sync.h"

namespace pixii::control {

struct MuxClientOptions {
  rt::Address address;
  MuxOptions mux;
  /// The name that the peer has, if it says one: another process may have its port now. Empty: any.
  std::string expected_peer = {};
  /// Hears that the peer takes no new calls any more. It may destroy the client.
  std::function<void()> on_going_away = {};
  rt::Duration connect_timeout = std::chrono::seconds(3);
  /// Between two attempts, doubling until a peer said hello; half of it is drawn.
  rt::Duration backoff_min = std::chrono::milliseconds(50);
  rt::Duration backoff_max = std::chrono::seconds(2);
};

class MuxClient final : private MuxListener {
 public:
  struct CallHandlers {
    std::function<void(std::string message)> on_message;
    /// Once, unless the caller gives up or the client goes: the peer ended the call, or the
    /// connection broke (kDisconnected). Either may destroy the client.
    std::function<void(std::optional<Error> error)> on_end;
  };

  /// A call, whatever connection it runs on.
  enum class CallKey : std::uint64_t {};

  /// All outlive it. `on_state` hears of true when calls can be made and of false when they cannot
  /// any more, before calls end for that; it may destroy the client. Connects at once.
  MuxClient(rt::Loop& loop, rt::Net& net, MuxClientOptions options,
            std::function<void(bool connected)> on_state);

  MuxClient(const MuxClient&) = delete;
  MuxClient& operator=(const MuxClient&) = delete;
  /// Closes; no handler is called any more.
  ~MuxClient();

  /// Errors: kUnavailable without a connection, kShuttingDown if the peer takes no new calls,
  /// kTooLarge; then no handler is called.
  Result<CallKey> Call(std::string_view method, rt::Duration deadline_left, std::string message,
                       CallHandlers handlers);

  /// No effect on a call that ended.
  void Send(CallKey call, std::string message);
  /// Gives up; no handler is called any more.
  void Cancel(CallKey call);

  bool connected() const { return connected_; }

  /// The peer of this connection takes no new calls.
  bool peer_goes_away() const { return connected_ && peer_goes_away_; }

  /// Of a call, given to Send and not yet sent; 0 for one that ended.
  std::size_t queued_bytes(CallKey call) const;

  /// Why there is no connection, for logs.
  const std::string& trouble() const { return trouble_; }

 private:
  struct Open {
    StreamId stream{};
    CallHandlers handlers;
  };

  void OnMuxEvent(MuxConnection& connection, MuxEvent event) override;
  rt::Task<void> ConnectLoop();
  bool SetConnected(bool connected);
  std::shared_ptr<Open> Take(StreamId stream);
  void FailAll(const Error& error);

  rt::Loop& loop_;
  rt::Net& net_;
  MuxClientOptions options_;
  std::function<void(bool)> on_state_;
  std::unordered_map<std::uint64_t, std::shared_ptr<Open>> calls_;  // by key
  std::unordered_map<std::uint64_t, std::uint64_t> keys_;           // by stream
  std::unique_ptr<MuxConnection> connection_;
  std::uint64_t last_call_ = 0;
  bool connected_ = false;
  bool peer_goes_away_ = false;
  bool wrong_peer_ = false;
  bool said_hello_ = false;                                     // the peer of this connection
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // on the loop alone
  std::string trouble_ = "no connection was made yet";
  rt::Event broken_;
  rt::SpawnedTasks tasks_;  // last: their frames use what stands above
};

}  // namespace pixii::control
