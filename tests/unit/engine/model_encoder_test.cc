// Videos as a tower sees them: small random towers, what they are shown by its definition.
#include "engine/model_encoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>

#include "model/config.h"
#include "model/vision_processor.h"

namespace pixii::engine {
namespace {

using ::testing::HasSubstr;

std::string Config(const std::string& architecture) {
  return R"({"architectures": [")" + architecture +
         R"("], "image_token_id": 500, "video_token_id": 501,
  "vision_start_token_id": 502, "vision_end_token_id": 503,
  "text_config": {"head_dim": 16, "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 512,
    "max_position_embeddings": 256},
  "vision_config": {"depth": 2, "hidden_size": 32, "intermediate_size": 40, "num_heads": 2,
    "out_hidden_size": 32, "window_size": 16, "patch_size": 4, "fullatt_block_indexes": [1],
    "num_position_embeddings": 9, "deepstack_visual_indexes": [0], "tokens_per_second": 2}})";
}

constexpr const char* kFile = R"({"size": {"shortest_edge": 64, "longest_edge": 4096}})";

class Encoder {
 public:
  explicit Encoder(const std::string& architecture, bool videos = true) {
    const auto config = model::ParseConfig(Config(architecture), "");
    EXPECT_TRUE(config) << config.error().ToString();
    spec_ = *config->vision;
    operators_ = kernels::MakeReferenceOperators();
    const auto weights = model::MakeRandomWeights(7);
    const auto tower = [&] {
      return *model::VisionTower::Create(spec_, *weights, *operators_,
                                         {.compute = kernels::ComputeType::kF32});
    };
    auto processor = model::ParseVisionProcessor(kFile, "f", spec_);
    EXPECT_TRUE(processor) << processor.error().ToString();
    std::optional<model::VideoProcessor> film;
    if (videos) {
      film = *model::ParseVideoProcessor(kFile, "f", true, spec_);
    }
    tower_ = tower();
    patches_ = *processor;
    encoder_ = std::make_unique<ModelEncoder>(spec_, tower(), *processor, film);
  }

  ModelEncoder& operator*() { return *encoder_; }

  ModelEncoder* operator->() { return encoder_.get(); }

  /// What the tower makes of `frames` by the grid of the whole video.
  model::VisionFeatures Whole(std::span<const media::Image> frames) {
    const media::Patches patches = *media::MakeVideoPatches(frames, patches_);
    return *tower_->Encode({.grid = {.frames = static_cast<std::int32_t>(patches.frames),
                                     .rows = static_cast<std::int32_t>(patches.rows),
                                     .cols = static_cast<std::int32_t>(patches.cols)},
                            .patches = patches.values,
                            .source = patches.source});
  }

 private:
  model::VisionSpec spec_;
  std::unique_ptr<kernels::Operators> operators_;
  media::PatchSpec patches_;
  std::unique_ptr<model::VisionTower> tower_;
  std::unique_ptr<ModelEncoder> encoder_;
};

media::Image Frame(int phase) {
  media::Image image{.size = {.width = 24, .height = 16}, .rgb = {}};
  for (int i = 0; i < 24 * 16 * 3; ++i) {
    image.rgb.push_back(static_cast<std::uint8_t>(128.0 + 100.0 * std::sin(0.1 * i + phase)));
  }
  return image;
}

wire::MediaItem Item(wire::MediaKind kind, std::span<const media::Image> frames) {
  wire::MediaItem item{.kind = kind,
                       .frames = static_cast<std::uint32_t>(frames.size()),
                       .height = frames[0].size.height,
                       .width = frames[0].size.width,
                       .seconds_per_frame = 0.5F};
  for (const media::Image& frame : frames) {
    item.pixels.append(frame.rgb.begin(), frame.rgb.end());
  }
  return item;
}

constexpr const char* kQwen25 = "Qwen2_5_VLForConditionalGeneration";
constexpr const char* kQwen3 = "Qwen3VLForConditionalGeneration";

TEST(ModelEncoder, APictureIsItsFrameTwice) {
  for (const char* architecture : {kQwen25, kQwen3}) {
    Encoder encoder(architecture);
    const std::vector<media::Image> same(2, Frame(1));
    const wire::MediaItem picture = Item(wire::MediaKind::kImage, std::span(same).first(1));
    const wire::MediaItem video = Item(wire::MediaKind::kVideo, same);
    EXPECT_EQ(encoder->Measure(video)->tokens, encoder->Measure(picture)->tokens);
    const auto of_picture = encoder->Encode(picture);
    const auto of_video = encoder->Encode(video);
    ASSERT_TRUE(of_picture && of_video);
    EXPECT_EQ(of_video->rows_data, of_picture->rows_data);
    EXPECT_EQ(of_video->layers_data, of_picture->layers_data);
    const auto of_one = encoder->Encode(Item(wire::MediaKind::kVideo, std::span(same).first(1)));
    EXPECT_EQ(of_one->rows_data, of_picture->rows_data) << "one frame fills its row";
  }
}

