#include "base/mac.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace pixii {
namespace {

std::string Hex(const Mac& mac) {
  std::string out;
  for (const std::byte byte : mac) {
    constexpr char kDigits[] = "0123456789abcdef";
    out += kDigits[static_cast<unsigned>(byte) >> 4U];
    out += kDigits[static_cast<unsigned>(byte) & 15U];
  }
  return out;
}

// RFC 4231, test cases 1 and 2.
TEST(Mac, IsHmacSha256) {
  const std::vector<std::byte> key(20, std::byte{0x0b});
  EXPECT_EQ(Hex(HmacSha256(key, "Hi There")),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  const std::string jefe = "Jefe";
  EXPECT_EQ(Hex(HmacSha256(std::as_bytes(std::span(jefe)), "what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

TEST(Mac, EveryByteCounts) {
  const Mac mac = HmacSha256({}, "x");
  EXPECT_TRUE(SameMac(mac, mac));
  for (std::size_t i = 0; i < mac.size(); ++i) {
    Mac other = mac;
    other[i] ^= std::byte{1};
    EXPECT_FALSE(SameMac(mac, other));
  }
}

}  // namespace
}  // namespace pixii
