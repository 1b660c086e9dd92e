#include "media/decoder_child.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <new>
#include <optional>

#include "media/decoder_messages.h"
#include "media/film/film_decode.h"
#include "media/media_noun.h"
#include "rt/memory_file.h"
#include "rt/message_socket.h"
#include "rt/sandbox.h"

namespace pixii::media {

namespace {

constexpr int kStandardInput = 0;
constexpr int kExitRefused = 2;

DecodeAnswer AnswerOf(const Error& error) {
  DecodeAnswer answer{.failed = true, .code = static_cast<std::uint32_t>(error.code())};
  const std::size_t size = std::min(error.detail().size(), kAnswerDetailMax);
  answer.detail_bytes = static_cast<std::uint32_t>(size);
  std::memcpy(answer.detail, error.detail().data(), size);
  return answer;
}

Result<void> DecodeFilmInto(const DecodeJob& job, Bytes file, std::span<std::byte> arena) {
  std::vector<std::uint32_t> frames(job.frames);
  std::memcpy(frames.data(), arena.data() + job.frames_at, frames.size() * sizeof(frames[0]));
  FilmDecodeOptions options{.frames = frames, .limits = job.film_limits};
  if (job.resizes) {
    options.resize = job.resize;
  }
  return DecodeFilm(file, options,
                    {reinterpret_cast<std::uint8_t*>(arena.data()) + job.pixels_at,
                     static_cast<std::size_t>(job.pixels_bytes)});
}

Result<void> DecodeJobInto(const DecodeJob& job, std::span<std::byte> arena) {
  const auto inside = [&](std::uint64_t at, std::uint64_t bytes) {
    return at <= arena.size() && bytes <= arena.size() - at;
  };
  if (!inside(0, job.file_bytes) || !inside(job.pixels_at, job.pixels_bytes) ||
      !inside(job.frames_at, std::uint64_t{job.frames} * sizeof(std::uint32_t))) {
    return Fail(Code::kInternal, "a job passes its shared memory");
  }
  const Bytes file(reinterpret_cast<const std::uint8_t*>(arena.data()), job.file_bytes);
  if (job.frames > 0) {
    return DecodeFilmInto(job, file, arena);
  }
  DecodeOptions options{.pixels = job.pixels, .exif = job.exif, .limits = job.limits};
  if (job.resizes) {
    options.resize = job.resize;
  }
  PX_TRY(const Image image, Decode(file, options));
  if (image.rgb.size() != job.pixels_bytes) {
    return Fail(Code::kInternal, "an image has another size than its header");
  }
  std::memcpy(arena.data() + job.pixels_at, image.rgb.data(), image.rgb.size());
  return {};
}

DecodeAnswer Serve(const DecodeJob& job, std::span<std::byte> arena, std::uint64_t memory_max) {
  try {
    const Result<void> done = DecodeJobInto(job, arena);
    return done ? DecodeAnswer{} : AnswerOf(done.error());
  } catch (const std::bad_alloc&) {
    return AnswerOf({Code::kTooLarge,
                     fmt::format("{} is too large: to decode it takes more than {} bytes of memory "
                                 "(memory_bytes_max)",
                                 job.frames > 0 ? kFilm.noun : kImage.noun, memory_max)});
  }
}

}  // namespace

int RunDecoderChild(std::span<const std::string> arguments) {
  std::uint64_t memory_max = 0;
  if (arguments.size() != 1 ||
      std::from_chars(arguments[0].data(), arguments[0].data() + arguments[0].size(), memory_max)
              .ec != std::errc()) {
    return kExitRefused;
  }
  const Result<void> shut_in = rt::EnterSandbox({.memory_bytes_max = memory_max});
  rt::MessageSocket socket{rt::Fd(kStandardInput)};
  rt::MemoryFile arena;
  while (true) {
    DecodeJob job;
    Result<rt::MessageSocket::Received> received =
        socket.Receive(std::as_writable_bytes(std::span(&job, 1)), std::nullopt);
    if (!received) {
      return 0;  // nobody wants more
    }
    if (received->size_bytes != sizeof job || job.magic != kJobMagic) {
      return kExitRefused;
    }
    DecodeAnswer answer;
    if (!shut_in) {
      answer = AnswerOf(shut_in.error());  // nothing is decoded in the open
    } else if (received->passed) {
      arena = {};
      Result<rt::MemoryFile> mapped = rt::MemoryFile::Map(
          std::move(received->passed), job.arena_bytes, rt::Sharing::kOthersWrite);
      if (mapped) {
        arena = std::move(*mapped);
      } else {
        answer = AnswerOf(
            {Code::kTooLarge, fmt::format("{} is too large: it takes more than {} bytes of memory "
                                          "(memory_bytes_max)",
                                          job.frames > 0 ? kFilm.noun : kImage.noun, memory_max)});
      }
    }
    if (!answer.failed) {
      answer = Serve(job, arena.bytes(), memory_max);
    }
    if (!socket.Send(std::as_bytes(std::span(&answer, 1)), nullptr)) {
      return 0;
    }
  }
}

}  // namespace pixii::media
