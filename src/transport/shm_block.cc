#include "transport/shm_block.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace pixii::transport {

namespace {

constexpr std::uint64_t kSizeMask = 0xFFFF;

std::uint64_t LinesOf(std::size_t size_bytes) {
  return std::max<std::uint64_t>(1, (size_bytes + kRingLineBytes - 1) / kRingLineBytes);
}

}  // namespace

bool RingWriter::Fits(std::size_t size_bytes) {
  const std::uint64_t lines = LinesOf(size_bytes);
  if (next_ + lines - taken_ > kRingLines) {
    // A server that says nonsense only fools itself: what is written is counted by us.
    taken_ = std::min(next_, std::max(taken_, block_.taken.load(std::memory_order_acquire)));
  }
  return next_ + lines - taken_ <= kRingLines;
}

bool RingWriter::Push(std::string_view bytes) {
  if (!Fits(bytes.size())) {
    return false;
  }
  do {
    RingLine& line = block_.ring[next_ % kRingLines];
    const std::size_t size = std::min(bytes.size(), kRingLineBytes);
    std::memcpy(line.bytes.data(), bytes.data(), size);
    line.tag.store((next_ + 1) << 16U | bytes.size(), std::memory_order_release);
    ++next_;
    bytes.remove_prefix(size);
  } while (!bytes.empty());
  return true;
}

bool RingWriter::WantsWake() {
  if (block_.polled != 0) {
    return false;
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return block_.sleeping.load(std::memory_order_relaxed) != 0 &&
         block_.sleeping.exchange(0, std::memory_order_acq_rel) != 0;
}

Result<std::optional<std::string_view>> RingReader::Pop() {
  if (std::exchange(taken_, false)) {
    partial_.clear();
  }
  while (true) {
    const RingLine& line = block_.ring[next_ % kRingLines];
    const std::uint64_t tag = line.tag.load(std::memory_order_acquire);
    if (tag >> 16U != ((next_ + 1) & (~std::uint64_t{0} >> 16U))) {
      return std::optional<std::string_view>();
    }
    const std::uint64_t left = tag & kSizeMask;
    if (left + partial_.size() > kNotificationBytesMax) {
      return Fail(Code::kDataCorrupt,
                  fmt::format("a notification of more than {} bytes", kNotificationBytesMax));
    }
    partial_.append(line.bytes.data(), std::min<std::size_t>(left, kRingLineBytes));
    ++next_;
    block_.taken.store(next_, std::memory_order_release);
    if (left <= kRingLineBytes) {
      taken_ = true;
      return std::optional<std::string_view>(partial_);
    }
  }
}

bool RingReader::Sleep() {
  block_.sleeping.store(1, std::memory_order_seq_cst);
  const RingLine& line = block_.ring[next_ % kRingLines];
  return line.tag.load(std::memory_order_seq_cst) >> 16U !=
         ((next_ + 1) & (~std::uint64_t{0} >> 16U));
}

}  // namespace pixii::transport
