#include "rt/allowed_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "rt/fd.h"
#include "rt/file.h"

namespace pixii::rt {

namespace {

tl::unexpected<Error> Outside() {
  return Fail(Code::kForbidden, "the file is not inside the allowed folder");
}

// Without following links: those that RealPath followed are gone from `relative`, and one that was
// put there since is not followed.
Fd OpenBelow(const Fd& folder, const std::string& relative) {
  open_how how{};
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  return Fd(
      static_cast<int>(::syscall(SYS_openat2, folder.get(), relative.c_str(), &how, sizeof how)));
}

}  // namespace

Result<std::string> ReadFileBelow(const std::string& folder, const std::string& path,
                                  std::uint64_t size_max) {
  PX_TRY(const std::string root, RealPath(folder));
  const Result<std::string> real = RealPath(path);
  const std::string prefix = root == "/" ? root : root + "/";
  if (!real || !real->starts_with(prefix) || real->size() == prefix.size()) {
    return Outside();
  }
  const Fd root_fd(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  const Fd fd = OpenBelow(root_fd, real->substr(prefix.size()));
  struct stat status{};
  if (!fd || ::fstat(fd.get(), &status) != 0) {
    return errno == EACCES ? Fail(Code::kUnavailable, "the file may not be read") : Outside();
  }
  if (!S_ISREG(status.st_mode)) {
    return Fail(Code::kInvalidArgument, "it is no regular file");
  }
  std::string bytes;
  char piece[1 << 16];
  while (true) {
    const ssize_t size = ::read(fd.get(), piece, sizeof piece);
    if (size == 0) {
      return bytes;
    }
    if (size < 0 && errno != EINTR) {
      return Fail(Code::kUnavailable, fmt::format("the file: {}", std::strerror(errno)));
    }
    bytes.append(piece, size > 0 ? static_cast<std::size_t>(size) : 0);
    if (bytes.size() > size_max) {
      return Fail(Code::kTooLarge,
                  fmt::format("the file has {} bytes, more than {}", status.st_size, size_max));
    }
  }
}

}  // namespace pixii::rt
