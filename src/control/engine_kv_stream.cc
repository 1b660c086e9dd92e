#include "control/engine_kv_stream.h"

#include <span>
#include <utility>

#include "base/hash.h"

namespace pixii::control {

namespace {

constexpr std::size_t kRanksMax = 4096;

std::uint64_t HashOf(std::string_view payload) {
  return Hash64(std::as_bytes(std::span<const char>(payload.data(), payload.size())));
}

}  // namespace

// The last batch is asked for again: if it comes as it was, nothing began anew meanwhile.
void EngineKvStream::AskFrom(std::uint64_t sequence) {
  wish_ = sequence;
  replaying_ = true;
  replay_began_ = false;
}

void EngineKvStream::Check() {
  if (options_.has_replay && !replaying_) {
    AskFrom(next_.value_or(0) == 0 ? 0 : *next_ - 1);
  }
}

std::optional<std::uint64_t> EngineKvStream::TakeReplayWish() {
  return std::exchange(wish_, std::nullopt);
}

std::vector<wire::KvEvent> EngineKvStream::TakeEvents() { return std::exchange(events_, {}); }

void EngineKvStream::Reset() {
  ++counters_.resets;
  next_.reset();
  for (const auto& [rank, known] : ranks_) {
    wire::KvEvent& cleared = events_.emplace_back();
    cleared.kind = wire::KvEvent::Kind::kCleared;
    cleared.rank = rank;
  }
  ranks_.clear();
}

// A batch that cannot be read may have told of removals.
void EngineKvStream::Apply(std::uint64_t sequence, std::string_view payload) {
  const Result<wire::EngineKvBatch> batch = wire::DecodeEngineKvBatch(payload);
  if (!batch) {
    ++counters_.broken;
    Reset();
  } else {
    ++counters_.batches;
    last_seconds_ = batch->seconds;
    const std::uint32_t rank = batch->rank.value_or(options_.rank);
    if (ranks_.size() < kRanksMax || ranks_.contains(rank)) {
      ranks_[rank] = true;
      for (const wire::EngineKvEvent& event : batch->events) {
        translator_.Translate(event, rank, events_);
      }
    }
  }
  last_payload_ = HashOf(payload);
  next_ = sequence + 1;
}

void EngineKvStream::Wait(std::uint64_t sequence, std::string_view payload) {
  if (waiting_bytes_ + payload.size() > options_.waiting_bytes_max) {
    return;  // the gap will be seen
  }
  const auto [at, is_new] = waiting_.try_emplace(sequence, payload);
  if (!is_new) {  // of a publisher that began anew
    waiting_bytes_ -= at->second.size();
    at->second = payload;
  }
  waiting_bytes_ += payload.size();
}

void EngineKvStream::OnBatch(std::uint64_t sequence, std::string_view payload) {
  if (replaying_) {
    Wait(sequence, payload);
    return;
  }
  if (next_ && sequence < *next_) {
    const Result<wire::EngineKvBatch> batch = wire::DecodeEngineKvBatch(payload);
    if (!batch || batch->seconds <= last_seconds_) {
      ++counters_.repeated;
      return;
    }
    Reset();  // it counts from the beginning again
    if (options_.has_replay) {
      AskFrom(0);
      Wait(sequence, payload);
      return;
    }
  } else if (next_ && sequence > *next_) {
    ++counters_.gaps;
    if (options_.has_replay) {
      AskFrom(*next_ == 0 ? 0 : *next_ - 1);
      Wait(sequence, payload);
      return;
    }
    Reset();
  }
  Apply(sequence, payload);
}

void EngineKvStream::OnReplayed(std::uint64_t sequence, std::string_view payload) {
  if (!replaying_ || wish_) {
    return;  // of a question that was given up
  }
  if (!std::exchange(replay_began_, true) && next_.value_or(0) > 0) {
    const bool same = sequence == *next_ - 1 && HashOf(payload) == last_payload_;
    if (!same) {
      Reset();
      if (sequence > 0) {
        AskFrom(0);  // whatever of it is left
        return;
      }
    } else {
      ++counters_.repeated;
      return;
    }
  }
  if (next_ && sequence < *next_) {
    ++counters_.repeated;
    return;
  }
  if (next_ && sequence > *next_) {
    Reset();
  }
  Apply(sequence, payload);
}

void EngineKvStream::OnReplayEnd(bool complete) {
  if (!replaying_ || wish_) {
    return;
  }
  replaying_ = false;
  if (complete && !replay_began_ && next_.value_or(0) > 0) {
    Reset();  // it does not know the last batch any more
    AskFrom(0);
    return;
  }
  waiting_bytes_ = 0;
  for (const auto& [sequence, payload] : std::exchange(waiting_, {})) {
    if (next_ && sequence < *next_) {
      ++counters_.repeated;
      continue;
    }
    if (next_ && sequence > *next_) {
      ++counters_.gaps;
      Reset();  // it was asked already
    }
    Apply(sequence, payload);
  }
}

}  // namespace pixii::control
