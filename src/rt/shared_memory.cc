#include "rt/shared_memory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <ctime>

namespace pixii::rt {

namespace {

auto FailWithErrno(const char* what, const std::string& path, int error) {
  const Code code = error == EEXIST                      ? Code::kInvalidArgument
                    : error == ENOENT                    ? Code::kNotFound
                    : error == ENOSPC || error == ENOMEM ? Code::kResourceExhausted
                                                         : Code::kUnavailable;
  return Fail(code, fmt::format("shared memory {}: {}: {}", path, what, std::strerror(error)));
}

}  // namespace

// It gets its name once it has its size: nobody finds half of it.
Result<SharedMemory> SharedMemory::Create(const std::string& path, std::size_t size_bytes) {
  const std::string unnamed = fmt::format("{}.{}", path, ::gettid());
  const Fd fd(::open(unnamed.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd) {
    return FailWithErrno("open", unnamed, errno);
  }
  // Now, not when it is first written to: then it would be a signal.
  int error = ::posix_fallocate(fd.get(), 0, static_cast<off_t>(size_bytes));
  if (error == 0 && ::link(unnamed.c_str(), path.c_str()) != 0) {
    error = errno;
  }
  ::unlink(unnamed.c_str());
  if (error != 0) {
    return FailWithErrno("create", path, error);
  }
  return Map(fd, size_bytes, path);
}

Result<SharedMemory> SharedMemory::Open(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) {
    return FailWithErrno("open", path, errno);
  }
  struct stat stat{};
  if (::fstat(fd.get(), &stat) != 0) {
    return FailWithErrno("fstat", path, errno);
  }
  return Map(fd, static_cast<std::size_t>(stat.st_size), path);
}

Result<SharedMemory> SharedMemory::Map(const Fd& fd, std::size_t size_bytes,
                                       const std::string& path) {
  void* data = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (data == MAP_FAILED) {
    return FailWithErrno("mmap", path, errno);
  }
  return SharedMemory({static_cast<std::byte*>(data), size_bytes});
}

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  if (this != &other) {
    Unmap();
    bytes_ = std::exchange(other.bytes_, {});
  }
  return *this;
}

void SharedMemory::Unmap() {
  if (!bytes_.empty()) {
    ::munmap(bytes_.data(), bytes_.size());
  }
}

static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t) &&
              std::atomic<std::uint32_t>::is_always_lock_free);

void WaitOnWord(const std::atomic<std::uint32_t>& word, std::uint32_t value, Duration patience) {
  const std::int64_t nanoseconds = std::max<std::int64_t>(0, patience.count());
  const timespec relative{.tv_sec = nanoseconds / 1'000'000'000,
                          .tv_nsec = nanoseconds % 1'000'000'000};
  ::syscall(SYS_futex, &word, FUTEX_WAIT, value, &relative, nullptr, 0);
}

void WakeWaiters(const std::atomic<std::uint32_t>& word) {
  ::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

ProcessWatch::ProcessWatch(std::int32_t process_id)
    : fd_(static_cast<int>(::syscall(SYS_pidfd_open, process_id, 0))),
      gone_(!fd_ && errno == ESRCH) {}

bool ProcessWatch::exited() const {
  if (!fd_) {
    return gone_;
  }
  pollfd entry{.fd = fd_.get(), .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, 0) == 1;
}

std::int32_t OwnProcessId() { return ::getpid(); }

}  // namespace pixii::rt
