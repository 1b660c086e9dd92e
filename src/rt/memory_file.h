// Memory without a name that other processes of this host can map, once they were given its
// descriptor.
//
// Thread: any; immutable once made.
// Source: memfd_create(2), F_ADD_SEALS in fcntl(2).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "base/result.h"
#include "rt/fd.h"

namespace pixii::rt {

enum class Sharing : std::uint8_t { kOthersRead, kOthersWrite };

class MemoryFile final {
 public:
  MemoryFile() = default;
  /// Zeroed memory, there from the start. `sharing`: whether others may write to it, which the
  /// kernel keeps. Errors: kInvalidArgument, kResourceExhausted.
  static Result<MemoryFile> Create(std::size_t size_bytes, Sharing sharing);

  /// What another process made with Create and sent us; `sharing`: whether we want to write, which
  /// writable() tells. Errors: kForbidden if it could shrink under us or has not `size_bytes`
  /// bytes; kUnavailable.
  static Result<MemoryFile> Map(Fd fd, std::size_t size_bytes, Sharing sharing);

  MemoryFile(MemoryFile&& other) noexcept
      : fd_(std::move(other.fd_)),
        bytes_(std::exchange(other.bytes_, {})),
        writable_(other.writable_) {}

  MemoryFile& operator=(MemoryFile&& other) noexcept;

  ~MemoryFile() { Unmap(); }

  std::span<std::byte> bytes() const { return bytes_; }

  /// Whether this process may write to it.
  bool writable() const { return writable_; }

  const Fd& fd() const { return fd_; }

 private:
  MemoryFile(Fd fd, std::span<std::byte> bytes, bool writable)
      : fd_(std::move(fd)), bytes_(bytes), writable_(writable) {}

  void Unmap();

  Fd fd_;
  std::span<std::byte> bytes_;
  bool writable_ = false;
};

}  // namespace pixii::rt
