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

TEST(FindPlaceholders, GivesOneRunForEachItem) {
  const Tokens tokens = {1, kImage, kImage, 2, kImage, kImage, kImage, kImage, 3};
  const auto spans = FindPlaceholders(tokens, kImage, Tokens{2, 1, 3});
  ASSERT_TRUE(spans) << spans.error().ToString();
  EXPECT_THAT(*spans, ElementsAre(MediaSpan{1, 2}, MediaSpan{4, 1}, MediaSpan{5, 3}));
}

TEST(FindPlaceholders, RefusesRunsThatAreTooShortOrGoOn) {
  const Tokens tokens = {kImage, kImage, 5, kImage};
  EXPECT_FALSE(FindPlaceholders(tokens, kImage, Tokens{3}));
  EXPECT_FALSE(FindPlaceholders(tokens, kImage, Tokens{2}));
  EXPECT_FALSE(FindPlaceholders(tokens, kImage, Tokens{2, 2}));
  EXPECT_FALSE(FindPlaceholders(tokens, kImage, Tokens{2, 1, 1}));
  EXPECT_FALSE(FindPlaceholders(tokens, kImage, {}));
  EXPECT_FALSE(FindPlaceholders(tokens, kImage, Tokens{2, 0}));
  EXPECT_FALSE(FindPlaceholders(tokens, kImage, Tokens{kMediaTokensMax + 1}));
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

TEST(SequenceMedia, PackedFeaturesComeBack) {
  for (const std::int32_t levels : {0, 2}) {
    VisionFeatures features{.rows = 3, .size = 2, .levels = levels};
    for (int i = 0; i < 6; ++i) {
      features.rows_data.push_back(static_cast<float>(i));
    }
    for (int i = 0; i < 6 * levels; ++i) {
      features.layers_data.push_back(static_cast<float>(100 + i));
    }
    const std::vector<float> packed = PackFeatures(features);
    ASSERT_EQ(packed.size(), 6U * (1U + static_cast<unsigned>(levels)));
    EXPECT_EQ(packed[1], 1.0F);
    if (levels > 0) {
      EXPECT_EQ(packed[2], 100.0F) << "a row's levels are behind it";
      EXPECT_EQ(packed[6], 2.0F);
    }
    const VisionFeatures back = UnpackFeatures(packed, 3, 2, levels);
    EXPECT_EQ(back.rows, 3);
    EXPECT_EQ(back.levels, levels);
    EXPECT_EQ(back.rows_data, features.rows_data);
    EXPECT_EQ(back.layers_data, features.layers_data);
  }
}

TEST(MutualItems, AreNotCut) {
  SequenceMedia media;
  media.items = {{.begin = 3, .features = Features(4, 0), .mutual_count = 4},
                 {.begin = 9, .features = Features(2, 0)},
                 {.begin = 12, .features = Features(3, 0), .mutual_count = 3}};
  EXPECT_EQ(media.ChunkEnd(0, 3), 3);
  EXPECT_EQ(media.ChunkEnd(0, 4), 3);
  EXPECT_EQ(media.ChunkEnd(0, 7), 7);
  EXPECT_EQ(media.ChunkEnd(3, 6), 3) << "nothing";
  EXPECT_EQ(media.ChunkEnd(5, 6), 5) << "the rest of it is not cut either";
  EXPECT_EQ(media.ChunkEnd(5, 10), 10) << "others may be";
  EXPECT_EQ(media.ChunkEnd(5, 14), 12);
  EXPECT_EQ(media.ChunkEnd(5, 99), 99);
  EXPECT_EQ(media.ChunkMin(0), 1);
  EXPECT_EQ(media.ChunkMin(3), 4);
  EXPECT_EQ(media.ChunkMin(6), 1);
  EXPECT_EQ(media.ChunkMin(9), 1);
  EXPECT_EQ(media.ChunkMin(13), 2);
}

TEST(MutualItems, SeeEachOtherInTheStep) {
  SequenceMedia media;
  media.items = {{.begin = 3, .features = Features(4, 0), .mutual_count = 4}};
  kernels::StepBatch batch;
  AddTokens(0, 2, batch);  // another sequence's
  AddMedia(nullptr, 0, 2, batch);
  AddTokens(1, 8, batch);
  AddMedia(&media, 1, 8, batch);
  ASSERT_EQ(batch.mutual_rows.size(), 1U);
  EXPECT_EQ(batch.mutual_rows[0].row_begin, 2 + 2);
  EXPECT_EQ(batch.mutual_rows[0].row_count, 4);
  EXPECT_EQ(batch.mutual_rows[0].position_begin, 3);
  kernels::StepBatch rest;  // the first of it were computed before
  AddTokens(5, 3, rest);
  AddMedia(&media, 5, 3, rest);
  ASSERT_EQ(rest.mutual_rows.size(), 1U);
  EXPECT_EQ(rest.mutual_rows[0].row_begin, 0);
  EXPECT_EQ(rest.mutual_rows[0].row_count, 2);
  EXPECT_EQ(rest.mutual_rows[0].position_begin, 3);
}

}  // namespace
}  // namespace pixii::model
