#include "control/mux.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "wire/messages/codec.h"
#include "wire/mux_frame.h"

namespace pixii::control {

namespace {

constexpr std::size_t kFrameBytes = 16 * 1024;  // of a message, so that streams take turns
constexpr std::int64_t kCreditMax = std::int64_t{1} << 40U;  // bytes; a stream never needs as many

std::string NumberBytes(std::uint64_t value, std::size_t size) {
  std::string out(size, '\0');
  for (std::size_t i = 0; i < size; ++i) {
    out[i] = static_cast<char>(value >> 8 * i);
  }
  return out;
}

std::uint64_t NumberOf(std::string_view bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) {
    value = value << 8 | static_cast<unsigned char>(bytes[i]);
  }
  return value;
}

tl::unexpected<Error> Corrupt(std::string detail) {
  return Fail(Code::kDataCorrupt, std::move(detail));
}

}  // namespace

using wire::AppendMuxFrame;
using wire::MuxKind;

Mux::Mux(MuxOptions options, Side side, rt::Time now)
    : options_(std::move(options)),
      side_(side),
      next_stream_(side == Side::kConnected ? 1 : 2),
      begun_(now),
      heard_(now),
      pinged_(now) {
  PX_ASSERT(options_.window_bytes >= wire::MuxHello::kWindowBytesMin);
  wire::MuxHello hello;
  hello.magic = wire::MuxHello::kMagic;
  hello.version_min = wire::kMuxVersionMin;
  hello.version_max = wire::kMuxVersionMax;
  hello.window_bytes = options_.window_bytes;
  hello.name = options_.name;
  AppendMuxFrame(control_, {.kind = MuxKind::kHello, .stream = 0}, wire::Encode(hello));
}

Result<StreamId> Mux::Call(std::string_view method, rt::Duration deadline_left,
                           std::string message) {
  if (broken_ || peer_goes_away_) {
    return Fail(Code::kUnavailable,
                broken_ ? "the connection is broken" : "the peer takes no new calls");
  }
  if (message.size() > options_.message_bytes_max) {
    return Fail(Code::kTooLarge, fmt::format("a message of {} bytes, at most {} are allowed",
                                             message.size(), options_.message_bytes_max));
  }
  const StreamId id{next_stream_};
  next_stream_ += 2;
  Stream& stream = streams_[id];
  stream.ours = true;
  stream.credit = peer_window_bytes_;
  AppendMuxFrame(control_, {.kind = MuxKind::kCall, .stream = Raw(id)},
                 wire::Encode(wire::MuxCall{std::string(method), deadline_left.count()}));
  PX_CHECK_OK(Send(id, std::move(message)));
  return id;
}

Result<void> Mux::Send(StreamId id, std::string message) {
  if (message.size() > options_.message_bytes_max) {
    return Fail(Code::kTooLarge, fmt::format("a message of {} bytes, at most {} are allowed",
                                             message.size(), options_.message_bytes_max));
  }
  const auto found = streams_.find(id);
  if (found != streams_.end() && !found->second.ending) {
    found->second.queued_bytes += message.size();
    queued_bytes_ += message.size();
    found->second.queue.push_back(std::move(message));
    MakeReady(id, found->second);
  }
  return {};
}

void Mux::End(StreamId id, std::optional<Error> error) {
  const auto found = streams_.find(id);
  if (found == streams_.end() || found->second.ours || found->second.ending) {
    return;
  }
  found->second.ending =
      error ? wire::EncodeError(Error(error->code(), error->detail().substr(0, kErrorBytesMax),
                                      error->param().substr(0, kErrorBytesMax)))
            : std::string();
  MakeReady(id, found->second);
}

void Mux::Cancel(StreamId id) {
  const auto found = streams_.find(id);
  if (found == streams_.end() || !found->second.ours) {
    return;
  }
  AppendMuxFrame(control_, {.kind = MuxKind::kCancel, .stream = Raw(id)}, {});
  Drop(found);
}

void Mux::Drop(Streams::iterator found) {
  Stream& stream = found->second;
  queued_bytes_ -= stream.queued_bytes;
  long_in_ -= stream.partial.empty() ? 0 : 1;
  peer_streams_ -= stream.ours ? 0 : 1;
  EndTurn(stream);
  streams_.erase(found);
}

// A peer that asks and does not read what it asked for is not served without end.
void Mux::Answer(const wire::MuxHeader& header, std::string_view payload) {
  const std::size_t before = control_.size();
  AppendMuxFrame(control_, header, payload);
  answer_bytes_ += control_.size() - before;
  if (answer_bytes_ > kAnswerBytesMax) {
    Break(Error(Code::kDisconnected,
                fmt::format("the peer reads none of {} bytes of answers", answer_bytes_)));
  }
}

