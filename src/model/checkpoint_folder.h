// One model folder: reads its small files whole and maps its large ones; nothing outside it is ever
// opened.
//
// Thread: values, immutable after Open; maps may be shared between threads.
// Source: the cache layout of Hugging Face's hub client (snapshots/<revision>/file ->
// ../../blobs/<digest>).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace pixii::model {

/// Read-only bytes of a file, unmapped with the handle.
class MappedFile final {
 public:
  MappedFile() = default;

  MappedFile(const std::byte* data, std::size_t size_bytes)
      : data_(data), size_bytes_(size_bytes) {}

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_bytes_}; }

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_bytes_ = 0;
};

class CheckpointFolder final {
 public:
  /// Errors: kNotFound if `path` is no folder.
  static Result<CheckpointFolder> Open(const std::string& path);

  /// The folder as given to Open.
  const std::string& path() const { return path_; }

  bool Has(std::string_view name) const;

  /// Whole content of a file. Errors: kNotFound, kTooLarge past `size_max` bytes, kDataCorrupt if
  /// `name` leaves the folder.
  Result<std::string> ReadText(std::string_view name, std::uint64_t size_max) const;

  /// Maps a file. Errors as ReadText, and kDataCorrupt if it is empty.
  Result<MappedFile> Map(std::string_view name) const;

 private:
  CheckpointFolder(std::string path, std::string real_path)
      : path_(std::move(path)), real_path_(std::move(real_path)) {}

  /// The real path of `name`; refuses names with a directory and links that lead out.
  Result<std::string> Resolve(std::string_view name) const;

  std::string path_;
  std::string real_path_;
};

}  // namespace pixii::model
