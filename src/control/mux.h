// Both ends of a multiplexed connection, without I/O: bytes in, events out; verbs in, bytes out.
//
// Thread: values; one owner. docs/formats/mux.md
// One side calls, the other answers; either side may do both. A call is a stream: messages go both
// ways until the answering side ends it or the calling side wants no more. Each direction of a
// stream has a window in which messages may begin: who does not read stalls its own stream and no
// other. Bytes of streams that
// may send are interleaved frame by frame; of messages longer than a frame a few are under way at a
// time, so that a peer holds few that are not whole.
//
// Whatever a peer sends, the memory held for it is at most: streams_max streams, long_messages_max
// messages of message_bytes_max, kAnswerBytesMax of answers, and what Send was given.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "rt/time.h"
#include "wire/mux_frame.h"

namespace pixii::control {

/// Odd: opened by the side that connected. Never used twice in a connection.
enum class StreamId : std::uint64_t {};

struct MuxOptions {
  std::string name;                         // of this process, told to the peer
  std::uint32_t window_bytes = 256 * 1024;  // of a stream: unread ones, above no message begins
  std::uint32_t message_bytes_max = 64U << 20U;       // of one message
  std::uint32_t streams_max = 65536;                  // open at a time that the peer opened
  rt::Duration ping_after = std::chrono::seconds(1);  // so often something is said
  rt::Duration dead_after =
      std::chrono::seconds(5);  // without a byte of the peer, or without its whole hello: broken
};

struct MuxEvent {
  enum class Kind : std::uint8_t {
    kReady,      // the peer said hello: `text` is its name
    kCalled,     // the peer opened `stream`: `text` is the method
    kMessage,    // `text`: one message of `stream`
    kEnded,      // the answering peer ended `stream`, with `error` or without; it is gone
    kCancelled,  // the calling peer wants no more of `stream`; it is gone
    kDrained,    // what was to be sent on `stream` was taken
    kGoingAway,  // the peer takes no new calls
    kBroken,     // the connection cannot go on: `error`; nothing follows
  };

  Kind kind{};
  StreamId stream{};
  std::string text;
  rt::Duration deadline_left{};  // kCalled; zero: none, below: it has passed
  std::optional<Error> error;
};

class Mux final {
 public:
  enum class Side : std::uint8_t { kConnected, kAccepted };

  /// Messages longer than a frame that one side has under way at a time. Part of the format.
  static constexpr std::uint32_t kLongMessagesMax = 8;

  /// Frames that the peer's own made necessary and that it does not read: then it is broken.
  static constexpr std::size_t kAnswerBytesMax = 1U << 20U;

  /// Of the detail and the param of an error that ends a stream; what is longer is cut.
  static constexpr std::size_t kErrorBytesMax = 16 * 1024;

  /// Pre: options.window_bytes >= wire::MuxHello::kWindowBytesMin.
  Mux(MuxOptions options, Side side, rt::Time now);

  /// Opens a stream and sends its first message. Errors: kUnavailable if the connection is broken
  /// or the peer goes away, kTooLarge.
  Result<StreamId> Call(std::string_view method, rt::Duration deadline_left, std::string message);

  /// Queues a message; no effect on a stream that is gone. Errors: kTooLarge.
  Result<void> Send(StreamId stream, std::string message);

  /// Ends a stream that the peer opened behind what is queued; it is gone. No effect if it is
  /// already.
  void End(StreamId stream, std::optional<Error> error);

  /// Gives up a stream that this side opened; it is gone, at once.
  void Cancel(StreamId stream);

  /// `bytes` of messages were read on: the peer may send as many more.
  void Consumed(StreamId stream, std::size_t bytes);

  /// Takes no new calls from now on.
  void GoAway();

  /// Bytes from the peer.
  void Receive(std::string_view bytes, rt::Time now);

  /// Pings, and notices silence. Call at next_tick() or later; what it is late is no silence.
  void Tick(rt::Time now);

  rt::Time next_tick() const;

