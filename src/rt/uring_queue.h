// Many reads or writes of a file in one call of the system, by io_uring.
//
// Thread: one owner at a time. Calls block. Source: io_uring(7).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"

namespace pixii::rt {

enum class BlockOperation : std::uint8_t { kRead, kWrite };

/// One piece of a batch.
struct BlockPiece {
  std::uint64_t offset = 0;
  std::span<std::byte> bytes;  // of a write: only read
  Result<void> result = {};
};

class UringQueue final {
 public:
  /// Errors: kUnsupported if the system does not let this process use io_uring.
  static Result<std::unique_ptr<UringQueue>> Create();
  ~UringQueue();
  UringQueue(const UringQueue&) = delete;
  UringQueue& operator=(const UringQueue&) = delete;

  /// Pins buffers so that pieces that lie in one of them are not mapped anew each time. They stay
  /// until the queue is gone; once. False: the system pins no more, and it goes on without.
  bool Register(std::span<const std::span<std::byte>> buffers);

  /// What the system said of a piece: bytes moved, or minus an errno.
  using Told = void (*)(void* self, std::size_t piece, std::int32_t said);

  /// Runs them all, many at a time, and waits. Pieces of one call have no order.
  void Run(int fd, BlockOperation operation, std::span<const BlockPiece> pieces, Told told,
           void* self);

 private:
  struct Ring;

  explicit UringQueue(std::unique_ptr<Ring> ring);

  std::unique_ptr<Ring> ring_;
};

}  // namespace pixii::rt
