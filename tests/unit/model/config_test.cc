#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "support/golden.h"
#include "unit/model/checkpoint_writer.h"

namespace pixii::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string Config(const std::string& more) {
  return R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 160, "vocab_size": 512,
             "num_hidden_layers": 2, "num_attention_heads": 8)" +
         more + "}";
}

TEST(Config, TakesEosFromGenerationConfigFirst) {
  const auto config = ParseConfig(Config(R"(, "eos_token_id": 2, "bos_token_id": 1)"),
                                  R"({"eos_token_id": [5, 7]})");
  ASSERT_TRUE(config.has_value()) << config.error().ToString();
  EXPECT_THAT(config->eos_token_ids, ElementsAre(5, 7));
  EXPECT_EQ(config->bos_token_id, 1);
}

TEST(Config, FallsBackToItsOwnEos) {
  const auto config = ParseConfig(Config(R"(, "eos_token_id": [2, 3])"), "{}");
  ASSERT_TRUE(config.has_value()) << config.error().ToString();
  EXPECT_THAT(config->eos_token_ids, ElementsAre(2, 3));
  EXPECT_EQ(config->bos_token_id, -1);
}

TEST(Config, DropsIdsThatCannotBeDrawn) {
  const auto config = ParseConfig(
      Config(R"(, "eos_token_id": [2147483647, -1, 512, 511], "bos_token_id": 9999)"), "");
  ASSERT_TRUE(config.has_value()) << config.error().ToString();
  EXPECT_THAT(config->eos_token_ids, ElementsAre(511));
  EXPECT_EQ(config->bos_token_id, -1);
}

TEST(Config, ReadsGenerationDefaults) {
  const auto config = ParseConfig(
      Config(""),
      R"({"do_sample": true, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "repetition_penalty": 1.05})");
  ASSERT_TRUE(config.has_value()) << config.error().ToString();
  EXPECT_EQ(config->generation.do_sample, true);
  EXPECT_EQ(config->generation.temperature, 0.6);
  EXPECT_EQ(config->generation.top_p, 0.95);
  EXPECT_EQ(config->generation.top_k, 20);
  EXPECT_EQ(config->generation.repetition_penalty, 1.05);
  EXPECT_EQ(config->generation.min_p, std::nullopt);
  EXPECT_THAT(config->eos_token_ids, IsEmpty());
}

TEST(Config, RefusesGenerationDefaultsOutOfRange) {
  const auto config = ParseConfig(Config(""), R"({"temperature": Infinity})");
  ASSERT_FALSE(config.has_value());
  EXPECT_THAT(config.error().detail(),
              HasSubstr("generation_config.json: temperature = \"Infinity\""));
}

TEST(Config, ReadsEveryGoldenConfig) {
  for (const char* model : {"llama-gqa", "llama3-rope", "mistral-window", "qwen2-bias",
                            "qwen3-qknorm", "mixtral", "qwen3-moe", "phi3", "gemma2"}) {
    const auto folder = CheckpointFolder::Open(pixii::testing::OwnGoldenDir() + "/models/" + model);
    ASSERT_TRUE(folder.has_value());
    const auto config = LoadConfig(*folder);
    ASSERT_TRUE(config.has_value()) << config.error().ToString();
    EXPECT_THAT(config->eos_token_ids, ElementsAre(2)) << model;
    EXPECT_EQ(config->bos_token_id, 1) << model;
  }
}

TEST(Config, ErrorsOfAFolderNameTheFolder) {
  const testing::TemporaryFolder temporary;
  const auto folder = CheckpointFolder::Open(temporary.path());
  ASSERT_TRUE(folder.has_value());
  EXPECT_EQ(LoadConfig(*folder).error().code(), Code::kNotFound);
  temporary.Write("config.json", Config(R"(, "hidden_act": "relu")"));
  EXPECT_THAT(LoadConfig(*folder).error().detail(),
              HasSubstr(temporary.path() + "/config.json: hidden_act = \"relu\""));
}

}  // namespace
}  // namespace pixii::model
