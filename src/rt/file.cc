#include "rt/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/checked.h"

namespace pixii::rt {
namespace {

Code CodeOf(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return Code::kNotFound;
    case EMFILE:
    case ENFILE:
    case ENOSPC:
    case EDQUOT:
      return Code::kResourceExhausted;
    default:
      return Code::kUnavailable;
  }
}

/// `error` is errno, taken by the caller before anything else could change it.
tl::unexpected<Error> FailErrno(int error, std::string_view what, std::string_view path) {
  return Fail(CodeOf(error), fmt::format("cannot {} '{}': {}", what, path, std::strerror(error)));
}

FileInfo ToInfo(const struct stat& status) {
  FileInfo info;
  if (S_ISREG(status.st_mode)) {
    info.kind = FileKind::kFile;
    info.size_bytes = static_cast<std::uint64_t>(status.st_size);
  } else if (S_ISDIR(status.st_mode)) {
    info.kind = FileKind::kFolder;
  }
  return info;
}

struct Opened {
  Fd fd;
  std::uint64_t size_bytes;
};

Result<Opened> OpenRegular(const std::string& path) {
  // O_NONBLOCK: a pipe without a writer is refused below instead of waited for.
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) {
    return FailErrno(errno, "open", path);
  }
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) {
    return FailErrno(errno, "look at", path);
  }
  if (!S_ISREG(status.st_mode)) {
    return Fail(Code::kInvalidArgument, fmt::format("'{}' is not a regular file", path));
  }
  return Opened{.fd = std::move(fd), .size_bytes = static_cast<std::uint64_t>(status.st_size)};
}

Result<void> WriteAll(int fd, std::string_view bytes, std::string_view path) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd, bytes.data(), bytes.size());
    if (count < 0) {
      if (errno == EINTR) {
        continue;
      }
      return FailErrno(errno, "write", path);
    }
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return {};
}

std::string FolderOf(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) {
    return ".";
  }
  return slash == 0 ? "/" : path.substr(0, slash);
}

Result<void> SyncFolder(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) {
    return FailErrno(errno, "sync the folder", path);
  }
  return {};
}

}  // namespace

Result<FileMap> FileMap::Open(const std::string& path) {
  PX_TRY(const Opened opened, OpenRegular(path));
  if (opened.size_bytes == 0) {
    return FileMap();
  }
  void* data = ::mmap(nullptr, opened.size_bytes, PROT_READ, MAP_PRIVATE, opened.fd.get(), 0);
  if (data == MAP_FAILED) {
    return FailErrno(errno, "map", path);
  }
  return FileMap(static_cast<const std::byte*>(data), opened.size_bytes);
}

