#include "rt/resolve.h"

#include <gtest/gtest.h>

namespace pixii::rt {
namespace {

TEST(ResolveHost, NumbersAreThemselvesAndNamesGetOne) {
  EXPECT_EQ(ResolveHost("127.0.0.1").value(), "127.0.0.1");
  EXPECT_EQ(ResolveHost("::1").value(), "::1");
  const auto local = ResolveHost("localhost");
  ASSERT_TRUE(local) << local.error().ToString();
  EXPECT_TRUE(*local == "127.0.0.1" || *local == "::1");
}

TEST(ResolveHost, AllAddressesBeginWithTheOne) {
  const auto all = ResolveAll("localhost");
  ASSERT_TRUE(all) << all.error().ToString();
  EXPECT_EQ(all->front(), ResolveHost("localhost").value());
}

TEST(ResolveHost, WhatIsNotKnownIsNamed) {
  const auto nowhere = ResolveHost("no such host");
  ASSERT_FALSE(nowhere);
  EXPECT_EQ(nowhere.error().code(), Code::kUnavailable);
  EXPECT_NE(nowhere.error().detail().find("no such host"), std::string::npos);
}

}  // namespace
}  // namespace pixii::rt
