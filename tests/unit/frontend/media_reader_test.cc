// Placeholders of a rendered prompt become as many as what is shown takes.
#include "frontend/media_reader.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace pixii::frontend {
namespace {

constexpr TokenId kImage = 9;
constexpr TokenId kVideo = 8;
const MediaBounds kWide{.tokens_max = 100};

/// The URL's length is how many tokens it takes.
class CountingReader final : public MediaReader {
 public:
  std::optional<TokenId> Placeholder(wire::MediaKind kind) const override {
    return kind == wire::MediaKind::kImage ? kImage : kVideo;
  }

  Result<ReadMedia> Read(const MediaPart& part) const override {
    if (part.url == "bad") {
      return Fail(Code::kInvalidArgument, "is bad", part.where);
    }
    ReadMedia out;
    out.item.kind = part.kind;
    out.item.count = static_cast<std::uint32_t>(part.url.size());
    out.pixels = 10;
    ++*read_;
    return out;
  }

  std::uint32_t read() const { return *read_; }

 private:
  std::shared_ptr<std::uint32_t> read_ = std::make_shared<std::uint32_t>(0);
};

MediaPart Part(std::string url, wire::MediaKind kind = wire::MediaKind::kImage) {
  return {.kind = kind, .url = std::move(url), .where = "here"};
}

TEST(ShowMedia, EachPlaceholderBecomesWhatItsPartTakes) {
  const std::vector<TokenId> rendered = {1, kImage, 2, kVideo, kImage, 3};
  const std::vector<MediaPart> parts = {Part("xxx"), Part("xx", wire::MediaKind::kVideo),
                                        Part("x")};
  const Result<MediaPrompt> shown = ShowMedia(rendered, parts, CountingReader(), kWide);
  ASSERT_TRUE(shown) << shown.error().ToString();
  EXPECT_EQ(shown->tokens,
            (std::vector<TokenId>{1, kImage, kImage, kImage, 2, kVideo, kVideo, kImage, 3}));
  ASSERT_EQ(shown->media.size(), 3U);
  EXPECT_EQ(shown->media[0].begin, 1U);
  EXPECT_EQ(shown->media[1].begin, 5U);
  EXPECT_EQ(shown->media[2].begin, 7U);
}

TEST(ShowMedia, PlacesAndPartsMustAgree) {
  const CountingReader reader;
  const std::vector<MediaPart> one = {Part("x")};
  EXPECT_EQ(ShowMedia(std::vector<TokenId>{1, 2}, one, reader, kWide).error().param(), "here");
  EXPECT_EQ(ShowMedia(std::vector<TokenId>{kImage, kImage}, one, reader, kWide).error().param(),
            "messages");
  EXPECT_EQ(ShowMedia(std::vector<TokenId>{kVideo}, one, reader, kWide).error().code(),
            Code::kUnsupported);
  const std::vector<MediaPart> bad = {Part("bad")};
  EXPECT_EQ(ShowMedia(std::vector<TokenId>{kImage}, bad, reader, kWide).error().code(),
            Code::kInvalidArgument);
}

TEST(ShowMedia, WhatGoesPastABoundIsNotReadToItsEnd) {
  const std::vector<TokenId> rendered = {1, kImage, kImage, kImage, 2};
  const std::vector<MediaPart> parts = {Part("xxx"), Part("xxxx"), Part("xx")};
  const CountingReader by_tokens;
  const Result<MediaPrompt> long_one = ShowMedia(rendered, parts, by_tokens, {.tokens_max = 9});
  EXPECT_EQ(long_one.error().code(), Code::kTooLarge);
  EXPECT_EQ(by_tokens.read(), 2U);
  const CountingReader by_pixels;
  const Result<MediaPrompt> large =
      ShowMedia(rendered, parts, by_pixels, {.tokens_max = 100, .pixels_max = 19});
  EXPECT_EQ(large.error().code(), Code::kTooLarge);
  EXPECT_EQ(by_pixels.read(), 2U);
  const CountingReader nobody;
  const Result<MediaPrompt> gone =
      ShowMedia(rendered, parts, nobody,
                {.tokens_max = 100, .abandoned = [&] { return nobody.read() == 1; }});
  EXPECT_EQ(gone.error().code(), Code::kCancelled);
  EXPECT_EQ(nobody.read(), 1U);
}

TEST(ShowMedia, OneUrlIsReadOnce) {
  const std::vector<TokenId> rendered = {kImage, kImage, kImage};
  const std::vector<MediaPart> parts = {Part("xx"), Part("x"), Part("xx")};
  const CountingReader reader;
  const Result<MediaPrompt> shown = ShowMedia(rendered, parts, reader, kWide);
  ASSERT_TRUE(shown) << shown.error().ToString();
  EXPECT_EQ(shown->tokens.size(), 5U);
  EXPECT_EQ(reader.read(), 2U);
}

}  // namespace
}  // namespace pixii::frontend
