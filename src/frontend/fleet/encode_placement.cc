#include "frontend/fleet/encode_placement.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "base/hash.h"

namespace pixii::frontend {

namespace {

std::uint64_t WeightOf(std::string_view digest, control::InstanceId instance) {
  return Hash64(std::as_bytes(std::span<const char>(digest)), static_cast<std::uint64_t>(instance));
}

}  // namespace

std::optional<control::InstanceId> PlacePicture(std::string_view digest,
                                                std::span<const EncodeCandidate> candidates) {
  std::uint64_t total = 1;  // the picture itself
  for (const EncodeCandidate& one : candidates) {
    total += one.load;
  }
  const double fair = static_cast<double>(total) / static_cast<double>(candidates.size());
  const double most = std::ceil(kEncodeSpread * fair);  // some worker has less
  std::optional<control::InstanceId> best;
  std::uint64_t best_weight = 0;
  for (const EncodeCandidate& one : candidates) {
    const std::uint64_t weight = WeightOf(digest, one.instance);
    if (one.load + 1 <= most && (!best || weight > best_weight)) {
      best = one.instance;
      best_weight = weight;
    }
  }
  return best;
}

}  // namespace pixii::frontend
