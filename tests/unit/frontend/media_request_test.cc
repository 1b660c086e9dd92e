#include "frontend/media_request.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace pixii::frontend {
namespace {

MediaModel Model() {
  return {.name = "wan", .created = 1, .defaults = {.frames_per_second = 16}, .frames_unit = 4};
}

Result<MediaRequest> Read(std::string_view body, bool image = false) {
  const wire::Json json = *wire::ParseJson(body);
  const MediaRules rules{.pixels_max = std::uint64_t{1} << 40, .ignore_unknown = false};
  return image ? ReadImageRequest(json, Model(), 77, rules)
               : ReadVideoRequest(json, Model(), 77, rules);
}

TEST(MediaRequest, TheModelSaysWhatTheRequestDoesNot) {
  const Result<MediaRequest> read = Read(R"({"prompt":"a"})");
  ASSERT_TRUE(read);
  EXPECT_EQ(read->spec.width, 832);
  EXPECT_EQ(read->spec.height, 480);
  EXPECT_EQ(read->spec.frames, 81);
  EXPECT_EQ(read->spec.seed, 77U);
  EXPECT_FALSE(read->synchronous);
}

TEST(MediaRequest, FramesAreSaidOrComeFromSecondsAndRate) {
  const auto frames = [](std::string_view fields) {
    const Result<MediaRequest> read = Read(R"({"prompt":"a",)" + std::string(fields) + "}");
    EXPECT_TRUE(read) << fields;
    return read ? read->spec.frames : -1;
  };
  EXPECT_EQ(frames(R"("seconds":"4")"), 65);        // 64, and the next that the model makes
  EXPECT_EQ(frames(R"("seconds":2,"fps":8)"), 17);  // 16
  EXPECT_EQ(frames(R"("nvext":{"fps":24})"), 97);   // 4 seconds
  EXPECT_EQ(frames(R"("seconds":4,"nvext":{"num_frames":9})"), 9);
  EXPECT_EQ(frames(R"("num_frames":10)"), 10);  // the model's own check refuses it
}

TEST(MediaRequest, DynamosFieldsAskForAnAnswerWithTheFile) {
  EXPECT_FALSE(Read(R"({"prompt":"a","seed":1,"size":"64x64"})")->synchronous);
  EXPECT_TRUE(Read(R"({"prompt":"a","response_format":"url"})")->synchronous);
  EXPECT_TRUE(Read(R"({"prompt":"a","output_format":"mp4"})")->synchronous);
  EXPECT_TRUE(Read(R"({"prompt":"a","nvext":{}})")->synchronous);
  EXPECT_TRUE(Read(R"({"prompt":"a","response_format":"b64_json"})")->base64);
  EXPECT_TRUE(Read(R"({"prompt":"a"})", true)->synchronous);
}

TEST(MediaRequest, PicturesAreOneFrame) {
  const Result<MediaRequest> read =
      Read(R"({"prompt":"a","n":3,"size":"64x32","output_format":"webp","output_compression":50,)"
           R"("nvext":{"seed":5}})",
           true);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->spec.frames, 1);
  EXPECT_EQ(read->spec.count, 3U);
  EXPECT_EQ(read->spec.width, 64);
  EXPECT_EQ(read->spec.height, 32);
  EXPECT_EQ(read->spec.format, MediaFormat::kWebp);
  EXPECT_EQ(read->spec.quality, 50);
  EXPECT_EQ(read->spec.seed, 5U);
}

struct BadCase {
  std::string_view body;
  std::string_view param;
  bool image = false;
  Code code = Code::kInvalidArgument;
};

