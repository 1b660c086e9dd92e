#include "transport/window_words.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <utility>

namespace pixii::transport {

namespace {

constexpr std::uint64_t kWordsPerRun = 512;

/// First and last window that the bytes touch.
std::pair<std::uint64_t, std::uint64_t> WindowsOf(const RemoteRegion& region,
                                                  const Descriptor& descriptor) {
  return {descriptor.offset / region.window_bytes,
          (descriptor.offset + descriptor.size_bytes - 1) / region.window_bytes};
}

}  // namespace

WindowWords::WindowWords(std::span<const Pair> pairs, std::span<const Fetch::Part> parts)
    : pairs_(pairs) {
  std::vector<std::size_t> order(pairs.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, {}, [&](std::size_t i) {
    return std::pair(pairs[i].remote.region, pairs[i].remote.offset);
  });
  std::size_t count = 0;
  for (const std::size_t i : order) {
    const std::shared_ptr<const RemoteRegion>& region = parts[i].region;
    const auto [first, last] = WindowsOf(*region, pairs[i].remote);
    const bool joins = !runs_.empty() && runs_.back().region == region &&
                       last + 1 - runs_.back().first <= kWordsPerRun;
    if (!joins) {
      runs_.push_back({.region = region, .first = first, .count = 0, .at = count});
    }
    Run& run = runs_.back();
    const std::uint64_t wanted = std::max(run.count, last + 1 - run.first);
    count += wanted - run.count;
    run.count = wanted;
  }
  words_.resize(count);
}

std::vector<Fetch::Part> WindowWords::Parts() {
  std::vector<Fetch::Part> parts;
  for (const Run& run : runs_) {
    parts.push_back({.to = reinterpret_cast<std::byte*>(words_.data() + run.at),
                     .size_bytes = run.count * sizeof(std::uint64_t),
                     .from = run.region->words_base + run.first * sizeof(std::uint64_t),
                     .key = run.region->words,
                     .region = run.region,
                     .memory = nullptr,
                     .window = nullptr,
                     .descriptor = {}});
  }
  return parts;
}

const Descriptor* WindowWords::FirstStale() const {
  for (const Pair& pair : pairs_) {
    // The last run that begins no later is of this region and goes as far: so they were cut.
    const auto behind = std::ranges::partition_point(runs_, [&](const Run& run) {
      return std::pair(run.region->key, run.first) <=
             std::pair(pair.remote.region, pair.remote.offset / run.region->window_bytes);
    });
    const Run& run = *std::prev(behind);
    const auto [first, last] = WindowsOf(*run.region, pair.remote);
    const auto is_open = [&](std::uint64_t word) {
      return word >> 2U == pair.remote.generation &&
             (word & static_cast<std::uint64_t>(Access::kRead)) != 0;
    };
    const auto words = std::span(words_).subspan(run.at, run.count);
    if (!std::ranges::all_of(words.subspan(first - run.first, last + 1 - first), is_open)) {
      return &pair.remote;
    }
  }
  return nullptr;
}

}  // namespace pixii::transport
