#include "model/checkpoint_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <utility>

#include "model/quoted.h"

namespace pixii::model {
namespace {

/// Where Hugging Face's cache keeps the bytes of the snapshot at `real_path`, or nothing if this is
/// no snapshot.
std::string BlobFolder(const std::string& real_path) {
  const std::size_t revision = real_path.rfind('/');
  if (revision == std::string::npos || revision == 0) {
    return {};
  }
  const std::string parent = real_path.substr(0, revision);
  constexpr std::string_view kSnapshots = "/snapshots";
  if (!parent.ends_with(kSnapshots)) {
    return {};
  }
  return parent.substr(0, parent.size() - kSnapshots.size()) + "/blobs";
}

bool IsInside(const std::string& path, const std::string& folder) {
  return !folder.empty() && path.size() > folder.size() + 1 && path.starts_with(folder) &&
         path[folder.size()] == '/' && path.find('/', folder.size() + 1) == std::string::npos;
}

class Descriptor final {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}

  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  ~Descriptor() {
    if (fd_ >= 0) {
      close(fd_);
    }
  }

  int fd() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) {
    munmap(const_cast<std::byte*>(data_), size_bytes_);
  }
}

Result<CheckpointFolder> CheckpointFolder::Open(const std::string& path) {
  char real[PATH_MAX];
  struct stat info = {};
  if (realpath(path.c_str(), real) == nullptr || stat(real, &info) != 0 || !S_ISDIR(info.st_mode)) {
    return Fail(Code::kNotFound, fmt::format("{} is not a folder", Quoted(path)), path);
  }
  return CheckpointFolder(path, real);
}

bool CheckpointFolder::Has(std::string_view name) const {
  return access((real_path_ + "/" + std::string(name)).c_str(), F_OK) == 0;
}

Result<std::string> CheckpointFolder::Resolve(std::string_view name) const {
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string_view::npos ||
      name.find('\0') != std::string_view::npos) {
    return Fail(Code::kDataCorrupt,
                fmt::format("{}: {} is not the name of a file in this folder", path_, Quoted(name)),
                std::string(name));
  }
  char real[PATH_MAX];
  if (realpath((real_path_ + "/" + std::string(name)).c_str(), real) == nullptr) {
    return Fail(Code::kNotFound, fmt::format("{}/{} does not exist", path_, name),
                std::string(name));
  }
  if (!IsInside(real, real_path_) && !IsInside(real, BlobFolder(real_path_))) {
    return Fail(Code::kDataCorrupt,
                fmt::format("{}/{} is a link that leaves the folder", path_, name),
                std::string(name));
  }
  return std::string(real);
}

Result<std::string> CheckpointFolder::ReadText(std::string_view name,
                                               std::uint64_t size_max) const {
  PX_TRY(const std::string path, Resolve(name));
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info = {};
  if (file.fd() < 0 || fstat(file.fd(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return Fail(Code::kNotFound, fmt::format("{}/{} cannot be read", path_, name),
                std::string(name));
  }
  if (static_cast<std::uint64_t>(info.st_size) > size_max) {
    return Fail(
        Code::kTooLarge,
        fmt::format("{}/{} has {} bytes, the limit is {}", path_, name, info.st_size, size_max),
        std::string(name));
  }
  std::string text(static_cast<std::size_t>(info.st_size), '\0');
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t got = read(file.fd(), text.data() + done, text.size() - done);
    if (got <= 0) {
      return Fail(Code::kDataCorrupt,
                  fmt::format("{}/{}: offset {}: cannot be read further", path_, name, done),
                  std::string(name));
    }
    done += static_cast<std::size_t>(got);
  }
  return text;
}

Result<MappedFile> CheckpointFolder::Map(std::string_view name) const {
  PX_TRY(const std::string path, Resolve(name));
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info = {};
  if (file.fd() < 0 || fstat(file.fd(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return Fail(Code::kNotFound, fmt::format("{}/{} cannot be read", path_, name),
                std::string(name));
  }
  if (info.st_size == 0) {
    return Fail(Code::kDataCorrupt, fmt::format("{}/{}: offset 0: the file is empty", path_, name),
                std::string(name));
  }
  const auto size = static_cast<std::size_t>(info.st_size);
  void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd(), 0);
  if (data == MAP_FAILED) {
    return Fail(Code::kResourceExhausted,
                fmt::format("{}/{}: cannot map {} bytes", path_, name, size), std::string(name));
  }
  return MappedFile(static_cast<const std::byte*>(data), size);
}

}  // namespace pixii::model
