#include "engine/media_cache.h"

#include <utility>

namespace pixii::engine {

std::uint64_t SizeBytes(const model::VisionFeatures& features) {
  return (features.rows_data.size() + features.layers_data.size()) * sizeof(float);
}

std::shared_ptr<const model::VisionFeatures> MediaCache::Find(const std::string& digest) {
  const auto found = by_digest_.find(digest);
  if (found == by_digest_.end()) {
    return nullptr;
  }
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->features;
}

void MediaCache::Put(const std::string& digest,
                     std::shared_ptr<const model::VisionFeatures> features) {
  const std::uint64_t bytes = SizeBytes(*features);
  if (bytes > bytes_max_ || by_digest_.contains(digest)) {
    return;
  }
  while (size_bytes_ + bytes > bytes_max_) {
    size_bytes_ -= SizeBytes(*entries_.back().features);
    by_digest_.erase(entries_.back().digest);
    entries_.pop_back();
  }
  entries_.push_front({digest, std::move(features)});
  by_digest_.emplace(digest, entries_.begin());
  size_bytes_ += bytes;
}

void MediaCache::Clear() {
  by_digest_.clear();
  entries_.clear();
  size_bytes_ = 0;
}

}  // namespace pixii::engine
