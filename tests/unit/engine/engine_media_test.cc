// Pictures in requests: rows of a tower stand where their tokens do, whatever is cached, cut or
// preempted; pictures are told apart; a tower that fails harms its request alone.
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "unit/engine/engine_harness.h"
#include "unit/engine/fake_encoder.h"

namespace pixii::engine::testing {
namespace {

/// Of a model that turns by time: two frames, so far apart as the item says.
class TimedEncoder final : public MediaEncoder {
 public:
  const wire::VisionCard& card() const override { return card_; }

  bool mutual() const override { return false; }

  Result<Shape> Measure(const wire::MediaItem& item) const override {
    return Shape{.tokens = item.width,
                 .grid = {.frames = 2,
                          .rows = 1,
                          .cols = static_cast<std::int32_t>(item.width / 2),
                          .frame_step = static_cast<std::int32_t>(item.seconds_per_frame)}};
  }

  Result<model::VisionFeatures> Encode(const wire::MediaItem&) override {
    return Fail(Code::kModelFault, "nobody asked for it");
  }

 private:
  wire::VisionCard card_{.image_token = kWord, .video_token = kWord, .has_axes = true};
};

class EngineMedia : public ::testing::Test {
 protected:
  HarnessOptions Options() {
    HarnessOptions options;
    options.encoder = [encoded = encoded_] { return std::make_unique<FakeEncoder>(encoded); };
    return options;
  }

