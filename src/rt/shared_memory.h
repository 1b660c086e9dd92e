// Memory that several processes have, words in it that they wait on, and whether one of them lives.
//
// Thread: any.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "base/result.h"
#include "rt/fd.h"
#include "rt/time.h"

namespace pixii::rt {

class SharedMemory final {
 public:
  SharedMemory() = default;
  /// Zeroed memory that others find as the file `path`, best one of /dev/shm. Errors:
  /// kInvalidArgument if the file is there already, kResourceExhausted, kUnavailable.
  static Result<SharedMemory> Create(const std::string& path, std::size_t size_bytes);
  /// What another process created, whole. Errors: kNotFound, kUnavailable.
  static Result<SharedMemory> Open(const std::string& path);

  SharedMemory(SharedMemory&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

  SharedMemory& operator=(SharedMemory&& other) noexcept;

  ~SharedMemory() { Unmap(); }

  std::span<std::byte> bytes() const { return bytes_; }

 private:
  explicit SharedMemory(std::span<std::byte> bytes) : bytes_(bytes) {}

  static Result<SharedMemory> Map(const Fd& fd, std::size_t size_bytes, const std::string& path);
  void Unmap();

  std::span<std::byte> bytes_;
};

/// Sleeps while `word` is `value`, for `patience` at most; may wake up without a reason. The word
/// may lie in shared memory.
void WaitOnWord(const std::atomic<std::uint32_t>& word, std::uint32_t value, Duration patience);

/// Wakes all who wait on it, in every process.
void WakeWaiters(const std::atomic<std::uint32_t>& word);

/// Sees when another process ends, even one whose parent has not asked about it yet.
class ProcessWatch final {
 public:
  ProcessWatch() = default;
  /// A process that is gone already has exited.
  explicit ProcessWatch(std::int32_t process_id);

  bool exited() const;

 private:
  Fd fd_;
  bool gone_ = false;
};

std::int32_t OwnProcessId();

}  // namespace pixii::rt
