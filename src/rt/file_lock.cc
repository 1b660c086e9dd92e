#include "rt/file_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace pixii::rt {

Result<FileLock> FileLock::Take(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) {
    return Fail(Code::kUnavailable,
                fmt::format("cannot open '{}': {}", path, std::strerror(errno)));
  }
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    return Fail(Code::kUnavailable,
                error == EWOULDBLOCK
                    ? fmt::format("another process has locked '{}'", path)
                    : fmt::format("cannot lock '{}': {}", path, std::strerror(error)));
  }
  return FileLock(std::move(fd));
}

}  // namespace pixii::rt
