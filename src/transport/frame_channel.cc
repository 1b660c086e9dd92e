#include "transport/frame_channel.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace pixii::transport {

namespace {

using rt::operator""s;

constexpr std::size_t kScratchBytes = 64 * 1024;
constexpr std::size_t kAheadBytes = 8 * 1024;         // read with a payload: frames behind it
constexpr std::size_t kControlsOutBytes = 64 * 1024;  // packed at a time
constexpr rt::Duration kPingEvery = 2s;
constexpr rt::Duration kSilenceMax = 10s;
constexpr std::uint32_t kCallsPerTurn = 4;  // of the system, before others get their turn

/// What is sent in place of bytes that may not be read any more.
const std::array<std::byte, 4096>& Filler() {
  static const std::array<std::byte, 4096> zeros{};
  return zeros;
}

constexpr RegionKey kAnyRegion{};

}  // namespace

FrameChannel::FrameChannel(rt::Loop& loop, std::unique_ptr<rt::Stream> stream,
                           const Options& options, std::shared_ptr<WriteLane> lane, Owner& owner)
    : loop_(loop),
      stream_(std::move(stream)),
      parts_(rt::PartsOf(*stream_)),
      owner_(owner),
      checksums_(options.checksums),
      pings_(options.pings),
      unsent_bytes_max_(options.unsent_bytes_max),
      lane_(std::move(lane)),
      heard_at_(loop.Now()),
      receive_key_(FrameKey(options.receive_key)),
      ahead_(parts_ == nullptr ? kScratchBytes : kAheadBytes),
      scratch_(kScratchBytes),
      send_key_(FrameKey(options.send_key)),
      work_(loop) {}

void FrameChannel::Run() {
  tasks_.Start(RunReader());
  tasks_.Start(RunWriter());
  tasks_.Start(RunKeeper());
}

void FrameChannel::End(Error error) {
  if (ended_) {
    return;
  }
  ended_ = std::move(error);
  stream_->Close();
  work_.WakeAll();
}

void FrameChannel::Send(FrameKind kind, std::uint64_t transfer, std::string_view payload) {
  controls_bytes_ += kFrameHeaderBytes + payload.size();
  if (controls_bytes_ > unsent_bytes_max_) {
    End(Error(Code::kUnavailable,
              fmt::format("the peer leaves more than {} bytes unread", unsent_bytes_max_)));
    return;
  }
  controls_.push_back({.kind = kind, .transfer = transfer, .payload = std::string(payload)});
  work_.WakeAll();
}

void FrameChannel::StartOut(std::shared_ptr<OutStream> stream) {
  turns_.push_back(std::move(stream));
  work_.WakeAll();
}

void FrameChannel::Credit(OutStream& stream, std::uint64_t bytes) {
  stream.credited_bytes += bytes;
  work_.WakeAll();
}

// ---- reading

rt::Task<void> FrameChannel::RunReader() {
  std::uint32_t calls = 0;
  while (!ended_) {
    std::optional<std::size_t> count;
    if (parts_ != nullptr) {
      if (++calls % kCallsPerTurn == 0) {
        co_await loop_.Yield();
      }
      const LaneTurn turn(*lane_, kAnyRegion);
      Targets();
      const Result<std::optional<std::size_t>> got = parts_->TryReadParts(targets_);
      if (!got) {
        End(got.error());
        break;
      }
      count = *got;
      const std::uint64_t of_payload =
          reading_ ? std::min<std::uint64_t>(count.value_or(0), payload_left_) : 0;
      PayloadFilled(of_payload);
      ahead_end_ += count.value_or(0) - of_payload;
    } else {
      const std::span<std::byte> room = std::span(ahead_).subspan(ahead_end_);
      const std::span<char> space(reinterpret_cast<char*>(room.data()), room.size());
      const Result<std::size_t> got = co_await stream_->Read(space, rt::kNever);
      if (!got) {
        End(got.error());
        break;
      }
      count = *got;
      ahead_end_ += *got;
    }
    if (!count) {
      co_await parts_->WaitReadable(rt::kNever);
      continue;
    }
    heard_at_ = loop_.Now();
    const Result<void> dealt = Dispatch();
    if (!dealt) {
      End(dealt.error());
    } else if (*count == 0) {
      End(Error(Code::kDisconnected, "the peer ended the connection"));
    }
  }
  owner_.Broken(*ended_);
}

