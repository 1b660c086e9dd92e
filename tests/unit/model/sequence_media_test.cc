#include "model/sequence_media.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

namespace pixii::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Tokens = std::vector<std::int32_t>;

constexpr std::int32_t kImage = 90;

TEST(ExpandPlaceholders, RepeatsEachAndKeepsTheOrder) {
  const Tokens tokens = {1, kImage, 2, kImage, kImage, 3};
  const Tokens counts = {2, 1, 3};
  const auto out = ExpandPlaceholders(tokens, kImage, counts);
  ASSERT_TRUE(out) << out.error().ToString();
  EXPECT_THAT(out->tokens, ElementsAre(1, kImage, kImage, 2, kImage, kImage, kImage, kImage, 3));
  EXPECT_THAT(out->spans, ElementsAre(MediaSpan{1, 2}, MediaSpan{4, 1}, MediaSpan{5, 3}));
  EXPECT_EQ(*FindPlaceholders(out->tokens, kImage, counts), out->spans);
}

TEST(ExpandPlaceholders, RefusesOtherCountsThanPlaceholders) {
  const Tokens tokens = {1, kImage, 2};
  const auto few = ExpandPlaceholders(tokens, kImage, {});
  ASSERT_FALSE(few);
  EXPECT_EQ(few.error().code(), Code::kInvalidArgument);
  EXPECT_THAT(few.error().detail(), HasSubstr("1 in the prompt, for 0 items"));
  EXPECT_FALSE(ExpandPlaceholders(tokens, kImage, Tokens{1, 1}));
  EXPECT_FALSE(ExpandPlaceholders(tokens, kImage, Tokens{0}));
  EXPECT_FALSE(ExpandPlaceholders(tokens, kImage, Tokens{kMediaTokensMax + 1}));
}

TEST(FindPlaceholders, RefusesRunsThatAreTooShortOrGoOn) {
  const Tokens tokens = {kImage, kImage, 5, kImage};
  EXPECT_FALSE(FindPlaceholders(tokens, kImage, Tokens{3}));
  EXPECT_FALSE(FindPlaceholders(tokens, kImage, Tokens{2}));
  EXPECT_FALSE(FindPlaceholders(tokens, kImage, Tokens{2, 2}));
  EXPECT_FALSE(FindPlaceholders(tokens, kImage, Tokens{2, 1, 1}));
  EXPECT_TRUE(FindPlaceholders(tokens, kImage, Tokens{2, 1}));
}

TEST(RopePositions, CountAnImageByItsSides) {
  const std::vector<MediaSpan> spans = {{1, 6}};
  const std::vector<MediaGrid> grids = {{.frames = 1, .rows = 2, .cols = 3}};
  const RopePositions out = MakeRopePositions(9, spans, grids);
  EXPECT_THAT(out.values, ElementsAre(0, 0, 0,                    //
                                      1, 1, 1, 1, 1, 2, 1, 1, 3,  //
                                      1, 2, 1, 1, 2, 2, 1, 2, 3,  //
                                      4, 4, 4, 5, 5, 5));
  EXPECT_EQ(out.delta, 6 - 9);
}

TEST(RopePositions, AVideosFramesStepInTimeButTextGoesOnBehindTheLargerSide) {
  const std::vector<MediaSpan> spans = {{0, 4}};
  const std::vector<MediaGrid> grids = {{.frames = 2, .rows = 1, .cols = 2, .frame_step = 5}};
  const RopePositions out = MakeRopePositions(5, spans, grids);
  EXPECT_THAT(out.values, ElementsAre(0, 0, 0, 0, 0, 1, 5, 0, 0, 5, 0, 1, 2, 2, 2));
  EXPECT_EQ(out.delta, 3 - 5);
}

TEST(RopePositions, OfTextAloneAreItsPositions) {
  const RopePositions out = MakeRopePositions(2, {}, {});
  EXPECT_THAT(out.values, ElementsAre(0, 0, 0, 1, 1, 1));
  EXPECT_EQ(out.delta, 0);
}

std::shared_ptr<const VisionFeatures> Features(std::int32_t rows, std::int32_t levels) {
  VisionFeatures out;
  out.rows = rows;
  out.size = 2;
  out.levels = levels;
  out.rows_data.resize(static_cast<std::size_t>(rows) * 2);
  std::iota(out.rows_data.begin(), out.rows_data.end(), 100.0F);
  out.layers_data.resize(out.rows_data.size() * static_cast<std::size_t>(levels));
  std::iota(out.layers_data.begin(), out.layers_data.end(), 200.0F);
  return std::make_shared<const VisionFeatures>(std::move(out));
}

/// `count` rows more, at positions from `begin` on.
void AddTokens(std::int32_t begin, std::int32_t count, kernels::StepBatch& batch) {
  for (std::int32_t i = begin; i < begin + count; ++i) {
    batch.token_ids.push_back(7);
    batch.positions.push_back(i);
  }
}

TEST(AddMedia, AChunkMayEndInsideAnImage) {
  SequenceMedia media;
  media.items = {{.begin = 2, .features = Features(3, 1)}};
  kernels::StepBatch first;
  AddTokens(0, 4, first);
  AddMedia(&media, 0, 4, first);
  EXPECT_THAT(first.embedded_rows, ElementsAre(2, 3));
  EXPECT_THAT(first.embeddings, ElementsAre(100, 101, 102, 103));
  EXPECT_THAT(first.layer_embeddings, ElementsAre(200, 201, 202, 203));
  EXPECT_THAT(first.rope_positions, IsEmpty());
  kernels::StepBatch second;
  AddTokens(0, 1, second);  // another sequence's
  AddMedia(nullptr, 0, 1, second);
  AddTokens(4, 3, second);
  AddMedia(&media, 4, 3, second);
  EXPECT_THAT(second.embedded_rows, ElementsAre(1));
  EXPECT_THAT(second.embeddings, ElementsAre(104, 105));
}

TEST(AddMedia, SeveralItemsOfAChunkAndNoneOfALaterOne) {
  SequenceMedia media;
  media.items = {{.begin = 0, .features = Features(1, 0)},
                 {.begin = 2, .features = Features(2, 0)}};
  kernels::StepBatch batch;
  AddTokens(0, 5, batch);
  AddMedia(&media, 0, 5, batch);
  EXPECT_THAT(batch.embedded_rows, ElementsAre(0, 2, 3));
  EXPECT_THAT(batch.embeddings, ElementsAre(100, 101, 100, 101, 102, 103));
  kernels::StepBatch later;
  AddTokens(4, 1, later);
  AddMedia(&media, 4, 1, later);
  EXPECT_THAT(later.embedded_rows, IsEmpty());
}

TEST(AddMedia, TextBesideAnImageTurnsByItsPositions) {
  SequenceMedia media;
  media.rope = {0, 0, 0, 1, 1, 1, 1, 2, 1};
  media.rope_delta = -1;
  kernels::StepBatch batch;
  AddTokens(5, 2, batch);
  AddMedia(nullptr, 5, 2, batch);
  EXPECT_THAT(batch.rope_positions, IsEmpty());
  AddTokens(2, 3, batch);  // the prompt's last and two after it
  AddMedia(&media, 2, 3, batch);
  AddTokens(9, 1, batch);
  AddMedia(nullptr, 9, 1, batch);
  EXPECT_THAT(batch.rope_positions,
              ElementsAre(5, 5, 5, 6, 6, 6, 1, 2, 1, 2, 2, 2, 3, 3, 3, 9, 9, 9));
}

}  // namespace
}  // namespace pixii::model