TEST(MediaRequest, WhatIsWrongIsNamed) {
  for (const BadCase& bad : std::initializer_list<BadCase>{
           {"{}", "prompt"},
           {R"({"prompt":7})", "prompt"},
           {R"({"prompt":"a","size":"abc"})", "size"},
           {R"({"prompt":"a","size":"0x0"})", "size"},
           {R"({"prompt":"a","size":"99999x16"})", "size"},
           {R"({"prompt":"a","size":"64x64x64"})", "size"},
           {R"({"prompt":"a","seconds":-1})", "seconds"},
           {R"({"prompt":"a","seconds":"4s"})", "seconds"},
           {R"({"prompt":"a","output_format":"gif"})", "output_format", false, Code::kUnsupported},
           {R"({"prompt":"a","format":"safetensors"})", "format", false, Code::kUnsupported},
           {R"({"prompt":"a","output_format":1})", "output_format"},
           {R"({"prompt":"a","width":64})", "width"},
           {R"({"prompt":"a","height":64})", "height"},
           {R"({"prompt":"a","width":64,"height":64,"size":"64x64"})", "width"},
           {R"({"prompt":"a","width":0,"height":64})", "width"},
           {R"({"prompt":"a","fps":8,"nvext":{"fps":9}})", "nvext.fps"},
           {R"({"prompt":"a","fps":0})", "fps"},
           {R"({"prompt":"a","fps":1e999})", "fps"},
           {R"({"prompt":"a","num_frames":1.5})", "num_frames"},
           {R"({"prompt":"a","seconds":1e300})", "seconds"},
           {R"({"prompt":"a","n":0})", "n", true},
           {R"({"prompt":"a","input_reference":"x"})", "input_reference", false,
            Code::kUnsupported},
           {R"({"prompt":"a","stream":true})", "stream", false, Code::kUnsupported},
           {R"({"prompt":"a","model":"sora-2"})", "model", false, Code::kNotFound},
           {R"({"prompt":"a","nvext":{"num_frames":0}})", "nvext.num_frames"},
           {R"({"prompt":"a","nvext":{"guidance_scale_2":1}})", "nvext.guidance_scale_2", false,
            Code::kUnsupported},
           {R"({"prompt":"a","nvext":{"what":1}})", "nvext.what"},
           {R"({"prompt":"a","what":1})", "what"},
           {R"({"prompt":"a","n":2})", "n"},
           {R"({"prompt":"a","n":11})", "n", true},
           {R"({"prompt":"a","seconds":1})", "seconds", true},
           {R"({"prompt":"a","output_format":"mp4"})", "output_format", true,
            Code::kUnsupported}}) {
    const Result<MediaRequest> read = Read(bad.body, bad.image);
    ASSERT_FALSE(read) << bad.body;
    EXPECT_EQ(read.error().param(), bad.param) << bad.body;
    EXPECT_EQ(read.error().code(), bad.code) << bad.body;
  }
  const std::string text(kPromptCharactersMax + 1, 'a');
  EXPECT_EQ(Read(R"({"prompt":")" + text + "\"}").error().param(), "prompt");
  const MediaRules small{.pixels_max = 100, .ignore_unknown = false};
  const wire::Json body = *wire::ParseJson(R"({"prompt":"a","size":"8x8","num_frames":5})");
  EXPECT_EQ(ReadVideoRequest(body, Model(), 0, small).error().param(), "size");
}

TEST(MediaRequest, FormatsAndTheNamesThatOthersHaveForThem) {
  const auto format = [](std::string_view fields) {
    return Read(R"({"prompt":"a",)" + std::string(fields) + "}")->spec.format;
  };
  EXPECT_EQ(format(R"("output_format":"webm")"), MediaFormat::kWebm);
  EXPECT_EQ(format(R"("format":"avi")"), MediaFormat::kAvi);
  EXPECT_EQ(format(R"("format":"auto")"), MediaFormat::kMp4);
  EXPECT_FALSE(Read(R"({"prompt":"a","format":"webm"})")->synchronous);
  const Result<MediaRequest> read =
      Read(R"({"prompt":"a","width":64,"height":32,"frame_rate":8,"seconds":1})");
  ASSERT_TRUE(read);
  EXPECT_EQ(read->spec.width, 64);
  EXPECT_EQ(read->spec.height, 32);
  EXPECT_EQ(read->spec.frames_per_second, 8);
  EXPECT_EQ(read->spec.frames, 9);
}

TEST(MediaRequest, FormsSayTheSame) {
  const std::vector<wire::FormPart> parts = {{.name = "prompt", .filename = {}, .content = "a"},
                                             {.name = "seconds", .filename = {}, .content = "2"},
                                             {.name = "seed", .filename = {}, .content = "9"}};
  const Result<wire::Json> body = BodyOfForm(parts);
  ASSERT_TRUE(body);
  const Result<MediaRequest> read = ReadVideoRequest(*body, Model(), 0, {});
  ASSERT_TRUE(read);
  EXPECT_EQ(read->spec.frames, 33);
  EXPECT_EQ(read->spec.seed, 9U);
  const std::vector<wire::FormPart> file = {
      {.name = "input_reference", .filename = "a.png", .content = "x"}};
  EXPECT_EQ(*BodyOfForm(file)->Find("input_reference"),
            wire::Json("data:application/octet-stream;base64,eA=="));
  const std::vector<wire::FormPart> other = {{.name = "mask", .filename = "a.png", .content = "x"}};
  EXPECT_EQ(BodyOfForm(other).error().param(), "mask");
}

TEST(MediaRequest, TakesAPictureWhereAndOnlyWhereTheModelBeginsWithOne) {
  MediaModel model = Model();
  model.takes_image = true;
  const auto read = [&](std::string_view text) {
    return ReadVideoRequest(*wire::ParseJson(text), model, 0, {});
  };
  const Result<MediaRequest> good =
      read(R"({"prompt":"a","input_reference":"data:image/png;base64,AAAA"})");
  ASSERT_TRUE(good);
  EXPECT_EQ(*good->spec.input_reference, "data:image/png;base64,AAAA");
  EXPECT_TRUE(read(R"({"prompt":"a","input_reference":"file:///pictures/a.png"})"));
  const Result<MediaRequest> none = read(R"({"prompt":"a"})");
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().param(), "input_reference");
  EXPECT_EQ(none.error().code(), Code::kInvalidArgument);
  for (const char* bad : {R"({"prompt":"a","input_reference":"https://example.org/a.png"})",
                          R"({"prompt":"a","input_reference":7})"}) {
    const Result<MediaRequest> refused = read(bad);
    ASSERT_FALSE(refused) << bad;
    EXPECT_EQ(refused.error().param(), "input_reference");
  }
}

}  // namespace
}  // namespace pixii::frontend