TEST(ModelEncoder, RowByRowAVideoIsWhatTheTowerMakesOfAllOfIt) {
  Encoder encoder(kQwen25);
  const std::vector<media::Image> frames = {Frame(1), Frame(2), Frame(3), Frame(4), Frame(5)};
  const auto made = encoder->Encode(Item(wire::MediaKind::kVideo, frames));
  ASSERT_TRUE(made) << made.error().ToString();
  const model::VisionFeatures whole = encoder.Whole(frames);
  EXPECT_EQ(made->rows, 3 * 3 * 2);
  EXPECT_EQ(made->rows, whole.rows);
  EXPECT_EQ(made->rows_data, whole.rows_data);
}

TEST(ModelEncoder, PositionsOfAVideoStepByWholeSecondsOfItsRows) {
  Encoder encoder(kQwen25);
  const std::vector<media::Image> frames(4, Frame(1));
  wire::MediaItem item = Item(wire::MediaKind::kVideo, frames);
  const auto step = [&](float seconds_per_frame) {
    item.seconds_per_frame = seconds_per_frame;
    const auto shape = encoder->Measure(item);
    EXPECT_TRUE(shape) << shape.error().ToString();
    EXPECT_EQ(shape->grid.frames, 2);
    EXPECT_EQ(shape->grid.rows, 2);
    EXPECT_EQ(shape->grid.cols, 3);
    EXPECT_EQ(shape->tokens, 12U);
    return shape->grid.frame_step;
  };
  // Two positions a second, two frames a row: 2 * int(2 * seconds of a frame).
  EXPECT_EQ(step(0.5F), 2);
  EXPECT_EQ(step(0.75F), 2);
  EXPECT_EQ(step(1.0F), 4);
  EXPECT_EQ(step(0.4F), 0);
  EXPECT_EQ(step(0.0F), 0);
}

TEST(ModelEncoder, ItemsThatAreNoFramesOfTheTowerAreRefused) {
  Encoder encoder(kQwen25);
  const std::vector<media::Image> frames(4, Frame(1));
  const auto refused = [&](ModelEncoder& by, auto change) {
    wire::MediaItem item = Item(wire::MediaKind::kVideo, frames);
    change(item);
    const auto shape = by.Measure(item);
    EXPECT_FALSE(shape);
    return shape ? Error(Code::kInternal, "") : shape.error();
  };
  EXPECT_THAT(refused(*encoder, [](wire::MediaItem& item) { item.width = 28; }).detail(),
              HasSubstr("4 frames of 16 x 28 pixels are not whole blocks of 8"));
  for (const float seconds : {-1.0F, 1e9F, std::numeric_limits<float>::quiet_NaN(),
                              std::numeric_limits<float>::infinity()}) {
    EXPECT_THAT(refused(*encoder, [&](wire::MediaItem& item) { item.seconds_per_frame = seconds; })
                    .detail(),
                HasSubstr("no time apart"));
  }
  Encoder timed(kQwen3);
  EXPECT_THAT(refused(*timed, [](wire::MediaItem&) {}).detail(),
              HasSubstr("4 frames are more than one row of 2"));
  Encoder none(kQwen25, false);
  EXPECT_EQ(refused(*none, [](wire::MediaItem&) {}).code(), Code::kUnsupported);
  EXPECT_EQ(none->card().video_token, -1);
}

TEST(ModelEncoder, TheCardSaysWhatAFrontendNeeds) {
  const wire::VisionCard card = Encoder(kQwen3)->card();
  EXPECT_EQ(card.video_token, 501);
  ASSERT_TRUE(card.film);
  EXPECT_TRUE(card.film->timed);
  EXPECT_TRUE(card.film->bounds_all_frames);
  EXPECT_EQ(card.film->start_token, 502);
  EXPECT_EQ(card.film->end_token, 503);
  EXPECT_EQ(card.film->pixels_max, 4096U);
  EXPECT_FALSE(Encoder(kQwen25)->card().film->timed);
}

}  // namespace
}  // namespace pixii::engine
