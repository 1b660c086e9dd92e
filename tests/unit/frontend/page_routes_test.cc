// The web page at "/".
#include <array>

#include "frontend/page_asset.h"
#include "unit/frontend/frontend_fixture.h"

namespace pixii::frontend {
namespace {

using testing::FrontendTest;
using testing::Reply;

constexpr std::array<PageAsset, 2> kPage = {{
    {.path = "/",
     .content_type = "text/html; charset=utf-8",
     .etag = "\"1\"",
     .plain = "<html>",
     .gzip = "(small)"},
    {.path = "/page/a-b.js",
     .content_type = "text/javascript; charset=utf-8",
     .etag = "\"2\"",
     .plain = "code",
     .gzip = "(c)"},
}};

TEST_F(FrontendTest, ThePageComesCompressedToWhoTakesThat) {
  options.page = kPage;
  Start();
  Reply plain = Get("/");
  EXPECT_EQ(plain.status, 200);
  EXPECT_EQ(plain.body, "<html>");
  EXPECT_EQ(plain.Field("Content-Type"), "text/html; charset=utf-8");
  EXPECT_EQ(plain.Field("Cache-Control"), "no-cache");
  EXPECT_NE(plain.Field("Content-Security-Policy").find("default-src 'none'"),
            std::string_view::npos);
  Reply small = One("GET / HTTP/1.1\r\nHost: x\r\nAccept-Encoding: br, gzip\r\n\r\n");
  EXPECT_EQ(small.body, "(small)");
  EXPECT_EQ(small.Field("Content-Encoding"), "gzip");
  Reply script = Get("/page/a-b.js");
  EXPECT_EQ(script.body, "code");
  EXPECT_NE(script.Field("Cache-Control").find("immutable"), std::string_view::npos);
  EXPECT_EQ(Get("/page/a-c.js").status, 404);
}

TEST_F(FrontendTest, WhoHasThePageGetsItNotAgain) {
  options.page = kPage;
  Start();
  Reply reply = One("GET / HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"1\"\r\n\r\n");
  EXPECT_EQ(reply.status, 304);
  EXPECT_TRUE(reply.body.empty());
  EXPECT_EQ(One("GET / HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"0\"\r\n\r\n").status, 200);
}

TEST_F(FrontendTest, WithoutAPageTheRootSaysSo) {
  Start();
  Reply reply = Get("/");
  EXPECT_EQ(reply.status, 404);
  EXPECT_EQ(reply.Field("Content-Type"), "text/plain; charset=utf-8");
  EXPECT_NE(reply.body.find("built without npm"), std::string::npos);
}

TEST_F(FrontendTest, ThePageCanBeSwitchedOff) {
  options.page = kPage;
  options.disabled_endpoints = {"page"};
  Start();
  EXPECT_EQ(Get("/").status, 404);
  EXPECT_EQ(Get("/page/a-b.js").status, 404);
  EXPECT_EQ(Get("/health").status, 200);
}

}  // namespace
}  // namespace pixii::frontend
