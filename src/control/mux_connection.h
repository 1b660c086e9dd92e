// A Mux over a byte stream: reads, writes, pings.
//
// Thread: one loop.
// Bytes that came before the other side closed or broke are heard, also if ours could not be sent.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "control/mux.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "rt/sync.h"

namespace pixii::control {

class MuxConnection;

/// Hears what happens on a connection. May Retire it inside the call, not destroy it.
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

  /// Ends a connection from wherever it is, even from inside its listener's call: nothing is heard
  /// any more.
  static void Retire(std::unique_ptr<MuxConnection> connection);

  const Mux& mux() const { return mux_; }

  std::string peer() const { return stream_->peer(); }

 private:
  static constexpr std::size_t kReadBytes = 64 * 1024;
  static constexpr std::size_t kWriteBytes = 32 * 1024;  // taken from the Mux at a time
  static constexpr std::size_t kPieceBytes = 16 * 1024;  // to be written within `dead_after`

  rt::Task<void> ReadLoop();
  rt::Task<void> WriteLoop();
  rt::Task<Result<void>> WriteAll(std::string_view bytes);
  void Tell();
  void WakeWriter();

  rt::Loop& loop_;
  MuxListener* listener_;  // null: retired
  std::unique_ptr<rt::Stream> stream_;
  Mux mux_;
  rt::Duration dead_after_;
  bool telling_ = false;
  std::vector<MuxEvent> told_;  // empty: its memory serves again
  rt::WaitList writer_;
  rt::SpawnedTasks tasks_;  // last: their frames use what stands above
};

}  // namespace pixii::control
