#include "rt/ip_address.h"

#include <gtest/gtest.h>

namespace pixii::rt {
namespace {

TEST(IpAddress, OnlyTheStrictFormsAreAddresses) {
  for (const char* text : {"1.2.3.4", "255.255.255.255", "::1", "2001:db8::7", "::ffff:1.2.3.4"}) {
    ASSERT_TRUE(ParseIpAddress(text)) << text;
    EXPECT_EQ(IpText(*ParseIpAddress(text)), text);
  }
  for (const char* text : {"", "1.2.3", "1.2.3.4.5", "01.2.3.4", "0x7f.0.0.1", "2130706433",
                           "1.2.3.256", "fe80::1%eth0", "[::1]", "localhost", "1.2.3.4 "}) {
    EXPECT_FALSE(ParseIpAddress(text)) << text;
  }
}

TEST(IpAddress, MappedAndPlainFormsHaveTheSameBytes) {
  EXPECT_EQ(ParseIpAddress("1.2.3.4")->bytes, ParseIpAddress("::ffff:1.2.3.4")->bytes);
  EXPECT_TRUE(ParseIpAddress("1.2.3.4")->v4);
  EXPECT_FALSE(ParseIpAddress("::ffff:1.2.3.4")->v4);
}

}  // namespace
}  // namespace pixii::rt
