#include "media/decoder_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <utility>

#include "media/decoder_messages.h"
#include "media/media_noun.h"

namespace pixii::media {

namespace {

constexpr int kKilledBase = 128;  // exit status of a child that signal n ended: 128 + n

std::int64_t Milliseconds(rt::Duration duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

// What a child says of an image. It may have been taken over by that: its words are only shown.
Error ErrorOf(const DecodeAnswer& answer, const char* param) {
  std::string detail(answer.detail, std::min<std::size_t>(answer.detail_bytes, kAnswerDetailMax));
  std::ranges::replace_if(detail, [](char c) { return c < ' ' || c > '~'; }, '?');
  for (const Code code :
       {Code::kUnsupported, Code::kTooLarge, Code::kInternal, Code::kUnavailable}) {
    if (answer.code == static_cast<std::uint32_t>(code)) {
      return {code, std::move(detail), param};
    }
  }
  return {Code::kInvalidArgument, std::move(detail), param};
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

Result<DecoderPool::Child> DecoderPool::Acquire(From from) {
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
      if (from == From::kIdle && child.process.running()) {
        return child;
      }
      --alive_;  // it died while it had nothing to do, or may have
      if (from == From::kFresh) {
        break;
      }
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

std::uint64_t DecoderPool::deaths() const {
  rt::MutexLock lock(mutex_);
  return deaths_;
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
  DecodeJob job{.pixels = options.pixels,
                .exif = options.exif,
                .resizes = options.resize.has_value(),
                .resize = options.resize.value_or(Resizing{}),
                .limits = options.limits,
                .pixels_bytes = size.pixel_count() * kImageChannels};
  PX_TRY(std::vector<std::uint8_t> pixels,
         Run(file, {}, job, {kImage.noun, options_.cpu_time_max, options_.time_max}));
  return Image{.size = size, .rgb = std::move(pixels)};
}

Result<std::vector<std::uint8_t>> DecoderPool::DecodeFrames(Bytes file,
                                                            const FilmDecodeOptions& options) {
  PX_TRY(const FilmInfo info, ReadFilmInfo(file, options.limits));
  PX_TRY(const std::uint64_t bytes, DecodedBytes(info, options));
  DecodeJob job{.resizes = options.resize.has_value(),
                .resize = options.resize.value_or(Resizing{}),
                .film_limits = options.limits,
                .frames = static_cast<std::uint32_t>(options.frames.size()),
                .pixels_bytes = bytes};
  PX_CHECK_OK(BeginFilm());
  Result<std::vector<std::uint8_t>> frames = Run(
      file, options.frames, job, {kFilm.noun, options_.film_cpu_time_max, options_.film_time_max});
  EndFilm();
  return frames;
}

// A video may take a minute, an image takes a moment: it shall find a child.
Result<void> DecoderPool::BeginFilm() {
  const std::uint32_t films_max = std::max(options_.children_max, 2U) - 1;
  rt::MutexLock lock(mutex_);
  while (films_ >= films_max) {
    if (!film_ended_.WaitFor(mutex_, options_.film_time_max)) {
      return Fail(Code::kResourceExhausted,
                  fmt::format("{} videos are decoded already, as many as may be, for {} ms", films_,
                              Milliseconds(options_.film_time_max)));
    }
  }
  ++films_;
  return {};
}

void DecoderPool::EndFilm() {
  rt::MutexLock lock(mutex_);
  --films_;
  film_ended_.NotifyOne();
}

Result<std::vector<std::uint8_t>> DecoderPool::Run(Bytes file,
                                                   std::span<const std::uint32_t> frames,
                                                   DecodeJob& job, const Kind& kind) {
  Result<std::vector<std::uint8_t>> pixels = RunOnce(From::kIdle, file, frames, job, kind);
  if (!pixels && pixels.error().code() == Code::kUnavailable) {
    pixels = RunOnce(From::kFresh, file, frames, job, kind);
  }
  return pixels;
}

Result<std::vector<std::uint8_t>> DecoderPool::RunOnce(From from, Bytes file,
                                                       std::span<const std::uint32_t> frames,
                                                       DecodeJob& job, const Kind& kind) {
  PX_TRY(Child child, Acquire(from));
  Result<std::vector<std::uint8_t>> pixels = RunBy(child, file, frames, job, kind);
  // Whoever has not answered in full gets no further file.
  if (child.socket.fd()) {
    Release(std::move(child));
  } else {
    child = {};
    Forget();
  }
  return pixels;
}

// Closes the child's socket if it is of no use any more.
Result<std::vector<std::uint8_t>> DecoderPool::RunBy(Child& child, Bytes file,
                                                     std::span<const std::uint32_t> frames,
                                                     DecodeJob& job, const Kind& kind) {
  constexpr std::size_t kAlignment = 64;  // of what lies behind the file
  const auto aligned = [](std::size_t at) {
    return (at + kAlignment - 1) / kAlignment * kAlignment;
  };
  job.file_bytes = file.size();
  job.frames_at = aligned(file.size());
  job.pixels_at = aligned(job.frames_at + frames.size_bytes());
  const std::size_t needed = job.pixels_at + job.pixels_bytes;
  const bool fresh = child.arena.bytes().size() < needed;
  if (fresh) {
    child.arena = {};
    PX_TRY(child.arena, rt::MemoryFile::Create(needed, rt::Sharing::kOthersWrite));
  }
  job.arena_bytes = child.arena.bytes().size();
  std::memcpy(child.arena.bytes().data(), file.data(), file.size());
  std::ranges::copy(std::as_bytes(frames),
                    child.arena.bytes().begin() + static_cast<std::ptrdiff_t>(job.frames_at));
  child.process.LimitCpuTime(kind.cpu_time_max);
  DecodeAnswer answer;
  Result<void> sent =
      child.socket.Send(std::as_bytes(std::span(&job, 1)), fresh ? &child.arena.fd() : nullptr);
  Result<rt::MessageSocket::Received> received =
      sent ? child.socket.Receive(std::as_writable_bytes(std::span(&answer, 1)), kind.time_max)
           : Result<rt::MessageSocket::Received>(Fail(sent.error()));
  if (!received) {
    child.socket.Close();
    {
      rt::MutexLock lock(mutex_);
      ++deaths_;
    }
    if (received.error().code() == Code::kDeadlineExceeded) {
      child.process.Stop(SIGKILL);
      return Fail(Code::kDeadlineExceeded,
                  fmt::format("{} is not decoded within {} ms (time_max)", kind.name,
                              Milliseconds(kind.time_max)),
                  kind.name);
    }
    return Fail(Died(child, kind));
  }
  if (received->size_bytes != sizeof answer || answer.magic != kAnswerMagic) {
    child.socket.Close();
    return Fail(Code::kInvalidArgument,
                fmt::format("{} is corrupt: its decoder gave no answer of ours", kind.name),
                kind.name);
  }
  if (answer.failed) {
    if (fresh) {
      child.arena = {};  // it may not have got it: the next file brings another
    }
    return Fail(ErrorOf(answer, kind.name));
  }
  const auto* pixels =
      reinterpret_cast<const std::uint8_t*>(child.arena.bytes().data()) + job.pixels_at;
  return std::vector<std::uint8_t>(pixels, pixels + job.pixels_bytes);
}

// Its end of the socket is closed: it has ended, or does so now.
Error DecoderPool::Died(Child& child, const Kind& kind) const {
  const int status =
      child.process.running() ? child.process.Stop(SIGTERM) : child.process.exit_status();
  switch (status - kKilledBase) {
    case SIGXCPU:
      return {Code::kTooLarge,
              fmt::format("{} is too costly: to decode it takes more than {} ms of CPU time "
                          "(cpu_time_max)",
                          kind.name, Milliseconds(kind.cpu_time_max)),
              kind.name};
    case SIGSYS:
      return {Code::kInvalidArgument,
              fmt::format("{} is corrupt: its decoder called the system and was killed for it",
                          kind.name),
              kind.name};
    case SIGSEGV:
    case SIGBUS:
    case SIGILL:
    case SIGFPE:
    case SIGABRT:
      return {Code::kInvalidArgument,
              fmt::format("{} is corrupt: its decoder crashed with signal {}", kind.name,
                          status - kKilledBase),
              kind.name};
    default:
      return {Code::kUnavailable,
              fmt::format("the decoder of the {} ended with status {} before it answered",
                          kind.name, status)};
  }
}

}  // namespace pixii::media
