#include "media/source.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "unit/media/loopback_server.h"

namespace pixii::media {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// A real client; names are known to the test alone.
struct Names {
  std::map<std::string, std::vector<std::string>> addresses;
  std::vector<std::string> asked;
};

Source MakeSource(SourcePolicy policy, Names& names) {
  return Source({.policy = std::move(policy),
                 .resolve = [&names](const std::string& host) -> Result<std::vector<std::string>> {
                   names.asked.push_back(host);
                   const auto found = names.addresses.find(host);
                   if (found == names.addresses.end()) {
                     return Fail(Code::kUnavailable, "no such host");
                   }
                   return found->second;
                 },
                 .make_client = rt::MakeCurlClient});
}

// cdn.test is an internal host of the operator's; all else must be public.
SourcePolicy FromCdn() { return {.internal_hosts = {"cdn.test"}, .time_max_ms = 60'000}; }

Names CdnNames() { return {.addresses = {{"cdn.test", {"127.0.0.1"}}}, .asked = {}}; }

std::map<std::string, CannedAnswer> NoAnswers(std::uint16_t /*port*/) { return {}; }

TEST(Source, FetchesFromTheAddressThatWasCheckedAndAsksForItOnce) {
  LoopbackServer server([](std::uint16_t) {
    return std::map<std::string, CannedAnswer>{{"/a.png?x=1", Ok("bytes of a")}};
  });
  Names names = CdnNames();
  const Source source = MakeSource(FromCdn(), names);
  const std::string url = fmt::format("http://CDN.test:{}/a.png?x=1#part", server.port());
  EXPECT_EQ(source.Get(url).value(), "bytes of a");
  EXPECT_EQ(names.asked, std::vector<std::string>{"cdn.test"});
  ASSERT_EQ(server.requests().size(), 1U);
  EXPECT_THAT(server.requests()[0], HasSubstr(fmt::format("Host: cdn.test:{}\r\n", server.port())));
  EXPECT_THAT(server.requests()[0], Not(HasSubstr("Accept-Encoding")));
  EXPECT_THAT(server.requests()[0], Not(HasSubstr("Authorization")));
}

TEST(Source, NothingThatIsNotPublicIsEverConnectedTo) {
  LoopbackServer canary(NoAnswers);
  Names names{.addresses = {{"inside.example", {"127.0.0.1"}},
                            {"both.example", {"93.184.216.34", "127.0.0.1"}},
                            {"mapped.example", {"::ffff:127.0.0.1"}},
                            {"six.example", {"::1"}},
                            {"none.example", {}}},
              .asked = {}};
  const Source source = MakeSource({}, names);
  for (const char* host : {"127.0.0.1",
                           "localhost",
                           "2130706433",
                           "0x7f.1",
                           "0177.0.0.1",
                           "127.1",
                           "0.0.0.0",
                           "[::1]",
                           "[::ffff:127.0.0.1]",
                           "[::]",
                           "inside.example",
                           "both.example",
                           "mapped.example",
                           "six.example",
                           "none.example",
                           "unknown.example",
                           "allowed.example\\@127.0.0.1",
                           "allowed.example@127.0.0.1",
                           "127.0.0.1#@allowed.example",
                           "169.254.169.254"}) {
    for (const char* form :
         {"http://{0}:{1}/pause", "https://{0}:{1}/pause", "https://{0}/pause"}) {
      const std::string url = fmt::format(fmt::runtime(form), host, canary.port());
      Result<std::string> bytes = source.Get(url);
      ASSERT_FALSE(bytes.has_value()) << url;
      EXPECT_EQ(bytes.error().code(), Code::kInvalidArgument) << url;
      EXPECT_EQ(bytes.error().param(), "url");
    }
  }
  for (const char* url : {"gopher://127.0.0.1/", "file:///etc/passwd", "ftp://127.0.0.1/", "", ":",
                          "https", "//127.0.0.1/"}) {
    EXPECT_EQ(source.Get(url).error().code(), Code::kInvalidArgument) << url;
  }
  EXPECT_EQ(canary.connections(), 0);
}

TEST(Source, ARedirectToAnInternalAddressIsNotFollowed) {
  LoopbackServer canary(NoAnswers);
  LoopbackServer server([&](std::uint16_t) {
    return std::map<std::string, CannedAnswer>{
        {"/number", RedirectTo(fmt::format("http://127.0.0.1:{}/", canary.port()))},
        {"/name", RedirectTo(fmt::format("http://inside.example:{}/", canary.port()))},
        {"/secure", RedirectTo("https://inside.example/")},
        {"/meta", RedirectTo("http://169.254.169.254/latest/meta-data/")},
        {"/file", RedirectTo("file:///etc/passwd")},
        {"/nowhere", CannedAnswer{.bytes = "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"}}};
  });
  Names names = CdnNames();
  names.addresses["inside.example"] = {"127.0.0.1"};
  const Source source = MakeSource(FromCdn(), names);
  for (const char* path : {"number", "name", "secure", "meta", "file", "nowhere"}) {
    Result<std::string> bytes =
        source.Get(fmt::format("http://cdn.test:{}/{}", server.port(), path));
    ASSERT_FALSE(bytes.has_value()) << path;
    EXPECT_EQ(bytes.error().code(), Code::kInvalidArgument) << path;
    EXPECT_THAT(bytes.error().detail(), HasSubstr("refused")) << path;
  }
  EXPECT_EQ(server.connections(), 6);
  EXPECT_EQ(canary.connections(), 0);
}

TEST(Source, RedirectsAreFollowedAFewTimes) {
  LoopbackServer server([](std::uint16_t port) {
    return std::map<std::string, CannedAnswer>{
        {"/1", RedirectTo("2")},
        {"/2", RedirectTo(fmt::format("//cdn.test:{}/3", port))},
        {"/3", RedirectTo(fmt::format("http://cdn.test:{}/end", port))},
        {"/end", Ok("found")},
        {"/loop", RedirectTo("/loop")}};
  });
  Names names = CdnNames();
  const Source source = MakeSource(FromCdn(), names);
  const std::string base = fmt::format("http://cdn.test:{}/", server.port());
  EXPECT_EQ(source.Get(base + "1").value(), "found");
  EXPECT_EQ(names.asked.size(), 4U) << "looked up and checked at every step";
  EXPECT_EQ(server.connections(), 4);
  EXPECT_EQ(source.Get(base + "loop").error().detail(),
            "media URL is refused: more than 3 redirects");
  EXPECT_EQ(server.connections(), 8);
}

TEST(Source, HostileServersHaveLimits) {
  LoopbackServer server([](std::uint16_t) {
    const std::string ok = "HTTP/1.1 200 OK\r\n";
    return std::map<std::string, CannedAnswer>{
        {"/claims", {.bytes = ok + "Content-Length: 10000000000\r\n\r\nx"}},
        {"/endless", {.bytes = ok + "\r\nx", .repeats = true}},
        {"/headers", {.bytes = ok + "X: x", .repeats = true}},
        {"/half", {.bytes = ok + "Content-Length: 10\r\n\r\nhello"}},
        {"/packed",
         {.bytes = ok + "Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b??"}},
        {"/old", {.bytes = "no HTTP at all\r\n\r\n"}},
        {"/wrong", {.bytes = "HTTP/1.1 500 No\r\nContent-Length: 6\r\n\r\nsecret"}}};
  });
  Names names = CdnNames();
  SourcePolicy policy = FromCdn();
  policy.bytes_max = 1'000;
  const Source source = MakeSource(policy, names);
  const auto get = [&](const std::string& path) {
    return source.Get(fmt::format("http://cdn.test:{}{}", server.port(), path));
  };
  for (const char* path : {"/claims", "/endless"}) {
    EXPECT_EQ(get(path).error().code(), Code::kTooLarge) << path;
    EXPECT_EQ(get(path).error().detail(), "media of \"cdn.test\" is larger than 1000 bytes");
  }
  EXPECT_FALSE(get("/headers").has_value());
  EXPECT_EQ(get("/half").error().detail(), "media of \"cdn.test\" cannot be fetched");
  EXPECT_EQ(get("/packed").value(), "\x1f\x8b??") << "nothing is unpacked";
  EXPECT_FALSE(get("/old").has_value());
  EXPECT_EQ(get("/wrong").error().detail(), "media of \"cdn.test\" is answered with status 500");
}

TEST(Source, AServerThatStallsIsLeftAtTheLimit) {
  LoopbackServer server([](std::uint16_t) {
    return std::map<std::string, CannedAnswer>{
        {"/silent", {.bytes = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx", .holds = true}}};
  });
  Names names = CdnNames();
  SourcePolicy policy = FromCdn();
  policy.time_max_ms = 50;
  Result<std::string> bytes =
      MakeSource(policy, names).Get(fmt::format("http://cdn.test:{}/silent", server.port()));
  ASSERT_FALSE(bytes.has_value());
  EXPECT_EQ(bytes.error().code(), Code::kDeadlineExceeded);
  EXPECT_EQ(bytes.error().detail(), "media of \"cdn.test\" did not arrive within 50 ms");
}

TEST(Source, AProxyOfTheEnvironmentIsNotUsed) {
  LoopbackServer proxy(NoAnswers);
  LoopbackServer server(
      [](std::uint16_t) { return std::map<std::string, CannedAnswer>{{"/a", Ok("direct")}}; });
  const std::string address = fmt::format("http://127.0.0.1:{}", proxy.port());
  for (const char* name : {"http_proxy", "https_proxy", "all_proxy"}) {
    ::setenv(name, address.c_str(), 1);
  }
  Names names = CdnNames();
  Result<std::string> bytes =
      MakeSource(FromCdn(), names).Get(fmt::format("http://cdn.test:{}/a", server.port()));
  for (const char* name : {"http_proxy", "https_proxy", "all_proxy"}) {
    ::unsetenv(name);
  }
  EXPECT_EQ(bytes.value_or("refused"), "direct");
  EXPECT_EQ(proxy.connections(), 0);
}

TEST(HttpClient, ConnectsToTheNamedAddressesAlone) {
  LoopbackServer canary(NoAnswers);
  const std::unique_ptr<rt::HttpClient> client = rt::MakeCurlClient({});
  rt::HttpFetchRequest request;
  request.url = fmt::format("http://127.0.0.1:{}/", canary.port());
  request.addresses = {"127.0.0.2"};
  EXPECT_FALSE(client->Fetch(request).has_value()) << "nobody listens there";
  EXPECT_EQ(canary.connections(), 0);
  request.addresses = {"127.0.0.1"};
  EXPECT_EQ(client->Fetch(request)->status, 404);
  EXPECT_EQ(canary.connections(), 1);
}

TEST(Source, FilesComeFromTheAllowedFolderAlone) {
  std::string folder = ::testing::TempDir() + "source_XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  std::filesystem::create_directory(folder + "/media");
  std::ofstream(folder + "/media/a b.png") << "a file";
  std::ofstream(folder + "/secret") << "secret";
  std::filesystem::create_symlink("../secret", folder + "/media/link");
  Names names;
  const Source source = MakeSource({.folder = folder + "/media", .bytes_max = 100}, names);
  EXPECT_EQ(source.Get("file://" + folder + "/media/a%20b.png").value(), "a file");
  for (const char* path : {"/media/link", "/secret", "/media/../secret", "/media/none"}) {
    EXPECT_EQ(source.Get("file://" + folder + path).error().detail(),
              "media URL is refused: the file is not inside the allowed folder")
        << path;
  }
  EXPECT_EQ(MakeSource({}, names).Get("file://" + folder + "/media/a%20b.png").error().detail(),
            "media URL is refused: this server has no folder that files may come from");
  std::filesystem::remove_all(folder);
}

TEST(Source, DataUrlsNeedNobody) {
  Names names;
  EXPECT_EQ(MakeSource({.urls = false}, names).Get("data:image/png;base64,aGVsbG8=").value(),
            "hello");
  EXPECT_TRUE(names.asked.empty());
}

}  // namespace
}  // namespace pixii::media
