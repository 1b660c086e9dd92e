// One client's connection: reads requests, runs one at a time, keeps reading so that a hang-up is
// seen while it runs.
//
// Thread: the frontend's loop.
// A connection that is closed on one side only (shutdown) is served: whether the client still
// listens is found out by interim responses or SSE comments, to which a closed socket answers with
// a reset. docs/subsystems/frontend.md
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "frontend/exchange.h"
#include "frontend/options.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "rt/sync.h"
#include "wire/http.h"

namespace pixii::frontend {

class HttpConnection;

/// What a connection needs of its server.
class ConnectionHost {
 public:
  virtual ~ConnectionHost() = default;
  /// Flush() `connection` at the end of this turn.
  virtual void ScheduleFlush(HttpConnection& connection) = 0;
  /// `connection` does nothing any more; the host destroys it, but not inside this call.
  virtual void OnDone(HttpConnection& connection) = 0;
  virtual bool draining() const = 0;
};

class HttpConnection final : public Exchange {
 public:
  HttpConnection(rt::Loop& loop, std::unique_ptr<rt::Stream> stream, ExchangeHandler& handler,
                 ConnectionHost& host, const HttpServerOptions& options);
  ~HttpConnection() override;

  void Start();
  /// Writes what was appended; called by the host after ScheduleFlush.
  void Flush();
  /// Closes it if no request runs or is half read.
  void CloseIfIdle();
  /// Closes it now; a running request learns that its client is gone.
  void Close();

  bool flush_scheduled = false;  // the host's

  /// Whether a request runs or its answer is still on its way.
  bool answering() const {
    return phase_ == Phase::kBusy || phase_ == Phase::kClosing || phase_ == Phase::kLingering ||
           unsent_bytes() > 0;
  }

  bool done() const { return phase_ == Phase::kClosed; }

  // Exchange
  const wire::HttpRequest& request() const override { return request_; }

  void Watch(ExchangeWatcher* watcher) override { watcher_ = watcher; }

  void Respond(Response response) override;
  void StartStream(std::string_view content_type, std::vector<wire::HttpField> fields) override;
  std::string& stream() override;
  void EndStream() override;
  void Abort() override;

  std::size_t unsent_bytes() const override { return out_.size() + writing_.size() - written_; }

  bool congested() override {
    room_wanted_ = room_wanted_ || overfull();
    return overfull();
  }

 private:
  enum class Phase : std::uint8_t {
    kFresh,      // nothing received yet
    kIdle,       // between requests
    kReading,    // inside a request
    kBusy,       // a handler has the request
    kClosing,    // the last response is being sent
    kLingering,  // sent; reading on, so that the response is not lost to a reset
    kClosed,
  };

  rt::Task<void> ReadLoop();
  rt::Task<void> WriteRest();

  void OnBytes(std::string_view bytes);
  void OnPeerEnd();
  void Process();
  bool ProcessOne();
  void Refuse(const wire::HttpFault& fault);
  void FinishExchange(bool keep);
  void EndChunk();
  void SayAnswered(bool whole);

  bool overfull() const { return unsent_bytes() > options_.unsent_bytes_max; }

  bool Keeps(const Response* response) const;
  void AfterFlush();
  void NotifyRoom();
  void Probe();
  rt::Time NextDeadline() const;
  void Rearm();
  void OnTimer();
  void MarkDirty();

  rt::Loop& loop_;
  std::unique_ptr<rt::Stream> stream_;
  ExchangeHandler& handler_;
  ConnectionHost& host_;
  const HttpServerOptions& options_;

  Phase phase_ = Phase::kFresh;
  wire::HttpRequestParser parser_;
  wire::HttpRequest request_;
  ExchangeWatcher* watcher_ = nullptr;

  std::string unread_;
  std::string out_;          // appended, not yet given to the socket
  std::string writing_;      // what WriteRest is writing
  std::size_t written_ = 0;  // of writing_
  std::optional<std::size_t> chunk_begin_;
  bool writer_active_ = false;
  bool streaming_ = false;  // StartStream was called and EndStream not yet
  bool chunked_ = false;
  bool keep_after_stream_ = false;
  bool continued_ = false;  // 100 Continue was sent for this request
  bool peer_ended_ = false;
  bool processing_ = false;
  bool room_wanted_ = false;  // the handler was told to wait

  int status_ = 0;                // of the answer under way; 0: there is none yet
  std::uint64_t body_bytes_ = 0;  // of it, so far
  rt::Time handled_since_{};

  rt::Time phase_since_{};
  rt::Time next_probe_ = rt::kNever;
  rt::Duration probe_interval_{};
  rt::TimerId timer_ = rt::TimerId::kNone;
  rt::Time timer_at_ = rt::kNever;
  rt::WaitList read_room_;
  rt::SpawnedTasks tasks_;  // last: their frames use what stands above
};

}  // namespace pixii::frontend
