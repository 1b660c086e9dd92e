// The file of a disk tier beside the system's own reads and writes of the same bytes, with
// as many under way.
//
// Thread: the caller's; calls block.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "kv/tiers/disk_store.h"
#include "rt/block_file.h"

namespace pixii::bench {

class DiskTransfers final {
 public:
  /// Blocks of `block_bytes`, a multiple of 4096, `count` of them, in files of their own in
  /// `folder`. Errors: those of the system.
  static Result<std::unique_ptr<DiskTransfers>> Create(const std::string& folder,
                                                       std::uint64_t block_bytes,
                                                       std::uint32_t count);
  /// Removes its files.
  ~DiskTransfers();
  DiskTransfers(const DiskTransfers&) = delete;
  DiskTransfers& operator=(const DiskTransfers&) = delete;

  /// All blocks by io_uring alone.
  Result<void> RunRaw(rt::BlockOperation operation);

  /// All blocks through the store; `checked`: checksums are made, or looked at.
  Result<void> WriteStore(bool checked);
  Result<void> ReadStore(bool checked);

 private:
  DiskTransfers() = default;

  void RemoveFiles() const;
  kv::StoredBlock BlockOf(std::uint32_t number) const;

  std::string path_;  // of the files, without their ends
  std::uint64_t block_bytes_ = 0;
  std::uint32_t count_ = 0;
  std::shared_ptr<const kv::BlockRoot> root_;
  kv::BlockShape shape_;
  std::vector<std::uint32_t> sums_;  // of the one payload
  rt::AlignedBytes bytes_;           // of a batch
  std::unique_ptr<rt::BlockFile> raw_;
  std::unique_ptr<kv::DiskStore> store_;
};

}  // namespace pixii::bench
