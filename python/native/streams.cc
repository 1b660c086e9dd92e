#include "streams.h"

#include <utility>

namespace pixii::python {

Piece Streams::EndOf(const Error& error) {
  Piece out;
  out.frame.finish = wire::FinishReason::kError;
  out.frame.error = error;
  return out;
}

StreamKey Streams::Open(std::function<void()> wake) {
  const rt::MutexLock lock(mutex_);
  const StreamKey key{++last_};
  Stream& stream = streams_[key];
  stream.wake = std::move(wake);
  if (over_) {
    stream.pieces.push_back(EndOf(*over_));
    stream.ended = true;
    stream.wake();
  }
  return key;
}

void Streams::Put(StreamKey key, Piece piece) {
  const rt::MutexLock lock(mutex_);
  const auto found = streams_.find(key);
  if (found == streams_.end() || found->second.ended) {
    return;
  }
  Stream& stream = found->second;
  const bool first = stream.pieces.empty();
  stream.ended = piece.frame.finish.has_value();
  stream.pieces.push_back(std::move(piece));
  if (first) {
    stream.wake();
    changed_.NotifyAll();
  }
}

std::vector<Piece> Streams::Take(StreamKey key, rt::Duration patience) {
  const rt::MutexLock lock(mutex_);
  bool waits = patience > rt::Duration::zero();
  for (;;) {
    const auto found = streams_.find(key);
    if (found == streams_.end()) {
      return {};
    }
    if (!found->second.pieces.empty() || !waits) {
      return std::exchange(found->second.pieces, {});
    }
    waits = changed_.WaitFor(mutex_, patience);  // whoever waits longer asks again
  }
}

void Streams::Close(StreamKey key) {
  const rt::MutexLock lock(mutex_);
  streams_.erase(key);
}

void Streams::EndAll(const Error& error) {
  const rt::MutexLock lock(mutex_);
  over_ = error;
  for (auto& [key, stream] : streams_) {
    if (!std::exchange(stream.ended, true)) {
      stream.pieces.push_back(EndOf(error));
      stream.wake();
    }
  }
  changed_.NotifyAll();
}

}  // namespace pixii::python
