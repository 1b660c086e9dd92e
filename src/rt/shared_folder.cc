#include "rt/shared_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "rt/epoll_loop.h"

namespace pixii::rt {

namespace {

constexpr std::size_t kHeldTextBytesMax = 256;

tl::unexpected<Error> FailErrno(int error, std::string_view what, std::string_view path) {
  const bool missing = error == ENOENT || error == ENOTDIR;
  const bool full = error == EMFILE || error == ENFILE || error == ENOSPC || error == ENOMEM;
  return Fail(missing ? Code::kNotFound
              : full  ? Code::kResourceExhausted
                      : Code::kUnavailable,
              fmt::format("cannot {} '{}': {}", what, path, std::strerror(error)));
}

std::optional<struct stat> StatOf(int fd) {
  struct stat status{};
  return ::fstat(fd, &status) == 0 ? std::optional(status) : std::nullopt;
}

bool IsLinked(int fd) {
  const auto status = StatOf(fd);
  return status && status->st_nlink > 0;
}

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

// Edges of the inotify descriptor become one call each turn.
class InotifyWatch final : public FolderWatch, FdWatcher {
 public:
  InotifyWatch(EpollLoop& loop, Fd fd, std::function<void()> on_change)
      : loop_(loop),
        fd_(std::move(fd)),
        on_change_(std::move(on_change)),
        self_(std::make_shared<InotifyWatch*>(this)) {}

  ~InotifyWatch() override { *self_ = nullptr; }

  Result<void> Register() { return loop_.Watch(fd_.get(), *this); }

 private:
  void OnReady(std::uint32_t epoll_events) override {
    if ((epoll_events & EPOLLIN) != 0) {
      loop_.Post([self = self_] {
        if (*self != nullptr) {
          (*self)->Drain();
        }
      });
    }
  }

  void Drain() {
    alignas(inotify_event) std::array<char, 4096> events{};
    bool any = false;
    while (::read(fd_.get(), events.data(), events.size()) > 0) {
      any = true;
    }
    if (any) {
      on_change_();
    }
  }

  EpollLoop& loop_;
  Fd fd_;
  std::function<void()> on_change_;
  std::shared_ptr<InotifyWatch*> self_;  // null once it is gone; on the loop alone
};

}  // namespace

Result<HeldFile> HeldFile::Create(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!fd) {
    return FailErrno(errno, "create", path);
  }
  // Who looks at it holds a shared lock for a moment: wait. Who clears away may have been first.
  int locked = 0;
  do {
    locked = ::flock(fd.get(), LOCK_EX);
  } while (locked != 0 && errno == EINTR);
  if (locked != 0) {
    return FailErrno(errno, "lock", path);
  }
  if (!IsLinked(fd.get())) {
    return Fail(Code::kUnavailable, fmt::format("'{}' was removed by another process", path));
  }
  return HeldFile(std::move(fd), path);
}

Result<std::optional<HeldFile>> HeldFile::TakeOver(const std::string& path) {
  using Taken = std::optional<HeldFile>;
  Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) {
    return errno == ENOENT ? Result<Taken>(Taken()) : Result<Taken>(FailErrno(errno, "open", path));
  }
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    return errno == EWOULDBLOCK ? Result<Taken>(Taken())
                                : Result<Taken>(FailErrno(errno, "lock", path));
  }
  return IsLinked(fd.get()) ? Taken(HeldFile(std::move(fd), path)) : Taken();
}

Result<void> HeldFile::Write(std::string_view text) {
  if (::pwrite(fd_.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()) ||
      ::ftruncate(fd_.get(), static_cast<off_t>(text.size())) != 0) {
    return FailErrno(errno, "write", path_);
  }
  return {};
}

bool HeldFile::linked() const { return IsLinked(fd_.get()); }

Result<std::optional<HeldFileState>> LookAtHeldFile(const std::string& path) {
  using State = std::optional<HeldFileState>;
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd) {
    return errno == ENOENT ? Result<State>(State()) : Result<State>(FailErrno(errno, "open", path));
  }
  HeldFileState state;
  state.held = ::flock(fd.get(), LOCK_SH | LOCK_NB) != 0;
  if (state.held && errno != EWOULDBLOCK) {
    return FailErrno(errno, "lock", path);
  }
  state.text.resize(kHeldTextBytesMax);
  const ssize_t size = ::pread(fd.get(), state.text.data(), state.text.size(), 0);
  if (size < 0) {
    return FailErrno(errno, "read", path);
  }
  state.text.resize(static_cast<std::size_t>(size));
  return State(std::move(state));
}

Result<std::vector<StampedFile>> ListStamped(const std::string& path, std::size_t count_max) {
  const std::unique_ptr<DIR, CloseFolder> folder(::opendir(path.c_str()));
  if (!folder) {
    return FailErrno(errno, "list", path);
  }
  std::vector<StampedFile> files;
  while (true) {
    errno = 0;
    const dirent* entry = ::readdir(folder.get());
    if (entry == nullptr) {
      if (errno != 0) {
        return FailErrno(errno, "list", path);
      }
      break;
    }
    struct stat status{};
    if (::fstatat(::dirfd(folder.get()), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) {
        continue;  // removed meanwhile
      }
      return FailErrno(errno, "look into", path);
    }
    if (!S_ISREG(status.st_mode)) {
      continue;
    }
    if (files.size() == count_max) {
      return Fail(Code::kTooLarge, fmt::format("'{}' has more than {} files", path, count_max));
    }
    files.push_back({.name = entry->d_name,
                     .stamp = {.inode = status.st_ino,
                               .modified_ns = std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 +
                                              status.st_mtim.tv_nsec,
                               .size_bytes = static_cast<std::uint64_t>(status.st_size)}});
  }
  std::ranges::sort(files, {}, &StampedFile::name);
  return files;
}

Result<std::uint64_t> FolderInode(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) {
    return FailErrno(errno, "look at", path);
  }
  return std::uint64_t{status.st_ino};
}

Result<std::unique_ptr<FolderWatch>> WatchFolder(Loop& loop, const std::string& path,
                                                 std::function<void()> on_change) {
  auto* real = dynamic_cast<EpollLoop*>(&loop);
  if (real == nullptr) {
    return Fail(Code::kUnsupported, "folders can be watched on a real loop only");
  }
  Fd fd(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!fd) {
    return FailErrno(errno, "watch", path);
  }
  constexpr std::uint32_t kEvents = IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_CLOSE_WRITE |
                                    IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
  if (::inotify_add_watch(fd.get(), path.c_str(), kEvents) < 0) {
    return FailErrno(errno, "watch", path);
  }
  auto watch = std::make_unique<InotifyWatch>(*real, std::move(fd), std::move(on_change));
  PX_CHECK_OK(watch->Register());
  return watch;
}

}  // namespace pixii::rt
