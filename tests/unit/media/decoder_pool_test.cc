#include "media/decoder_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdlib.h>  // mkdtemp

#include <atomic>
#include <csignal>
#include <string>
#include <vector>

#include "media/decoder_child.h"
#include "rt/child_process.h"
#include "rt/thread.h"
#include "support/golden.h"
#include "unit/media/image_writer.h"

namespace pixii::media {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// This program, as main.cc lets it be called.
const std::string kSelf = "/proc/self/exe";

DecoderPoolOptions Honest() { return {.command = {kSelf, std::string(kDecoderCommand)}}; }

DecoderPoolOptions Dishonest(const std::string& how) {
  return {.command = {kSelf, "misbehave", how}};
}

Bytes AsBytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

std::string Photo() {
  return testing::ReadFileOrFail(testing::OwnGoldenDir() + "/media/turned_6.jpg");
}

[[maybe_unused]] std::string Flat(std::uint32_t width, std::uint32_t height) {
  PngToWrite png{.width = width, .height = height, .bits = 1, .colour_type = 0};
  png.rows.assign(height, std::string((width + 7) / 8, '\xff'));
  return PngText(png);
}

TEST(DecoderPool, GivesWhatDecodeGivesInThisProcess) {
  DecoderPool pool(Honest());
  for (const char* name : {"turned_6.jpg", "moving.gif", "lossy.webp", "palette.png"}) {
    const std::string file = testing::ReadFileOrFail(testing::OwnGoldenDir() + "/media/" + name);
    for (const DecodeOptions& options :
         {DecodeOptions{}, DecodeOptions{.pixels = {.alpha = Alpha::kWhite}, .exif = true},
          DecodeOptions{.resize = Resizing{.size = {.width = 56, .height = 84},
                                           .filter = Filter::kLanczos}}}) {
      Result<Image> image = pool.Decode(AsBytes(file), options);
      ASSERT_TRUE(image.has_value()) << name << " " << image.error().detail();
      const Image expected = *Decode(AsBytes(file), options);
      EXPECT_EQ(image->size, expected.size);
      EXPECT_EQ(image->rgb, expected.rgb);
    }
  }
  EXPECT_EQ(pool.started(), 1U) << "a child serves many images";
}

TEST(DecoderPool, RefusalsKeepTheirWordsAndTheChild) {
  DecoderPool pool(Honest());
  const std::string cut = testing::ReadFileOrFail(testing::OwnGoldenDir() + "/media/cut.jpg");
  Result<Image> image = pool.Decode(AsBytes(cut), {});
  ASSERT_FALSE(image.has_value());
  EXPECT_EQ(image.error().code(), Code::kInvalidArgument);
  EXPECT_EQ(image.error().detail(), Decode(AsBytes(cut), {}).error().detail());
  EXPECT_EQ(image.error().param(), "image");
  EXPECT_TRUE(pool.Decode(AsBytes(Photo()), {}).has_value());
  EXPECT_EQ(pool.started(), 1U);
}

TEST(DecoderPool, WhatIsTooLargeReachesNoChild) {
  DecoderPool pool(Honest());
  const std::string huge = testing::ReadFileOrFail(testing::OwnGoldenDir() + "/media/huge.png");
  EXPECT_EQ(pool.Decode(AsBytes(huge), {}).error().code(), Code::kTooLarge);
  EXPECT_EQ(pool.Decode(AsBytes(Photo()), {.resize = Resizing{.size = {.width = 0, .height = 1}}})
                .error()
                .param(),
            "size");
  EXPECT_EQ(pool.started(), 0U);
}

TEST(DecoderPool, AChildThatWasKilledIsReplaced) {
  DecoderPool pool(Honest());
  ASSERT_TRUE(pool.Decode(AsBytes(Photo()), {}).has_value());
  const std::vector<std::int32_t> idle = pool.IdleChildren();
  ASSERT_EQ(idle.size(), 1U);
  ASSERT_TRUE(rt::SignalProcess(idle[0], SIGKILL));
  // Until the system has ended it, it may still be taken for alive.
  EXPECT_TRUE(pool.Decode(AsBytes(Photo()), {}).has_value());
  EXPECT_EQ(pool.started(), 2U);
}

TEST(DecoderPool, AnImageWhoseChildWasKilledIsTakenToAFreshOneOnce) {
  std::string folder = ::testing::TempDir() + "decoder_XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  DecoderPoolOptions options;
  options.command = {kSelf, "killed once", folder + "/first"};
  DecoderPool once(options);
  Result<Image> image = once.Decode(AsBytes(Photo()), {});
  ASSERT_TRUE(image.has_value()) << image.error().ToString();
  EXPECT_EQ(image->rgb, Decode(AsBytes(Photo()), {})->rgb);
  EXPECT_EQ(once.started(), 2U);
  DecoderPool always(Dishonest("killed"));
  image = always.Decode(AsBytes(Photo()), {});
  ASSERT_FALSE(image.has_value());
  EXPECT_EQ(image.error().code(), Code::kUnavailable);
  EXPECT_THAT(image.error().detail(), HasSubstr("ended with status 137"));
  EXPECT_EQ(always.started(), 2U) << "it may be the image's own doing";
}

TEST(DecoderPool, ACrashIsAnErrorOfItsImageAlone) {
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  GTEST_SKIP() << "a sanitizer makes another end of a crash";
#endif
  DecoderPool pool(Dishonest("crash"));
  for (int i = 1; i <= 2; ++i) {
    Result<Image> image = pool.Decode(AsBytes(Photo()), {});
    ASSERT_FALSE(image.has_value());
    EXPECT_EQ(image.error().code(), Code::kInvalidArgument);
    EXPECT_THAT(image.error().detail(), HasSubstr("its decoder crashed with signal 11"));
    EXPECT_EQ(pool.started(), static_cast<std::uint64_t>(i)) << "each gets a fresh child";
  }
}

TEST(DecoderPool, ADecoderThatHangsIsKilledAtTheLimit) {
  DecoderPoolOptions options = Dishonest("hang");
  options.time_max = std::chrono::milliseconds(20);
  DecoderPool pool(options);
  Result<Image> image = pool.Decode(AsBytes(Photo()), {});
  ASSERT_FALSE(image.has_value());
  EXPECT_EQ(image.error().code(), Code::kDeadlineExceeded);
  EXPECT_EQ(image.error().detail(), "image is not decoded within 20 ms (time_max)");
  EXPECT_TRUE(pool.IdleChildren().empty());
}

TEST(DecoderPool, ADecoderThatComputesForEverIsEndedByTheSystem) {
  DecoderPoolOptions options = Dishonest("spin");
  options.cpu_time_max = std::chrono::milliseconds(1);  // up to a whole second
  options.time_max = std::chrono::minutes(5);
  DecoderPool pool(options);
  Result<Image> image = pool.Decode(AsBytes(Photo()), {});
  ASSERT_FALSE(image.has_value());
  EXPECT_EQ(image.error().code(), Code::kTooLarge);
  EXPECT_THAT(image.error().detail(), HasSubstr("CPU time (cpu_time_max)"));
}

TEST(DecoderPool, WhatATakenOverChildSaysIsNotBelieved) {
  DecoderPool garbage(Dishonest("garbage"));
  EXPECT_THAT(garbage.Decode(AsBytes(Photo()), {}).error().detail(),
              HasSubstr("its decoder gave no answer of ours"));
  EXPECT_TRUE(garbage.IdleChildren().empty());
  DecoderPool lie(Dishonest("lie"));
  Result<Image> image = lie.Decode(AsBytes(Photo()), {});
  ASSERT_FALSE(image.has_value());
  EXPECT_EQ(image.error().code(), Code::kInvalidArgument);
  EXPECT_THAT(image.error().detail(), StartsWith("?"));
  EXPECT_LE(image.error().detail().size(), 400U);
}

TEST(DecoderPool, AnImageThatTakesTooMuchMemoryIsRefused) {
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  GTEST_SKIP() << "a sanitizer maps more than any limit";
#else
  DecoderPoolOptions options = Honest();
  options.memory_bytes_max = std::uint64_t{40} << 20;
  DecoderPool pool(options);
  // 4,000 x 4,000 pixels are 48 MB of RGB, and 2 MB of file.
  Result<Image> image = pool.Decode(AsBytes(Flat(4'000, 4'000)), {});
  ASSERT_FALSE(image.has_value());
  EXPECT_EQ(image.error().code(), Code::kTooLarge);
  EXPECT_THAT(image.error().detail(), HasSubstr("41943040 bytes of memory (memory_bytes_max)"));
  // Into a small one: only the child has the whole.
  image = pool.Decode(AsBytes(Flat(4'000, 4'000)),
                      {.resize = Resizing{.size = {.width = 8, .height = 8}}});
  ASSERT_FALSE(image.has_value());
  EXPECT_EQ(image.error().code(), Code::kTooLarge);
  EXPECT_TRUE(pool.Decode(AsBytes(Photo()), {}).has_value()) << "and smaller ones go on";
#endif
}

TEST(DecoderPool, ManyThreadsShareAFewChildren) {
  DecoderPool pool(Honest());
  const std::string photo = Photo();
  const Image expected = *Decode(AsBytes(photo), {});
  std::vector<int> right(4);
  {
    std::vector<rt::Thread> threads;
    for (int& count : right) {
      threads.emplace_back("decode", [&] {
        for (int i = 0; i < 10; ++i) {
          const Result<Image> image = pool.Decode(AsBytes(photo), {});
          count += image.has_value() && image->rgb == expected.rgb ? 1 : 0;
        }
      });
    }
  }
  EXPECT_THAT(right, ::testing::Each(10));
  EXPECT_LE(pool.started(), 2U);
}

TEST(DecoderPool, VideosLeaveAChildToImages) {
  DecoderPoolOptions options = Dishonest("hang");
  options.time_max = std::chrono::milliseconds(20);
  options.film_time_max = std::chrono::milliseconds(100);
  DecoderPool pool(options);
  const std::string film =
      testing::ReadFileOrFail(testing::OwnGoldenDir() + "/media/film/moving.gif");
  std::atomic<bool> stop = false;
  std::vector<rt::Thread> films;
  for (int i = 0; i < 3; ++i) {
    films.emplace_back("film", [&] {
      const std::vector<std::uint32_t> frames{0};
      while (!stop) {
        EXPECT_FALSE(pool.DecodeFrames(AsBytes(film), {.frames = frames}));
      }
    });
  }
  for (int i = 0; i < 20; ++i) {
    Result<Image> image = pool.Decode(AsBytes(Photo()), {});
    EXPECT_FALSE(image.has_value());
    EXPECT_EQ(image.error().code(), Code::kDeadlineExceeded) << image.error().detail();
  }
  stop = true;
}

TEST(DecoderPool, AProgramThatIsNotThereIsAnError) {
  DecoderPool pool({.command = {"/no/such/program"}});
  EXPECT_EQ(pool.Decode(AsBytes(Photo()), {}).error().code(), Code::kNotFound);
}

TEST(DecoderPool, ChildrenAreReplacedAfterSoManyImages) {
  DecoderPoolOptions options = Honest();
  options.images_max = 2;
  DecoderPool pool(options);
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(pool.Decode(AsBytes(Photo()), {}).has_value());
  }
  EXPECT_EQ(pool.started(), 3U);
}

}  // namespace
}  // namespace pixii::media
