// A Mux over a byte stream: reads, writes, pings.
//
// Thread: one loop.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "control/mux.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "rt/sync.h"

namespace pixii::control {

class MuxConnection;

/// Hears what happens on a connection. May not destroy it inside the call.
class MuxListener {
 public:
  virtual void OnMuxEvent(MuxConnection& connection, MuxEvent event) = 0;

 protected:
  ~MuxListener() = default;
};

class MuxConnection final {
 public:
  /// `loop` and `listener` outlive it. The last event is kBroken.
  MuxConnection(rt::Loop& loop, std::unique_ptr<rt::Stream> stream, MuxOptions options,
                Mux::Side side, MuxListener& listener);

  MuxConnection(const MuxConnection&) = delete;
  MuxConnection& operator=(const MuxConnection&) = delete;
  /// Closes; nothing is heard any more.
  ~MuxConnection();

  // As Mux.
  Result<StreamId> Call(std::string_view method, rt::Duration deadline_left, std::string message);
  Result<void> Send(StreamId stream, std::string message);
  void End(StreamId stream, std::optional<Error> error);
  void Cancel(StreamId stream);
  void Consumed(StreamId stream, std::size_t bytes);
  void GoAway();

  /// The connection ends now; kBroken with `error` is heard soon.
  void Close(Error error);

  const Mux& mux() const { return mux_; }

  std::string peer() const { return stream_->peer(); }

 private:
  rt::Task<void> ReadLoop();
  rt::Task<void> WriteLoop();
  void Tell();
  void WakeWriter();

  rt::Loop& loop_;
  MuxListener& listener_;
  std::unique_ptr<rt::Stream> stream_;
  Mux mux_;
  rt::Duration dead_after_;
  rt::WaitList writer_;
  rt::SpawnedTasks tasks_;  // last: their frames use what stands above
};

}  // namespace pixii::control
