// Files of start-up and shutdown: maps, whole reads, atomic writes, folders. They block: never on a
// loop that serves.
//
// Thread: any; each object has one owner. Every error names the path and the system's reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "rt/fd.h"

namespace pixii::rt {

enum class FileKind : std::uint8_t { kFile, kFolder, kOther };

struct FileInfo {
  FileKind kind = FileKind::kOther;  // of the target, where it is a symbolic link
  std::uint64_t size_bytes = 0;
};

/// A regular file mapped read-only. Nobody may shorten the file meanwhile: reading past its end
/// kills the process.
class FileMap final {
 public:
  /// Errors: kNotFound, kInvalidArgument (a folder, pipe or device), kUnavailable (no permission,
  /// no memory).
  static Result<FileMap> Open(const std::string& path);

  FileMap() = default;
  FileMap(FileMap&& other) noexcept;
  FileMap& operator=(FileMap&& other) noexcept;
  ~FileMap();

  std::span<const std::byte> bytes() const { return {data_, size_bytes_}; }

  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_bytes_}; }

  /// Tells the kernel to read bytes [begin, begin + size) ahead.
  void WillNeed(std::size_t begin, std::size_t size) const;

 private:
  FileMap(const std::byte* data, std::size_t size_bytes) : data_(data), size_bytes_(size_bytes) {}

  const std::byte* data_ = nullptr;
  std::size_t size_bytes_ = 0;
};

/// The whole of a regular file. Errors: as FileMap; kTooLarge if it has more than `size_max` bytes.
Result<std::string> ReadFile(const std::string& path, std::uint64_t size_max);

/// Nothing if there is no such file; errors for what cannot be asked.
Result<std::optional<FileInfo>> StatFile(const std::string& path);

/// The absolute path without symbolic links, "." and "..". Errors: kNotFound if something on the
/// way does not exist.
Result<std::string> RealPath(const std::string& path);

/// Readers see the old file or the new one whole, also after a crash: temporary file, fsync,
/// rename, fsync of the folder. `mode`: permissions of the new file, for example 0600 for a key. A
/// device or a pipe is written to instead.
Result<void> WriteFileAtomic(const std::string& path, std::string_view bytes, std::uint32_t mode);

/// A file written from front to back, for example a download that may go on later.
class FileWriter final {
 public:
  /// Opens or creates; writing starts at `offset` and what stood behind it is cut off.
  static Result<FileWriter> Open(const std::string& path, std::uint64_t offset);

  Result<void> Append(std::string_view bytes);
  /// Makes what was appended survive a crash.
  Result<void> Sync();

  /// Bytes of the file so far.
  std::uint64_t size_bytes() const { return size_bytes_; }

 private:
  FileWriter(Fd fd, std::string path, std::uint64_t size_bytes)
      : fd_(std::move(fd)), path_(std::move(path)), size_bytes_(size_bytes) {}

  Fd fd_;
  std::string path_;
  std::uint64_t size_bytes_;
};

struct FolderEntry {
  std::string name;
  FileInfo info;
};

/// Entries sorted by name, without "." and "..". Errors: as FileMap; kTooLarge past `count_max`
/// entries.
Result<std::vector<FolderEntry>> ListFolder(const std::string& path, std::size_t count_max);

/// Creates `path` and what is missing above it.
Result<void> CreateFolders(const std::string& path);
Result<void> RenameFile(const std::string& from, const std::string& to);
/// Makes `link` point to `target`, replacing an older link.
Result<void> CreateSymlink(const std::string& target, const std::string& link);
/// An empty one.
Result<void> RemoveFolder(const std::string& path);
/// No error if it is not there.
Result<void> RemoveFile(const std::string& path);
/// Bytes that an ordinary user may still write to the file system of `path`.
Result<std::uint64_t> FreeDiskBytes(const std::string& path);

}  // namespace pixii::rt
