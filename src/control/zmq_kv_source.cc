#include "control/zmq_kv_source.h"

#include <fmt/format.h>

#include <array>
#include <utility>

namespace pixii::control {

namespace {

constexpr std::size_t kReadBytes = 64 * 1024;

EngineKvStream::Options StreamOptions(const ZmqKvSourceOptions& options) {
  EngineKvStream::Options stream = options.stream;
  stream.has_replay = options.replay.has_value();
  return stream;
}

// Writes what `zmtp` has to say, then reads once. Errors: kDeadlineExceeded if nothing came.
rt::Task<Result<void>> Exchange(rt::Stream& stream, wire::ZmtpConnection& zmtp, rt::Time deadline) {
  const std::string output = zmtp.TakeOutput();
  if (!output.empty()) {
    auto writing = stream.Write(output, deadline);
    PX_CO_CHECK_OK(co_await std::move(writing));
  }
  std::array<char, kReadBytes> buffer;
  auto reading = stream.Read(buffer, deadline);
  PX_CO_TRY(const std::size_t size, co_await std::move(reading));
  if (size == 0) {
    co_return Fail(Code::kDisconnected, "the publisher closed the connection");
  }
  co_return zmtp.Feed(std::string_view(buffer.data(), size));
}

}  // namespace

Result<rt::Address> ParseZmqEndpoint(std::string_view text) {
  constexpr std::string_view kTcp = "tcp://";
  constexpr std::string_view kIpc = "ipc://";
  if (text.starts_with(kTcp)) {
    return rt::ParseAddress(text.substr(kTcp.size()));
  }
  if (text.starts_with(kIpc) && text.size() > kIpc.size()) {
    return rt::Address{.host = fmt::format("unix:{}", text.substr(kIpc.size())), .port = 0};
  }
  return Fail(Code::kInvalidArgument,
              fmt::format("\"{}\" is neither tcp://HOST:PORT nor ipc:///PATH", text));
}

ZmqKvSource::ZmqKvSource(rt::Loop& loop, rt::Net& net, ZmqKvSourceOptions options,
                         Handler on_events)
    : loop_(loop),
      net_(net),
      options_(std::move(options)),
      on_events_(std::move(on_events)),
      stream_(StreamOptions(options_)),
      wish_(loop) {
  tasks_.Start(ListenLoop());
  tasks_.Start(ReplayLoop());
}

void ZmqKvSource::Tell() {
  std::vector<wire::KvEvent> events = stream_.TakeEvents();
  if (!events.empty()) {
    on_events_(std::move(events));
  }
  if (stream_.wants_replay()) {
    wish_.WakeAll();
  }
}

rt::Task<void> ZmqKvSource::ListenLoop() {
  while (true) {
    auto listening = Listen();
    const Result<void> ended = co_await std::move(listening);
    connected_ = false;
    trouble_ = ended.error().detail();
    auto pause = loop_.SleepFor(options_.retry_pause);
    co_await std::move(pause);
  }
}

// Returns only with why the connection ended.
rt::Task<Result<void>> ZmqKvSource::Listen() {
  const rt::Time ready_by = loop_.Now() + options_.connect_timeout;
  auto connecting = net_.Connect(options_.events, ready_by);
  PX_CO_TRY(const std::unique_ptr<rt::Stream> stream, co_await std::move(connecting));
  wire::ZmtpConnection zmtp(wire::ZmtpSocket::kSubscriber);
  zmtp.Subscribe(options_.topic);
  while (true) {
    const bool was_ready = zmtp.ready();
    auto exchanging =
        Exchange(*stream, zmtp, was_ready ? loop_.Now() + options_.check_period : ready_by);
    const Result<void> exchanged = co_await std::move(exchanging);
    const bool silent = !exchanged && exchanged.error().code() == Code::kDeadlineExceeded;
    if (!exchanged && !(silent && was_ready)) {
      co_return exchanged;
    }
    if (silent || was_ready != zmtp.ready()) {
      connected_ = true;
      stream_.Check();
    }
    for (const wire::ZmtpMessage& message : zmtp.TakeMessages()) {
      OnMessage(message);
    }
    Tell();
  }
}

// [topic, sequence, batch]; whatever else there is, is no batch.
void ZmqKvSource::OnMessage(const wire::ZmtpMessage& message) {
  if (message.size() < 3) {
    return;
  }
  const Result<std::uint64_t> sequence = wire::DecodeEngineKvSequence(message[1]);
  if (sequence) {
    stream_.OnBatch(*sequence, message[2]);
  }
}

// A socket that never answered is believed not to be there; one that did is asked until it does.
rt::Task<void> ZmqKvSource::ReplayLoop() {
  while (true) {
    const std::optional<std::uint64_t> from = stream_.TakeReplayWish();
    if (!from) {
      co_await wish_.Wait(rt::kNever);
      continue;
    }
    Result<void> replayed;
    std::uint32_t tries = 0;
    while (true) {
      auto replaying = Replay(*from);
      replayed = co_await std::move(replaying);
      replay_was_there_ = replay_was_there_ || replayed;
      if (replayed || stream_.wants_replay() ||
          (++tries >= options_.replay_tries_max && !replay_was_there_)) {
        break;
      }
      trouble_ = replayed.error().detail();
      auto pause = loop_.SleepFor(options_.retry_pause);
      co_await std::move(pause);
    }
    stream_.OnReplayEnd(replayed.has_value());
    Tell();
  }
}

// Ends too when the stream wants another one instead.
rt::Task<Result<void>> ZmqKvSource::Replay(std::uint64_t from) {
  auto connecting = net_.Connect(*options_.replay, loop_.Now() + options_.connect_timeout);
  PX_CO_TRY(const std::unique_ptr<rt::Stream> stream, co_await std::move(connecting));
  wire::ZmtpConnection zmtp(wire::ZmtpSocket::kDealer);
  zmtp.Send({"", wire::EncodeEngineKvSequence(from)});
  while (true) {
    auto exchanging = Exchange(*stream, zmtp, loop_.Now() + options_.replay_timeout);
    PX_CO_CHECK_OK(co_await std::move(exchanging));
    for (wire::ZmtpMessage& message : zmtp.TakeMessages()) {
      if (message.size() > 2 && message.front().empty()) {
        message.erase(message.begin());  // what stands between addresses and the message
      }
      const Result<std::uint64_t> sequence =
          message.size() < 2 ? Fail(Code::kDataCorrupt, "a replay without a batch")
                             : wire::DecodeEngineKvSequence(message[0]);
      PX_CO_TRY(const std::uint64_t number, Result<std::uint64_t>(sequence));
      if (message[1].empty()) {
        co_return Result<void>();
      }
      stream_.OnReplayed(number, message[1]);
      if (stream_.wants_replay()) {
        co_return Result<void>();
      }
    }
    Tell();
  }
}

}  // namespace pixii::control
