#include "control/mux_connection.h"

#include <array>
#include <utility>

namespace pixii::control {

MuxConnection::MuxConnection(rt::Loop& loop, std::unique_ptr<rt::Stream> stream, MuxOptions options,
                             Mux::Side side, MuxListener& listener)
    : loop_(loop),
      listener_(&listener),
      stream_(std::move(stream)),
      mux_(options, side, loop.Now()),
      dead_after_(options.dead_after),
      writer_(loop) {
  tasks_.Start(WriteLoop());
  tasks_.Start(ReadLoop());
}

MuxConnection::~MuxConnection() { tasks_.Clear(); }

Result<StreamId> MuxConnection::Call(std::string_view method, rt::Duration deadline_left,
                                     std::string message) {
  PX_TRY(const StreamId stream, mux_.Call(method, deadline_left, std::move(message)));
  WakeWriter();
  return stream;
}

Result<void> MuxConnection::Send(StreamId stream, std::string message) {
  PX_CHECK_OK(mux_.Send(stream, std::move(message)));
  WakeWriter();
  return {};
}

void MuxConnection::End(StreamId stream, std::optional<Error> error) {
  mux_.End(stream, std::move(error));
  WakeWriter();
}

void MuxConnection::Cancel(StreamId stream) {
  mux_.Cancel(stream);
  WakeWriter();
}

void MuxConnection::Consumed(StreamId stream, std::size_t bytes) {
  mux_.Consumed(stream, bytes);
  WakeWriter();
}

void MuxConnection::GoAway() {
  mux_.GoAway();
  WakeWriter();
}

void MuxConnection::Close(Error error) {
  mux_.Break(std::move(error));
  stream_->Close();  // both loops resume and tell of it
  writer_.WakeAll();
}

void MuxConnection::Retire(std::unique_ptr<MuxConnection> connection) {
  connection->listener_ = nullptr;
  if (!connection->telling_) {
    return;
  }
  // Below this call stands a coroutine of its own.
  rt::Loop& loop = connection->loop_;
  loop.Post([ended = std::shared_ptr<MuxConnection>(std::move(connection))] {});
}

void MuxConnection::WakeWriter() {
  if (mux_.has_output()) {
    writer_.WakeAll();
  }
}

void MuxConnection::Tell() {
  telling_ = true;
  std::vector<MuxEvent> events = mux_.TakeEvents(std::exchange(told_, {}));
  for (MuxEvent& event : events) {
    const bool broken = event.kind == MuxEvent::Kind::kBroken;
    if (listener_ != nullptr) {
      listener_->OnMuxEvent(*this, std::move(event));
    }
    if (broken) {
      stream_->Close();
      writer_.WakeAll();
    }
  }
  telling_ = false;
  events.clear();
  told_ = std::move(events);
  WakeWriter();
}

rt::Task<void> MuxConnection::ReadLoop() {
  co_await loop_.Yield();  // whoever makes the connection must have it before it hears of it
  std::array<char, kReadBytes> buffer;
  while (!mux_.is_broken()) {
    auto reading = stream_->Read(buffer, mux_.next_tick());
    const Result<std::size_t> read = co_await std::move(reading);
    if (read && *read > 0) {
      mux_.Receive(std::string_view(buffer.data(), *read), loop_.Now());
      mux_.Tick(loop_.Now());
    } else if (read) {
      mux_.Break(Error(Code::kDisconnected, "the peer closed the connection"));
    } else if (read.error().code() == Code::kDeadlineExceeded) {
      mux_.Tick(loop_.Now());
    } else {
      mux_.Break(Error(Code::kDisconnected, read.error().detail()));
    }
    Tell();
  }
  Tell();
}

// A slow line is no dead one: each piece has its own deadline.
rt::Task<Result<void>> MuxConnection::WriteAll(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::string_view piece = bytes.substr(0, kPieceBytes);
    bytes.remove_prefix(piece.size());
    auto writing = stream_->Write(piece, loop_.Now() + dead_after_);
    const Result<void> written = co_await std::move(writing);
    if (!written) {
      co_return Fail(written.error());
    }
  }
  co_return Result<void>();
}

rt::Task<void> MuxConnection::WriteLoop() {
  co_await loop_.Yield();  // as the reader
  std::string out;
  while (!mux_.is_broken()) {
    out.clear();
    while (out.size() < kWriteBytes && mux_.TakeOutput(out, kWriteBytes - out.size())) {
      Tell();  // who waited until this was taken says what follows now, and it goes along
    }
    if (mux_.is_broken()) {
      break;
    }
    if (out.empty()) {
      co_await writer_.Wait(rt::kNever);
      continue;
    }
    // A line that has room takes everything at once.
    Result<std::size_t> taken = loop_.SpendBudget() ? stream_->TryWrite(out) : std::size_t{0};
    Result<void> written = taken ? Result<void>() : Fail(taken.error());
    if (taken && *taken < out.size()) {
      auto writing = WriteAll(std::string_view(out).substr(*taken));
      written = co_await std::move(writing);
    }
    if (!written && written.error().code() != Code::kDeadlineExceeded) {
      // The peer may have said its last before it closed: the reader comes to that, and to the end.
      auto lingering = loop_.SleepFor(dead_after_);
      co_await std::move(lingering);
    }
    if (!written) {
      mux_.Break(Error(Code::kDisconnected, written.error().detail()));
    }
    Tell();
  }
}

}  // namespace pixii::control