void FrameChannel::Targets() {
  targets_.clear();
  if (reading_ && payload_left_ > 0 && PayloadTargets(payload_left_) < payload_left_) {
    return;
  }
  targets_.push_back(std::span(ahead_).subspan(ahead_end_));
}

std::uint64_t FrameChannel::PayloadTargets(std::uint64_t size) {
  if (reading_->kind != FrameKind::kData) {
    targets_.emplace_back(
        reinterpret_cast<std::byte*>(control_in_.data()) + control_in_.size() - payload_left_,
        size);
    return size;
  }
  if (in_ != nullptr && !in_->dead && !in_->pieces.Open(in_->at, size, in_->access)) {
    in_->dead = true;
  }
  if (in_ == nullptr || in_->dead) {
    const std::size_t dropped = std::min<std::size_t>(size, kScratchBytes);
    targets_.emplace_back(scratch_.data(), dropped);
    return dropped;
  }
  Pieces::Cursor next = in_->at;
  return in_->pieces.Next(next, size, rt::kSocketPartsMax - 1, targets_);
}

void FrameChannel::PayloadFilled(std::uint64_t count) {
  if (count == 0) {
    return;
  }
  const bool wanted = reading_->kind == FrameKind::kData && in_ != nullptr;
  if (wanted) {
    targets_.clear();
    in_->pieces.Next(in_->at, count, SIZE_MAX, targets_);
  }
  payload_left_ -= count;
  if (wanted && payload_left_ == 0 && !ChunkIsWhole()) {
    in_->corrupt = true;
  }
}

Result<void> FrameChannel::Dispatch() {
  while (!ended_) {
    if (reading_ && payload_left_ == 0) {
      PX_CHECK_OK(FrameCame());
    } else if (reading_ && ahead_begin_ < ahead_end_) {
      TakeAhead();
    } else if (!reading_ && ahead_end_ - ahead_begin_ >= kFrameHeaderBytes) {
      FrameHeaderBytes header{};
      std::memcpy(header.data(), ahead_.data() + ahead_begin_, header.size());
      ahead_begin_ += header.size();
      PX_CHECK_OK(HeaderCame(header));
    } else {
      break;
    }
  }
  // What is left is a part of a header.
  std::memmove(ahead_.data(), ahead_.data() + ahead_begin_, ahead_end_ - ahead_begin_);
  ahead_end_ -= std::exchange(ahead_begin_, 0);
  return {};
}

void FrameChannel::TakeAhead() {
  const LaneTurn turn(*lane_, kAnyRegion);
  targets_.clear();
  const std::uint64_t size =
      PayloadTargets(std::min<std::uint64_t>(payload_left_, ahead_end_ - ahead_begin_));
  for (const std::span<std::byte> target : targets_) {
    std::memcpy(target.data(), ahead_.data() + ahead_begin_, target.size());
    ahead_begin_ += target.size();
  }
  PayloadFilled(size);
}

Result<void> FrameChannel::HeaderCame(const FrameHeaderBytes& bytes) {
  PX_TRY(const FrameHeader header, UnpackFrameHeader(bytes, receive_key_, frames_received_++));
  reading_ = header;
  payload_left_ = header.payload_bytes;
  in_ = nullptr;
  if (header.kind != FrameKind::kData) {
    control_in_.resize(header.payload_bytes);
    return {};
  }
  in_ = owner_.Incoming(header.transfer);
  if (in_ != nullptr) {
    if (header.payload_bytes > in_->pieces.size_bytes() - in_->received_bytes) {
      return Fail(Code::kDataCorrupt, "more bytes of a transfer came than it has");
    }
    chunk_begin_ = in_->at;
  }
  return {};
}