FileMap::FileMap(FileMap&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_bytes_(std::exchange(other.size_bytes_, 0)) {}

FileMap& FileMap::operator=(FileMap&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}

FileMap::~FileMap() {
  if (data_ != nullptr) {
    ::munmap(const_cast<std::byte*>(data_), size_bytes_);
  }
}

void FileMap::WillNeed(std::size_t begin, std::size_t size) const {
  if (begin >= size_bytes_) {
    return;
  }
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t first = begin / page * page;
  const std::size_t end = begin + std::min(size, size_bytes_ - begin);
  ::madvise(const_cast<std::byte*>(data_) + first, end - first, MADV_WILLNEED);
}

Result<std::string> ReadFile(const std::string& path, std::uint64_t size_max) {
  PX_TRY(const Opened opened, OpenRegular(path));
  std::string out;
  // One byte more than stated shows whether the file grew; files of /proc state 0 bytes.
  std::size_t room = std::min(opened.size_bytes, size_max) + 1;
  while (true) {
    const std::size_t size = out.size();
    out.resize(size + room);
    const ssize_t count = ::read(opened.fd.get(), out.data() + size, room);
    const int error = errno;
    out.resize(size + static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
    if (out.size() > size_max) {
      return Fail(Code::kTooLarge,
                  fmt::format("'{}' has more than the {} bytes allowed", path, size_max));
    }
    if (count == 0) {
      return out;
    }
    if (count < 0 && error != EINTR) {
      return FailErrno(error, "read", path);
    }
    room =
        std::max<std::size_t>(4096, room - static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
  }
}

Result<std::optional<FileInfo>> StatFile(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) == 0) {
    return std::optional<FileInfo>(ToInfo(status));
  }
  if (CodeOf(errno) == Code::kNotFound) {
    return std::optional<FileInfo>();
  }
  return FailErrno(errno, "look at", path);
}

Result<void> WriteFileAtomic(const std::string& path, std::string_view bytes, std::uint32_t mode) {
  PX_TRY(const std::optional<FileInfo> there, StatFile(path));
  if (there && there->kind == FileKind::kOther) {  // a device or a pipe: no file may take its place
    const Fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    return fd ? WriteAll(fd.get(), bytes, path) : FailErrno(errno, "open for writing", path);
  }
  std::string temporary = path + ".XXXXXX";
  Fd fd(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd) {
    return FailErrno(errno, "create", temporary);
  }
  Result<void> done = WriteAll(fd.get(), bytes, temporary);
  if (done && (::fchmod(fd.get(), mode) != 0 || ::fsync(fd.get()) != 0)) {
    done = FailErrno(errno, "write", temporary);
  }
  fd.Close();
  if (done) {
    done = RenameFile(temporary, path);
  }
  if (!done) {
    ::unlink(temporary.c_str());
    return done;
  }
  return SyncFolder(FolderOf(path));
}

Result<FileWriter> FileWriter::Open(const std::string& path, std::uint64_t offset) {
  Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  if (!fd) {
    return FailErrno(errno, "open for writing", path);
  }
  const auto position = static_cast<off_t>(offset);
  if (::ftruncate(fd.get(), position) != 0 || ::lseek(fd.get(), position, SEEK_SET) != position) {
    return FailErrno(errno, "set the size of", path);
  }
  return FileWriter(std::move(fd), path, offset);
}

Result<void> FileWriter::Append(std::string_view bytes) {
  PX_CHECK_OK(WriteAll(fd_.get(), bytes, path_));
  size_bytes_ += bytes.size();
  return {};
}

Result<void> FileWriter::Sync() {
  if (::fsync(fd_.get()) != 0) {
    return FailErrno(errno, "sync", path_);
  }
  return {};
}

Result<std::vector<FolderEntry>> ListFolder(const std::string& path, std::size_t count_max) {
  struct CloseFolder {
    void operator()(DIR* folder) const { ::closedir(folder); }
  };

  const std::unique_ptr<DIR, CloseFolder> folder(::opendir(path.c_str()));
  if (folder == nullptr) {
    return FailErrno(errno, "list", path);
  }
  std::vector<FolderEntry> out;
  while (const dirent* entry = ::readdir(folder.get())) {
    const std::string_view name(entry->d_name);
    if (name == "." || name == "..") {
      continue;
    }
    if (out.size() == count_max) {
      return Fail(Code::kTooLarge, fmt::format("'{}' has more than {} entries", path, count_max));
    }
    struct stat status{};
    // A dangling link stays listed, as kOther.
    const bool known = ::fstatat(::dirfd(folder.get()), entry->d_name, &status, 0) == 0;
    out.push_back(
        FolderEntry{.name = std::string(name), .info = known ? ToInfo(status) : FileInfo{}});
  }
  std::sort(out.begin(), out.end(),
            [](const FolderEntry& a, const FolderEntry& b) { return a.name < b.name; });
  return out;
}

Result<std::string> RealPath(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr),
                                                         &std::free);
  if (real == nullptr) {
    return FailErrno(errno, "resolve", path);
  }
  return std::string(real.get());
}

Result<void> CreateFolders(const std::string& path) {
  for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (::mkdir(part.c_str(), 0755) != 0 && errno != EEXIST) {
      return FailErrno(errno, "create the folder", part);
    }
    if (end == std::string::npos) {
      break;
    }
  }
  PX_TRY(const std::optional<FileInfo> made, StatFile(path));
  if (!made || made->kind != FileKind::kFolder) {
    return Fail(Code::kUnavailable, fmt::format("'{}' is there and is not a folder", path));
  }
  return {};
}

Result<void> RenameFile(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) {
    return FailErrno(errno, fmt::format("rename '{}' to", from), to);
  }
  return {};
}

Result<void> CreateSymlink(const std::string& target, const std::string& link) {
  const std::string temporary = fmt::format("{}.{}.new", link, ::getpid());
  ::unlink(temporary.c_str());
  if (::symlink(target.c_str(), temporary.c_str()) != 0) {
    return FailErrno(errno, "create the link", temporary);
  }
  return RenameFile(temporary, link);
}

Result<void> RemoveFolder(const std::string& path) {
  if (::rmdir(path.c_str()) != 0) {
    return FailErrno(errno, "remove", path);
  }
  return {};
}

Result<void> RemoveFile(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return FailErrno(errno, "remove", path);
  }
  return {};
}

Result<std::uint64_t> FreeDiskBytes(const std::string& path) {
  struct statvfs status{};
  if (::statvfs(path.c_str(), &status) != 0) {
    return FailErrno(errno, "ask for the free space at", path);
  }
  return std::uint64_t{status.f_bavail} * status.f_frsize;
}

}  // namespace pixii::rt
