#include "bench/server_url.h"

#include <gtest/gtest.h>

#include "rt/loop.h"

namespace pixii::bench {
namespace {

TEST(ServerUrlTest, UrlsAreReadWithAndWithoutTheirParts) {
  const auto whole = ParseServerUrl("http://127.0.0.1:8123/base/v1/");
  ASSERT_TRUE(whole);
  EXPECT_EQ(whole->HostField(), "127.0.0.1:8123");
  EXPECT_EQ(whole->base_path, "/base");
  EXPECT_FALSE(whole->tls);
  EXPECT_EQ(ParseServerUrl("127.0.0.1:80")->base_path, "");
  EXPECT_EQ(ParseServerUrl("http://some.host")->port, 80);
  const auto safe = ParseServerUrl("https://api.example.com/v1");
  ASSERT_TRUE(safe);
  EXPECT_TRUE(safe->tls);
  EXPECT_EQ(safe->port, 443);
  EXPECT_EQ(safe->HostField(), "api.example.com");
  EXPECT_EQ(ParseServerUrl("https://a:80")->HostField(), "a:80");
  EXPECT_EQ(ParseServerUrl("http://[::1]:9")->host, "::1");
  EXPECT_EQ(ParseServerUrl("http://[::1]:9")->HostField(), "[::1]:9");
  for (const char* wrong :
       {"ftp://a", "http:///v1", "http://a:0", "http://a:x", "http://a:70000"}) {
    EXPECT_FALSE(ParseServerUrl(wrong)) << wrong;
  }
}

TEST(ServerUrlTest, NamesBecomeAddressesAndAuthoritiesMustBeThere) {
  const auto loop = rt::MakeLoop();
  ASSERT_TRUE(loop);
  const auto named = Reach(*ParseServerUrl("http://localhost:81"), "", **loop);
  ASSERT_TRUE(named) << named.error().detail();
  EXPECT_EQ(named->address.port, 81);
  EXPECT_EQ(named->tls, nullptr);
  EXPECT_FALSE(Reach(*ParseServerUrl("https://localhost"), "/no/such/file", **loop));
}

}  // namespace
}  // namespace pixii::bench