Result<void> FrameChannel::FrameCame() {
  const FrameHeader header = *std::exchange(reading_, std::nullopt);
  if (header.kind == FrameKind::kData) {
    DataCame(header.payload_bytes);
    return {};
  }
  if (header.checked && Hash64(std::as_bytes(std::span(control_in_))) != header.checksum) {
    return Fail(Code::kDataCorrupt, "the payload of a frame has a wrong checksum");
  }
  if (header.kind == FrameKind::kPing) {
    Send(FrameKind::kPong, 0);
    return {};
  }
  return header.kind == FrameKind::kPong ? Result<void>() : owner_.Control(header, control_in_);
}

bool FrameChannel::ChunkIsWhole() {
  if (!reading_->checked || in_->dead) {
    return true;
  }
  if (!in_->pieces.Open(chunk_begin_, reading_->payload_bytes, in_->access)) {
    in_->dead = true;
    return true;
  }
  Pieces::Cursor at = chunk_begin_;
  targets_.clear();
  in_->pieces.Next(at, reading_->payload_bytes, SIZE_MAX, targets_);
  return HashOf(targets_) == reading_->checksum;
}

std::uint64_t FrameChannel::HashOf(std::span<const std::span<std::byte>> parts) {
  hash_.Reset(0);
  for (const std::span<std::byte> part : parts) {
    hash_.Update(part);
  }
  return hash_.Value();
}

void FrameChannel::DataCame(std::uint32_t payload_bytes) {
  const std::shared_ptr<InStream> stream = std::exchange(in_, nullptr);
  if (stream == nullptr) {
    return;
  }
  stream->received_bytes += payload_bytes;
  stream->uncredited_bytes += payload_bytes;
  owner_.ChunkCame(stream);
}

// ---- writing

rt::Task<void> FrameChannel::RunWriter() {
  std::uint32_t calls = 0;
  while (!ended_) {
    if (!Pack()) {
      co_await work_.Wait(rt::kNever);
      continue;
    }
    while (!ended_ && (!controls_out_.empty() || out_ != nullptr)) {
      if (parts_ == nullptr) {
        const Result<void> sent = co_await SendCopy();
        if (!sent) {
          End(sent.error());
        }
        continue;
      }
      if (++calls % kCallsPerTurn == 0) {
        co_await loop_.Yield();
      }
      const Result<std::size_t> taken = SendParts();
      if (!taken) {
        End(taken.error());
      } else if (*taken == 0) {
        co_await parts_->WaitWritable(rt::kNever);
      }
    }
  }
}

bool FrameChannel::Pack() {
  PX_ASSERT(controls_out_.empty() && out_ == nullptr);
  while (!controls_.empty() && controls_out_.size() < kControlsOutBytes) {
    const Control control = std::move(controls_.front());
    controls_.pop_front();
    controls_bytes_ -= kFrameHeaderBytes + control.payload.size();
    const FrameHeaderBytes header = PackFrameHeader(
        {.payload_bytes = static_cast<std::uint32_t>(control.payload.size()),
         .kind = control.kind,
         .checked = checksums_,
         .transfer = control.transfer,
         .checksum = checksums_ ? Hash64(std::as_bytes(std::span(control.payload))) : 0},
        send_key_, frames_sent_++);
    controls_out_.append(reinterpret_cast<const char*>(header.data()), header.size());
    controls_out_ += control.payload;
  }
  // A control frame that did not fit may announce what stands first here.
  for (std::size_t looked = controls_.empty() ? turns_.size() : 0; looked > 0; --looked) {
    std::shared_ptr<OutStream> stream = std::move(turns_.front());
    turns_.pop_front();
    if (stream->dead) {
      owner_.OutEnded(stream);
      continue;
    }
    if (stream->sent_bytes - stream->credited_bytes >= kWindowBytes) {
      turns_.push_back(std::move(stream));  // waits for credit
      continue;
    }
    PackChunk(std::move(stream));
    return true;
  }
  return !controls_out_.empty();
}

