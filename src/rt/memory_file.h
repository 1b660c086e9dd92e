// Memory without a name that other processes of this host can map, once they were given its
// descriptor.
//
// Thread: any; immutable once made, but for GiveBack.
// Source: memfd_create(2), F_ADD_SEALS in fcntl(2), FALLOC_FL_PUNCH_HOLE in fallocate(2).
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

  /// Zeroed memory, at least `size_bytes` of it, whose pages come when they are first touched, huge
  /// ones where the system gives such to shared memory, and go by GiveBack. Others get a descriptor
  /// that they can only read through: a seal would keep them from writing better, but us from
  /// giving pages back as well. Errors: as Create.
  static Result<MemoryFile> CreateSparse(std::size_t size_bytes);

  /// Gives all pages back to the system at once, whoever has them mapped: they read as zeros until
  /// they are written to again. Pre: made by CreateSparse. Errors: kUnavailable.
  Result<void> GiveBack() const;

  /// What another process made with Create or CreateSparse and sent us; `sharing`: whether we want
  /// to write, which writable() tells. Errors: kForbidden if it could shrink under us or has not
  /// `size_bytes` bytes; kUnavailable.
  static Result<MemoryFile> Map(Fd fd, std::size_t size_bytes, Sharing sharing);

  MemoryFile(MemoryFile&& other) noexcept
      : fd_(std::move(other.fd_)),
        for_others_(std::move(other.for_others_)),
        bytes_(std::exchange(other.bytes_, {})),
        writable_(other.writable_) {}

  MemoryFile& operator=(MemoryFile&& other) noexcept;

  ~MemoryFile() { Unmap(); }

  std::span<std::byte> bytes() const { return bytes_; }

  /// Whether this process may write to it.
  bool writable() const { return writable_; }

  /// What others are sent.
  const Fd& fd() const { return for_others_ ? for_others_ : fd_; }

 private:
  MemoryFile(Fd fd, std::span<std::byte> bytes, bool writable)
      : fd_(std::move(fd)), bytes_(bytes), writable_(writable) {}

  void Unmap();

  Fd fd_;
  Fd for_others_;  // of CreateSparse
  std::span<std::byte> bytes_;
  bool writable_ = false;
};

}  // namespace pixii::rt
