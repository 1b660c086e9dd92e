#include "wire/messages/media.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "base/assert.h"
#include "base/digest.h"

namespace pixii::wire {

namespace {

constexpr std::size_t kDigestBytes = 32;

}  // namespace

std::string MediaDigest(const MediaItem& item) {
  Digest digest(Digest::Kind::kSha256);
  digest.Update(fmt::format("pixii media 1: kind {} frames {} height {} width {} spf {} bytes {}\n",
                            static_cast<int>(item.kind), item.frames, item.height, item.width,
                            std::bit_cast<std::uint32_t>(item.seconds_per_frame),
                            item.pixels.size()));
  digest.Update(item.pixels);
  if (!item.features.empty()) {
    digest.Update(fmt::format("\nfeatures {} bytes {}\n", item.count, item.features.size()));
    digest.Update(item.features);
  }
  return digest.FinishBytes();
}

TokenId MediaToken(std::string_view digest, std::uint32_t index) {
  PX_ASSERT(digest.size() == kDigestBytes);
  // Eight words of the digest in turn; the round keeps equal words of one item apart.
  std::uint32_t word = 0;
  std::memcpy(&word, digest.data() + std::size_t{index % 8} * sizeof(word), sizeof(word));
  word += (index / 8) * 0x9E3779B9U;
  return kMediaTokenFirst |
         static_cast<TokenId>(word & (static_cast<std::uint32_t>(kMediaTokenFirst) - 1));
}

void PutMediaTokens(std::span<const MediaItem> media, std::span<TokenId> prompt) {
  for (const MediaItem& item : media) {
    for (std::uint32_t i = 0; i < item.count; ++i) {
      prompt[std::size_t{item.begin} + i] = MediaToken(item.digest, i);
    }
  }
}

}  // namespace pixii::wire
