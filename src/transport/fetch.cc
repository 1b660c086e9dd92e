#include "transport/fetch.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace pixii::transport {

namespace {

constexpr std::uint64_t kPieceBytesMax = 1 << 20;     // of one read
constexpr std::uint64_t kRunningBytesMax = 16 << 20;  // of all reads of a connection
constexpr std::uint32_t kRunningMax = 64;             // reads of a connection

}  // namespace

RemoteRegion::~RemoteRegion() {
  for (fabric_abi::Key* each : {memory, words}) {
    if (each != nullptr) {
      functions.drop_key(each);
    }
  }
}

void FetchQueue::Add(std::shared_ptr<Fetch> fetch) {
  turns_.push_back(std::move(fetch));
  fabric_.Kick();
}

void FetchQueue::Stop(Fetch& fetch, Error error) {
  if (!fetch.error) {
    fetch.error = std::move(error);
    fabric_.Kick();
  }
}

void FetchQueue::Ended(void* self, bool succeeded) {
  const std::unique_ptr<Running> one(static_cast<Running*>(self));
  FetchQueue& queue = *one->queue;
  Fetch& fetch = *one->fetch;
  --queue.running_;
  queue.running_bytes_ -= one->size_bytes;
  if (!succeeded && !fetch.error) {
    fetch.error = Error(Code::kDisconnected, "the peer's memory cannot be reached any more");
  }
  if (--fetch.running == 0) {
    LeaveLane(fetch);
    if (fetch.error || fetch.part == fetch.parts.size()) {
      queue.over_.push_back(one->fetch);
    }
  }
}

void FetchQueue::EnterLane(Fetch& fetch) {
  if (fetch.lane != nullptr && fetch.running == 0) {
    fetch.lane->turn.fetch_add(1, std::memory_order_seq_cst);
  }
}

void FetchQueue::LeaveLane(Fetch& fetch) {
  if (fetch.lane != nullptr) {
    fetch.lane->turn.fetch_add(1, std::memory_order_seq_cst);
  }
}

bool FetchQueue::BeginOne(const std::shared_ptr<Fetch>& fetch) {
  Fetch::Part& part = fetch->parts[fetch->part];
  const std::uint64_t size =
      std::min<std::uint64_t>(part.size_bytes - fetch->begun_bytes, kPieceBytesMax);
  EnterLane(*fetch);
  ++fetch->running;
  fabric_abi::Begun begun = fabric_abi::Begun::kFailed;
  if (part.window != nullptr && !IsOpen(part.window->view(), part.descriptor, Access::kWrite)) {
    fetch->error =
        Error(Code::kNotFound, fmt::format("{} bytes at {} of region {:016x} are not open with "
                                           "generation {}",
                                           part.descriptor.size_bytes, part.descriptor.offset,
                                           static_cast<std::uint64_t>(part.descriptor.region),
                                           part.descriptor.generation));
  } else {
    auto one =
        std::make_unique<Running>(Running{.queue = this, .fetch = fetch, .size_bytes = size});
    begun = fabric_.functions().read(
        part.key, part.from + fetch->begun_bytes, part.to + fetch->begun_bytes, size,
        part.memory == nullptr ? nullptr : part.memory->raw(), Ended, one.get());
    if (begun == fabric_abi::Begun::kRuns) {
      (void)one.release();
      ++running_;
      running_bytes_ += size;
    } else if (begun == fabric_abi::Begun::kFailed) {
      fetch->error = Error(Code::kDisconnected, "the peer's memory cannot be reached");
    }
  }
  if (begun != fabric_abi::Begun::kRuns && --fetch->running == 0) {
    LeaveLane(*fetch);
  }
  if (begun == fabric_abi::Begun::kLater) {
    return false;
  }
  fetch->begun_bytes += size;
  if (fetch->begun_bytes == part.size_bytes) {
    ++fetch->part;
    fetch->begun_bytes = 0;
  }
  return true;
}

bool FetchQueue::Settle() {
  bool did = false;
  // Everyone's next piece in turn: a small fetch waits for no large one.
  while (!turns_.empty() && running_ < kRunningMax && running_bytes_ < kRunningBytesMax) {
    const std::shared_ptr<Fetch> fetch = turns_.front();
    const bool has_more = !fetch->error && fetch->part < fetch->parts.size();
    if (has_more && !BeginOne(fetch)) {
      if (running_ == 0) {
        fabric_.KickLater();
      }
      break;
    }
    did = true;
    turns_.pop_front();
    if (!fetch->error && fetch->part < fetch->parts.size()) {
      turns_.push_back(fetch);
    } else if (fetch->running == 0) {
      over_.push_back(fetch);
    }
  }
  // Who was stopped waits for no turn.
  for (auto at = turns_.begin(); at != turns_.end();) {
    if ((*at)->error) {
      if ((*at)->running == 0) {
        over_.push_back(*at);
      }
      at = turns_.erase(at);
      did = true;
    } else {
      ++at;
    }
  }
  for (const std::shared_ptr<Fetch>& fetch : std::exchange(over_, {})) {
    did = true;
    const auto ended = std::exchange(fetch->ended, nullptr);
    if (ended) {
      ended(fetch->error ? Result<void>(Fail(*fetch->error)) : Result<void>());
    }
  }
  return did;
}

}  // namespace pixii::transport
