#include "control/mux_connection.h"

#include <array>
#include <utility>

namespace pixii::control {

namespace {

constexpr std::size_t kReadBytes = 64 * 1024;
constexpr std::size_t kWriteBytes = 128 * 1024;

}  // namespace

MuxConnection::MuxConnection(rt::Loop& loop, std::unique_ptr<rt::Stream> stream, MuxOptions options,
                             Mux::Side side, MuxListener& listener)
    : loop_(loop),
      listener_(listener),
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

void MuxConnection::WakeWriter() {
  if (mux_.has_output()) {
    writer_.WakeAll();
  }
}

void MuxConnection::Tell() {
  for (MuxEvent& event : mux_.TakeEvents()) {
    const bool broken = event.kind == MuxEvent::Kind::kBroken;
    listener_.OnMuxEvent(*this, std::move(event));
    if (broken) {
      stream_->Close();
      writer_.WakeAll();
    }
  }
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

rt::Task<void> MuxConnection::WriteLoop() {
  std::string out;
  while (!mux_.is_broken()) {
    out.clear();
    if (!mux_.TakeOutput(out, kWriteBytes)) {
      co_await writer_.Wait(rt::kNever);
      continue;
    }
    auto writing = stream_->Write(out, loop_.Now() + dead_after_);
    const Result<void> written = co_await std::move(writing);
    if (!written) {
      mux_.Break(Error(Code::kDisconnected, written.error().detail()));
    }
    Tell();
  }
}

}  // namespace pixii::control
