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

/// One piece of many that are under way at a time.
struct BlockPiece {
  std::uint64_t offset = 0;
  std::span<std::byte> bytes;  // of a write: only read
  Result<void> result = {};    // once it has been awaited
  // Of the file and the queue:
  BlockOperation operation = BlockOperation::kRead;
  bool is_under_way = false;
  std::int32_t said = 0;  // by the system: bytes moved, or minus an errno
};

class UringQueue final {
 public:
  /// Errors: kUnsupported if the system does not let this process use io_uring.
  static Result<std::unique_ptr<UringQueue>> Create();
  /// Pre: all pieces have been awaited.
  ~UringQueue();
  UringQueue(const UringQueue&) = delete;
  UringQueue& operator=(const UringQueue&) = delete;

  /// Pins buffers so that pieces that lie in one of them are not mapped anew each time. They stay
  /// until the queue is gone; once. False: the system pins no more, and it goes on without.
  bool Register(std::span<const std::span<std::byte>> buffers);

  /// Takes a piece, which with its bytes stays where it is until Await has returned for it. Waits
  /// for room; the system may hear of it by Submit or Await alone.
  void Begin(int fd, BlockPiece& piece);
  void Submit();
  /// Waits until the system has said what became of the piece. Pieces have no order.
  void Await(BlockPiece& piece);

 private:
  struct Ring;

  void Reap();

  explicit UringQueue(std::unique_ptr<Ring> ring);

  std::unique_ptr<Ring> ring_;
};

}  // namespace pixii::rt
