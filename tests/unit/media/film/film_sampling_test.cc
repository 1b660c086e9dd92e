#include "media/film/film_sampling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pixii::media {
namespace {

using ::testing::ElementsAre;
using Frames = std::vector<std::uint32_t>;

FilmInfo Film(std::uint32_t frames, double fps) {
  return {.frames = frames, .seconds = frames / fps};
}

// Every frames / count-th, as numpy's arange with a float step and a cast give it.
Frames Spread(std::uint32_t frames, std::uint32_t count) {
  Frames out;
  const double step = static_cast<double>(frames) / count;
  for (std::uint32_t i = 0; i < count; ++i) {
    out.push_back(static_cast<std::uint32_t>(i * step));
  }
  return out;
}

TEST(FilmSampling, TwoFramesOfEachSecond) {
  EXPECT_EQ(*SampleFrames(Film(300, 30.0), {}), Spread(300, 20));
  // 5.5 s ask for 11 frames: an even number of them is taken.
  EXPECT_EQ(*SampleFrames(Film(165, 30.0), {}), Spread(165, 10));
  EXPECT_EQ(*SampleFrames(Film(300, 30.0), {.frames_per_second = 1.0}), Spread(300, 10));
}

TEST(FilmSampling, NoFewerThanTheLeastAndNoMoreThanTheMostOrThereAre) {
  EXPECT_EQ(*SampleFrames(Film(30, 30.0), {}), Spread(30, 4));
  EXPECT_EQ(*SampleFrames(Film(3, 30.0), {}), Spread(3, 2));
  EXPECT_THAT(*SampleFrames(Film(1, 30.0), {}), ElementsAre(0));
  EXPECT_EQ(SampleFrames(Film(100'000, 30.0), {})->size(), 768U);
  EXPECT_EQ(SampleFrames(Film(100'000, 30.0), {.frames_max = 9})->size(), 8U);
}

TEST(FilmSampling, ANumberOfFramesIsBroughtToAMultiple) {
  EXPECT_EQ(SampleFrames(Film(100, 30.0), {.frames = 7})->size(), 8U) << "3.5 is rounded to 4";
  EXPECT_EQ(SampleFrames(Film(100, 30.0), {.frames = 5})->size(), 4U) << "2.5 to the even 2";
  EXPECT_EQ(SampleFrames(Film(100, 30.0), {.frames = 1})->size(), 2U);
  const auto many = SampleFrames(Film(5, 30.0), {.frames = 6});
  ASSERT_FALSE(many.has_value());
  EXPECT_EQ(many.error().detail(), "6 frames cannot be taken from the 5 of a video");
}

TEST(FilmSampling, WithEndsTheFirstAndTheLastFrameAreTaken) {
  const Sampling ends{.spacing = Spacing::kEnds};
  EXPECT_THAT(*SampleFrames(Film(60, 30.0), ends), ElementsAre(0, 20, 39, 59));
  // Halves go to the even neighbour: 0, 2.5, 5 and so on.
  EXPECT_THAT(*SampleFrames(Film(11, 30.0), {.frames = 5, .spacing = Spacing::kEnds}),
              ElementsAre(0, 2, 5, 8, 10));
  EXPECT_THAT(*SampleFrames(Film(2, 30.0), ends), ElementsAre(0, 1));
  EXPECT_THAT(*SampleFrames(Film(3, 30.0), ends), ElementsAre(0, 1, 2)) << "no multiple of two";
}

TEST(FilmSampling, WhereTheFileSaysNoTimeTwentyFourFramesAreASecond) {
  EXPECT_EQ(*SampleFrames({.frames = 240, .seconds = 0.0}, {}), Spread(240, 20));
}

}  // namespace
}  // namespace pixii::media
