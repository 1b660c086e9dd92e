// Pictures in requests: rows of a tower stand where their tokens do, whatever is cached, cut or
// preempted; pictures are told apart; a tower that fails harms its request alone.
#include <gtest/gtest.h>

#include <bit>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/media_encoder.h"
#include "unit/engine/engine_harness.h"

namespace pixii::engine::testing {
namespace {

constexpr TokenId kWord = 63;  // stands for a picture where words are asked for

/// Takes a row of pixels as one token each; the mock reads their tokens from the features.
class FakeEncoder final : public MediaEncoder {
 public:
  explicit FakeEncoder(std::shared_ptr<std::uint32_t> encoded) : encoded_(std::move(encoded)) {}

  const wire::VisionCard& card() const override { return card_; }

  bool has_axes() const override { return false; }

  Result<Shape> Measure(const wire::MediaItem& item) const override {
    if (item.height != 1) {
      return Fail(Code::kInvalidArgument, "the height is not 1", "media");
    }
    return Shape{.tokens = item.width,
                 .grid = {.rows = 1, .cols = static_cast<std::int32_t>(item.width)}};
  }

  Result<model::VisionFeatures> Encode(const wire::MediaItem& item) override {
    ++*encoded_;
    if (item.pixels[0] == 'x') {
      return Fail(Code::kModelFault, "a row is not finite");
    }
    model::VisionFeatures out{.rows = static_cast<std::int32_t>(item.count), .size = 1};
    for (std::uint32_t i = 0; i < item.count; ++i) {
      out.rows_data.push_back(std::bit_cast<float>(wire::MediaToken(item.digest, i)));
    }
    return out;
  }

 private:
  wire::VisionCard card_{.image_token = kWord};
  std::shared_ptr<std::uint32_t> encoded_;
};

/// A picture of `count` pixels at `begin` of the prompt.
void Show(wire::GenerateRequest& request, std::uint32_t begin, std::uint32_t count, char colour) {
  wire::MediaItem item{.begin = begin,
                       .count = count,
                       .height = 1,
                       .width = count,
                       .pixels = std::string(3 * std::size_t{count}, colour)};
  item.digest = wire::MediaDigest(item);
  request.media.push_back(item);
  wire::PutMediaTokens(request.media, request.prompt);
}

class EngineMedia : public ::testing::Test {
 protected:
  HarnessOptions Options() {
    HarnessOptions options;
    options.encoder = [encoded = encoded_] { return std::make_unique<FakeEncoder>(encoded); };
    return options;
  }