  /// The connection ended or cannot go on. Idempotent.
  void Break(Error error);

  /// Moves out what happened, in order. `spare`: an empty one, whose memory serves the next events.
  std::vector<MuxEvent> TakeEvents(std::vector<MuxEvent> spare = {});

  /// Appends up to about `size_max` bytes to send now; whether there was anything.
  bool TakeOutput(std::string& out, std::size_t size_max);

  bool has_output() const {
    return !control_.empty() || pong_ || (peer_said_hello_ && !ready_.empty());
  }

  /// Queued on a stream and not yet handed to the connection.
  std::size_t queued_bytes(StreamId stream) const;

  /// The same of all streams together.
  std::size_t queued_bytes() const { return queued_bytes_; }

  bool is_ready() const { return peer_said_hello_ && !broken_; }

  bool is_broken() const { return broken_; }

  std::size_t stream_count() const { return streams_.size(); }

 private:
  struct Stream {
    bool ours = false;
    std::deque<std::string> queue;  // messages to send
    std::size_t offset = 0;         // of the first one, sent
    std::size_t queued_bytes = 0;
    std::int64_t credit = 0;            // bytes of messages; one may begin while it is above 0
    std::uint64_t unread = 0;           // received and not consumed
    std::uint64_t to_grant = 0;         // consumed and not told
    std::string partial;                // message that is not whole yet
    bool in_ready = false;              // stands in `ready_`
    bool in_turn = false;               // its long message is one of `long_out_`
    std::optional<std::string> ending;  // payload of kEnd behind what is queued
  };

  using Streams = std::map<StreamId, Stream>;

  void Push(MuxEvent event) { events_.push_back(std::move(event)); }

  void MakeReady(StreamId id, Stream& stream);
  bool MaySend(const Stream& stream) const;
  bool TakeTurn(StreamId id, Stream& stream);
  void EndTurn(Stream& stream);
  void SendSome(StreamId id, Stream& stream, std::string& out);
  void Grant(StreamId id, Stream& stream);
  void Drop(Streams::iterator stream);
  void Answer(const wire::MuxHeader& header, std::string_view payload);

  Result<void> OnFrame(const wire::MuxHeader& header, std::string_view payload);
  Result<void> OnHello(std::string_view payload);
  Result<void> OnCall(StreamId id, std::string_view payload);
  Result<void> OnData(StreamId id, bool more, std::string_view payload);
  Result<void> OnEnd(StreamId id, std::string_view payload);
  Result<void> OnCredit(StreamId id, std::string_view payload);

  bool IsOurs(StreamId id) const { return (Raw(id) & 1U) == (side_ == Side::kConnected ? 1U : 0U); }

  static std::uint64_t Raw(StreamId id) { return static_cast<std::uint64_t>(id); }

  MuxOptions options_;
  Side side_;
  Streams streams_;
  std::deque<StreamId> ready_;       // may send; in turn
  std::deque<StreamId> waiting_;     // for a turn with a long message
  std::string control_;              // frames that wait for no window
  std::size_t answer_bytes_ = 0;     // of `control_`, that the peer's frames made necessary
  std::optional<std::string> pong_;  // for the last ping
  std::string input_;                // of a frame that is not whole yet
  std::vector<MuxEvent> events_;
  std::size_t queued_bytes_ = 0;    // of all streams
  std::uint32_t long_out_ = 0;      // long messages begun and not sent whole
  std::uint32_t long_in_ = 0;       // and begun and not received whole
  std::uint32_t peer_streams_ = 0;  // open ones that the peer opened
  std::uint64_t next_stream_;
  std::uint64_t last_peer_stream_ = 0;
  std::uint32_t peer_window_bytes_ = 0;
  rt::Time begun_;
  rt::Time heard_;
  rt::Time pinged_;
  bool peer_said_hello_ = false;
  bool going_away_ = false;
  bool peer_goes_away_ = false;
  bool broken_ = false;
};

}  // namespace pixii::control
