// Listens to the KV events that an engine publishes over ZeroMQ.
//
// Thread: one loop. docs/kv_events_for_engines.md
// Connects again by itself; what was missed is asked for at the publisher's replay socket.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "control/engine_kv_stream.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "rt/sync.h"
#include "wire/zmtp.h"

namespace pixii::control {

/// "tcp://HOST:PORT" or "ipc:///PATH", as ZeroMQ writes addresses. Errors: kInvalidArgument.
Result<rt::Address> ParseZmqEndpoint(std::string_view text);

struct ZmqKvSourceOptions {
  rt::Address events;                                      // a PUB socket
  std::optional<rt::Address> replay;                       // its ROUTER socket
  std::string topic;                                       // messages whose topic begins so
  EngineKvStream::Options stream;                          // has_replay is set by `replay`
  rt::Duration connect_timeout = std::chrono::seconds(5);  // with the handshake
  rt::Duration retry_pause = std::chrono::milliseconds(200);
  rt::Duration check_period = std::chrono::seconds(5);    // of silence, before it is asked
  rt::Duration replay_timeout = std::chrono::seconds(5);  // between two pieces of a replay
  std::uint32_t replay_tries_max = 10;                    // of a socket that has never answered
};

class ZmqKvSource final {
 public:
  using Handler = std::function<void(std::vector<wire::KvEvent> events)>;

  /// `on_events` may not destroy it. All outlive it.
  ZmqKvSource(rt::Loop& loop, rt::Net& net, ZmqKvSourceOptions options, Handler on_events);

  ZmqKvSource(const ZmqKvSource&) = delete;
  ZmqKvSource& operator=(const ZmqKvSource&) = delete;

  ~ZmqKvSource() { tasks_.Clear(); }

  bool connected() const { return connected_; }

  /// Why it is not connected, or what the last replay failed of.
  const std::string& trouble() const { return trouble_; }

  const EngineKvStream& stream() const { return stream_; }

 private:
  rt::Task<void> ListenLoop();
  rt::Task<Result<void>> Listen();
  rt::Task<void> ReplayLoop();
  rt::Task<Result<void>> Replay(std::uint64_t from);
  void OnMessage(const wire::ZmtpMessage& message);
  void Tell();

  rt::Loop& loop_;
  rt::Net& net_;
  ZmqKvSourceOptions options_;
  Handler on_events_;
  EngineKvStream stream_;
  bool connected_ = false;
  bool replay_was_there_ = false;
  std::string trouble_;
  rt::WaitList wish_;
  rt::SpawnedTasks tasks_;  // last: their frames use what stands above
};

}  // namespace pixii::control
