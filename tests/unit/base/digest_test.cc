#include "base/digest.h"

#include <gtest/gtest.h>

namespace pixii {
namespace {

// Vectors: FIPS 180-2 appendix B.1 and A.1.
TEST(Digest, KnownVectors) {
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  Digest sha1(Digest::Kind::kSha1);
  sha1.Update("a");
  sha1.Update("bc");
  EXPECT_EQ(sha1.FinishHex(), "a9993e364706816aba3e25717850c26c9cd0d89d");
  Digest bytes(Digest::Kind::kSha1);
  bytes.Update("abc");
  EXPECT_EQ(bytes.FinishBytes(),
            "\xa9\x99\x3e\x36\x47\x06\x81\x6a\xba\x3e\x25\x71\x78\x50\xc2\x6c\x9c\xd0\xd8"
            "\x9d");
}

}  // namespace
}  // namespace pixii
