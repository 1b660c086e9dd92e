#include "rt/block_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "base/checked.h"
#include "rt/fd.h"

namespace pixii::rt {

namespace {

/// A window's buffers are handed over in as many parts: few calls of the system, and all but one
/// part are under way.
constexpr std::size_t kWindowStrides = 4;

tl::unexpected<Error> FailErrno(int error, std::string_view what, const std::string& path) {
  const Code code = error == ENOENT || error == ENOTDIR ? Code::kNotFound
                    : error == ENOSPC || error == EDQUOT || error == EFBIG
                        ? Code::kResourceExhausted
                        : Code::kUnavailable;
  return Fail(code, fmt::format("cannot {} '{}': {}", what, path, std::strerror(error)));
}

class PosixBlockFile final : public BlockFile {
 public:
  PosixBlockFile(Fd fd, std::string path, bool direct, bool batches)
      : fd_(std::move(fd)), path_(std::move(path)), direct_(direct) {
    if (batches) {
      Result<std::unique_ptr<UringQueue>> queue = UringQueue::Create();
      if (queue) {
        queue_ = std::move(*queue);
      } else {
        batch_trouble_ = queue.error();
      }
    }
  }

  void Begin(BlockOperation operation, BlockPiece& piece) override {
    if (queue_ == nullptr) {
      BlockFile::Begin(operation, piece);
      return;
    }
    piece.operation = operation;
    queue_->Begin(fd_.get(), piece);
  }

  void Submit() override {
    if (queue_ != nullptr) {
      queue_->Submit();
    }
  }

  void Await(BlockPiece& piece) override {
    if (queue_ == nullptr) {
      return;
    }
    queue_->Await(piece);
    piece.result = {};
    if (piece.said != static_cast<std::int64_t>(piece.bytes.size())) {
      BlockFile::Begin(piece.operation, piece);  // it goes, or fails, as if it came alone
    }
  }

  void Expect(std::span<const std::span<std::byte>> buffers) override {
    if (queue_ != nullptr) {
      static_cast<void>(queue_->Register(buffers));
    }
  }

  std::optional<Error> batch_trouble() const override { return batch_trouble_; }

  Result<void> Read(std::uint64_t offset, std::span<std::byte> bytes) override {
    while (!bytes.empty()) {
      const ssize_t count =
          ::pread(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (count < 0) {
        if (errno == EINTR || LeaveDirect(errno)) {
          continue;
        }
        return FailErrno(errno, "read", path_);
      }
      if (count == 0) {
        return Fail(Code::kNotFound,
                    fmt::format("'{}' ends before byte {}", path_, offset + bytes.size()));
      }
      offset += static_cast<std::uint64_t>(count);
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
    return {};
  }

  Result<void> Write(std::uint64_t offset, std::span<const std::byte> bytes) override {
    while (!bytes.empty()) {
      const ssize_t count =
          ::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (count < 0) {
        if (errno == EINTR || LeaveDirect(errno)) {
          continue;
        }
        return FailErrno(errno, "write", path_);
      }
      offset += static_cast<std::uint64_t>(count);
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
    return {};
  }

  Result<void> Truncate(std::uint64_t size_bytes) override {
    if (::ftruncate(fd_.get(), static_cast<off_t>(size_bytes)) != 0) {
      return FailErrno(errno, "set the size of", path_);
    }
    return {};
  }

  Result<void> Sync() override {
    if (::fdatasync(fd_.get()) != 0) {
      return FailErrno(errno, "sync", path_);
    }
    return {};
  }

  Result<std::uint64_t> Size() override {
    struct stat status{};
    if (::fstat(fd_.get(), &status) != 0) {
      return FailErrno(errno, "look at", path_);
    }
    return static_cast<std::uint64_t>(status.st_size);
  }

  bool direct() const override { return direct_; }

 private:
  /// Some file systems take O_DIRECT and then refuse each transfer: it goes on without.
  bool LeaveDirect(int error) {
    if (error != EINVAL || !direct_) {
      return false;
    }
    const int flags = ::fcntl(fd_.get(), F_GETFL);
    if (flags < 0 || ::fcntl(fd_.get(), F_SETFL, flags & ~O_DIRECT) != 0) {
      return false;
    }
    direct_ = false;
    return true;
  }

  Fd fd_;
  std::string path_;
  bool direct_;
  std::unique_ptr<UringQueue> queue_;
  std::optional<Error> batch_trouble_;
};

}  // namespace

Result<std::unique_ptr<BlockFile>> OpenBlockFile(const std::string& path,
                                                 const BlockFileOptions& options) {
  // O_NONBLOCK: a pipe in the file's place is not waited for.
  int flags = (options.write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  if (options.create) {
    flags |= O_CREAT;
  }
  bool direct = options.direct;
  Fd fd(::open(path.c_str(), flags | (direct ? O_DIRECT : 0), 0600));
  if (!fd && direct && errno == EINVAL) {
    direct = false;
    fd = Fd(::open(path.c_str(), flags, 0600));
  }
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
  return std::make_unique<PosixBlockFile>(std::move(fd), path, direct, options.batches);
}

void BlockFile::Begin(BlockOperation operation, BlockPiece& piece) {
  piece.result = operation == BlockOperation::kRead ? Read(piece.offset, piece.bytes)
                                                    : Write(piece.offset, piece.bytes);
}

void BlockFile::RunAll(BlockOperation operation, std::span<BlockPiece> pieces) {
  for (BlockPiece& piece : pieces) {
    Begin(operation, piece);
  }
  for (BlockPiece& piece : pieces) {
    Await(piece);
  }
}

BlockWindow::BlockWindow(BlockFile& file, BlockOperation operation, std::size_t buffers)
    : file_(file),
      operation_(operation),
      pieces_(buffers),
      stride_(std::max<std::size_t>(1, buffers / kWindowStrides)) {
  PX_ASSERT(buffers > 0);
}

BlockWindow::~BlockWindow() {
  while (!empty()) {
    AwaitSome([](std::size_t /*buffer*/, const BlockPiece& /*piece*/) {});
  }
}

void BlockWindow::Begin(std::uint64_t offset, std::span<std::byte> bytes) {
  PX_ASSERT(!full());
  BlockPiece& piece = pieces_[next()];
  piece.offset = offset;
  piece.bytes = bytes;
  file_.Begin(operation_, piece);
  if (++begun_ % stride_ == 0) {
    file_.Submit();
  }
}

AlignedBytes::AlignedBytes(std::size_t size_bytes)
    : size_bytes_(CeilDiv(size_bytes, kBlockFileAlignment) * kBlockFileAlignment) {
  if (size_bytes_ == 0) {
    return;
  }
  void* data =
      ::mmap(nullptr, size_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  PX_ASSERT(data != MAP_FAILED);
  data_ = std::unique_ptr<std::byte[], UnmapBytes>(static_cast<std::byte*>(data),
                                                   UnmapBytes{size_bytes_});
}

void UnmapBytes::operator()(std::byte* data) const { ::munmap(data, size_bytes); }

}  // namespace pixii::rt