  std::shared_ptr<std::uint32_t> encoded_ = std::make_shared<std::uint32_t>(0);
};

TEST_F(EngineMedia, ChunksCutPicturesAndAnswersStay) {
  for (const std::uint32_t step_tokens : {64U, 7U, 3U}) {
    SCOPED_TRACE(step_tokens);
    HarnessOptions options = Options();
    options.engine.batch_sequences_max = 3;
    options.engine.batch_tokens_max = step_tokens;
    Harness harness(options);
    std::vector<wire::GenerateRequest> requests;
    for (std::uint64_t id = 1; id <= 4; ++id) {
      wire::GenerateRequest request = MakeRequest(id, 50, 9);
      if (id < 4) {
        Show(request, 5, 12, static_cast<char>('a' + id));
        Show(request, 17, 9, 'a');
      }
      ASSERT_TRUE(harness.Submit(request));
      requests.push_back(std::move(request));
    }
    harness.RunDry();
    for (const wire::GenerateRequest& request : requests) {
      harness.ExpectOracle(request);
    }
  }
}

TEST_F(EngineMedia, AnswersStayWhenBlocksAreShort) {
  for (const Preemption preemption : {Preemption::kRecompute, Preemption::kSwap}) {
    HarnessOptions options = Options();
    options.limits.block_count = 40;
    options.limits.host_block_count = 40;
    options.engine.preemption = preemption;
    options.engine.admission = Admission::kEager;
    options.engine.media_cache_bytes = 0;
    options.overlaps = true;
    Harness harness(options);
    std::vector<wire::GenerateRequest> requests;
    for (std::uint64_t id = 1; id <= 8; ++id) {
      wire::GenerateRequest request = MakeRequest(id, 30, 40, static_cast<TokenId>(id));
      Show(request, 8, 16, static_cast<char>('a' + id % 3));
      ASSERT_TRUE(harness.Submit(request));
      requests.push_back(std::move(request));
    }
    harness.RunDry();
    EXPECT_GT(harness.engine().scheduler().counters().preemptions, 0U);
    for (const wire::GenerateRequest& request : requests) {
      harness.ExpectOracle(request);
    }
  }
}

TEST_F(EngineMedia, EqualPicturesAreEncodedOnceAndCachedPromptsNever) {
  HarnessOptions options = Options();
  Harness harness(options);
  const auto ask = [&](std::uint64_t id, char colour, TokenId first) {
    wire::GenerateRequest request = MakeRequest(id, 40, 2, first);
    Show(request, 4, 16, colour);
    EXPECT_TRUE(harness.Submit(request));
    harness.RunDry();
    harness.ExpectOracle(request);
    return harness.streams().at(id).cached_tokens;
  };
  EXPECT_EQ(ask(1, 'a', 1), 0U);
  EXPECT_EQ(*encoded_, 1U);
  EXPECT_EQ(ask(2, 'a', 1), 36U) << "all but the last block";
  EXPECT_EQ(ask(3, 'b', 1), 4U) << "what stands before another picture";
  EXPECT_EQ(*encoded_, 2U);
  EXPECT_EQ(ask(4, 'b', 30), 0U) << "other words before it";
  EXPECT_EQ(*encoded_, 2U) << "its features were kept";
  EXPECT_EQ(harness.engine().counters().media_cache_hits, 1U);
}

TEST_F(EngineMedia, PicturesOfFewTokensNeverMeet) {
  Harness harness(Options());
  const auto ask = [&](std::uint64_t id, char colour) {
    wire::GenerateRequest request = MakeRequest(id, 40, 2);
    Show(request, 20, 1, colour);
    EXPECT_TRUE(harness.Submit(request));
    harness.RunDry();
    harness.ExpectOracle(request);
    return harness.streams().at(id).cached_tokens;
  };
  EXPECT_EQ(ask(1, 'a'), 0U);
  EXPECT_EQ(ask(2, 'b'), 0U) << "not even the words before it";
  EXPECT_EQ(ask(3, 'a'), 36U);
}

TEST_F(EngineMedia, ATowerThatFailsEndsItsRequestAlone) {
  for (const bool overlaps : {false, true}) {
    HarnessOptions options = Options();
    options.overlaps = overlaps;
    Harness harness(options);
    wire::GenerateRequest bad = MakeRequest(1, 40, 5);
    Show(bad, 4, 16, 'x');
    wire::GenerateRequest good = MakeRequest(2, 40, 5);
    Show(good, 4, 16, 'a');
    ASSERT_TRUE(harness.Submit(bad));
    ASSERT_TRUE(harness.Submit(good));
    harness.RunDry();
    EXPECT_EQ(harness.streams().at(1).finish, wire::FinishReason::kError);
    EXPECT_EQ(harness.streams().at(1).error->code(), Code::kModelFault);
    harness.ExpectOracle(good);
  }
}

TEST_F(EngineMedia, PenaltiesAndGuessesSeeAWordInItsPlace) {
  HarnessOptions options = Options();
  options.draft_right_percent = 70;
  Harness harness(options);
  wire::GenerateRequest request = MakeRequest(1, 40, 30);
  request.sampling.repetition_penalty = 1.3F;
  Show(request, 4, 16, 'a');
  ASSERT_TRUE(harness.Submit(request));
  harness.RunDry();
  EXPECT_EQ(harness.streams().at(1).finish, wire::FinishReason::kLength);
  EXPECT_EQ(harness.streams().at(1).tokens.size(), 30U);
}

TEST_F(EngineMedia, WhatIsNotItsPictureIsRefused) {
  Harness harness(Options());
  const auto refusal = [&](const std::function<void(wire::GenerateRequest&)>& spoil) {
    wire::GenerateRequest request = MakeRequest(1, 40, 2);
    Show(request, 4, 16, 'a');
    spoil(request);
    const Result<void> taken = harness.Submit(request);
    EXPECT_FALSE(taken);
    return taken ? std::string() : taken.error().detail();
  };
  EXPECT_NE(refusal([](auto& r) { r.media[0].pixels[0] = 'b'; }).find("digest"), std::string::npos);
  EXPECT_NE(refusal([](auto& r) { r.prompt[7] ^= 1; }).find("token 7"), std::string::npos);
  EXPECT_NE(refusal([](auto& r) { r.media[0].begin = 30; }).find("not in the prompt"),
            std::string::npos);
  EXPECT_NE(refusal([](auto& r) { r.media[0].count = 0; }).find("not in the prompt"),
            std::string::npos);
  EXPECT_NE(refusal([](auto& r) { r.media[0].count = ~0U; }).find("not in the prompt"),
            std::string::npos);
  EXPECT_NE(refusal([](auto& r) { r.media.push_back(r.media[0]); }).find("another"),
            std::string::npos);
  EXPECT_NE(refusal([](auto& r) { r.media[0].width = 15; }).find("bytes"), std::string::npos);
  EXPECT_NE(refusal([](auto& r) { r.media[0].height = ~0U; }).find("bytes"), std::string::npos);
  EXPECT_NE(refusal([](auto& r) { r.prompt[30] = wire::kMediaTokenFirst; }).find("prompt"),
            std::string::npos)
      << "a media token that is nobody's";
  EXPECT_NE(refusal([](auto& r) { r.prompt[1] = 64; }).find("prompt"), std::string::npos);
  Harness blind;
  wire::GenerateRequest request = MakeRequest(1, 40, 2);
  Show(request, 4, 16, 'a');
  EXPECT_EQ(blind.Submit(request).error().code(), Code::kUnsupported);
}

}  // namespace
}  // namespace pixii::engine::testing
