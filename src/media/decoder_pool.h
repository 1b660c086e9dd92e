// Decodes images and videos of strangers: each in a child process that can do nothing but compute,
// with limits of memory and time. A child that dies takes its own image with it, and nothing else.
//
// Headers are read here (media/image_info.h), so what is too large never reaches a child. File and
// pixels go through memory that both have; children are kept for the next image.
//
// Thread: any; Decode blocks its caller, never call it on a loop.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "media/decode.h"
#include "media/film/film_decode.h"
#include "rt/child_process.h"
#include "rt/memory_file.h"
#include "rt/message_socket.h"
#include "rt/thread.h"
#include "rt/time.h"

namespace pixii::media {

struct DecoderPoolOptions {
  /// Program and first arguments of a child, which shall call RunDecoderChild with those after
  /// them.
  std::vector<std::string> command;
  std::uint32_t children_max = 2;  // files at a time; of several one is left to images
  std::uint64_t memory_bytes_max = std::uint64_t{1} << 30;  // of a child, the image included
  rt::Duration cpu_time_max = std::chrono::seconds(10);     // of an image
  rt::Duration time_max = std::chrono::seconds(30);  // of an image, and of waiting for a child
  rt::Duration film_cpu_time_max = std::chrono::seconds(60);  // of a video
  rt::Duration film_time_max = std::chrono::seconds(120);     // of a video
  std::uint32_t images_max = 1'000;                           // of a child; then comes a fresh one
  std::uint64_t kept_bytes_max = std::uint64_t{64} << 20;     // of memory shared with an idle child
};

struct DecodeJob;

class DecoderPool final {
 public:
  /// Starts nothing yet.
  explicit DecoderPool(DecoderPoolOptions options) : options_(std::move(options)) {}

  DecoderPool(const DecoderPool&) = delete;
  DecoderPool& operator=(const DecoderPool&) = delete;
  /// Pre: nobody decodes. Ends the children.
  ~DecoderPool() = default;

  /// As media::Decode. A child that somebody killed, or that the system ended for want of memory,
  /// says nothing of its image: that goes to a fresh one, once. Errors also: kTooLarge if it takes
  /// too much memory or CPU time, kDeadlineExceeded if it takes too long, kInvalidArgument if its
  /// decoder crashed, kUnavailable if that was killed twice or cannot be started,
  /// kResourceExhausted if all children are busy for time_max.
  Result<Image> Decode(Bytes file, const DecodeOptions& options);

  /// Frames of a video, [frames, height, width, 3], as media::DecodeFilm. Errors as above.
  Result<std::vector<std::uint8_t>> DecodeFrames(Bytes file, const FilmDecodeOptions& options);

  /// Process ids of children that wait for work.
  std::vector<std::int32_t> IdleChildren();

  /// Children started so far.
  std::uint64_t started() const;

  /// Children that ended, or were ended, before they had answered.
  std::uint64_t deaths() const;

 private:
  struct Child {
    rt::ChildProcess process;
    rt::MessageSocket socket;
    rt::MemoryFile arena = {};
    std::uint32_t images = 0;
  };

  enum class From { kIdle, kFresh };

  Result<void> BeginFilm();
  void EndFilm();
  Result<Child> Acquire(From from);
  void Release(Child child);
  void Forget();
  Result<Child> Start();

  /// What a file is called in errors, and how long it may take.
  struct Kind {
    const char* name;
    rt::Duration cpu_time_max;
    rt::Duration time_max;
  };

  Result<std::vector<std::uint8_t>> Run(Bytes file, std::span<const std::uint32_t> frames,
                                        DecodeJob& job, const Kind& kind);
  Result<std::vector<std::uint8_t>> RunOnce(From from, Bytes file,
                                            std::span<const std::uint32_t> frames, DecodeJob& job,
                                            const Kind& kind);
  Result<std::vector<std::uint8_t>> RunBy(Child& child, Bytes file,
                                          std::span<const std::uint32_t> frames, DecodeJob& job,
                                          const Kind& kind);
  Error Died(Child& child, const Kind& kind) const;

  const DecoderPoolOptions options_;
  mutable rt::Mutex mutex_;
  rt::CondVar freed_;
  rt::CondVar film_ended_;
  std::vector<Child> idle_ PX_GUARDED_BY(mutex_);
  std::uint32_t alive_ PX_GUARDED_BY(mutex_) = 0;  // idle or busy
  std::uint32_t films_ PX_GUARDED_BY(mutex_) = 0;  // that are decoded now
  std::uint64_t started_ PX_GUARDED_BY(mutex_) = 0;
  std::uint64_t deaths_ PX_GUARDED_BY(mutex_) = 0;
};

}  // namespace pixii::media
