#include "transport/shm_connection.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

namespace pixii::transport {

namespace {

constexpr std::size_t kStashMax = 65'536;  // notifications that nobody took

}  // namespace

ShmConnection::ShmConnection(AgentContext& context, std::unique_ptr<rt::Stream> stream,
                             AgentId peer, std::shared_ptr<const rt::MemoryFile> file, bool polled,
                             std::uint64_t number_in)
    : number(number_in),
      context_(context),
      peer_(peer),
      file_(std::move(file)),
      block_(*std::construct_at(reinterpret_cast<ShmBlock*>(file_->bytes().data()))),
      reader_(block_),
      polled_(polled),
      socket_(context.loop, std::move(stream), 0) {
  for (const WriteLane& lane : block_.lanes) {
    context_.regions.AddLane(std::shared_ptr<const WriteLane>(file_, &lane));
  }
  block_.polled = polled_ ? 1 : 0;
  if (!polled_) {
    reader_.Sleep();
  }
  socket_.Send({.kind = ShmMessage::kBlock, .size_bytes = sizeof(ShmBlock)}, {file_->fd().get()},
               file_);
}

ShmConnection::~ShmConnection() {
  tasks_.Clear();
  for (const WriteLane& lane : block_.lanes) {
    context_.regions.RemoveLane(&lane);
  }
}

void ShmConnection::Run(rt::Function<void()> woken, rt::Function<void(ShmConnection&)> ended) {
  woken_ = std::move(woken);
  ended_ = std::move(ended);
  tasks_.Start(socket_.RunSender());
  tasks_.Start(Serve());
}

bool ShmConnection::Take(Notification& out) {
  if (stash_.empty()) {
    return Pop(out);
  }
  out = std::move(stash_.front());
  stash_.pop_front();
  return true;
}

void ShmConnection::Collect() {
  Notification each;
  while (stash_.size() < kStashMax && Pop(each)) {
    stash_.push_back(std::move(each));
  }
}

void ShmConnection::Forget(RegionKey region) {
  if (std::erase(given_, region) > 0) {
    socket_.Send({.kind = ShmMessage::kGone, .region = static_cast<std::uint64_t>(region)});
  }
}

bool ShmConnection::Pop(Notification& out) {
  do {
    const Result<std::optional<std::string_view>> next = reader_.Pop();
    if (!next) {
      context_.counters.frames_malformed.fetch_add(1, std::memory_order_relaxed);
      broken_ = true;
      return false;
    }
    if (*next) {
      out.from = peer_;
      out.bytes = **next;
      return true;
    }
  } while (!polled_ && !reader_.Sleep());
  return false;
}

rt::Task<void> ShmConnection::Serve() {
  while (true) {
    const std::optional<ShmMessage> message = co_await socket_.Receive();
    if (!message) {
      break;
    }
    if (message->kind == ShmMessage::kAsk) {
      Give(static_cast<RegionKey>(message->region));
    } else if (message->kind == ShmMessage::kWake) {
      woken_();
    } else {
      context_.counters.frames_malformed.fetch_add(1, std::memory_order_relaxed);
      break;
    }
  }
  ended_(*this);
}

void ShmConnection::Give(RegionKey key) {
  const std::shared_ptr<const Region> region = context_.regions.Find(key);
  if (region == nullptr || region->file() == nullptr) {
    socket_.Send({.kind = ShmMessage::kNoRegion,
                  .region = static_cast<std::uint64_t>(key),
                  .code = region == nullptr ? 0U : 1U});
    return;
  }
  const RegionView& view = region->view();
  given_.push_back(key);
  socket_.Send({.kind = ShmMessage::kRegion,
                .region = static_cast<std::uint64_t>(key),
                .file_bytes = region->file()->bytes().size(),
                .offset = region->file_offset(),
                .size_bytes = view.memory.size(),
                .window_bytes = view.window_bytes,
                .words = view.words.size()},
               {region->file()->fd().get(), region->words_file().fd().get()}, region);
}

}  // namespace pixii::transport
