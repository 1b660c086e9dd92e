#include "transport/shm_socket.h"

#include <array>
#include <cstring>
#include <span>
#include <utility>

namespace pixii::transport {

namespace {

constexpr std::size_t kUnsentMax = 16'384;

}  // namespace

ShmSocket::ShmSocket(rt::Loop& loop, std::unique_ptr<rt::Stream> stream,
                     std::size_t descriptors_max)
    : stream_(std::move(stream)), parts_(rt::PartsOf(*stream_)), work_(loop) {
  parts_->KeepDescriptors(descriptors_max);
}

void ShmSocket::Send(const ShmMessage& message, std::vector<int> fds,
                     std::shared_ptr<const void> keep) {
  if (unsent_.size() < kUnsentMax) {
    unsent_.push_back({.message = message, .fds = std::move(fds), .keep = std::move(keep)});
    work_.WakeAll();
  } else {
    Close();
  }
}

rt::Task<std::optional<ShmMessage>> ShmSocket::Receive() {
  std::array<std::byte, sizeof(ShmMessage)> bytes{};
  std::size_t have = 0;
  while (have < bytes.size()) {
    const std::span<std::byte> part = std::span(bytes).subspan(have);
    const Result<std::optional<std::size_t>> got = parts_->TryReadParts({&part, 1});
    if (!got || (*got && **got == 0)) {
      co_return std::nullopt;
    }
    if (*got) {
      have += **got;
      for (rt::Fd& fd : parts_->TakeDescriptors()) {
        descriptors_.push_back(std::move(fd));
      }
    } else {
      co_await parts_->WaitReadable(rt::kNever);
    }
  }
  ShmMessage message;
  std::memcpy(&message, bytes.data(), bytes.size());
  co_return message;
}

std::optional<rt::Fd> ShmSocket::TakeDescriptor() {
  if (descriptors_.empty()) {
    return std::nullopt;
  }
  rt::Fd fd = std::move(descriptors_.front());
  descriptors_.pop_front();
  return fd;
}

rt::Task<void> ShmSocket::RunSender() {
  while (true) {
    while (!unsent_.empty()) {
      const Unsent& next = unsent_.front();
      const auto bytes = std::as_bytes(std::span(&next.message, 1)).subspan(sent_);
      const std::span<const std::byte> part = bytes;
      const Result<std::size_t> taken = next.fds.empty() || sent_ > 0
                                            ? parts_->TryWriteParts({&part, 1})
                                            : parts_->TryWriteWithDescriptors(bytes, next.fds);
      if (!taken) {
        Close();
        co_return;
      }
      sent_ += *taken;
      if (*taken == 0) {
        co_await parts_->WaitWritable(rt::kNever);
      } else if (sent_ == sizeof(ShmMessage)) {
        unsent_.pop_front();
        sent_ = 0;
      }
    }
    co_await work_.Wait(rt::kNever);
  }
}

}  // namespace pixii::transport
