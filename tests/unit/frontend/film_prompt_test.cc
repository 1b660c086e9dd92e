// The prompt of a video whose frames stand alone: token by token what its whole text would give.
#include <gtest/gtest.h>

#include <algorithm>

#include <string>

#include "frontend/model_text.h"
#include "frontend/openai_request.h"
#include "frontend/served_model.h"
#include "support/golden.h"
#include "wire/json.h"

namespace pixii::frontend {
namespace {

std::string ReadFile(const std::string& name) {
  return testing::ReadFileOrFail(testing::SourceDir() + "/models/tiny-vlm/" + name);
}

std::shared_ptr<const ModelText> Text() {
  auto text = ModelText::Create({.tokenizer_json = ReadFile("tokenizer.json"),
                                 .tokenizer_json_path = "tokenizer.json",
                                 .tokenizer_config_json = ReadFile("tokenizer_config.json"),
                                 .chat_template_jinja = ReadFile("chat_template.jinja"),
                                 .chat_template_json = {}},
                                [] { return text::CivilTime{}; });
  EXPECT_TRUE(text) << text.error().ToString();
  return *text;
}

/// A model that sees two tokens a row of two frames, and a film of two seconds.
struct Seeing {
  ServedModel model;
  wire::ModelCard card;

  explicit Seeing(bool timed) {
    model.names = {"m"};
    model.text = Text();
    model.images = [](const std::string&) -> Result<media::Image> {
      return media::Image{.size = {.width = 56, .height = 28},
                          .rgb = std::vector<std::uint8_t>(56U * 28 * 3)};
    };
    model.films = [](const std::string&, const FilmPlanner& plan) -> Result<ShownFilm> {
      ShownFilm out{.info = {.size = {.width = 56, .height = 28}, .frames = 60, .seconds = 2.0},
                    .plan = {},
                    .rgb = {}};
      PX_TRY(out.plan, plan(out.info));
      out.rgb.resize(3 * out.plan.resizing.size.pixel_count() * out.plan.frames.size());
      return out;
    };
    card.name = "m";
    card.vocab_size = 4100;
    card.context_tokens_max = 1024;
    card.task = wire::ModelTask::kGenerate;
    card.vision = wire::VisionCard{.image_token = 4098,
                                   .video_token = 4099,
                                   .fit = wire::MediaFit::kSmart,
                                   .pixels_min = 28 * 28,
                                   .pixels_max = 56 * 56,
                                   .filter = wire::MediaFilter::kBicubic,
                                   .patch_size = 14,
                                   .merge_size = 2,
                                   .frames_per_row = 2};
    card.vision->film = wire::FilmCard{.pixels_min = 28 * 28,
                                       .pixels_max = 1 << 20,
                                       .bounds_all_frames = timed,
                                       .frames_min = 4,
                                       .frames_max = 768,
                                       .with_ends = timed,
                                       .timed = timed,
                                       .start_token = 4096,
                                       .end_token = 4097};
  }

  Result<GenerationPlan> Plan(const std::string& content) const {
    const auto body = wire::ParseJson(
        R"({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": )" + content +
        "}]}");
    EXPECT_TRUE(body) << body.error().ToString();
    const auto request = ParseOpenAiRequest(*body, Surface::kChat, {});
    EXPECT_TRUE(request) << request.error().ToString();
    return PlanGeneration(*request, model, card, 1, {});
  }
};

std::vector<TokenId> Encoded(const std::string& user) {
  return *Text()->Encode("<|im_start|>user\n" + user + "<|im_end|>\n<|im_start|>assistant\n",
                         {.add_special = false, .parse_special = true});
}

constexpr const char* kVideo = R"({"type": "video_url", "video_url": "v"})";

TEST(FilmPrompt, TimesAreTokensOfTheTextTheyStandIn) {
  const Seeing seeing(true);
  const std::string row = "<|vision_start|><|video_pad|><|video_pad|><|vision_end|>";
  const std::string film = "<0.3 seconds>" + row + "<1.6 seconds>" + row;
  const auto plan =
      seeing.Plan(std::string(R"([{"type": "text", "text": "Look, a (:"}, )") + kVideo +
                  R"(, {"type": "text", "text": "<3 what?"}, )" + kVideo + "]");
  ASSERT_TRUE(plan) << plan.error().ToString();
  EXPECT_EQ(plan->prompts[0], Encoded("Look, a (:" + film + "<3 what?" + film));
  const auto& media = plan->prototype.media;
  ASSERT_EQ(media.size(), 4U);
  for (const wire::MediaItem& item : media) {
    EXPECT_EQ(item.frames, 2U);
    EXPECT_EQ(plan->prompts[0][item.begin - 1], 4096);
    EXPECT_EQ(plan->prompts[0][item.begin], 4099);
    EXPECT_EQ(plan->prompts[0][item.begin + 2], 4097);
  }
}

TEST(FilmPrompt, TextThatLooksLikeAMarkStaysText) {
  const Seeing seeing(true);
  const auto plan = seeing.Plan(
      std::string(R"([{"type": "text", "text": "<|im_end|><|video_pad|>"}, )") + kVideo + "]");
  ASSERT_TRUE(plan) << plan.error().ToString();
  const auto& prompt = plan->prompts[0];
  EXPECT_EQ(std::ranges::count(prompt, 4099), 4);
  EXPECT_EQ(std::ranges::count(prompt, 4089), 1) << "the template's own <|im_end|>";
}

TEST(FilmPrompt, OtherwiseAVideoIsOneItemWhereItsPartStands) {
  const Seeing seeing(false);
  const auto plan = seeing.Plan(std::string(R"([{"type": "image_url", "image_url": "i"}, )") +
                                kVideo + R"(, {"type": "text", "text": "what?"}])");
  ASSERT_TRUE(plan) << plan.error().ToString();
  EXPECT_EQ(plan->prompts[0],
            Encoded("<|vision_start|><|image_pad|><|image_pad|><|vision_end|><|vision_start|>"
                    "<|video_pad|><|video_pad|><|video_pad|><|video_pad|><|vision_end|>what?"));
  ASSERT_EQ(plan->prototype.media.size(), 2U);
  EXPECT_EQ(plan->prototype.media[1].frames, 4U);
  EXPECT_EQ(plan->prototype.media[1].seconds_per_frame, 0.5F);
}

TEST(FilmPrompt, AModelThatIsShownPicturesAloneRefusesVideosByName) {
  Seeing seeing(false);
  seeing.card.vision->film.reset();
  const auto plan = seeing.Plan(std::string("[") + kVideo + "]");
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code(), Code::kUnsupported);
  EXPECT_EQ(plan.error().param(), "messages[0].content[0].video_url");
  EXPECT_NE(plan.error().detail().find("the model \"m\" is shown pictures, not videos"),
            std::string::npos);
}

}  // namespace
}  // namespace pixii::frontend
