// Features of what was shown lately, by the digest of its pixels: the same picture is not encoded
// twice. Least recently used first out.
//
// Thread: the engine thread.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "model/sequence_media.h"

namespace pixii::engine {

std::uint64_t SizeBytes(const model::VisionFeatures& features);

class MediaCache final {
 public:
  explicit MediaCache(std::uint64_t bytes_max) : bytes_max_(bytes_max) {}

  /// Null: they are not there.
  std::shared_ptr<const model::VisionFeatures> Find(const std::string& digest);
  /// Features that take more than the budget are not kept.
  void Put(const std::string& digest, std::shared_ptr<const model::VisionFeatures> features);

  std::uint64_t size_bytes() const { return size_bytes_; }

  std::size_t count() const { return entries_.size(); }

  void Clear();

 private:
  struct Entry {
    std::string digest;
    std::shared_ptr<const model::VisionFeatures> features;
  };

  std::uint64_t bytes_max_;
  std::uint64_t size_bytes_ = 0;
  std::list<Entry> entries_;  // latest first
  std::unordered_map<std::string, std::list<Entry>::iterator> by_digest_;
};

}  // namespace pixii::engine
