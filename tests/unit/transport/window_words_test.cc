#include "transport/window_words.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <tuple>

#include "rt/random.h"

namespace pixii::transport {
namespace {

const fabric_abi::Library& NoLibrary() {
  static const fabric_abi::Library library{.drop_key = [](fabric_abi::Key* /*key*/) {}};
  return library;
}

std::shared_ptr<RemoteRegion> MakeRegion(std::uint64_t key, std::uint64_t window_bytes) {
  auto region = std::make_shared<RemoteRegion>(NoLibrary(), static_cast<RegionKey>(key));
  region->size_bytes = 1 << 24;
  region->window_bytes = window_bytes;
  region->words_base = key << 32U;
  region->words_count = region->size_bytes / window_bytes;
  return region;
}

TEST(WindowWords, OneClosedWindowOfManyIsFoundWhereverItIs) {
  constexpr std::uint64_t kSeed = 31;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  rt::Random random(kSeed);
  const std::shared_ptr<RemoteRegion> regions[] = {MakeRegion(9, 4096), MakeRegion(4, 512)};
  for (int round = 0; round < 300; ++round) {
    std::vector<Pair> pairs;
    std::vector<Fetch::Part> parts;
    std::map<std::tuple<std::uint64_t, std::uint64_t>, std::uint64_t> words;  // of the peer
    for (std::uint64_t i = 1 + random.Below(40); i > 0; --i) {
      const std::shared_ptr<RemoteRegion>& region = regions[random.Below(2)];
      const std::uint64_t size = 1 + random.Below(random.Chance(0.1) ? 1 << 22U : 10'000);
      const std::uint64_t offset = random.Below(region->size_bytes - size);
      pairs.push_back(
          {.local = nullptr,
           .remote = {
               .region = region->key, .offset = offset, .size_bytes = size, .generation = 77}});
      parts.emplace_back().region = region;
      for (std::uint64_t window = offset / region->window_bytes;
           window <= (offset + size - 1) / region->window_bytes; ++window) {
        words[{static_cast<std::uint64_t>(region->key), window}] = PackWord(77, Access::kRead);
      }
    }
    WindowWords looked(pairs, parts);
    const auto fetch = [&] {
      for (const Fetch::Part& part : looked.Parts()) {
        for (std::uint64_t i = 0; i < part.size_bytes; i += 8) {
          const std::uint64_t window = (part.from - part.region->words_base + i) / 8;
          const auto found = words.find({static_cast<std::uint64_t>(part.region->key), window});
          const std::uint64_t word = found == words.end() ? 0 : found->second;
          std::memcpy(part.to + i, &word, sizeof(word));
        }
      }
    };
    fetch();
    EXPECT_EQ(looked.FirstStale(), nullptr);
    const auto closed =
        std::next(words.begin(), static_cast<std::ptrdiff_t>(random.Below(words.size())));
    const std::uint64_t others[] = {0, PackWord(78, Access::kRead), PackWord(77, Access::kWrite)};
    closed->second = others[random.Below(3)];
    fetch();
    const Descriptor* stale = looked.FirstStale();
    ASSERT_NE(stale, nullptr);
    const RemoteRegion& region = stale->region == regions[0]->key ? *regions[0] : *regions[1];
    EXPECT_EQ(static_cast<std::uint64_t>(stale->region), std::get<0>(closed->first));
    EXPECT_LE(stale->offset / region.window_bytes, std::get<1>(closed->first));
    EXPECT_GE((stale->offset + stale->size_bytes - 1) / region.window_bytes,
              std::get<1>(closed->first));
  }
}

}  // namespace
}  // namespace pixii::transport
