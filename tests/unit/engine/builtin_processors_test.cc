#include "engine/builtin_processors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "engine/processor_set.h"
#include "engine/watermark.h"
#include "engine_harness.h"

namespace pixii::engine {
namespace {

using testing::Harness;
using testing::HarnessOptions;
using testing::MakeRequest;

constexpr float kExcluded = -std::numeric_limits<float>::infinity();

wire::Json Parsed(const std::string& text) {
  auto json = wire::ParseJson(text);
  EXPECT_TRUE(json) << text;
  return *json;
}

struct Scene {
  std::string name;
  std::string arguments = "{}";
  std::string config = "{}";
  std::vector<TokenId> prompt = {1, 2, 3};
  std::vector<TokenId> generated = {};
  std::vector<TokenId> end_ids = {9};
  std::vector<float> logits = std::vector<float>(10, 1.0F);
};

Result<std::vector<float>> Processed(const Scene& scene) {
  PX_TRY(auto processor, MakeBuiltinProcessor(scene.name, Parsed(scene.config)));
  PX_TRY(auto call, processor->Open(Parsed(scene.arguments),
                                    {.vocab_size = static_cast<std::uint32_t>(scene.logits.size()),
                                     .prompt = scene.prompt,
                                     .end_ids = scene.end_ids}));
  std::vector<float> row = scene.logits;
  std::string state;
  ProcessorRow processed{.request = RequestId{1},
                         .choice = 0,
                         .call = call.get(),
                         .prompt = scene.prompt,
                         .generated = scene.generated,
                         .end_ids = scene.end_ids,
                         .logits = row,
                         .second = {},
                         .state = &state};
  processor->Process({&processed, 1});
  EXPECT_FALSE(processed.error);
  EXPECT_TRUE(state.empty());
  return row;
}

/// The only token left, -1 if nothing was forced.
TokenId Forced(const Scene& scene) {
  Result<std::vector<float>> row = Processed(scene);
  EXPECT_TRUE(row) << row.error().ToString();
  TokenId forced = -1;
  for (std::size_t i = 0; i < row->size(); ++i) {
    if ((*row)[i] != kExcluded) {
      if (forced != -1) {
        EXPECT_EQ(*row, scene.logits);
        return -1;
      }
      forced = static_cast<TokenId>(i);
    }
  }
  return forced;
}

TEST(BuiltinProcessors, BansTakeAwayTokensAndEndsOfSequences) {
  Scene scene{.name = "bans", .arguments = R"({"tokens": [4], "sequences": [[5, 6], [7]]})"};
  auto row = Processed(scene);
  ASSERT_TRUE(row);
  EXPECT_EQ((*row)[4], kExcluded);
  EXPECT_EQ((*row)[6], 1.0F);
  EXPECT_EQ((*row)[7], kExcluded);
  scene.generated = {5};
  EXPECT_EQ((*Processed(scene))[6], kExcluded);
}

TEST(BuiltinProcessors, AForcedSequenceThenEndsOrLetsGo) {
  Scene scene{.name = "forced_sequence", .arguments = R"({"tokens": [4, 5]})"};
  EXPECT_EQ(Forced(scene), 4);
  scene.generated = {4};
  EXPECT_EQ(Forced(scene), 5);
  scene.generated = {4, 5};
  EXPECT_EQ(Forced(scene), -1);
  scene.arguments = R"({"tokens": [4, 5], "then_end": true})";
  EXPECT_EQ(Forced(scene), 9);
  scene.end_ids = {};
  EXPECT_FALSE(Processed(scene));
}

TEST(BuiltinProcessors, ATemperatureScheduleFollowsItsLines) {
  Scene scene{.name = "temperature_schedule", .arguments = R"({"points": [[2, 2.0], [4, 0.5]]})"};
  auto factor = [&](std::size_t position) {
    scene.generated.assign(position, 1);
    return 1.0F / (*Processed(scene))[0];
  };
  EXPECT_FLOAT_EQ(factor(0), 2.0F);
  EXPECT_FLOAT_EQ(factor(2), 2.0F);
  EXPECT_FLOAT_EQ(factor(3), 1.25F);
  EXPECT_FLOAT_EQ(factor(4), 0.5F);
  EXPECT_FLOAT_EQ(factor(40), 0.5F);
  for (const char* bad : {"{}", R"({"points": []})", R"({"points": [[0, 0]]})",
                          R"({"points": [[3, 1], [3, 1]]})", R"({"points": [[0, 1, 2]]})"}) {
    scene.arguments = bad;
    EXPECT_FALSE(Processed(scene)) << bad;
  }
}

TEST(BuiltinProcessors, AThinkingBudgetForcesTheEndOnce) {
  Scene scene{.name = "thinking_budget",
              .arguments = R"({"budget": 3, "start_tokens": [4], "end_tokens": [5, 6]})"};
  EXPECT_EQ(Forced(scene), -1);
  scene.generated = {0, 0, 0, 0};  // never began to think
  EXPECT_EQ(Forced(scene), -1);
  scene.generated = {4, 0, 0};
  EXPECT_EQ(Forced(scene), -1);
  scene.generated = {4, 0, 0, 0};
  EXPECT_EQ(Forced(scene), 5);
  scene.generated = {4, 0, 0, 0, 5};
  EXPECT_EQ(Forced(scene), 6);
  scene.generated = {4, 0, 0, 0, 5, 6};
  EXPECT_EQ(Forced(scene), -1);
  scene.generated = {4, 0, 0, 5};  // drew the beginning of the end by itself
  EXPECT_EQ(Forced(scene), 6);
  scene.generated = {4, 5, 6, 0, 0, 0, 0, 0};
  EXPECT_EQ(Forced(scene), -1);
  scene.prompt = {1, 4};  // the template opened the thinking
  scene.generated = {0, 0, 0};
  EXPECT_EQ(Forced(scene), 5);
  scene.prompt = {4, 5, 6, 1};  // an earlier turn's
  EXPECT_EQ(Forced(scene), -1);
  scene.arguments = R"({"budget": 3})";
  EXPECT_FALSE(Processed(scene));
}

TEST(BuiltinProcessors, RefuseUnknownArgumentsTokensOutOfRangeAndUnknownNames) {
  EXPECT_FALSE(Processed({.name = "bans", .arguments = R"({"token": [4]})"}));
  EXPECT_FALSE(Processed({.name = "bans", .arguments = R"({"tokens": [10]})"}));
  EXPECT_FALSE(Processed({.name = "bans", .arguments = R"({"tokens": [-1]})"}));
  EXPECT_FALSE(Processed({.name = "bans", .arguments = R"({"sequences": [[]]})"}));
  EXPECT_FALSE(Processed({.name = "bans", .arguments = "{}", .config = R"({"x": 1})"}));
  EXPECT_FALSE(Processed({.name = "guidance", .arguments = R"({"scale": 0})"}));
  EXPECT_FALSE(Processed({.name = "watermark", .arguments = "{}"}));
  EXPECT_FALSE(Processed({.name = "watermark", .config = R"({"key": "k", "gamma": 1})"}));
  auto unknown = MakeBuiltinProcessor("mystery", Parsed("{}"));
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code(), Code::kNotFound);
}

TEST(BuiltinProcessors, TheWatermarkIsFoundWithItsKeyAlone) {
  auto set = std::make_shared<ProcessorSet>();
  auto watermark =
      MakeBuiltinProcessor("watermark", Parsed(R"({"key": "secret", "delta": 4, "context": 2})"));
  ASSERT_TRUE(watermark);
  ASSERT_TRUE(set->Add(std::move(*watermark), {}));
  HarnessOptions options;
  options.processors = set;
  Harness harness(options);
  for (std::uint64_t id = 1; id <= 2; ++id) {
    wire::GenerateRequest request = MakeRequest(id, 8, 200);
    request.sampling.temperature = 1.0F;
    request.sampling.seed = id;
    if (id == 1) {
      request.processors.push_back({"watermark", ""});
    }
    ASSERT_TRUE(harness.Submit(request));
  }
  harness.RunDry();
  WatermarkKey key{.secret = WatermarkSecret("secret"), .gamma = 0.5, .context = 2};
  WatermarkScore marked = DetectWatermark(key, harness.streams().at(1).tokens);
  EXPECT_GT(marked.z, 5.0) << marked.green << " of " << marked.scored;
  EXPECT_LT(marked.p_value, 1e-6);
  EXPECT_LT(DetectWatermark(key, harness.streams().at(2).tokens).z, 4.0);
  key.secret = WatermarkSecret("another");
  EXPECT_LT(DetectWatermark(key, harness.streams().at(1).tokens).z, 4.0);
}

}  // namespace
}  // namespace pixii::engine
