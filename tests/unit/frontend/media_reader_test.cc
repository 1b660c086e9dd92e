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

constexpr TokenId kStart = 5;
constexpr TokenId kEnd = 6;

/// A video of as many rows as its URL is long, of two tokens each.
class RowReader final : public MediaReader {
 public:
  std::optional<TokenId> Placeholder(wire::MediaKind kind) const override {
    return kind == wire::MediaKind::kVideo ? std::optional(kVideo) : std::nullopt;
  }

  Result<ReadMedia> Read(const MediaPart& part) const override {
    ReadMedia out;
    out.start_mark = kStart;
    out.end_mark = kEnd;
    for (std::size_t i = 0; i < part.url.size(); ++i) {
      out.rows.push_back({.words = std::string(1, part.url[i]), .item = {.count = 2}});
    }
    return out;
  }
};

TEST(ShowMedia, RowsOfAVideoStandBetweenMarksBehindTheirWords) {
  const MediaBounds bounds{.tokens_max = 100,
                           .add_words = [](std::string_view words, std::vector<TokenId>& prompt) {
                             prompt.push_back(100 + words[0]);
                             return Result<void>();
                           }};
  const std::vector<MediaPart> parts = {Part("ab", wire::MediaKind::kVideo)};
  const std::vector<TokenId> marked = {1, kStart, kVideo, kEnd, 2};
  const Result<MediaPrompt> shown = ShowMedia(marked, parts, RowReader(), bounds);
  ASSERT_TRUE(shown) << shown.error().ToString();
  EXPECT_EQ(shown->tokens, (std::vector<TokenId>{1, 100 + 'a', kStart, kVideo, kVideo, kEnd,
                                                 100 + 'b', kStart, kVideo, kVideo, kEnd, 2}));
  ASSERT_EQ(shown->media.size(), 2U);
  EXPECT_EQ(shown->media[0].begin, 3U);
  EXPECT_EQ(shown->media[1].begin, 8U);
  // A template may leave the marks out.
  const std::vector<TokenId> bare = {1, kVideo, 2};
  EXPECT_EQ(ShowMedia(bare, parts, RowReader(), bounds)->tokens, shown->tokens);
  EXPECT_EQ(ShowMedia(bare, parts, RowReader(), {.tokens_max = 5}).error().code(), Code::kTooLarge);
}

TEST(ShowMedia, FramesOfAllVideosFitAMessage) {
  class LargeReader final : public MediaReader {
   public:
    std::optional<TokenId> Placeholder(wire::MediaKind kind) const override {
      return kind == wire::MediaKind::kVideo ? std::optional(kVideo) : std::nullopt;
    }

    Result<ReadMedia> Read(const MediaPart& part) const override {
      ReadMedia out;
      out.item.kind = part.kind;
      out.item.count = 1;
      out.item.pixels.assign(kFilmBytesMax / 2, 'a');
      return out;
    }
  };

  std::vector<TokenId> rendered(2, kVideo);
  std::vector<MediaPart> parts = {Part("a", wire::MediaKind::kVideo),
                                  Part("b", wire::MediaKind::kVideo)};
  EXPECT_TRUE(ShowMedia(rendered, parts, LargeReader(), kWide));
  rendered.push_back(kVideo);
  parts.push_back(Part("c", wire::MediaKind::kVideo));
  const Result<MediaPrompt> large = ShowMedia(rendered, parts, LargeReader(), kWide);
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().code(), Code::kTooLarge);
  EXPECT_NE(large.error().detail().find("at most 50331648 are taken"), std::string::npos);
}

TEST(ShowMedia, WhatAWorkerIsSentFitsAMessage) {
  /// Pixels, or the features of a part that is some, of as many bytes as its URL is long.
  class BytesReader final : public MediaReader {
   public:
    std::optional<TokenId> Placeholder(wire::MediaKind kind) const override {
      return kind == wire::MediaKind::kImage ? std::optional(kImage) : std::nullopt;
    }

    Result<ReadMedia> Read(const MediaPart& part) const override {
      ReadMedia out;
      out.item.count = 1;
      (part.is_features ? out.item.features : out.item.pixels).assign(part.url.size(), 'a');
      return out;
    }
  };

  const std::vector<TokenId> rendered(3, kImage);
  std::vector<MediaPart> parts = {Part("aaaa"), Part("bbb"), Part("aaaa")};
  parts[1].is_features = true;
  parts[2].where = "there";
  MediaBounds bounds = kWide;
  EXPECT_TRUE(ShowMedia(rendered, parts, BytesReader(), bounds)) << "of one's own process";
  bounds.bytes_max = 11;
  EXPECT_TRUE(ShowMedia(rendered, parts, BytesReader(), bounds));
  bounds.bytes_max = 10;
  const Result<MediaPrompt> large = ShowMedia(rendered, parts, BytesReader(), bounds);
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().code(), Code::kInvalidArgument);
  EXPECT_EQ(large.error().param(), "there");
  EXPECT_EQ(large.error().detail(),
            "there: with it the pictures and videos of the request are 11 bytes as the model is "
            "sent them; at most 10 fit a message to its worker");
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