void Mux::Consumed(StreamId id, std::size_t bytes) {
  const auto found = streams_.find(id);
  if (found == streams_.end()) {
    return;
  }
  Stream& stream = found->second;
  const std::uint64_t read = std::min<std::uint64_t>(bytes, stream.unread);
  stream.unread -= read;
  stream.to_grant += read;
  if (stream.to_grant >= options_.window_bytes / 2) {
    Grant(id, stream);
  }
}

void Mux::Grant(StreamId id, Stream& stream) {
  Answer({.kind = MuxKind::kCredit, .stream = Raw(id)},
         NumberBytes(std::exchange(stream.to_grant, 0), 8));
}

void Mux::GoAway() {
  if (!going_away_) {
    going_away_ = true;
    AppendMuxFrame(control_, {.kind = MuxKind::kGoAway, .stream = 0}, {});
  }
}

void Mux::Receive(std::string_view bytes, rt::Time now) {
  if (broken_) {
    return;
  }
  heard_ = now;
  input_.append(bytes);
  std::string_view rest = input_;
  while (!broken_) {
    Result<std::optional<wire::MuxHeader>> header = wire::ReadMuxHeader(rest);
    if (!header) {
      Break(header.error());
      return;
    }
    if (!*header || rest.size() < wire::kMuxHeaderBytes + (*header)->payload_bytes) {
      break;
    }
    const std::string_view payload = rest.substr(wire::kMuxHeaderBytes, (*header)->payload_bytes);
    rest.remove_prefix(wire::kMuxHeaderBytes + payload.size());
    Result<void> taken = wire::CheckMuxPayload(**header, payload);
    if (taken) {
      taken = OnFrame(**header, payload);
    }
    if (!taken) {
      Break(taken.error());
      return;
    }
  }
  input_.erase(0, input_.size() - rest.size());
}

Result<void> Mux::OnFrame(const wire::MuxHeader& header, std::string_view payload) {
  const StreamId id{header.stream};
  if (!peer_said_hello_ && header.kind != MuxKind::kHello) {
    return Corrupt("the peer did not begin with a hello");
  }
  switch (header.kind) {
    case MuxKind::kHello:
      return OnHello(payload);
    case MuxKind::kCall:
      return OnCall(id, payload);
    case MuxKind::kData:
      return OnData(id, header.more, payload);
    case MuxKind::kEnd:
      return OnEnd(id, payload);
    case MuxKind::kCancel:
      if (const auto found = streams_.find(id); found != streams_.end() && !found->second.ours) {
        Drop(found);
        Push({.kind = MuxEvent::Kind::kCancelled, .stream = id, .text = {}, .error = {}});
      }
      return {};
    case MuxKind::kCredit:
      return OnCredit(id, payload);
    case MuxKind::kPing:
      pong_ = payload.substr(0, 8);  // an answer to the last ping answers them all
      return {};
    case MuxKind::kPong:
      return {};
    case MuxKind::kGoAway:
      if (std::exchange(peer_goes_away_, true)) {
        return {};
      }
      Push({.kind = MuxEvent::Kind::kGoingAway, .stream = {}, .text = {}, .error = {}});
      return {};
  }
  return {};
}

Result<void> Mux::OnHello(std::string_view payload) {
  if (peer_said_hello_) {
    return Corrupt("the peer said hello twice");
  }
  PX_TRY(wire::MuxHello hello, wire::Decode<wire::MuxHello>(payload));
  if (hello.magic != wire::MuxHello::kMagic) {
    return Corrupt(fmt::format("the peer's hello begins with {:#x}, not {:#x}", hello.magic,
                               wire::MuxHello::kMagic));
  }
  if (hello.version_max < wire::kMuxVersionMin || hello.version_min > wire::kMuxVersionMax) {
    return Fail(Code::kUnsupported,
                fmt::format("the peer {} speaks versions {} to {}, this program {} to {}",
                            hello.name, hello.version_min, hello.version_max, wire::kMuxVersionMin,
                            wire::kMuxVersionMax));
  }
  if (hello.window_bytes < wire::MuxHello::kWindowBytesMin) {
    return Corrupt(fmt::format("the peer's window is {} bytes, at least {} are needed",
                               hello.window_bytes, wire::MuxHello::kWindowBytesMin));
  }
  peer_window_bytes_ = hello.window_bytes;
  for (auto& [id, stream] : streams_) {
    stream.credit = peer_window_bytes_;
    MakeReady(id, stream);
  }
  peer_said_hello_ = true;
  Push({.kind = MuxEvent::Kind::kReady, .stream = {}, .text = std::move(hello.name), .error = {}});
  return {};
}

