#include "transport/fetch.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace pixii::transport {

namespace {

constexpr std::uint64_t kReadBytesMax = 1 << 20;      // of one read, and of one turn
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

FetchQueue::Gathered FetchQueue::Gather(const Fetch& fetch) const {
  Gathered out;
  out.part = fetch.part;
  out.begun_bytes = fetch.begun_bytes;
  while (out.count < fabric_.pieces_max() && out.part < fetch.parts.size() &&
         out.size_bytes < kReadBytesMax) {
    const Fetch::Part& part = fetch.parts[out.part];
    if (part.window != nullptr && !IsOpen(part.window->view(), part.descriptor, Access::kWrite)) {
      out.stale = &part.descriptor;
      break;
    }
    const std::uint64_t size =
        std::min(part.size_bytes - out.begun_bytes, kReadBytesMax - out.size_bytes);
    out.pieces[out.count++] = {.key = part.key,
                               .address = part.from + out.begun_bytes,
                               .to = part.to + out.begun_bytes,
                               .size = size,
                               .memory = part.memory == nullptr ? nullptr : part.memory->raw()};
    out.size_bytes += size;
    out.begun_bytes += size;
    if (out.begun_bytes == part.size_bytes) {
      ++out.part;
      out.begun_bytes = 0;
    }
  }
  return out;
}

bool FetchQueue::BeginOne(const std::shared_ptr<Fetch>& fetch) {
  EnterLane(*fetch);
  ++fetch->running;
  fabric_abi::Begun begun = fabric_abi::Begun::kFailed;
  const Gathered next = Gather(*fetch);
  if (next.stale != nullptr) {
    fetch->error =
        Error(Code::kNotFound,
              fmt::format("{} bytes at {} of region {:016x} are not open with generation {}",
                          next.stale->size_bytes, next.stale->offset,
                          static_cast<std::uint64_t>(next.stale->region), next.stale->generation));
  } else {
    auto one = std::make_unique<Running>(
        Running{.queue = this, .fetch = fetch, .size_bytes = next.size_bytes});
    begun = fabric_.functions().read(next.pieces.data(), next.count, Ended, one.get());
    if (begun == fabric_abi::Begun::kRuns) {
      (void)one.release();
      ++running_;
      running_bytes_ += next.size_bytes;
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
  fetch->part = next.part;
  fetch->begun_bytes = next.begun_bytes;
  fetch->turn_bytes += next.size_bytes;
  return true;
}

bool FetchQueue::Settle() {
  bool did = false;
  // Everyone in turn, so that a small fetch waits for no large one; a turn is as long as one large
  // piece, so that of two lists one ends first, and its end overlaps with the other's bytes.
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
    const bool goes_on = !fetch->error && fetch->part < fetch->parts.size();
    if (goes_on && fetch->turn_bytes < kReadBytesMax) {
      continue;
    }
    fetch->turn_bytes = 0;
    turns_.pop_front();
    if (goes_on) {
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
