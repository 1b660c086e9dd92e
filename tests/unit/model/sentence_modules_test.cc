#include "model/sentence_modules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "unit/model/checkpoint_writer.h"

namespace pixii::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

std::string Module(const std::string& type, const std::string& path) {
  return R"({"type":"sentence_transformers.models.)" + type + R"(","path":")" + path + "\"}";
}

class Modules : public ::testing::Test {
 protected:
  Result<SentenceModules> Load(const std::string& modules) {
    folder_.Write("modules.json", modules);
    return LoadSentenceModules(*CheckpointFolder::Open(folder_.path()));
  }

  void AddFile(const std::string& module, const std::string& name, const std::string& content) {
    std::filesystem::create_directory(folder_.path() + "/" + module);
    folder_.Write(module + "/" + name, content);
  }

  TemporaryFolder folder_;
};

TEST_F(Modules, NoneIsNoError) {
  const auto modules = LoadSentenceModules(*CheckpointFolder::Open(folder_.path()));
  ASSERT_TRUE(modules.has_value());
  EXPECT_FALSE(modules->pooling || modules->score);
}

TEST_F(Modules, PoolingDenseAndNormalizeAreRead) {
  AddFile("1_Pooling", "config.json",
          R"({"pooling_mode_mean_tokens":false,"pooling_mode_lasttoken":true,)"
          R"("pooling_mode_cls_token":true,"include_prompt":false})");
  AddFile("2_Dense", "config.json",
          R"({"in_features":2,"out_features":1,"bias":false,)"
          R"("activation_function":"torch.nn.modules.linear.Identity"})");
  AddFile("2_Dense", "model.safetensors",
          testing::Safetensors(
              {{.name = "linear.weight", .shape = {1, 2}, .bytes = std::string(8, '\0')}}));
  const auto modules =
      Load("[" + Module("Transformer", "") + "," + Module("Pooling", "1_Pooling") + "," +
           Module("Dense", "2_Dense") + "," + Module("Normalize", "3_N") + "]");
  ASSERT_TRUE(modules.has_value()) << modules.error().ToString();
  ASSERT_TRUE(modules->pooling.has_value());
  EXPECT_THAT(modules->pooling->modes, ElementsAre(PoolMode::kCls, PoolMode::kLastToken));
  EXPECT_FALSE(modules->pooling->include_prompt);
  ASSERT_EQ(modules->pooling->stages.size(), 2U);
  EXPECT_EQ(modules->pooling->stages[0].out_features, 1);
  EXPECT_EQ(modules->pooling->stages[0].activation, PoolActivation::kIdentity);
  EXPECT_TRUE(modules->pooling->stages[1].normalize);
}

TEST_F(Modules, TheNewerFormNamesItsModes) {
  AddFile("1_Pooling", "config.json", R"({"pooling_mode":"lasttoken"})");
  const auto modules = Load("[" + Module("Pooling", "1_Pooling") + "]");
  ASSERT_TRUE(modules.has_value()) << modules.error().ToString();
  EXPECT_THAT(modules->pooling->modes, ElementsAre(PoolMode::kLastToken));
}

TEST_F(Modules, AScoreNamesItsTokens) {
  AddFile("1_LogitScore", "config.json", R"({"true_token_id":9,"false_token_id":4})");
  const auto modules = Load("[" + Module("LogitScore", "1_LogitScore") + "]");
  ASSERT_TRUE(modules.has_value()) << modules.error().ToString();
  EXPECT_EQ(modules->score->yes, 9);
  EXPECT_EQ(modules->score->no, 4);
}

TEST_F(Modules, WhatIsNotBuiltOrLeavesTheFolderIsRefusedByName) {
  AddFile("1_Pooling", "config.json", R"({"pooling_mode":"attention"})");
  EXPECT_THAT(Load("[" + Module("Pooling", "1_Pooling") + "]").error().detail(),
              HasSubstr("pooling_mode"));
  EXPECT_THAT(Load("[" + Module("CNN", "1_CNN") + "]").error().detail(), HasSubstr("CNN"));
  EXPECT_THAT(Load("[" + Module("Normalize", "") + "]").error().detail(), HasSubstr("type"));
  for (const char* path : {"..", "../other", "/etc", "absent"}) {
    EXPECT_FALSE(Load("[" + Module("Pooling", path) + "]").has_value()) << path;
  }
  EXPECT_FALSE(Load("{}").has_value());
  EXPECT_FALSE(Load("[1]").has_value());
}

}  // namespace
}  // namespace pixii::model
