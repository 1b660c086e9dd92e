// A file that is read and written at offsets, past the page cache where the file system lets it:
// what a disk cache is made of.
//
// Thread: one owner at a time. Calls block. Every error names the path and the system's reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/result.h"
#include "rt/uring_queue.h"

namespace pixii::rt {

/// What memory, offsets and sizes of direct reads and writes are a multiple of.
inline constexpr std::size_t kBlockFileAlignment = 4096;  // bytes

class BlockFile {
 public:
  virtual ~BlockFile() = default;

  /// All of `bytes`, or an error: kNotFound if the file ends before, kUnavailable for what the
  /// system says. Pre: address, offset and size are multiples of kBlockFileAlignment.
  virtual Result<void> Read(std::uint64_t offset, std::span<std::byte> bytes) = 0;
  /// All of `bytes`, or an error, after which any part may stand there: kResourceExhausted if the
  /// disk is full, kUnavailable for what else the system says. Pre: as Read.
  virtual Result<void> Write(std::uint64_t offset, std::span<const std::byte> bytes) = 0;
  /// Many of either kind, in no order, each with its own result: in one call of the system where
  /// that works. Pre: as Read, for each.
  virtual void RunAll(BlockOperation operation, std::span<BlockPiece> pieces);

  /// Pieces of RunAll will often lie in these, which outlive the file. Once.
  virtual void Expect(std::span<const std::span<std::byte>> /*buffers*/) {}

  /// Why RunAll calls the system for each piece; nothing if it does not.
  virtual std::optional<Error> batch_trouble() const { return std::nullopt; }

  virtual Result<void> Truncate(std::uint64_t size_bytes) = 0;
  virtual Result<void> Sync() = 0;
  virtual Result<std::uint64_t> Size() = 0;

  /// Whether reads and writes go past the page cache.
  virtual bool direct() const = 0;
};

struct BlockFileOptions {
  bool create = false;  // if it is missing, with mode 0600
  bool write = false;
  bool direct = true;    // past the page cache, where that works
  bool batches = false;  // RunAll by io_uring, where the system lets us
};

/// Errors: kNotFound, kUnavailable (no permission, a read-only file system).
Result<std::unique_ptr<BlockFile>> OpenBlockFile(const std::string& path,
                                                 const BlockFileOptions& options);

using BlockFileOpener =
    std::function<Result<std::unique_ptr<BlockFile>>(const std::string&, const BlockFileOptions&)>;

struct UnmapBytes {
  std::size_t size_bytes = 0;
  void operator()(std::byte* data) const;
};

/// Memory for direct reads and writes, zeroed by the system when it is first touched.
class AlignedBytes final {
 public:
  AlignedBytes() = default;
  /// Dies with a message if there is no memory. `size_bytes` is rounded up to the alignment.
  explicit AlignedBytes(std::size_t size_bytes);

  std::span<std::byte> bytes() const { return {data_.get(), size_bytes_}; }

  std::size_t size() const { return size_bytes_; }

 private:
  std::unique_ptr<std::byte[], UnmapBytes> data_;
  std::size_t size_bytes_ = 0;
};

}  // namespace pixii::rt
