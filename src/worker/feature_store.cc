#include "worker/feature_store.h"

#include <cstring>
#include <utility>

namespace pixii::worker {

namespace {

constexpr std::uint64_t kGeneration = 1;  // regions are never used twice, nor their keys

}  // namespace

// Once the agent is gone nobody reads any more, and the memory may go, too.
FeatureStore::~FeatureStore() { agent_.reset(); }

std::optional<std::string> FeatureStore::Pin(const std::string& digest) {
  const auto found = by_digest_.find(digest);
  if (found == by_digest_.end()) {
    return std::nullopt;
  }
  entries_.splice(entries_.begin(), entries_, found->second);
  Entry& entry = *found->second;
  if (entry.pins++ == 0) {
    pinned_bytes_ += entry.bytes.size();
  }
  return entry.record;
}

void FeatureStore::Unpin(const std::string& digest) {
  const auto found = by_digest_.find(digest);
  if (found != by_digest_.end() && --found->second->pins == 0) {
    pinned_bytes_ -= found->second->bytes.size();
    Trim();
  }
}

Result<void> FeatureStore::Put(const std::string& digest, const model::VisionFeatures& features) {
  if (by_digest_.contains(digest)) {
    return {};
  }
  const std::vector<float> packed = model::PackFeatures(features);
  const std::size_t size_bytes = packed.size() * sizeof(float);
  Entry entry;
  entry.digest = digest;
  if (options_.shares_memory) {
    PX_TRY(rt::MemoryFile file, rt::MemoryFile::Create(size_bytes, rt::Sharing::kOthersRead));
    entry.file = std::make_shared<const rt::MemoryFile>(std::move(file));
    entry.bytes = entry.file->bytes();
  } else {
    entry.heap.resize(size_bytes);
    entry.bytes = entry.heap;
  }
  std::memcpy(entry.bytes.data(), packed.data(), size_bytes);
  PX_CHECK_OK(Expose(entry, static_cast<std::uint32_t>(features.rows)));
  size_bytes_ += size_bytes;
  entries_.push_front(std::move(entry));
  by_digest_.emplace(digest, entries_.begin());
  return {};
}

Result<void> FeatureStore::Expose(Entry& entry, std::uint32_t rows) {
  PX_TRY(entry.region, agent_->Register(entry.bytes, {.window_bytes = 0, .file = entry.file}));
  PX_CHECK_OK(
      agent_->Open(entry.region, {.first = 0, .count = 1}, kGeneration, transport::Access::kRead));
  const Hash128 sum = FeatureSum(entry.digest, entry.bytes, key_);
  entry.record = EncodeFeatureRecord({.agent = agent_->Metadata(),
                                      .region = static_cast<std::uint64_t>(entry.region),
                                      .generation = kGeneration,
                                      .digest = entry.digest,
                                      .rows = rows,
                                      .row_size = options_.own.row_size,
                                      .model_fingerprint = options_.own.model_fingerprint,
                                      .numerics_id = options_.own.numerics_id,
                                      .sum_high = sum.high,
                                      .sum_low = sum.low},
                                     key_);
  return {};
}

void FeatureStore::Clear() {
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const auto next = std::next(entry);
    if (entry->pins == 0) {
      size_bytes_ -= entry->bytes.size();
      by_digest_.erase(entry->digest);
      Drop(std::move(*entry));
      entries_.erase(entry);
    }
    entry = next;
  }
}

void FeatureStore::Trim() {
  for (auto entry = entries_.end();
       entry != entries_.begin() && size_bytes_ - pinned_bytes_ > options_.bytes_max;) {
    --entry;
    if (entry->pins == 0) {
      size_bytes_ -= entry->bytes.size();
      by_digest_.erase(entry->digest);
      Drop(std::move(*entry));
      entry = entries_.erase(entry);
    }
  }
}

// Memory goes when the agent knows it no more.
void FeatureStore::Drop(Entry entry) {
  closing_.push_back(std::move(entry));
  std::erase_if(closing_,
                [this](const Entry& one) { return agent_->Deregister(one.region).has_value(); });
}

}  // namespace pixii::worker
