// Blocks as objects of a service that many hosts share (G4), each under the name of its hash.
// docs/formats/kv_block.md
//
// Thread: the tier's own.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "kv/tiers/block_record.h"
#include "kv/tiers/block_store.h"
#include "kv/tiers/disk_store.h"
#include "kv/tiers/list_watch.h"

namespace pixii::kv {

/// Keeps bytes by name. Every call ends within a limit of its own.
class ObjectService {
 public:
  virtual ~ObjectService() = default;

  virtual Result<void> Put(const std::string& name, std::string_view bytes) = 0;
  /// Errors: kNotFound, kTooLarge past `size_max`.
  virtual Result<std::string> Get(const std::string& name, std::uint64_t size_max) = 0;
  virtual Result<void> Delete(const std::string& name) = 0;
  /// Names that begin with `prefix`, until `on_name` has enough and says false. Errors: also those
  /// of `watch`, which is asked before each part.
  virtual Result<void> List(const std::string& prefix, ListWatch& watch,
                            const std::function<bool(std::string_view)>& on_name) = 0;
};

class ObjectStore final : public BlockStore {
 public:
  ObjectStore(std::unique_ptr<ObjectService> service, const BlockShape& shape,
              const DiskModel& model, std::shared_ptr<const BlockSealer> sealer = {},
              ListLimits limits = {});

  Result<void> Write(std::uint32_t slot, StoredBlock block,
                     std::span<const std::byte> payload) override;
  BlockFault Read(std::uint32_t slot, const Hash128& hash, StoredBlock& block,
                  std::span<const std::byte>& payload) override;
  void Drop(std::uint32_t slot, const Hash128& hash) override;
  /// Tells of hashes alone: the blocks have no root. Of a list that has no end: kIo.
  void Scan(const std::function<bool(Found)>& on_found,
            const std::function<void(BlockFault)>& on_fault) override;

  /// Where the blocks of this shape and model are: "pixii-kv/v1/HASH/".
  const std::string& prefix() const { return prefix_; }

 private:
  std::string NameOf(const Hash128& hash) const { return prefix_ + ToHex(hash); }

  std::unique_ptr<ObjectService> service_;
  BlockRecord record_;
  ListLimits limits_;  // of each scan
  std::string prefix_;
  std::string object_;  // the last one read or written
};

}  // namespace pixii::kv