Result<void> Mux::OnCall(StreamId id, std::string_view payload) {
  if (IsOurs(id) || Raw(id) <= last_peer_stream_) {
    return Corrupt(fmt::format("stream {} cannot be opened by the peer", Raw(id)));
  }
  last_peer_stream_ = Raw(id);
  PX_TRY(wire::MuxCall call, wire::Decode<wire::MuxCall>(payload));
  if (going_away_ || peer_streams_ >= options_.streams_max) {
    const Error refusal =
        going_away_ ? Error(Code::kShuttingDown, "this process takes no new calls")
                    : Error(Code::kResourceExhausted,
                            fmt::format("{} calls run on this connection", options_.streams_max));
    Answer({.kind = MuxKind::kEnd, .stream = Raw(id)}, wire::EncodeError(refusal));
    return {};
  }
  ++peer_streams_;
  Stream& stream = streams_[id];
  stream.credit = peer_window_bytes_;
  Push({.kind = MuxEvent::Kind::kCalled,
        .stream = id,
        .text = std::move(call.method),
        .deadline_left = rt::Duration(call.deadline_left_ns),
        .error = {}});
  return {};
}

Result<void> Mux::OnData(StreamId id, bool more, std::string_view payload) {
  const auto found = streams_.find(id);
  if (found == streams_.end()) {
    return {};  // cancelled or refused here while it was under way
  }
  Stream& stream = found->second;
  if (stream.partial.empty() && !payload.empty() &&
      stream.unread + stream.to_grant >= options_.window_bytes) {
    return Corrupt(fmt::format("stream {} sends past its window", Raw(id)));
  }
  if (stream.partial.size() + payload.size() > options_.message_bytes_max) {
    return Corrupt(fmt::format("a message of stream {} is longer than {} bytes", Raw(id),
                               options_.message_bytes_max));
  }
  if (more && payload.empty()) {
    return Corrupt(fmt::format("stream {} sends a part without bytes", Raw(id)));
  }
  stream.unread += payload.size();
  if (more) {
    long_in_ += stream.partial.empty() ? 1 : 0;
    if (long_in_ > kLongMessagesMax) {
      return Corrupt(
          fmt::format("the peer sends {} long messages at a time, at most {} are allowed", long_in_,
                      kLongMessagesMax));
    }
    stream.partial.append(payload);
    return {};
  }
  long_in_ -= stream.partial.empty() ? 0 : 1;
  std::string message = std::exchange(stream.partial, {});
  message.append(payload);
  Push({.kind = MuxEvent::Kind::kMessage, .stream = id, .text = std::move(message), .error = {}});
  return {};
}

Result<void> Mux::OnEnd(StreamId id, std::string_view payload) {
  const auto found = streams_.find(id);
  if (found == streams_.end()) {
    return {};
  }
  if (!found->second.ours) {
    return Corrupt(fmt::format("stream {} is not the peer's to end", Raw(id)));
  }
  std::optional<Error> error;
  if (!payload.empty()) {
    PX_TRY(error, wire::DecodeError(payload));
  }
  Drop(found);
  Push({.kind = MuxEvent::Kind::kEnded, .stream = id, .text = {}, .error = std::move(error)});
  return {};
}

Result<void> Mux::OnCredit(StreamId id, std::string_view payload) {
  if (payload.size() != 8) {
    return Corrupt(fmt::format("credit of {} bytes, not 8", payload.size()));
  }
  const std::uint64_t more = NumberOf(payload);
  const auto found = streams_.find(id);
  if (found != streams_.end()) {
    Stream& stream = found->second;
    // What a peer can have read at a time is what was sent.
    if (more > static_cast<std::uint64_t>(kCreditMax) || stream.credit > kCreditMax) {
      return Corrupt(fmt::format("stream {} was given credit without end", Raw(id)));
    }
    stream.credit += static_cast<std::int64_t>(more);
    MakeReady(id, stream);
  }
  return {};
}

bool Mux::MaySend(const Stream& stream) const {
  return stream.queue.empty() ? stream.ending.has_value()
                              : stream.credit > 0 || stream.in_turn || stream.queue.front().empty();
}

void Mux::MakeReady(StreamId id, Stream& stream) {
  if (!stream.in_ready && MaySend(stream)) {
    stream.in_ready = true;
    ready_.push_back(id);
  }
}

// Whether the next message may be sent, or go on. One that is longer than a frame waits for a turn.
// Once begun it needs no more credit, so it ends and others get their turn.
bool Mux::TakeTurn(StreamId id, Stream& stream) {
  if (stream.in_turn || stream.queue.front().size() <= kFrameBytes) {
    return true;
  }
  if (long_out_ == kLongMessagesMax) {
    waiting_.push_back(id);
    stream.in_ready = true;  // it stands in line, if in another one
    return false;
  }
  ++long_out_;
  stream.in_turn = true;
  return true;
}

