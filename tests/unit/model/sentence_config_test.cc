#include "model/sentence_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/model/checkpoint_writer.h"

namespace pixii::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

class SentenceConfigTest : public ::testing::Test {
 protected:
  Result<SentenceConfig> Load() {
    return LoadSentenceConfig(*CheckpointFolder::Open(folder_.path()));
  }

  std::string Refusal(const std::string& name, const std::string& text) {
    folder_.Write(name, text);
    const auto loaded = Load();
    folder_.Write(name, "{}");
    return loaded ? "accepted" : loaded.error().ToString();
  }

  TemporaryFolder folder_;
};

TEST_F(SentenceConfigTest, AnEmptyFolderSaysNothing) {
  const auto config = Load();
  ASSERT_TRUE(config.has_value());
  EXPECT_TRUE(config->prompts.empty() && config->labels.empty() && !config->activation);
  EXPECT_EQ(config->similarity, VectorSimilarity::kCosine);
  EXPECT_FALSE(config->matryoshka);
  EXPECT_EQ(config->tokens_max, 0);
}

TEST_F(SentenceConfigTest, ReadsWhatEachFileSays) {
  folder_.Write("config.json",
                R"({"id2label":{"1":"no","0":"yes"},"matryoshka_dimensions":[64,128],)"
                R"("problem_type":"regression"})");
  folder_.Write("config_sentence_transformers.json",
                R"({"prompts":{"query":"Q: ","document":""},"default_prompt_name":"query",)"
                R"("similarity_fn_name":"dot"})");
  folder_.Write("sentence_bert_config.json", R"({"max_seq_length":256,"do_lower_case":false})");
  const auto config = Load();
  ASSERT_TRUE(config.has_value()) << config.error().ToString();
  EXPECT_THAT(config->labels, ElementsAre("yes", "no"));
  EXPECT_TRUE(config->matryoshka);
  EXPECT_THAT(config->dimensions, ElementsAre(64, 128));
  EXPECT_EQ(config->activation, ScoreActivation::kIdentity);
  ASSERT_EQ(config->prompts.size(), 2U);
  EXPECT_EQ(config->prompts[0].second, "Q: ");
  EXPECT_EQ(config->default_prompt, "query");
  EXPECT_EQ(config->similarity, VectorSimilarity::kDot);
  EXPECT_EQ(config->tokens_max, 256);
}

TEST_F(SentenceConfigTest, TheActivationOfTheCrossEncoderWins) {
  folder_.Write("config.json",
                R"({"problem_type":"single_label_classification","sentence_transformers":)"
                R"({"activation_fn":"torch.nn.modules.linear.Identity"}})");
  EXPECT_EQ(Load()->activation, ScoreActivation::kIdentity);
  folder_.Write(
      "config.json",
      R"({"sbert_ce_default_activation_function":"torch.nn.modules.activation.Sigmoid"})");
  EXPECT_EQ(Load()->activation, ScoreActivation::kSigmoid);
}

TEST_F(SentenceConfigTest, RefusalsNameFileAndKey) {
  EXPECT_THAT(Refusal("config_sentence_transformers.json", R"({"similarity_fn_name":"odd"})"),
              HasSubstr("similarity_fn_name"));
  EXPECT_THAT(Refusal("config_sentence_transformers.json", R"({"prompts":{"a":5}})"),
              HasSubstr("prompts"));
  EXPECT_THAT(Refusal("config_sentence_transformers.json", R"({"default_prompt_name":"a"})"),
              HasSubstr("default_prompt_name"));
  EXPECT_THAT(Refusal("sentence_bert_config.json", R"({"max_seq_length":-3})"),
              HasSubstr("max_seq_length"));
  EXPECT_THAT(Refusal("config.json", R"({"matryoshka_dimensions":[0]})"),
              HasSubstr("matryoshka_dimensions"));
  EXPECT_THAT(Refusal("config.json", R"({"sentence_transformers":{"activation_fn":"a.GELU"}})"),
              HasSubstr("activation_fn"));
}

}  // namespace
}  // namespace pixii::model
