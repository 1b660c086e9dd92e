#include "base/stream_hash.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/hash.h"

namespace pixii {
namespace {

TEST(StreamHash, OfPiecesIsThatOfTheWhole) {
  std::vector<std::byte> bytes(5'000);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(i * 31 + i / 256);
  }
  StreamHash64 hash;
  for (const std::size_t size : {0UL, 1UL, 16UL, 200UL, 240UL, 241UL, 1'000UL, 5'000UL}) {
    for (const std::size_t piece : {1UL, 7UL, 64UL, 1'024UL}) {
      for (const std::uint64_t seed : {0ULL, 1ULL, 0xFFFFFFFFFFFFFFFFULL}) {
        hash.Reset(seed);
        for (std::size_t at = 0; at < size; at += piece) {
          hash.Update(std::span(bytes).subspan(at, std::min(piece, size - at)));
        }
        EXPECT_EQ(hash.Value(), Hash64(std::span(bytes).first(size), seed)) << size << " " << piece;
      }
    }
  }
}

}  // namespace
}  // namespace pixii