void Mux::EndTurn(Stream& stream) {
  if (!std::exchange(stream.in_turn, false)) {
    return;
  }
  --long_out_;
  while (!waiting_.empty()) {
    const StreamId next = waiting_.front();
    waiting_.pop_front();
    if (const auto found = streams_.find(next); found != streams_.end()) {
      ++long_out_;
      found->second.in_turn = true;
      ready_.push_back(next);
      return;
    }
  }
}

void Mux::SendSome(StreamId id, Stream& stream, std::string& out) {
  std::string& message = stream.queue.front();
  if (stream.offset == 0) {
    stream.credit -= static_cast<std::int64_t>(message.size());
  }
  const std::size_t size = std::min(message.size() - stream.offset, kFrameBytes);
  const bool last = stream.offset + size == message.size();
  AppendMuxFrame(out, {.kind = MuxKind::kData, .more = !last, .stream = Raw(id)},
                 std::string_view(message).substr(stream.offset, size));
  stream.queued_bytes -= size;
  queued_bytes_ -= size;
  stream.offset += size;
  if (last) {
    stream.queue.pop_front();
    stream.offset = 0;
    EndTurn(stream);
    if (stream.queue.empty()) {
      Push({.kind = MuxEvent::Kind::kDrained, .stream = id, .text = {}, .error = {}});
    }
  }
}

bool Mux::TakeOutput(std::string& out, std::size_t size_max) {
  const std::size_t begin = out.size();
  if (out.empty()) {
    out.swap(control_);  // the memory of both serves again
  } else {
    out.append(control_);
    control_.clear();
  }
  answer_bytes_ = 0;
  if (const std::optional<std::string> pong = std::exchange(pong_, std::nullopt)) {
    AppendMuxFrame(out, {.kind = MuxKind::kPong}, *pong);
  }
  while (peer_said_hello_ && !ready_.empty() && out.size() - begin < size_max) {
    const StreamId id = ready_.front();
    ready_.pop_front();
    const auto found = streams_.find(id);
    if (found == streams_.end()) {
      continue;
    }
    Stream& stream = found->second;
    stream.in_ready = false;
    if (!stream.queue.empty()) {
      if (!TakeTurn(id, stream)) {
        continue;
      }
      SendSome(id, stream, out);
    }
    if (stream.queue.empty() && stream.ending) {
      AppendMuxFrame(out, {.kind = MuxKind::kEnd, .stream = Raw(id)}, *stream.ending);
      Drop(found);
      continue;
    }
    MakeReady(id, stream);
  }
  return out.size() > begin;
}

std::size_t Mux::queued_bytes(StreamId id) const {
  const auto found = streams_.find(id);
  return found == streams_.end() ? 0 : found->second.queued_bytes;
}

void Mux::Tick(rt::Time now) {
  if (broken_) {
    return;
  }
  // Who stood still itself heard nothing, whatever the peer said: that time does not count.
  rt::Time& since = peer_said_hello_ ? heard_ : begun_;
  since += std::max(rt::Duration::zero(), now - next_tick());
  const rt::Duration silence = now - since;
  if (silence >= options_.dead_after) {
    Break(
        Error(Code::kDisconnected,
              fmt::format("the peer said {} for {} ms", peer_said_hello_ ? "nothing" : "no hello",
                          std::chrono::duration_cast<std::chrono::milliseconds>(silence).count())));
    return;
  }
  // Also while the peer talks: it must hear of this side as often.
  if (now - pinged_ >= options_.ping_after) {
    pinged_ = now;
    AppendMuxFrame(control_, {.kind = MuxKind::kPing, .stream = 0},
                   NumberBytes(static_cast<std::uint64_t>(now.time_since_epoch().count()), 8));
  }
}

rt::Time Mux::next_tick() const {
  return broken_ ? rt::kNever
                 : std::min((peer_said_hello_ ? heard_ : begun_) + options_.dead_after,
                            pinged_ + options_.ping_after);
}

void Mux::Break(Error error) {
  if (broken_) {
    return;
  }
  broken_ = true;
  streams_.clear();
  ready_.clear();
  waiting_.clear();
  control_.clear();
  pong_.reset();
  queued_bytes_ = 0;
  Push({.kind = MuxEvent::Kind::kBroken, .stream = {}, .text = {}, .error = std::move(error)});
}

std::vector<MuxEvent> Mux::TakeEvents(std::vector<MuxEvent> spare) {
  PX_ASSERT(spare.empty());
  return std::exchange(events_, std::move(spare));
}

}  // namespace pixii::control
