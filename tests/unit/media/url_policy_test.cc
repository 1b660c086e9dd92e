#include "media/url_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pixii::media {
namespace {

using ::testing::HasSubstr;

std::string Checked(const SourcePolicy& policy, std::string_view url) {
  Result<HttpUrl> read = CheckUrl(policy, url);
  if (read) {
    return read->Text();
  }
  EXPECT_EQ(read.error().code(), Code::kInvalidArgument);
  EXPECT_EQ(read.error().param(), "url");
  return "refused: " + read.error().detail();
}

TEST(UrlPolicy, PublicHttpsIsWrittenAnewFromWhatWasRead) {
  const SourcePolicy policy;
  EXPECT_EQ(Checked(policy, "https://Example.COM/a/b.png?x=1&y=%20#part"),
            "https://example.com/a/b.png?x=1&y=%20");
  EXPECT_EQ(Checked(policy, "HTTPS://example.com"), "https://example.com/");
  EXPECT_EQ(Checked(policy, "https://example.com?q"), "https://example.com/?q");
  EXPECT_EQ(Checked(policy, "https://example.com:443/"), "https://example.com/");
  EXPECT_EQ(Checked(policy, "https://8.8.8.8/x"), "https://8.8.8.8/x");
  EXPECT_EQ(Checked(policy, "https://[2606:4700::1111]/x"), "https://[2606:4700::1111]/x");
}

TEST(UrlPolicy, EverythingElseIsRefusedByName) {
  const SourcePolicy policy;
  const std::pair<const char*, const char*> cases[] = {
      {"http://example.com/", "http is for internal hosts"},
      {"ftp://example.com/", "scheme \"ftp\""},
      {"gopher://example.com/", "scheme \"gopher\""},
      {"file:///etc/passwd", "scheme \"file\""},
      {"//example.com/", "scheme"},
      {"example.com", "scheme"},
      {"https:example.com", "no host"},
      {"https:/example.com", "no host"},
      {"https://", "0 bytes"},
      {"https:///path", "0 bytes"},
      {"https://user@example.com/", "user or a password"},
      {"https://user:secret@example.com/", "user or a password"},
      {"https://allowed.example@127.0.0.1/", "user or a password"},
      {"https://allowed.example\\@127.0.0.1/", "must escape"},
      {"https://example.com\\.evil.test/", "must escape"},
      {"https://exa mple.com/", "must escape"},
      {"https://example.com/\r\nHost: x", "must escape"},
      {"https://ex\xc3\xa4mple.com/", "must escape"},
      {"https://example.com:8443/", "port 8443"},
      {"https://example.com:0/", "no port"},
      {"https://example.com:99999/", "no port"},
      {"https://example.com:/", "no port"},
      {"https://example.com:44a/", "no port"},
      {"https://[::1", "closing bracket"},
      {"https://[::1]x/", "no port"},
      {"https://[127.0.0.1]/", "no IPv6 address"},
      {"https://[fe80::1%25eth0]/", "no IPv6 address"},
      {"https://a..b/", "no host name"},
      {"https://exam%70le.com/", "no host name"},
      {"https://example.com./", "dot"},
      {"https://2130706433/", "no address of four"},
      {"https://0x7f000001/", "no address of four"},
      {"https://0x7f.1/", "no address of four"},
      {"https://127.1/", "no address of four"},
      {"https://0177.0.0.1/", "no address of four"},
      {"https://127.0.0.01/", "no address of four"},
      {"https://127.0.0.1/", "not public"},
      {"https://10.1.2.3/", "not public"},
      {"https://169.254.169.254/latest/meta-data/", "not public"},
      {"https://[::1]/", "not public"},
      {"https://[::ffff:127.0.0.1]/", "not public"},
      {"https://[::ffff:8.8.8.8]/", "not public"},
      {"https://[64:ff9b::7f00:1]/", "not public"},
      {"https://[2002:7f00:1::]/", "not public"},
      {"https://localhost/", "not public"},
      {"https://LOCALHOST/", "not public"},
      {"https://a.localhost/", "not public"},
      {"https://metadata.google.internal/", "not public"},
      {"https://metadata/", "not public"},
      {"https://kubernetes.default.svc/", "not public"},
  };
  for (const auto& [url, why] : cases) {
    EXPECT_THAT(Checked(policy, url), HasSubstr(why)) << url;
    EXPECT_THAT(Checked(policy, url), HasSubstr("refused")) << url;
  }
  EXPECT_THAT(Checked(policy, "https://example.com/" + std::string(kUrlSizeMax, 'a')),
              HasSubstr("more than 8192"));
  EXPECT_LT(Checked(policy, "https://" + std::string(8'000, '.')).size(), 300U);
}

TEST(UrlPolicy, HostsAndSwitchesOfTheOperator) {
  SourcePolicy policy{.hosts = {"cdn.example", ".images.example"}};
  EXPECT_EQ(Checked(policy, "https://cdn.example/"), "https://cdn.example/");
  EXPECT_EQ(Checked(policy, "https://a.images.example/"), "https://a.images.example/");
  EXPECT_THAT(Checked(policy, "https://images.example/"), HasSubstr("not one of the allowed"));
  EXPECT_THAT(Checked(policy, "https://evilcdn.example/"), HasSubstr("not one of the allowed"));
  policy.internal_hosts = {"store"};
  EXPECT_EQ(Checked(policy, "http://store:9000/x"), "http://store:9000/x");
  policy = {.allow_internal = true, .hosts = {}};
  EXPECT_EQ(Checked(policy, "http://127.0.0.1:8000/"), "http://127.0.0.1:8000/");
  EXPECT_EQ(Checked(policy, "http://[::1]:80/"), "http://[::1]/");
  EXPECT_THAT(Checked(policy, "http://0x7f.1/"), HasSubstr("no address of four"));
  EXPECT_THAT(Checked({.urls = false, .hosts = {}}, "https://example.com/"),
              HasSubstr("fetches nothing"));
}

TEST(UrlPolicy, ListsOfHostsAreReadStrictly) {
  using ::testing::ElementsAre;
  EXPECT_THAT(*ReadHosts("media-hosts", ""), ElementsAre());
  EXPECT_THAT(*ReadHosts("media-hosts", "CDN.example,.images.example,10.0.0.1,fd00::1"),
              ElementsAre("cdn.example", ".images.example", "10.0.0.1", "fd00::1"));
  for (const auto& [list, wrong] : {std::pair("*.x", "\"*.x\""),
                                    {"a.example,", "\"\""},
                                    {",a.example", "\"\""},
                                    {"a,,b", "\"\""},
                                    {".", "\".\""},
                                    {"..x", "\"..x\""},
                                    {"a.example.", "\"a.example.\""},
                                    {"a b", "\"a b\""},
                                    {"https://a", "\"https://a\""},
                                    {"a:80", "\"a:80\""},
                                    {".10.0.0.1", "\".10.0.0.1\""},
                                    {"127.1", "\"127.1\""}}) {
    const auto read = ReadHosts("media-hosts", list);
    ASSERT_FALSE(read.has_value()) << list;
    EXPECT_EQ(read.error().param(), "media-hosts");
    EXPECT_THAT(read.error().detail(), HasSubstr(wrong)) << list;
  }
}

TEST(UrlPolicy, OneAddressThatIsNotPublicIsEnough) {
  const SourcePolicy policy;
  EXPECT_TRUE(CheckAddresses(policy, "x.example", {"8.8.8.8", "2606:4700::1111"}));
  for (const char* inside : {"0.0.0.0",
                             "10.0.0.1",
                             "100.64.0.1",
                             "100.127.255.255",
                             "127.0.0.1",
                             "127.255.255.254",
                             "169.254.169.254",
                             "172.16.0.1",
                             "172.31.255.255",
                             "192.0.0.1",
                             "192.0.2.1",
                             "192.88.99.1",
                             "192.168.1.1",
                             "198.18.0.1",
                             "198.19.255.255",
                             "198.51.100.1",
                             "203.0.113.1",
                             "224.0.0.1",
                             "240.0.0.1",
                             "255.255.255.255",
                             "::",
                             "::1",
                             "::ffff:8.8.8.8",
                             "::ffff:127.0.0.1",
                             "::7f00:1",
                             "64:ff9b::808:808",
                             "64:ff9b:1::1",
                             "100::1",
                             "2001::1",
                             "2001:db8::1",
                             "2002:808:808::1",
                             "3fff::1",
                             "5f00::1",
                             "fc00::1",
                             "fd12::1",
                             "fe80::1",
                             "fec0::1",
                             "ff02::1",
                             "no address"}) {
    Result<void> checked = CheckAddresses(policy, "x.example", {"8.8.8.8", inside});
    ASSERT_FALSE(checked.has_value()) << inside;
    EXPECT_EQ(checked.error().detail(),
              "media URL is refused: an address of its host \"x.example\" is not public");
    EXPECT_TRUE(CheckAddresses({.internal_hosts = {"x.example"}}, "x.example", {inside}));
  }
  for (const char* outside :
       {"1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0",
        "198.17.255.255", "198.20.0.0", "223.255.255.255", "2001:200::1", "2a00::1", "3ffe::1"}) {
    EXPECT_TRUE(CheckAddresses(policy, "x.example", {outside})) << outside;
  }
  EXPECT_FALSE(CheckAddresses(policy, "x.example", {}));
}

TEST(UrlPolicy, RedirectsAreCheckedAsTheirOwnUrls) {
  const SourcePolicy policy{.internal_hosts = {"store"}};
  const HttpUrl from = *CheckUrl(policy, "https://example.com/a/b?c=d");
  const auto follow = [&](std::string_view location) {
    Result<HttpUrl> to = CheckRedirect(policy, from, location);
    return to ? to->Text() : "refused: " + to.error().detail();
  };
  EXPECT_EQ(follow("https://other.example/x"), "https://other.example/x");
  EXPECT_EQ(follow("//other.example/x"), "https://other.example/x");
  EXPECT_EQ(follow("/x?y"), "https://example.com/x?y");
  EXPECT_EQ(follow("x"), "https://example.com/a/x");
  EXPECT_EQ(follow("../x"), "https://example.com/a/../x");
  EXPECT_EQ(follow("?y"), "https://example.com/a/b?y");
  EXPECT_EQ(follow("/x:y"), "https://example.com/x:y");
  EXPECT_THAT(follow("https://127.0.0.1/"), HasSubstr("not public"));
  EXPECT_THAT(follow("//169.254.169.254/"), HasSubstr("not public"));
  EXPECT_THAT(follow("file:///etc/passwd"), HasSubstr("scheme"));
  EXPECT_THAT(follow("http://example.com/"), HasSubstr("http is for internal hosts"));
  EXPECT_THAT(follow("http://store/"), HasSubstr("from https to http"));
  EXPECT_THAT(follow("//user@example.com/"), HasSubstr("user or a password"));
  EXPECT_THAT(follow("/a b"), HasSubstr("must escape"));
  EXPECT_THAT(follow(""), HasSubstr("nowhere"));
}

TEST(UrlPolicy, DataUrlsAreDecodedWithinTheirLimit) {
  const SourcePolicy policy{.data_bytes_max = 6};
  const auto decode = [&](std::string_view url) {
    Result<std::string> bytes = DecodeDataUrl(policy, url);
    return bytes ? *bytes : bytes.error().ToString();
  };
  EXPECT_EQ(decode("data:image/png;base64,aGVsbG8="), "hello");
  EXPECT_EQ(decode("data:image/png;base64,aGVsbG8"), "hello") << "without its padding";
  EXPECT_EQ(decode("data:image/png;base64,aGVs\r\n bG8="), "hello");
  EXPECT_EQ(decode("DATA:;Base64,aGVsbG8="), "hello");
  EXPECT_EQ(decode("data:;base64,_-A"), "\xff\xe0");
  EXPECT_EQ(decode("data:;base64,"), "");
  EXPECT_EQ(decode("data:;base64,aGVsbG8h"), "hello!");
  EXPECT_THAT(decode("data:;base64,aGVsbG8hIQ"), HasSubstr("TooLarge"));
  EXPECT_THAT(decode("data:;base64," + std::string(100'000, 'A')),
              HasSubstr("75000 bytes, more than 6"));
  EXPECT_THAT(decode("data:image/png,hello"), HasSubstr("not in base64"));
  EXPECT_THAT(decode("data:image/png;base64"), HasSubstr("it is no data:"));
  EXPECT_THAT(decode("data:;base64,aGVs!"), HasSubstr("byte 4"));
  EXPECT_THAT(decode("data:;base64,aA==aA"), HasSubstr("byte 4"));
  EXPECT_THAT(decode("data:video/jpeg;base64,aGVs,aGVs"), HasSubstr("byte 4"));
  EXPECT_THAT(decode("data:;base64,aGVsb"), HasSubstr("within a byte"));
}

TEST(UrlPolicy, FileUrlsArePaths) {
  EXPECT_EQ(PathOfFileUrl("file:///a/b%20c").value(), "/a/b c");
  EXPECT_EQ(PathOfFileUrl("file:/a").value(), "/a");
  EXPECT_EQ(PathOfFileUrl("FILE://localhost/a").value(), "/a");
  for (const char* url : {"file://host/a", "file:a", "file:", "file:///a%2", "file:///a%zz",
                          "file:///a%00b", "http://x/"}) {
    EXPECT_FALSE(PathOfFileUrl(url).has_value()) << url;
  }
}

}  // namespace
}  // namespace pixii::media
