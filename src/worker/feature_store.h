// What a tower made of pictures, where other workers can read it: kept by what was seen, under a
// budget of bytes.
//
// Thread: one loop; its agent moves bytes on threads of its own. docs/formats/features.md
// Features that somebody was told of are pinned until he has had them or wants them no more; what
// nobody needs goes, least recently used first, once there is more of it than the budget.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/hash.h"
#include "base/result.h"
#include "engine/media_encoder.h"
#include "rt/memory_file.h"
#include "transport/agent.h"
#include "worker/feature_record.h"

namespace pixii::worker {

struct FeatureStoreOptions {
  FeatureTerms own;
  std::string key;              // the cluster's secret
  std::uint64_t bytes_max = 0;  // of features that nobody has pinned
  bool shares_memory = true;    // processes of this host can map what is kept
};

class FeatureStore final {
 public:
  FeatureStore(FeatureStoreOptions options, std::shared_ptr<transport::Agent> agent)
      : options_(std::move(options)), key_(options_.key), agent_(std::move(agent)) {}

  FeatureStore(const FeatureStore&) = delete;
  FeatureStore& operator=(const FeatureStore&) = delete;
  /// Pre: nothing is pinned, or the agent goes with it.
  ~FeatureStore();

  /// Pins what is kept of an item and gives its record; nothing: it is not here. Each pin is given
  /// back with Unpin.
  std::optional<std::string> Pin(const std::string& digest);
  void Unpin(const std::string& digest);

  /// Keeps `features`, unless the item's are here. Errors: kResourceExhausted.
  Result<void> Put(const std::string& digest, const model::VisionFeatures& features);

  /// What nobody has pinned goes as far as the budget wants it, as after each Unpin.
  void Trim();

  /// All that nobody has pinned goes.
  void Clear();

  std::uint64_t size_bytes() const { return size_bytes_; }

  std::uint64_t pinned_bytes() const { return pinned_bytes_; }

  std::size_t count() const { return entries_.size(); }

  const transport::Agent& agent() const { return *agent_; }

 private:
  struct Entry {
    std::string digest;
    std::shared_ptr<const rt::MemoryFile> file;  // null: the bytes are of the heap
    std::vector<std::byte> heap;
    std::span<std::byte> bytes;
    transport::RegionKey region{};
    std::string record;
    std::uint32_t pins = 0;
  };

  Result<void> Expose(Entry& entry, std::uint32_t rows);
  void Drop(Entry entry);

  FeatureStoreOptions options_;
  HashKey key_;
  std::shared_ptr<transport::Agent> agent_;
  std::list<Entry> entries_;  // latest first
  std::unordered_map<std::string, std::list<Entry>::iterator> by_digest_;
  std::vector<Entry> closing_;  // that the agent would not let go yet
  std::uint64_t size_bytes_ = 0;
  std::uint64_t pinned_bytes_ = 0;  // of these
};

}  // namespace pixii::worker