void FrameChannel::PackChunk(std::shared_ptr<OutStream> stream) {
  const LaneTurn turn(*lane_, kAnyRegion);
  sources_.clear();
  Pieces::Cursor ahead = stream->at;
  const std::uint64_t size =
      stream->pieces.Next(ahead, kChunkBytesMax, rt::kSocketPartsMax - 2, sources_);
  FrameHeader header{.payload_bytes = static_cast<std::uint32_t>(size),
                     .kind = FrameKind::kData,
                     .checked = checksums_,
                     .transfer = stream->transfer,
                     .checksum = 0};
  if (!stream->pieces.Open(stream->at, size, stream->access)) {
    stream->dead = true;
  } else if (checksums_) {
    header.checksum = HashOf(sources_);
  }
  header_out_ = PackFrameHeader(header, send_key_, frames_sent_++);
  header_sent_ = 0;
  chunk_left_ = size;
  out_ = std::move(stream);
}

void FrameChannel::ChunkParts() {
  send_parts_.clear();
  sources_.clear();
  if (!controls_out_.empty()) {
    send_parts_.push_back(std::as_bytes(std::span(controls_out_)).subspan(controls_sent_));
  }
  if (out_ == nullptr) {
    return;
  }
  if (header_sent_ < kFrameHeaderBytes) {
    send_parts_.push_back(std::span(header_out_).subspan(header_sent_));
  }
  if (!out_->dead && !out_->pieces.Open(out_->at, chunk_left_, out_->access)) {
    out_->dead = true;
  }
  if (out_->dead) {
    for (std::uint64_t left = chunk_left_; left > 0;) {
      const std::uint64_t size = std::min<std::uint64_t>(left, Filler().size());
      send_parts_.push_back(std::span(Filler()).first(size));
      left -= size;
    }
    return;
  }
  Pieces::Cursor ahead = out_->at;
  out_->pieces.Next(ahead, chunk_left_, SIZE_MAX, sources_);
  send_parts_.insert(send_parts_.end(), sources_.begin(), sources_.end());
}

void FrameChannel::Sent(std::size_t count) {
  const std::size_t of_controls = std::min(count, controls_out_.size() - controls_sent_);
  controls_sent_ += of_controls;
  count -= of_controls;
  if (controls_sent_ == controls_out_.size()) {
    controls_out_.clear();
    controls_sent_ = 0;
  }
  if (count == 0) {
    return;
  }
  const std::size_t of_header = std::min(count, kFrameHeaderBytes - header_sent_);
  header_sent_ += of_header;
  count -= of_header;
  sources_.clear();
  out_->pieces.Next(out_->at, count, SIZE_MAX, sources_);
  out_->sent_bytes += count;
  chunk_left_ -= count;
}

Result<std::size_t> FrameChannel::SendParts() {
  std::size_t count = 0;
  {
    const LaneTurn turn(*lane_, kAnyRegion);
    ChunkParts();
    PX_TRY(count, parts_->TryWriteParts(send_parts_));
    Sent(count);
  }
  FinishParts();
  return count;
}

rt::Task<Result<void>> FrameChannel::SendCopy() {
  std::string bytes;
  {
    const LaneTurn turn(*lane_, kAnyRegion);
    ChunkParts();
    for (const std::span<const std::byte> part : send_parts_) {
      bytes.append(reinterpret_cast<const char*>(part.data()), part.size());
    }
    Sent(bytes.size());
  }
  PX_CO_CHECK_OK(co_await stream_->Write(bytes, rt::kNever));
  FinishParts();
  co_return Result<void>();
}

void FrameChannel::FinishParts() {
  if (out_ == nullptr || !controls_out_.empty() || header_sent_ < kFrameHeaderBytes ||
      chunk_left_ > 0) {
    return;
  }
  std::shared_ptr<OutStream> stream = std::exchange(out_, nullptr);
  if (stream->dead || stream->sent_bytes == stream->pieces.size_bytes()) {
    owner_.OutEnded(stream);
  } else {
    turns_.push_back(std::move(stream));
  }
}

// ---- whether the peer is there

rt::Task<void> FrameChannel::RunKeeper() {
  while (!ended_) {
    co_await loop_.SleepFor(kPingEvery);
    if (!ended_ && loop_.Now() - heard_at_ > kSilenceMax) {
      End(Error(Code::kDisconnected,
                fmt::format("{} has said nothing for {} s", stream_->peer(), kSilenceMax / 1s)));
    } else if (!ended_ && pings_) {
      Send(FrameKind::kPing, 0);
    }
  }
}

}  // namespace pixii::transport
