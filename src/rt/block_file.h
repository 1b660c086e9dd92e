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
#include <utility>
#include <vector>

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
  void RunAll(BlockOperation operation, std::span<BlockPiece> pieces);

  /// The same while the caller does something else: a piece that has begun stays where it is, with
  /// its bytes, until Await has returned for it, and then has its result. Submit hands over what
  /// has begun, many at once; Await does, too. Pre: as Read.
  virtual void Begin(BlockOperation operation, BlockPiece& piece);

  virtual void Submit() {}

  virtual void Await(BlockPiece& /*piece*/) {}

  /// Pieces will often lie in these, which outlive the file. Once.
  virtual void Expect(std::span<const std::span<std::byte>> /*buffers*/) {}

  /// Why the system is called for each piece; nothing if it is not.
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
  bool batches = false;  // pieces by io_uring, where the system lets us
};

/// Pieces of one kind that go in order through buffers, taken in turn: some are under way while the
/// caller makes the next or looks at the last.
class BlockWindow final {
 public:
  /// `file` outlives it. Pre: `buffers` > 0.
  BlockWindow(BlockFile& file, BlockOperation operation, std::size_t buffers);
  /// Waits for what is under way.
  ~BlockWindow();
  BlockWindow(const BlockWindow&) = delete;
  BlockWindow& operator=(const BlockWindow&) = delete;

  bool full() const { return begun_ - ended_ == pieces_.size(); }

  bool empty() const { return begun_ == ended_; }

  /// The buffer that Begin takes. Pre: not full.
  std::size_t next() const { return begun_ % pieces_.size(); }

  void Begin(std::uint64_t offset, std::span<std::byte> bytes);

  /// Waits for the oldest ones, a part of those under way, and gives each with its buffer to
  /// `take`. Pre: not empty.
  template <class Take>
  void AwaitSome(const Take& take) {
    for (std::size_t i = 0; i < stride_ && !empty(); ++i) {
      const std::size_t buffer = ended_ % pieces_.size();
      file_.Await(pieces_[buffer]);
      ++ended_;
      take(buffer, std::as_const(pieces_[buffer]));
    }
  }

 private:
  BlockFile& file_;
  BlockOperation operation_;
  std::vector<BlockPiece> pieces_;  // [buffer]
  std::size_t stride_;              // so many are handed over, and awaited, at a time
  std::size_t begun_ = 0;
  std::size_t ended_ = 0;
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
