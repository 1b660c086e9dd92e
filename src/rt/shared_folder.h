// What processes of one host need to share a folder: files that show whether their holder lives,
// listings that show what changed, and being told of changes.
//
// Thread: HeldFile and the functions block and may be called on any thread; FolderWatch belongs to
// one loop. Source: flock(2), inotify(7).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "rt/fd.h"
#include "rt/loop.h"

namespace pixii::rt {

/// A file that is locked as long as its holder lives: the system gives the lock back when the
/// process ends, however.
class HeldFile final {
 public:
  /// Creates `path`, which must not exist. Errors: kUnavailable.
  static Result<HeldFile> Create(const std::string& path);

  /// The file of a holder that is gone; nothing if it lives, or if there is no such file. Errors:
  /// kUnavailable.
  static Result<std::optional<HeldFile>> TakeOver(const std::string& path);

  /// Replaces the text; readers may see a mixture of the old and the new one.
  Result<void> Write(std::string_view text);

  /// Whether the file still stands in its folder.
  bool linked() const;

 private:
  HeldFile(Fd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  Fd fd_;
  std::string path_;
};

struct HeldFileState {
  bool held = false;  // its holder lives, though it may be stopped
  std::string text;   // at most 256 bytes of it
};

/// Nothing if there is no such file. Errors: kUnavailable.
Result<std::optional<HeldFileState>> LookAtHeldFile(const std::string& path);

/// A regular file as far as its folder tells: a file that was replaced or written has another
/// stamp.
struct FileStamp {
  std::uint64_t inode = 0;
  std::int64_t modified_ns = 0;
  std::uint64_t size_bytes = 0;

  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};

struct StampedFile {
  std::string name;
  FileStamp stamp;
};

/// The regular files of a folder, sorted by name. Errors: kNotFound, kUnavailable; kTooLarge past
/// `count_max` entries.
Result<std::vector<StampedFile>> ListStamped(const std::string& path, std::size_t count_max);

/// Which folder stands at `path`: another number for another one. Errors: kNotFound, kUnavailable.
Result<std::uint64_t> FolderInode(const std::string& path);

/// Calls back when files of a folder were replaced or removed, when a file that was open for
/// writing was closed (so: when the holder of a HeldFile ended), and when the folder itself goes.
/// Writing alone is not told.
class FolderWatch {
 public:
  virtual ~FolderWatch() = default;
};

/// `loop` must be a real one and outlives the watch; `on_change` runs on it and may not destroy the
/// watch. Errors: kUnsupported (a simulated loop), kNotFound, kUnavailable, kResourceExhausted.
Result<std::unique_ptr<FolderWatch>> WatchFolder(Loop& loop, const std::string& path,
                                                 std::function<void()> on_change);

}  // namespace pixii::rt
