// The files of other processes' disk tiers in the same folder: to be read, never written.
// docs/formats/kv_disk.md
//
// Thread: the tier's own.
// Their owners write on meanwhile, so what was seen somewhere may be gone: that is a miss, no
// fault.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>

#include "kv/tiers/block_store.h"
#include "kv/tiers/disk_store.h"

namespace pixii::kv {

struct PeerFilesOptions {
  std::string own_path;  // of this process's file; the others are beside it
  DiskHeader header;     // theirs is the same
  std::shared_ptr<const BlockSealer> sealer = {};
  std::uint32_t slots_of_scan = 8192;  // looked at in each file at a time, on from the last ones
};

class PeerFiles final : public BlockStore {
 public:
  explicit PeerFiles(PeerFilesOptions options) : options_(std::move(options)) {}

  /// Errors: kUnsupported.
  Result<void> Write(std::uint32_t slot, StoredBlock block,
                     std::span<const std::byte> payload) override;
  BlockFault Read(std::uint32_t slot, const Hash128& hash, StoredBlock& block,
                  std::span<const std::byte>& payload) override;
  /// Tells of hashes alone: the blocks have no root.
  void Scan(const std::function<bool(Found)>& on_found,
            const std::function<void(BlockFault)>& on_fault) override;

 private:
  struct File {
    std::unique_ptr<DiskStore> store;
    std::uint32_t next_slot = 0;
  };

  struct Place {
    std::string path;
    std::uint32_t slot = 0;
    std::uint64_t generation = 0;
  };

  void FindFiles();

  PeerFilesOptions options_;
  std::map<std::string, File> files_;  // by path
  std::unordered_map<Hash128, Place, Hash128Hasher> places_;
};

}  // namespace pixii::kv
