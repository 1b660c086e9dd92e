// Blocks in one file of equal slots (G3), found again after a restart or a crash.
// docs/formats/kv_disk.md
//
// Thread: the tier's own. One process has the file; others may read it.
// A slot with a header is whole, unless the system itself went down, which the checksums then show:
// past the page cache a slot is one write, which the system finishes whoever dies; through it, the
// header is zeroed before the payload is written, and written after it.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "kv/tiers/block_sealer.h"
#include "kv/tiers/block_store.h"
#include "rt/block_file.h"
#include "rt/file_lock.h"

namespace pixii::kv {

inline constexpr std::uint32_t kDiskFormatVersion = 1;

/// What all blocks of a file have in common, beside their shape.
struct DiskModel {
  std::string model_fingerprint;
  std::string numerics_id;
  std::string kv_dtype;

  friend bool operator==(const DiskModel&, const DiskModel&) = default;
};

/// The first 4096 bytes of the file.
struct DiskHeader {
  DiskModel model;
  std::uint32_t block_tokens = 0;
  std::uint32_t slice_count = 0;
  std::uint64_t slices_hash = 0;    // of their sizes
  std::uint64_t payload_bytes = 0;  // of a block
  std::uint32_t header_bytes = 0;   // of a slot, a multiple of 4096; the payload is behind it
  bool sealed = false;              // by a BlockSealer

  /// With padding.
  std::uint64_t slot_bytes() const;

  std::uint64_t offset(std::uint32_t slot) const {
    return kStoredBlockAlignment + slot * slot_bytes();
  }

  friend bool operator==(const DiskHeader&, const DiskHeader&) = default;
};

DiskHeader MakeDiskHeader(const BlockShape& shape, DiskModel model, bool sealed = false);
/// `out` [4096]. False: the model's names do not fit.
bool EncodeDiskHeader(const DiskHeader& header, std::span<std::byte> out);
/// kNone, kHeader or kVersion.
BlockFault DecodeDiskHeader(std::span<const std::byte> bytes, DiskHeader& header);

struct DiskStoreOptions {
  std::string folder;
  std::uint64_t size_bytes = 0;                    // of the file at most
  bool direct = true;                              // past the page cache, where that works
  std::shared_ptr<const BlockSealer> sealer = {};  // null: blocks are stored as they are
  rt::BlockFileOpener open;                        // none: rt::OpenBlockFile
};

class DiskStore final : public BlockStore {
 public:
  /// Takes the first file of this shape and model in the folder that no other process has, and
  /// makes it if there is none; one that is of something else in spite of its name is emptied, and
  /// `foreign()` says why. Errors: kInvalidArgument if no block fits `size_bytes`, and those of
  /// the system, naming the path.
  static Result<std::unique_ptr<DiskStore>> Open(const BlockShape& shape, DiskModel model,
                                                 const DiskStoreOptions& options);

  /// Any file of blocks. `sealer`: needed for a file that is sealed. Errors: kDataCorrupt naming
  /// what is wrong, also more slots than a file can have; kInvalidArgument without the sealer that
  /// it needs.
  static Result<std::unique_ptr<DiskStore>> OpenFile(
      const std::string& path, bool write, std::shared_ptr<const BlockSealer> sealer = {});

  /// A file that was not there, without blocks. Errors: kInvalidArgument if it is there.
  static Result<std::unique_ptr<DiskStore>> CreateFile(const std::string& path,
                                                       const DiskHeader& header,
                                                       std::shared_ptr<const BlockSealer> sealer);

  Result<void> Write(std::uint32_t slot, StoredBlock block,
                     std::span<const std::byte> payload) override;
  BlockFault Read(std::uint32_t slot, const Hash128& hash, StoredBlock& block,
                  std::span<const std::byte>& payload) override;
  /// Many slots in one call of the system, where that works.
  void ReadMany(std::span<const Ask> asks, const Wanted& wanted, const OnRead& on_read) override;
  std::vector<Result<void>> WriteMany(std::span<const std::uint32_t> slots,
                                      const Source& source) override;
  void Drop(std::uint32_t slot, const Hash128& hash) override;
  void Scan(const std::function<bool(Found)>& on_found,
            const std::function<void(BlockFault)>& on_fault) override;

  /// The same of `count` slots from `first` on, as far as the file goes now. Where to go on: 0 at
  /// its end.
  std::uint32_t ScanSlots(std::uint32_t first, std::uint32_t count,
                          const std::function<bool(Found)>& on_found,
                          const std::function<void(BlockFault)>& on_fault);

  std::uint32_t slot_count() const { return slot_count_; }

  const std::string& path() const { return path_; }

  const DiskHeader& header() const { return header_; }

  /// Why what stood in the file was thrown away.
  BlockFault foreign() const { return foreign_; }

  /// It may be read alone: the file system or the file is read-only.
  bool read_only() const { return read_only_; }

  bool direct() const { return file_->direct(); }

  /// How many slots are read or written at a time.
  std::size_t batch_blocks() const;

  /// Why the system is called for each block; nothing if it is not.
  std::optional<Error> batch_trouble() const { return file_->batch_trouble(); }

 private:
  DiskStore(std::string path, DiskHeader header, std::unique_ptr<rt::BlockFile> file);

  Result<void> Begin();
  /// Of a read that failed; keeps why.
  BlockFault FaultOf(const Error& error);
  /// Buffers of a batch, made when there is one. False: one at a time.
  bool MakeBatch(std::size_t slots);
  /// After a write that failed: nobody is to find part of it.
  void Empty(std::uint32_t slot);
  /// What stands in a slot's bytes.
  BlockFault Parse(std::span<std::byte> slot, StoredBlock& block,
                   std::span<const std::byte>& payload) const;
  /// Makes a slot's bytes.
  Result<void> Compose(std::span<std::byte> slot, StoredBlock block,
                       std::span<const std::byte> payload) const;
  /// Past the page cache: a block is composed while those before it are written.
  std::vector<Result<void>> WriteWhole(std::span<const std::uint32_t> slots, const Source& source);
  /// Through it.
  std::vector<Result<void>> WriteInSteps(std::span<const std::uint32_t> slots,
                                         const Source& source);
  /// Writes what was composed, in three steps of all: a slot with a header is whole.
  void Commit(std::span<const std::uint32_t> slots, std::span<const std::size_t> buffers,
              std::span<Result<void>> results);
  bool IsOfFile(const BlockShape& shape) const;

  std::string path_;
  DiskHeader header_;
  std::vector<rt::AlignedBytes> batch_;  // several slots, read or written at a time
  std::unique_ptr<rt::BlockFile> file_;  // may have pinned them
  std::optional<rt::FileLock> lock_;
  std::shared_ptr<const BlockSealer> sealer_;
  std::uint32_t slot_count_ = 0;
  BlockFault foreign_ = BlockFault::kNone;
  bool read_only_ = false;
  rt::AlignedBytes slot_;  // what is read or written
};

}  // namespace pixii::kv
