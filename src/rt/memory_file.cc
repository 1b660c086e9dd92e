#include "rt/memory_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "base/checked.h"

namespace pixii::rt {

namespace {

// Linux 5.1; older headers lack the name.
constexpr int kSealFutureWrite = 0x0010;
constexpr int kSealsOfSize = F_SEAL_SHRINK | F_SEAL_GROW;
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kSizeMax = std::size_t{1} << 47;  // of an address space

tl::unexpected<Error> FailWithErrno(const char* what, std::size_t size_bytes) {
  const int error = errno;
  const bool full = error == ENOMEM || error == ENOSPC || error == EMFILE || error == ENFILE;
  return Fail(
      full ? Code::kResourceExhausted : Code::kUnavailable,
      fmt::format("{} bytes of shared memory: {}: {}", size_bytes, what, std::strerror(error)));
}

}  // namespace

Result<MemoryFile> MemoryFile::Create(std::size_t size_bytes, Sharing sharing) {
  if (size_bytes == 0) {
    return Fail(Code::kInvalidArgument, "shared memory of 0 bytes", "size_bytes");
  }
  Fd fd(::memfd_create("pixii", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) {
    return FailWithErrno("memfd_create", size_bytes);
  }
  // Now, not when it is first written to: then it would be a signal.
  const int error = ::posix_fallocate(fd.get(), 0, static_cast<off_t>(size_bytes));
  if (error != 0) {
    errno = error;
    return FailWithErrno("posix_fallocate", size_bytes);
  }
  void* data = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (data == MAP_FAILED) {
    return FailWithErrno("mmap", size_bytes);
  }
  MemoryFile file(std::move(fd), {static_cast<std::byte*>(data), size_bytes}, true);
  // Our own mapping stays writable; nobody gets another one.
  const int seals =
      kSealsOfSize | F_SEAL_SEAL | (sharing == Sharing::kOthersRead ? kSealFutureWrite : 0);
  if (::fcntl(file.fd_.get(), F_ADD_SEALS, seals) != 0) {
    return FailWithErrno("F_ADD_SEALS", size_bytes);
  }
  return file;
}

// The mapping begins where a huge page does: else the file's would not fit it.
Result<MemoryFile> MemoryFile::CreateSparse(std::size_t size_bytes) {
  if (size_bytes == 0) {
    return Fail(Code::kInvalidArgument, "shared memory of 0 bytes", "size_bytes");
  }
  if (size_bytes > kSizeMax) {
    errno = ENOMEM;
    return FailWithErrno("size", size_bytes);
  }
  const std::size_t padded = CeilDiv(size_bytes, kHugePage) * kHugePage;
  Fd fd(::memfd_create("pixii-sparse", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(padded)) != 0) {
    return FailWithErrno("memfd_create", padded);
  }
  void* room = ::mmap(nullptr, padded + kHugePage, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) {
    return FailWithErrno("mmap", padded);
  }
  auto* begin = static_cast<std::byte*>(room);
  const std::size_t skip =
      (kHugePage - reinterpret_cast<std::uintptr_t>(room) % kHugePage) % kHugePage;
  if (skip > 0) {
    ::munmap(begin, skip);
  }
  begin += skip;
  ::munmap(begin + padded, kHugePage - skip);
  void* data = ::mmap(begin, padded, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd.get(), 0);
  if (data == MAP_FAILED) {
    const int error = errno;
    ::munmap(begin, padded);
    errno = error;
    return FailWithErrno("mmap", padded);
  }
  MemoryFile file(std::move(fd), {begin, padded}, true);
  ::madvise(begin, padded, MADV_HUGEPAGE);  // a wish: without it the memory is only slower
  if (::fcntl(file.fd_.get(), F_ADD_SEALS, kSealsOfSize | F_SEAL_SEAL) != 0) {
    return FailWithErrno("F_ADD_SEALS", padded);
  }
  file.for_others_ =
      Fd(::open(fmt::format("/proc/self/fd/{}", file.fd_.get()).c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.for_others_) {
    return FailWithErrno("open for reading", padded);
  }
  return file;
}

Result<void> MemoryFile::GiveBack() const {
  if (::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                  static_cast<off_t>(bytes_.size())) != 0) {
    return FailWithErrno("FALLOC_FL_PUNCH_HOLE", bytes_.size());
  }
  return {};
}

Result<MemoryFile> MemoryFile::Map(Fd fd, std::size_t size_bytes, Sharing sharing) {
  const int seals = ::fcntl(fd.get(), F_GET_SEALS);
  struct stat stat{};
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || ::fstat(fd.get(), &stat) != 0 ||
      stat.st_size != static_cast<off_t>(size_bytes) || size_bytes == 0) {
    return Fail(Code::kForbidden,
                fmt::format("a descriptor that came is no sealed memory of {} bytes", size_bytes));
  }
  const bool writable = sharing == Sharing::kOthersWrite && (seals & kSealFutureWrite) == 0 &&
                        (::fcntl(fd.get(), F_GETFL) & O_ACCMODE) == O_RDWR;
  const int protection = PROT_READ | (writable ? PROT_WRITE : 0);
  void* data = ::mmap(nullptr, size_bytes, protection, MAP_SHARED, fd.get(), 0);
  if (data == MAP_FAILED) {
    return FailWithErrno("mmap", size_bytes);
  }
  return MemoryFile(std::move(fd), {static_cast<std::byte*>(data), size_bytes}, writable);
}

MemoryFile& MemoryFile::operator=(MemoryFile&& other) noexcept {
  if (this != &other) {
    Unmap();
    fd_ = std::move(other.fd_);
    for_others_ = std::move(other.for_others_);
    bytes_ = std::exchange(other.bytes_, {});
    writable_ = other.writable_;
  }
  return *this;
}

void MemoryFile::Unmap() {
  if (!bytes_.empty()) {
    ::munmap(bytes_.data(), bytes_.size());
  }
}

}  // namespace pixii::rt
