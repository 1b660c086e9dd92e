// Answers under way to another language: frames wait here until they are taken.
//
// Thread: any; one who waits for a stream waits for no other's.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "rt/thread.h"
#include "wire/messages/generate.h"

namespace pixii::python {

enum class StreamKey : std::uint64_t {};

/// A frame with what it says as text, if somebody decodes it.
struct Piece {
  wire::TokenFrame frame;
  std::string text = {};
};

class Streams final {
 public:
  /// `wake` is called, on whatever thread, when there is something again.
  StreamKey Open(std::function<void()> wake);

  /// No effect on a stream that was closed.
  void Put(StreamKey key, Piece piece);

  /// All there is, in order; nothing after `patience`.
  std::vector<Piece> Take(StreamKey key, rt::Duration patience);

  /// Nobody wants more of it.
  void Close(StreamKey key);

  /// Every stream that has not ended does, with `error`; those that are opened later do at once.
  void EndAll(const Error& error);

 private:
  struct Stream {
    std::function<void()> wake;
    std::vector<Piece> pieces;
    bool ended = false;
  };

  static Piece EndOf(const Error& error);

  rt::Mutex mutex_;
  rt::CondVar changed_;
  std::uint64_t last_ PX_GUARDED_BY(mutex_) = 0;
  std::map<StreamKey, Stream> streams_ PX_GUARDED_BY(mutex_);
  std::optional<Error> over_ PX_GUARDED_BY(mutex_);
};

}  // namespace pixii::python
