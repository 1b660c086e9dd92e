#include "media/decoder_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <utility>

#include "media/decoder_messages.h"
#include "media/image_errors.h"

namespace pixii::media {

namespace {

constexpr int kKilledBase = 128;  // exit status of a child that signal n ended: 128 + n

std::int64_t Milliseconds(rt::Duration duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

// What a child says of an image. It may have been taken over by that: its words are only shown.
Error ErrorOf(const DecodeAnswer& answer) {
  std::string detail(answer.detail, std::min<std::size_t>(answer.detail_bytes, kAnswerDetailMax));
  std::ranges::replace_if(detail, [](char c) { return c < ' ' || c > '~'; }, '?');
  for (const Code code :
       {Code::kUnsupported, Code::kTooLarge, Code::kInternal, Code::kUnavailable}) {
    if (answer.code == static_cast<std::uint32_t>(code)) {
      return {code, std::move(detail), kImageParam};
    }
  }
  return {Code::kInvalidArgument, std::move(detail), kImageParam};
}

}  // namespace

Result<DecoderPool::Child> DecoderPool::Start() {
  PX_TRY(auto sockets, rt::MessageSocket::Pair());
  rt::ChildOptions child{.arguments = options_.command};
  child.arguments.push_back(std::to_string(options_.memory_bytes_max));
  child.bare_environment = true;  // keys and passwords are nothing for it
  child.input = sockets.second.fd().get();
  PX_TRY(rt::ChildProcess process, rt::ChildProcess::Start(child));
  rt::MutexLock lock(mutex_);
  ++started_;
  return Child{.process = std::move(process), .socket = std::move(sockets.first)};
}

Result<DecoderPool::Child> DecoderPool::Acquire() {
  {
    rt::MutexLock lock(mutex_);
    while (idle_.empty() && alive_ >= options_.children_max) {
      if (!freed_.WaitFor(mutex_, options_.time_max)) {
        return Fail(Code::kResourceExhausted,
                    fmt::format("{} images are decoded already, as many as may be, for {} ms",
                                alive_, Milliseconds(options_.time_max)));
      }
    }
    while (!idle_.empty()) {
      Child child = std::move(idle_.back());
      idle_.pop_back();
      if (child.process.running()) {
        return child;
      }
      --alive_;  // it died while it had nothing to do
    }
    ++alive_;
  }
  Result<Child> started = Start();
  if (!started) {
    Forget();
  }
  return started;
}

void DecoderPool::Release(Child child) {
  if (++child.images >= options_.images_max || !child.process.running()) {
    child = {};
    Forget();
    return;
  }
  if (child.arena.bytes().size() > options_.kept_bytes_max) {
    child.arena = {};
  }
  rt::MutexLock lock(mutex_);
  idle_.push_back(std::move(child));
  freed_.NotifyOne();
}

void DecoderPool::Forget() {
  rt::MutexLock lock(mutex_);
  --alive_;
  freed_.NotifyOne();
}

std::vector<std::int32_t> DecoderPool::IdleChildren() {
  rt::MutexLock lock(mutex_);
  std::vector<std::int32_t> ids;
  for (const Child& child : idle_) {
    ids.push_back(child.process.pid());
  }
  return ids;
}

std::uint64_t DecoderPool::started() const {
  rt::MutexLock lock(mutex_);
  return started_;
}

Result<Image> DecoderPool::Decode(Bytes file, const DecodeOptions& options) {
  PX_TRY(const ImageInfo info, ReadImageInfo(file, options.limits));
  const ImageSize size = DecodedSize(info, options);
  if (size.width < 1 || size.width > kResizeSideMax || size.height < 1 ||
      size.height > kResizeSideMax || size.pixel_count() > kResizePixelsMax) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{}x{} of the resized image is not within 1..{} pixels a side and {} "
                            "in all",
                            size.width, size.height, kResizeSideMax, kResizePixelsMax),
                "size");
  }
  PX_TRY(Child child, Acquire());
  Result<Image> image = DecodeBy(child, file, options, size);
  // Whoever has not answered in full gets no further image.
  if (child.socket.fd()) {
    Release(std::move(child));
  } else {
    child = {};
    Forget();
  }
  return image;
}

