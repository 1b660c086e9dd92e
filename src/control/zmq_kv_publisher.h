// Publishes KV events over ZeroMQ as vLLM does, for routers that listen to engines.
//
// Thread: one loop. docs/kv_events_for_engines.md
// A PUB socket, and a ROUTER socket where those who missed something ask for it. A subscriber that
// does not read loses messages and asks for them: nobody waits for it.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "rt/sync.h"
#include "wire/zmq_kv_event.h"
#include "wire/zmtp.h"

namespace pixii::control {

struct ZmqKvPublisherOptions {
  std::string topic = "kv-events";
  wire::EngineKvForm form = wire::EngineKvForm::kArrays;
  std::size_t batches_max = 10'000;         // that can be asked for
  std::size_t bytes_max = 64U << 20;        // of them
  std::size_t peer_bytes_max = 16U << 20;   // sent and not yet read by one subscriber
  std::size_t connection_count_max = 1024;  // of both sockets
};

class ZmqKvPublisher final {
 public:
  ZmqKvPublisher(rt::Loop& loop, rt::Net& net, ZmqKvPublisherOptions options);

  ZmqKvPublisher(const ZmqKvPublisher&) = delete;
  ZmqKvPublisher& operator=(const ZmqKvPublisher&) = delete;
  ~ZmqKvPublisher();

  /// Opens the PUB socket; returns where. Errors: those of Listen. Call once.
  Result<rt::Address> Start(const rt::Address& events);

  /// Opens the ROUTER socket. Likewise.
  Result<rt::Address> StartReplay(const rt::Address& replay);

  /// Gives the batch the next sequence number and sends it to all subscribers.
  void Publish(const wire::EngineKvBatch& batch);

  std::uint64_t next_sequence() const { return first_ + batches_.size(); }

  std::size_t peer_count() const { return peers_.size(); }

  /// Messages that subscribers did not get because they did not read.
  std::uint64_t dropped_count() const { return dropped_; }

  /// Peers that broke the protocol, and questions that are none.
  std::uint64_t malformed_count() const { return malformed_; }

 private:
  /// One who asked for what it missed.
  struct Replay {
    wire::ZmtpMessage envelope;  // frames before the question
    std::uint64_t next = 0;
  };

  struct Peer {
    Peer(rt::Loop& loop, std::unique_ptr<rt::Stream> stream_in, wire::ZmtpSocket own)
        : stream(std::move(stream_in)), zmtp(own), wake(loop) {}

    std::unique_ptr<rt::Stream> stream;
    wire::ZmtpConnection zmtp;
    std::deque<Replay> replays;
    bool broken = false;
    rt::WaitList wake;
    rt::SpawnedTasks tasks;  // last: their frames use what stands above
  };

  static constexpr std::size_t kReplaysMax = 16;  // questions of one peer at a time

  rt::Task<void> AcceptLoop(rt::Listener& listener, wire::ZmtpSocket own);
  rt::Task<void> ReadLoop(std::uint64_t id, Peer& peer);
  rt::Task<void> WriteLoop(std::uint64_t id, Peer& peer);
  void OnQuestion(Peer& peer, wire::ZmtpMessage message);
  void FillReplays(Peer& peer);
  void Forget(std::uint64_t id, Peer& peer);

  rt::Loop& loop_;
  rt::Net& net_;
  ZmqKvPublisherOptions options_;
  std::deque<std::string> batches_;  // as they were sent, from `first_` on
  std::size_t batch_bytes_ = 0;
  std::uint64_t first_ = 0;  // sequence
  std::uint64_t dropped_ = 0;
  std::uint64_t malformed_ = 0;
  std::unique_ptr<rt::Listener> events_;
  std::unique_ptr<rt::Listener> replay_;
  std::map<std::uint64_t, std::unique_ptr<Peer>> peers_;
  std::uint64_t last_peer_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // on the loop alone
  rt::SpawnedTasks tasks_;  // last: their frames use what stands above
};

}  // namespace pixii::control