  /// The mock's, but that it never says kWord.
  static void ExpectOracle(Harness& harness, wire::GenerateRequest request) {
    request.sampling.bad_words.push_back({kWord});
    harness.ExpectOracle(request);
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
      ExpectOracle(harness, request);
    }
  }
}

TEST_F(EngineMedia, WhatSeesEachOtherIsComputedAtOnceAndAnswersStay) {
  for (const std::uint32_t step_tokens : {64U, 17U, 14U}) {
    SCOPED_TRACE(step_tokens);
    HarnessOptions options = Options();
    options.encoder = [encoded = encoded_] { return std::make_unique<FakeEncoder>(encoded, true); };
    options.engine.batch_sequences_max = 3;
    options.engine.batch_tokens_max = step_tokens;
    options.limits.block_count = 40;
    options.draft_right_percent = 70;
    Harness harness(options);
    std::vector<wire::GenerateRequest> requests;
    for (std::uint64_t id = 1; id <= 6; ++id) {
      wire::GenerateRequest request = MakeRequest(id, 50, 30);
      Show(request, 5, 12, static_cast<char>('a' + id % 3));
      Show(request, 17, 9, 'a');
      ASSERT_TRUE(harness.Submit(request));
      requests.push_back(std::move(request));
    }
    harness.RunDry();
    for (const wire::GenerateRequest& request : requests) {
      ExpectOracle(harness, request);
    }
  }
}

TEST_F(EngineMedia, WhatNoStepTakesAtOnceIsRefused) {
  HarnessOptions options = Options();
  options.encoder = [encoded = encoded_] { return std::make_unique<FakeEncoder>(encoded, true); };
  options.engine.batch_sequences_max = 3;
  options.engine.batch_tokens_max = 14;
  Harness harness(options);
  wire::GenerateRequest request = MakeRequest(1, 50, 2);
  Show(request, 5, 13, 'a');
  const Result<void> large = harness.Submit(request);
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().code(), Code::kInvalidArgument);
  EXPECT_NE(large.error().detail().find("has room for 12"), std::string::npos);
  request = MakeRequest(1, 50, 2);
  Show(request, 5, 12, 'a');
  request.prompt_logprobs = true;
  EXPECT_EQ(harness.Submit(request).error().param(), "prompt_logprobs");
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
      ExpectOracle(harness, request);
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
    ExpectOracle(harness, request);
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
    ExpectOracle(harness, request);
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
    ExpectOracle(harness, good);
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

TEST_F(EngineMedia, AWordThatStandsForPicturesIsNeitherGivenNorChosen) {
  Harness harness(Options());
  for (const char* field : {"prompt", "generated"}) {
    wire::GenerateRequest request = MakeRequest(1, 40, 2);
    Show(request, 4, 16, 'a');
    if (std::string_view(field) == "prompt") {
      request.prompt[30] = kWord;
    } else {
      request.generated = {{1, kWord}};
    }
    const Result<void> taken = harness.Submit(request);
    ASSERT_FALSE(taken);
    EXPECT_EQ(taken.error().code(), Code::kInvalidArgument);
    EXPECT_EQ(taken.error().param(), field);
  }
  wire::GenerateRequest request = MakeRequest(2, 10, 20);
  request.top_logprobs = 20;
  request.sampling.logit_bias = {{kWord, 100.0F}};
  ASSERT_TRUE(harness.Submit(request));
  request.id = RequestId{3};
  request.sampling.allowed_token_ids = {kWord};
  ASSERT_TRUE(harness.Submit(request));
  harness.RunDry();
  const auto& stream = harness.streams().at(2);
  EXPECT_EQ(stream.tokens.size(), 20U);
  EXPECT_EQ(std::ranges::count(stream.tokens, kWord), 0);
  for (const wire::TokenLogprob& logprob : stream.logprobs) {
    for (const auto& top : logprob.top) {
      EXPECT_NE(top.first, kWord);
    }
  }
  EXPECT_EQ(harness.streams().at(3).error->code(), Code::kInvalidArgument) << "no token is left";
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

/// What FakeEncoder makes of an item.
std::vector<float> RowsOf(const wire::MediaItem& item) {
  std::vector<float> out;
  for (std::uint32_t i = 0; i < item.count; ++i) {
    out.push_back(std::bit_cast<float>(wire::MediaToken(item.digest, i)));
  }
  return out;
}

TEST_F(EngineMedia, FeaturesThatOthersMadeAreTakenAsLongAsSomebodyHasThem) {
  HarnessOptions options = Options();
  options.engine.media_cache_bytes = 0;
  options.engine.reuse_blocks = false;
  Harness harness(options);
  const auto ask = [&](std::uint64_t id) {
    wire::GenerateRequest request = MakeRequest(id, 40, 2);
    Show(request, 4, 16, 'a');
    EXPECT_TRUE(harness.Submit(request));
    harness.RunDry();
    ExpectOracle(harness, request);
    return request;
  };
  const wire::MediaItem item = ask(1).media.front();
  EXPECT_EQ(*encoded_, 1U);
  auto features = std::make_shared<const model::VisionFeatures>(
      model::VisionFeatures{.rows = 16, .size = 1, .rows_data = RowsOf(item)});
  harness.engine().OfferFeatures(item.digest, features);
  ask(2);
  EXPECT_EQ(*encoded_, 1U);
  EXPECT_EQ(harness.engine().counters().media_offered_hits, 1U);
  features.reset();
  ask(3);
  EXPECT_EQ(*encoded_, 2U) << "nobody has them any more";
}

TEST_F(EngineMedia, FeaturesInPlaceOfPixelsAskNoTower) {
  Harness harness(Options());
  // The mock reads tokens from features: those of this item are of its own digest, which depends on
  // them; so they are of some other one.
  wire::MediaItem seen{.count = 16, .height = 1, .width = 16, .pixels = std::string(48, 'a')};
  seen.digest = wire::MediaDigest(seen);
  wire::MediaItem item{.begin = 4, .count = 16, .height = 4, .width = 4};
  const std::vector<float> rows = RowsOf(seen);
  item.features.assign(reinterpret_cast<const char*>(rows.data()), rows.size() * sizeof(float));
  item.digest = wire::MediaDigest(item);
  wire::GenerateRequest request = MakeRequest(1, 40, 2);
  request.media = {item};
  wire::PutMediaTokens(request.media, request.prompt);
  ASSERT_TRUE(harness.Submit(request));
  harness.RunDry();
  EXPECT_EQ(*encoded_, 0U);
  EXPECT_EQ(harness.streams().at(1).tokens.size(), 2U);

  const auto refusal = [&](auto change) {
    wire::GenerateRequest other = request;
    other.id = RequestId{9};
    change(other.media.front());
    other.media.front().digest = wire::MediaDigest(other.media.front());
    wire::PutMediaTokens(other.media, other.prompt);
    const Result<void> taken = harness.Submit(other);
    return taken ? std::string("taken") : taken.error().detail();
  };
  EXPECT_NE(refusal([](auto& one) { one.features.pop_back(); }).find("63 bytes"),
            std::string::npos);
  EXPECT_NE(refusal([](auto& one) { one.height = 3; }).find("1 x 3 x 4 tokens are not the 16"),
            std::string::npos);
  EXPECT_NE(refusal([](auto& one) { one.pixels = "abc"; }).find("pixels and features"),
            std::string::npos);
  EXPECT_NE(refusal([](auto& one) {
              const float nan = std::numeric_limits<float>::quiet_NaN();
              std::memcpy(one.features.data() + 8, &nan, sizeof nan);
            }).find("value 0 of row 2"),
            std::string::npos);
}

TEST_F(EngineMedia, FramesThatLieInTimePastTheContextAreRefused) {
  HarnessOptions options;
  options.encoder = [] { return std::make_unique<TimedEncoder>(); };
  const std::uint32_t context = options.limits.context_tokens_max;
  Harness harness(options);
  const auto submit = [&](float step) {
    wire::GenerateRequest request = MakeRequest(static_cast<std::uint64_t>(step), 30, 4);
    wire::MediaItem item{.kind = wire::MediaKind::kVideo,
                         .begin = 10,
                         .count = 8,
                         .height = 1,
                         .width = 8,
                         .pixels = std::string(24, 'a'),
                         .seconds_per_frame = step};
    item.digest = wire::MediaDigest(item);
    request.media.push_back(item);
    wire::PutMediaTokens(request.media, request.prompt);
    return harness.Submit(request);
  };
  const Result<void> past = submit(static_cast<float>(context - 10));
  ASSERT_FALSE(past);
  EXPECT_EQ(
      past.error().detail(),
      "media[0]: its frames lie 246 positions apart, and the last one past the context of 256");
  EXPECT_TRUE(submit(static_cast<float>(context - 11)));
}

}  // namespace
}  // namespace pixii::engine::testing