// Closes the child's socket if it is of no use any more.
Result<Image> DecoderPool::DecodeBy(Child& child, Bytes file, const DecodeOptions& options,
                                    ImageSize size) {
  constexpr std::size_t kAlignment = 64;  // of the pixels
  DecodeJob job{.pixels = options.pixels,
                .exif = options.exif,
                .resizes = options.resize.has_value(),
                .resize = options.resize.value_or(Resizing{}),
                .limits = options.limits,
                .file_bytes = file.size(),
                .pixels_at = (file.size() + kAlignment - 1) / kAlignment * kAlignment,
                .pixels_bytes = size.pixel_count() * kImageChannels};
  const std::size_t needed = job.pixels_at + job.pixels_bytes;
  const bool fresh = child.arena.bytes().size() < needed;
  if (fresh) {
    child.arena = {};
    PX_TRY(child.arena, rt::MemoryFile::Create(needed, rt::Sharing::kOthersWrite));
  }
  job.arena_bytes = child.arena.bytes().size();
  std::memcpy(child.arena.bytes().data(), file.data(), file.size());
  child.process.LimitCpuTime(options_.cpu_time_max);
  DecodeAnswer answer;
  Result<void> sent =
      child.socket.Send(std::as_bytes(std::span(&job, 1)), fresh ? &child.arena.fd() : nullptr);
  Result<rt::MessageSocket::Received> received =
      sent ? child.socket.Receive(std::as_writable_bytes(std::span(&answer, 1)), options_.time_max)
           : Result<rt::MessageSocket::Received>(Fail(sent.error()));
  if (!received) {
    child.socket.Close();
    if (received.error().code() == Code::kDeadlineExceeded) {
      child.process.Stop(SIGKILL);
      return Fail(Code::kDeadlineExceeded,
                  fmt::format("image is not decoded within {} ms (time_max)",
                              Milliseconds(options_.time_max)),
                  kImageParam);
    }
    return Fail(Died(child));
  }
  if (received->size_bytes != sizeof answer || answer.magic != kAnswerMagic) {
    child.socket.Close();
    return Fail(Code::kInvalidArgument, "image is corrupt: its decoder gave no answer of ours",
                kImageParam);
  }
  if (answer.failed) {
    if (fresh) {
      child.arena = {};  // it may not have got it: the next image brings another
    }
    return Fail(ErrorOf(answer));
  }
  const auto* pixels =
      reinterpret_cast<const std::uint8_t*>(child.arena.bytes().data()) + job.pixels_at;
  return Image{.size = size, .rgb = {pixels, pixels + job.pixels_bytes}};
}

// Its end of the socket is closed: it has ended, or does so now.
Error DecoderPool::Died(Child& child) const {
  const int status =
      child.process.running() ? child.process.Stop(SIGTERM) : child.process.exit_status();
  switch (status - kKilledBase) {
    case SIGXCPU:
      return {Code::kTooLarge,
              fmt::format("image is too costly: to decode it takes more than {} ms of CPU time "
                          "(cpu_time_max)",
                          Milliseconds(options_.cpu_time_max)),
              kImageParam};
    case SIGSYS:
      return {Code::kInvalidArgument,
              "image is corrupt: its decoder called the system and was killed for it", kImageParam};
    case SIGSEGV:
    case SIGBUS:
    case SIGILL:
    case SIGFPE:
    case SIGABRT:
      return {
          Code::kInvalidArgument,
          fmt::format("image is corrupt: its decoder crashed with signal {}", status - kKilledBase),
          kImageParam};
    default:
      return {
          Code::kUnavailable,
          fmt::format("the decoder of an image ended with status {} before it answered", status)};
  }
}

}  // namespace pixii::media
