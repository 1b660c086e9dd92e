#include "rt/uring_queue.h"

#include <fmt/format.h>
#include <liburing.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "base/assert.h"

namespace pixii::rt {

namespace {

constexpr unsigned kEntries = 64;  // pieces under way at a time

}  // namespace

struct UringQueue::Ring {
  io_uring ring{};
  std::vector<std::span<std::byte>> buffers;  // registered
  unsigned under_way = 0;
  unsigned unsubmitted = 0;  // of them

  std::optional<int> BufferOf(std::span<const std::byte> bytes) const {
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      if (bytes.data() >= buffers[i].data() &&
          bytes.data() + bytes.size() <= buffers[i].data() + buffers[i].size()) {
        return static_cast<int>(i);
      }
    }
    return std::nullopt;
  }
};

UringQueue::UringQueue(std::unique_ptr<Ring> ring) : ring_(std::move(ring)) {}

UringQueue::~UringQueue() {
  PX_ASSERT(ring_->under_way == 0);
  io_uring_queue_exit(&ring_->ring);
}

Result<std::unique_ptr<UringQueue>> UringQueue::Create() {
  auto ring = std::make_unique<Ring>();
  const int code = io_uring_queue_init(kEntries, &ring->ring, 0);
  if (code < 0) {
    return Fail(Code::kUnsupported, fmt::format("io_uring: {}", std::strerror(-code)));
  }
  return std::unique_ptr<UringQueue>(
      new UringQueue(std::move(ring)));  // tidy: new the constructor is private
}

bool UringQueue::Register(std::span<const std::span<std::byte>> buffers) {
  PX_ASSERT(ring_->buffers.empty());
  std::vector<iovec> all;
  for (const std::span<std::byte> each : buffers) {
    all.push_back({.iov_base = each.data(), .iov_len = each.size()});
  }
  if (io_uring_register_buffers(&ring_->ring, all.data(), static_cast<unsigned>(all.size())) != 0) {
    return false;
  }
  ring_->buffers.assign(buffers.begin(), buffers.end());
  return true;
}

void UringQueue::Begin(int fd, BlockPiece& piece) {
  PX_ASSERT(!piece.is_under_way);
  while (ring_->under_way == kEntries) {
    Reap();
  }
  io_uring_sqe* entry = io_uring_get_sqe(&ring_->ring);
  PX_ASSERT(entry != nullptr);  // as many as may be under way
  const auto size = static_cast<unsigned>(piece.bytes.size());
  const std::optional<int> buffer = ring_->BufferOf(piece.bytes);
  const bool reads = piece.operation == BlockOperation::kRead;
  if (reads && buffer) {
    io_uring_prep_read_fixed(entry, fd, piece.bytes.data(), size, piece.offset, *buffer);
  } else if (reads) {
    io_uring_prep_read(entry, fd, piece.bytes.data(), size, piece.offset);
  } else if (buffer) {
    io_uring_prep_write_fixed(entry, fd, piece.bytes.data(), size, piece.offset, *buffer);
  } else {
    io_uring_prep_write(entry, fd, piece.bytes.data(), size, piece.offset);
  }
  io_uring_sqe_set_data(entry, &piece);
  piece.is_under_way = true;
  ++ring_->under_way;
  ++ring_->unsubmitted;
}

void UringQueue::Submit() {
  while (ring_->unsubmitted > 0) {
    const int submitted = io_uring_submit(&ring_->ring);
    PX_ASSERT(submitted >= 0 || submitted == -EINTR || submitted == -EAGAIN || submitted == -EBUSY);
    ring_->unsubmitted -= static_cast<unsigned>(std::max(submitted, 0));
  }
}

void UringQueue::Await(BlockPiece& piece) {
  // Memory is in the system's hands until it has told: there is no way out before.
  while (piece.is_under_way) {
    Reap();
  }
}

// Hands over what has begun, waits for one at least, and takes all that are done.
void UringQueue::Reap() {
  io_uring_cqe* done = nullptr;
  if (ring_->unsubmitted > 0 || io_uring_peek_cqe(&ring_->ring, &done) != 0) {
    const int submitted = io_uring_submit_and_wait(&ring_->ring, 1);
    PX_ASSERT(submitted >= 0 || submitted == -EINTR || submitted == -EAGAIN || submitted == -EBUSY);
    ring_->unsubmitted -= static_cast<unsigned>(std::max(submitted, 0));
  }
  while (io_uring_peek_cqe(&ring_->ring, &done) == 0) {
    auto& piece = *static_cast<BlockPiece*>(io_uring_cqe_get_data(done));
    piece.said = done->res;
    piece.is_under_way = false;
    io_uring_cqe_seen(&ring_->ring, done);
    --ring_->under_way;
  }
}

}  // namespace pixii::rt
