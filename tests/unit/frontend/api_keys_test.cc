#include "frontend/api_keys.h"

#include <gtest/gtest.h>

namespace pixii::frontend {
namespace {

TEST(ApiKeys, KnowsItsKeysAndNoOthers) {
  auto keys = ApiKeys::Parse("# ours\nfirst-key-0001\r\n\n  second-key-0002\n");
  ASSERT_TRUE(keys) << keys.error().ToString();
  EXPECT_FALSE(keys->open());
  auto first = keys->Authenticate("Bearer first-key-0001");
  auto second = keys->Authenticate("bearer second-key-0002");
  ASSERT_TRUE(first && second);
  EXPECT_NE(*first, *second) << "tenants of different keys must not share a cache";
  EXPECT_EQ(first->find("first"), std::string::npos);
  for (const char* wrong :
       {"Bearer first-key-000", "Bearer first-key-00011", "Bearer ", "Basic first-key-0001", ""}) {
    EXPECT_FALSE(keys->Authenticate(wrong)) << wrong;
  }
  EXPECT_FALSE(keys->Authenticate(std::nullopt));
}

TEST(ApiKeys, WithoutKeysEverybodyIsTheEmptyTenant) {
  EXPECT_EQ(ApiKeys().Authenticate(std::nullopt), "");
}

TEST(ApiKeys, RefusesFilesThatWouldLockEverybodyOutOrLetTooManyIn) {
  EXPECT_FALSE(ApiKeys::Parse(""));
  EXPECT_FALSE(ApiKeys::Parse("# only a comment\n"));
  auto bad = ApiKeys::Parse("good-key-0001\nwith space\n");
  ASSERT_FALSE(bad);
  EXPECT_NE(bad.error().detail().find("line 2"), std::string::npos);
  EXPECT_FALSE(ApiKeys::Parse("short\n"));
}

}  // namespace
}  // namespace pixii::frontend
