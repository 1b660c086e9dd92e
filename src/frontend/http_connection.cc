#include "frontend/http_connection.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/assert.h"
#include "wire/sse.h"

namespace pixii::frontend {

namespace {

constexpr int kClientClosedRequest = 499;  // as nginx calls it

constexpr std::size_t kReadBytes = 16 * 1024;
constexpr std::size_t kWritePieceBytes = 64 * 1024;  // what write_timeout is for

}  // namespace

HttpConnection::HttpConnection(rt::Loop& loop, std::unique_ptr<rt::Stream> stream,
                               ExchangeHandler& handler, ConnectionHost& host,
                               const HttpServerOptions& options)
    : loop_(loop),
      stream_(std::move(stream)),
      handler_(handler),
      host_(host),
      options_(options),
      parser_(options.limits),
      phase_since_(loop.Now()),
      read_room_(loop) {}

HttpConnection::~HttpConnection() {
  loop_.CancelTimer(timer_);
  tasks_.Clear();
}

void HttpConnection::Start() {
  Rearm();
  tasks_.Start(ReadLoop());
}

rt::Task<void> HttpConnection::ReadLoop() {
  std::array<char, kReadBytes> buffer;
  while (phase_ != Phase::kClosed) {
    if (unread_.size() >= options_.unread_bytes_max) {
      co_await read_room_.Wait(rt::kNever);
      continue;
    }
    Result<std::size_t> got = co_await stream_->Read(buffer, rt::kNever);
    if (phase_ == Phase::kClosed) {
      break;
    }
    if (!got) {
      Close();
      break;
    }
    if (*got == 0) {
      OnPeerEnd();
      break;
    }
    OnBytes(std::string_view(buffer.data(), *got));
  }
}

void HttpConnection::OnBytes(std::string_view bytes) {
  if (phase_ == Phase::kClosing || phase_ == Phase::kLingering) {
    return;  // read and dropped until the time limit
  }
  unread_ += bytes;
  Process();
}

void HttpConnection::OnPeerEnd() {
  peer_ended_ = true;
  if (phase_ == Phase::kBusy) {
    probe_interval_ = options_.probe_interval;
    next_probe_ = loop_.Now();
    Rearm();
    return;
  }
  if (phase_ == Phase::kClosing) {
    return;  // the response is on its way
  }
  if (unsent_bytes() == 0) {
    Close();
    return;
  }
  phase_ = Phase::kClosing;
}

void HttpConnection::Process() {
  if (processing_) {
    return;
  }
  processing_ = true;
  while (ProcessOne()) {
  }
  processing_ = false;
  if (phase_ == Phase::kIdle && peer_ended_) {
    phase_ = Phase::kClosing;  // nothing further can come
    MarkDirty();
  }
  if (phase_ != Phase::kClosed) {
    Rearm();
  }
}

// Advances by at most one request; false when there is nothing more to do now.
bool HttpConnection::ProcessOne() {
  bool reads = phase_ == Phase::kFresh || phase_ == Phase::kIdle || phase_ == Phase::kReading;
  if (!reads || unread_.empty() || overfull()) {
    return false;
  }
  bool had_head = parser_.head_complete();
  auto used = parser_.Feed(unread_);
  if (!used) {
    Refuse(used.error());
    return false;
  }
  unread_.erase(0, *used);
  read_room_.WakeAll();
  if (parser_.started() && phase_ != Phase::kReading) {
    phase_ = Phase::kReading;
    phase_since_ = loop_.Now();
  }
  if (parser_.head_complete() && !had_head) {
    phase_since_ = loop_.Now();  // the body's time begins
  }
  if (parser_.complete()) {
    request_ = parser_.Take();
    continued_ = false;
    phase_ = Phase::kBusy;
    handled_since_ = loop_.Now();
    handler_.Handle(*this);
    return true;
  }
  if (parser_.head_complete() && parser_.request().expect_continue && !continued_ &&
      parser_.body_bytes() == 0) {
    continued_ = true;
    out_ += wire::kHttpContinue;
    MarkDirty();
  }
  return false;
}

void HttpConnection::Refuse(const wire::HttpFault& fault) {
  request_ = {};
  phase_ = Phase::kBusy;
  handled_since_ = loop_.Now();
  Response response = handler_.Refusal(fault);
  response.close = true;
  Respond(std::move(response));
}

bool HttpConnection::Keeps(const Response* response) const {
  return request_.keep_alive && !host_.draining() && (response == nullptr || !response->close);
}

void HttpConnection::Respond(Response response) {
  PX_ASSERT(phase_ == Phase::kBusy && !streaming_);
  bool keep = Keeps(&response);
  status_ = response.status;
  wire::AppendHttpHead(out_, {.status = response.status,
                              .content_type = response.content_type,
                              .content_length = response.body.size(),
                              .chunked = false,
                              .keep_alive = keep,
                              .minor_version = request_.minor_version,
                              .fields = std::move(response.fields)});
  if (request_.method != "HEAD") {
    out_ += response.body;
    body_bytes_ = response.body.size();
  }
  FinishExchange(keep);
}

void HttpConnection::StartStream(std::string_view content_type,
                                 std::vector<wire::HttpField> fields) {
  PX_ASSERT(phase_ == Phase::kBusy && !streaming_);
  streaming_ = true;
  status_ = 200;
  chunked_ = request_.minor_version == 1;
  keep_after_stream_ = chunked_ && Keeps(nullptr);
  wire::AppendHttpHead(out_, {.status = 200,
                              .content_type = content_type,
                              .content_length = std::nullopt,
                              .chunked = chunked_,
                              .keep_alive = keep_after_stream_,
                              .minor_version = request_.minor_version,
                              .fields = std::move(fields)});
  MarkDirty();
}

std::string& HttpConnection::stream() {
  PX_DASSERT(streaming_);
  if (chunked_ && !chunk_begin_) {
    chunk_begin_ = wire::BeginHttpChunk(out_);
  }
  MarkDirty();
  return out_;
}

void HttpConnection::EndStream() {
  PX_ASSERT(streaming_);
  if (chunk_begin_) {
    EndChunk();
  }
  if (chunked_) {
    out_ += wire::kHttpLastChunk;
  }
  streaming_ = false;
  FinishExchange(keep_after_stream_);
}

void HttpConnection::EndChunk() {
  const std::size_t before = *chunk_begin_;
  wire::EndHttpChunk(out_, before);
  body_bytes_ += out_.size() - before;  // with what frames it
  chunk_begin_.reset();
}

void HttpConnection::SayAnswered(bool whole) {
  const int status = std::exchange(status_, 0);
  const std::uint64_t bytes = std::exchange(body_bytes_, 0);
  if (options_.on_answered) {
    options_.on_answered({.request = request_,
                          .status = status == 0 ? kClientClosedRequest : status,
                          .body_bytes = bytes,
                          .took = loop_.Now() - handled_since_,
                          .whole = whole});
  }
}

void HttpConnection::FinishExchange(bool keep) {
  SayAnswered(true);
  watcher_ = nullptr;
  next_probe_ = rt::kNever;
  room_wanted_ = false;
  phase_since_ = loop_.Now();
  phase_ = keep ? Phase::kIdle : Phase::kClosing;
  if (!keep) {
    unread_.clear();
    read_room_.WakeAll();
  }
  request_ = {};
  MarkDirty();
  if (keep) {
    Process();
  }
}

void HttpConnection::Abort() {
  watcher_ = nullptr;
  Close();
}

void HttpConnection::Close() {
  if (phase_ == Phase::kClosed) {
    return;
  }
  if (phase_ == Phase::kBusy) {
    SayAnswered(false);
  }
  phase_ = Phase::kClosed;
  loop_.CancelTimer(std::exchange(timer_, rt::TimerId::kNone));
  stream_->Close();
  if (ExchangeWatcher* watcher = std::exchange(watcher_, nullptr)) {
    watcher->OnClientGone();
  }
  host_.OnDone(*this);
}

void HttpConnection::CloseIfIdle() {
  bool idle = phase_ == Phase::kFresh || phase_ == Phase::kIdle;
  if (idle && unsent_bytes() == 0) {
    Close();
  }
}

void HttpConnection::MarkDirty() {
  if (!flush_scheduled && phase_ != Phase::kClosed) {
    host_.ScheduleFlush(*this);
  }
}

void HttpConnection::Flush() {
  if (phase_ == Phase::kClosed) {
    return;
  }
  if (chunk_begin_) {
    EndChunk();
  }
  if (writer_active_) {
    return;  // it picks up what stands in out_
  }
  if (!out_.empty()) {
    Result<std::size_t> taken = stream_->TryWrite(out_);
    if (!taken) {
      Close();
      return;
    }
    if (*taken < out_.size()) {
      out_.erase(0, *taken);
      writer_active_ = true;
      tasks_.Start(WriteRest());
      return;
    }
    out_.clear();
  }
  AfterFlush();
}

rt::Task<void> HttpConnection::WriteRest() {
  while (phase_ != Phase::kClosed && !out_.empty()) {
    if (chunk_begin_) {
      EndChunk();
    }
    writing_.swap(out_);
    out_.clear();
    written_ = 0;
    while (written_ < writing_.size()) {
      std::string_view piece = std::string_view(writing_).substr(written_, kWritePieceBytes);
      rt::Time deadline = loop_.Now() + options_.write_timeout;
      Result<void> wrote = co_await stream_->Write(piece, deadline);
      if (phase_ == Phase::kClosed) {
        co_return;
      }
      if (!wrote) {
        Close();
        co_return;
      }
      written_ += piece.size();
      NotifyRoom();
    }
    writing_.clear();
    written_ = 0;
  }
  writer_active_ = false;
  if (phase_ != Phase::kClosed) {
    AfterFlush();
  }
}

void HttpConnection::NotifyRoom() {
  if (!room_wanted_ || unsent_bytes() > options_.unsent_bytes_max / 2) {
    return;
  }
  room_wanted_ = false;
  if (watcher_ != nullptr) {
    watcher_->OnRoom();
  }
}

// Everything appended is with the kernel.
void HttpConnection::AfterFlush() {
  NotifyRoom();
  if (unsent_bytes() > 0) {
    return;  // the handler went on at once; a flush is scheduled
  }
  bool reads = phase_ == Phase::kIdle || phase_ == Phase::kReading;
  if (reads && !unread_.empty()) {
    Process();
    return;
  }
  if (phase_ != Phase::kClosing) {
    return;
  }
  stream_->ShutdownWrite();
  if (peer_ended_) {
    Close();
    return;
  }
  phase_ = Phase::kLingering;
  phase_since_ = loop_.Now();
  Rearm();
}

// A closed socket answers these with a reset, which the next write or read reports; a half-closed
// one ignores them.
void HttpConnection::Probe() {
  next_probe_ = loop_.Now() + probe_interval_;
  probe_interval_ = std::min(probe_interval_ * 2, options_.probe_interval_max);
  if (unsent_bytes() > 0) {
    return;
  }
  if (streaming_) {
    stream() += wire::kSseComment;
  } else if (request_.minor_version == 1) {
    out_ += wire::kHttpProcessing;
    MarkDirty();
  }
}

rt::Time HttpConnection::NextDeadline() const {
  switch (phase_) {
    case Phase::kFresh:
      return phase_since_ + options_.first_byte_timeout;
    case Phase::kIdle:
      return phase_since_ + options_.idle_timeout;
    case Phase::kReading:
      if (parser_.head_complete()) {
        return phase_since_ + options_.body_grace +
               std::chrono::seconds(parser_.body_bytes() / options_.body_bytes_per_second_min);
      }
      return phase_since_ + options_.head_timeout;
    case Phase::kBusy:
      return next_probe_;
    case Phase::kLingering:
      return phase_since_ + options_.linger_timeout;
    case Phase::kClosing:
    case Phase::kClosed:
      return rt::kNever;
  }
  return rt::kNever;
}

// One timer per connection, moved only when it has to ring earlier.
void HttpConnection::Rearm() {
  rt::Time next = NextDeadline();
  if (next == rt::kNever || (timer_ != rt::TimerId::kNone && timer_at_ <= next)) {
    return;
  }
  loop_.CancelTimer(timer_);
  timer_at_ = next;
  timer_ = loop_.RunAt(next, [this] { OnTimer(); });
}

void HttpConnection::OnTimer() {
  timer_ = rt::TimerId::kNone;
  if (loop_.Now() < NextDeadline()) {
    Rearm();
    return;
  }
  switch (phase_) {
    case Phase::kBusy:
      Probe();
      Rearm();
      return;
    case Phase::kReading: {
      bool head = parser_.head_complete();
      Refuse({408, head ? "the body came too slowly" : "the head came too slowly"});
      return;
    }
    case Phase::kFresh:
    case Phase::kIdle:
      if (unsent_bytes() > 0) {
        phase_ = Phase::kClosing;
        return;
      }
      Close();
      return;
    case Phase::kLingering:
      Close();
      return;
    case Phase::kClosing:
    case Phase::kClosed:
      return;
  }
}

}  // namespace pixii::frontend
