#include "control/mux.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "wire/messages/codec.h"
#include "wire/mux_frame.h"

namespace pixii::control {

namespace {

constexpr std::size_t kFrameBytes = 16 * 1024;  // of a message, so that streams take turns

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
      heard_(now),
      pinged_(now) {
  wire::MuxHello hello;
  hello.magic = wire::MuxHello::kMagic;
  hello.version_min = wire::kMuxVersionMin;
  hello.version_max = wire::kMuxVersionMax;
  hello.window_bytes = options_.window_bytes;
  hello.name = options_.name;
  AppendMuxFrame(control_, MuxKind::kHello, 0, 0, wire::Encode(hello));
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
  AppendMuxFrame(control_, MuxKind::kCall, 0, Raw(id),
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
  found->second.ending = error ? wire::EncodeError(*error) : std::string();
  MakeReady(id, found->second);
}

void Mux::Cancel(StreamId id) {
  const auto found = streams_.find(id);
  if (found == streams_.end() || !found->second.ours) {
    return;
  }
  AppendMuxFrame(control_, MuxKind::kCancel, 0, Raw(id), {});
  streams_.erase(found);
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
    AppendMuxFrame(control_, MuxKind::kCredit, 0, Raw(id), NumberBytes(stream.to_grant, 4));
    stream.to_grant = 0;
  }
}

void Mux::GoAway() {
  if (!going_away_) {
    going_away_ = true;
    AppendMuxFrame(control_, MuxKind::kGoAway, 0, 0, {});
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
    Result<void> taken = OnFrame(**header, payload);
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
      return OnData(id, header.flags, payload);
    case MuxKind::kEnd:
      return OnEnd(id, payload);
    case MuxKind::kCancel:
      if (const auto found = streams_.find(id); found != streams_.end() && !found->second.ours) {
        streams_.erase(found);
        Push({.kind = MuxEvent::Kind::kCancelled, .stream = id, .text = {}, .error = {}});
      }
      return {};
    case MuxKind::kCredit:
      return OnCredit(id, payload);
    case MuxKind::kPing:
      AppendMuxFrame(control_, MuxKind::kPong, 0, 0, payload.substr(0, 8));
      return {};
    case MuxKind::kPong:
      return {};
    case MuxKind::kGoAway:
      peer_goes_away_ = true;
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
  const std::string refusal = wire::EncodeError(
      going_away_ ? Error(Code::kShuttingDown, "this process takes no new calls")
                  : Error(Code::kResourceExhausted,
                          fmt::format("{} calls run on this connection", options_.streams_max)));
  const auto theirs = static_cast<std::uint32_t>(
      std::ranges::count_if(streams_, [](const auto& one) { return !one.second.ours; }));
  if (going_away_ || theirs >= options_.streams_max) {
    AppendMuxFrame(control_, MuxKind::kEnd, 0, Raw(id), refusal);
    return {};
  }
  Stream& stream = streams_[id];
  stream.credit = peer_window_bytes_;
  Push({.kind = MuxEvent::Kind::kCalled,
        .stream = id,
        .text = std::move(call.method),
        .deadline_left = rt::Duration(std::max<std::int64_t>(call.deadline_left_ns, 0)),
        .error = {}});
  return {};
}

Result<void> Mux::OnData(StreamId id, std::uint8_t flags, std::string_view payload) {
  const auto found = streams_.find(id);
  if (found == streams_.end()) {
    return {};  // cancelled or refused here while it was under way
  }
  Stream& stream = found->second;
  stream.unread += payload.size();
  // A message longer than the window comes with credit for what was taken into `partial`.
  if (stream.unread > std::uint64_t{options_.window_bytes} + wire::kMuxPayloadBytesMax) {
    return Corrupt(fmt::format("stream {} sends past its window", Raw(id)));
  }
  if (stream.partial.size() + payload.size() > options_.message_bytes_max) {
    return Corrupt(fmt::format("a message of stream {} is longer than {} bytes", Raw(id),
                               options_.message_bytes_max));
  }
  if ((flags & wire::kMuxMore) != 0) {
    stream.partial.append(payload);
    Consumed(id, payload.size());
    return {};
  }
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
  streams_.erase(found);
  Push({.kind = MuxEvent::Kind::kEnded, .stream = id, .text = {}, .error = std::move(error)});
  return {};
}

Result<void> Mux::OnCredit(StreamId id, std::string_view payload) {
  if (payload.size() != 4) {
    return Corrupt(fmt::format("credit of {} bytes, not 4", payload.size()));
  }
  const auto found = streams_.find(id);
  if (found != streams_.end()) {
    found->second.credit += NumberOf(payload);
    if (found->second.credit > std::uint64_t{1} << 40U) {
      return Corrupt(fmt::format("stream {} was given credit without end", Raw(id)));
    }
    MakeReady(id, found->second);
  }
  return {};
}

bool Mux::MaySend(const Stream& stream) const {
  return stream.queue.empty() ? stream.ending.has_value()
                              : stream.credit > 0 || stream.queue.front().empty();
}

void Mux::MakeReady(StreamId id, Stream& stream) {
  if (!stream.in_ready && MaySend(stream)) {
    stream.in_ready = true;
    ready_.push_back(id);
  }
}

void Mux::SendSome(StreamId id, Stream& stream, std::string& out) {
  std::string& message = stream.queue.front();
  const std::size_t size =
      std::min<std::uint64_t>({message.size() - stream.offset, kFrameBytes, stream.credit});
  const bool last = stream.offset + size == message.size();
  AppendMuxFrame(out, MuxKind::kData, last ? 0 : wire::kMuxMore, Raw(id),
                 std::string_view(message).substr(stream.offset, size));
  stream.credit -= size;
  stream.queued_bytes -= size;
  stream.offset += size;
  if (last) {
    stream.queue.pop_front();
    stream.offset = 0;
    if (stream.queue.empty()) {
      Push({.kind = MuxEvent::Kind::kDrained, .stream = id, .text = {}, .error = {}});
    }
  }
}

bool Mux::TakeOutput(std::string& out, std::size_t size_max) {
  const std::size_t begin = out.size();
  out.append(std::exchange(control_, {}));
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
      SendSome(id, stream, out);
    }
    if (stream.queue.empty() && stream.ending) {
      AppendMuxFrame(out, MuxKind::kEnd, 0, Raw(id), *stream.ending);
      streams_.erase(found);
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
  if (now - heard_ >= options_.dead_after) {
    Break(Error(
        Code::kDisconnected,
        fmt::format("the peer said nothing for {} ms",
                    std::chrono::duration_cast<std::chrono::milliseconds>(now - heard_).count())));
    return;
  }
  if (now - heard_ >= options_.ping_after && now - pinged_ >= options_.ping_after) {
    pinged_ = now;
    AppendMuxFrame(control_, MuxKind::kPing, 0, 0,
                   NumberBytes(static_cast<std::uint64_t>(now.time_since_epoch().count()), 8));
  }
}

rt::Time Mux::next_tick() const {
  return broken_ ? rt::kNever
                 : std::min(heard_ + options_.dead_after,
                            std::max(heard_, pinged_) + options_.ping_after);
}

void Mux::Break(Error error) {
  if (broken_) {
    return;
  }
  broken_ = true;
  streams_.clear();
  ready_.clear();
  control_.clear();
  input_.clear();
  Push({.kind = MuxEvent::Kind::kBroken, .stream = {}, .text = {}, .error = std::move(error)});
}

std::vector<MuxEvent> Mux::TakeEvents() { return std::exchange(events_, {}); }

}  // namespace pixii::control
