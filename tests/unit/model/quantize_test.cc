#include "model/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <random>

#include "kernels/weight_source.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/language_model.h"
#include "model/paged_runner.h"
#include "model/weights.h"
#include "support/golden.h"
#include "unit/model/checkpoint_writer.h"
#include "wire/json.h"

namespace pixii::model {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;

std::string Source() { return pixii::testing::OwnGoldenDir() + "/models/llama-gqa"; }

/// All rows of a linear as the folder stores it.
std::vector<float> Values(const std::string& path, const std::string& name) {
  const auto folder = CheckpointFolder::Open(path);
  const auto config = LoadConfig(*folder);
  EXPECT_TRUE(config.has_value()) << config.error().ToString();
  const auto checkpoint = Checkpoint::Open(*folder);
  EXPECT_TRUE(checkpoint.has_value()) << checkpoint.error().ToString();
  const auto checked = CheckTensors(config->decoder, *checkpoint);
  EXPECT_TRUE(checked.has_value()) << checked.error().ToString();
  const auto weights = MakeCheckpointWeights(*checkpoint, config->decoder.quantization);
  const auto part =
      weights->Part(name, config->decoder.intermediate_size, config->decoder.hidden_size);
  EXPECT_TRUE(part.has_value()) << part.error().ToString();
  std::vector<float> out(static_cast<std::size_t>(part->rows * part->cols));
  for (std::int64_t row = 0; row < part->rows; ++row) {
    kernels::ReadRow(*part, row, out.data() + row * part->cols);
  }
  return out;
}

TEST(Quantize, EveryWeightIsWithinHalfAStepOfItsOutputsScale) {
  const TemporaryFolder temporary;
  const std::string target = temporary.path() + "/int8";
  const auto report = QuantizeFolder(Source(), target, {});
  ASSERT_TRUE(report.has_value()) << report.error().ToString();
  EXPECT_GT(report->quantized_count, 0);
  EXPECT_GT(report->signal_to_noise_db, 35.0);
  const std::string name = "model.layers.0.mlp.up_proj.weight";
  const std::vector<float> before = Values(Source(), name);
  const std::vector<float> after = Values(target, name);
  ASSERT_EQ(before.size(), after.size());
  const std::size_t cols = 64;
  for (std::size_t row = 0; row < before.size(); row += cols) {
    float largest = 0.0F;
    for (std::size_t i = row; i < row + cols; ++i) {
      largest = std::max(largest, std::abs(before[i]));
    }
    for (std::size_t i = row; i < row + cols; ++i) {
      // bf16 scales are up to 2^-9 off, so the largest codes may be.
      EXPECT_NEAR(after[i], before[i], largest / 127.0F * 0.76F) << i;
    }
  }
}

TEST(Quantize, TheResultRunsAndStaysCloseToTheSource) {
  const auto logits = [](const std::string& path) {
    const auto operators = kernels::MakeReferenceOperators();
    const auto model = LanguageModel::Load(path, *operators, {.step_tokens_max = 16});
    EXPECT_TRUE(model.has_value()) << model.error().ToString();
    auto runner = PagedRunner::Create(**model, *operators, {});
    RunnerSequence sequence{.tokens = {7, 300, 12, 5, 511}};
    const RunnerChunk chunk{&sequence, 5};
    return *runner->Step({&chunk, 1});
  };
  const TemporaryFolder temporary;
  const std::vector<float> expected = logits(Source());

  struct Case {
    QuantizeOptions options;
    double error_max;  // share of the power
  };

  const Case cases[] = {{{.scheme = QuantizeScheme::kInt8}, 1e-2},
                        {{.scheme = QuantizeScheme::kInt4, .group_size = 32}, 0.2},
                        {{.scheme = QuantizeScheme::kInt8, .head = true}, 1e-2}};
  for (std::size_t i = 0; i < std::size(cases); ++i) {
    const std::string target = temporary.path() + "/" + std::to_string(i);
    const auto report = QuantizeFolder(Source(), target, cases[i].options);
    ASSERT_TRUE(report.has_value()) << report.error().ToString();
    const std::vector<float> actual = logits(target);
    double error = 0.0;
    double power = 0.0;
    for (std::size_t j = 0; j < actual.size(); ++j) {
      error += std::pow(double{actual[j]} - double{expected[j]}, 2);
      power += std::pow(double{expected[j]}, 2);
    }
    EXPECT_LT(error, cases[i].error_max * power) << i;
    EXPECT_GT(error, 0.0) << i;
  }
}

TEST(Quantize, ShardsStayBelowTheirSizeAndAreIndexed) {
  const TemporaryFolder temporary;
  const std::string target = temporary.path() + "/shards";
  const auto report = QuantizeFolder(Source(), target, {.shard_size_max = 60'000});
  ASSERT_TRUE(report.has_value()) << report.error().ToString();
  EXPECT_TRUE(std::filesystem::exists(target + "/model.safetensors.index.json"));
  EXPECT_FALSE(std::filesystem::exists(target + ".partial"));
  EXPECT_EQ(Values(target, "model.layers.0.mlp.up_proj.weight").size(), 64U * 160U);
}

TEST(Quantize, TheConfigSaysWhatWasDone) {
  const TemporaryFolder temporary;
  const std::string target = temporary.path() + "/int4";
  ASSERT_TRUE(QuantizeFolder(Source(), target, {.scheme = QuantizeScheme::kInt4, .group_size = 64})
                  .has_value());
  const auto json = wire::ParseJson(pixii::testing::ReadFileOrFail(target + "/config.json"));
  const wire::Json* quantization = json->Find("quantization_config");
  EXPECT_EQ(quantization->Find("quant_method")->string(), "compressed-tensors");
  EXPECT_EQ(quantization->Find("format")->string(), "pack-quantized");
  const wire::Json* weights = quantization->Find("config_groups")->Find("group_0")->Find("weights");
  EXPECT_EQ(weights->Find("num_bits")->AsInt(), 4);
  EXPECT_EQ(weights->Find("group_size")->AsInt(), 64);
  // Columns that do not fill groups of 64 are left as they are, by name.
  EXPECT_THAT(quantization->Find("ignore")->Dump(), HasSubstr("model.layers.0.mlp.down_proj"));
}

TEST(Quantize, RefusesWithTheReason) {
  const TemporaryFolder temporary;
  const auto detail = [](const std::string& source, const std::string& target,
                         const QuantizeOptions& options) {
    const auto report = QuantizeFolder(source, target, options);
    return report ? std::string("written") : report.error().detail();
  };
  EXPECT_THAT(detail(Source(), temporary.path(), {}), HasSubstr("exists already"));
  const std::string target = temporary.path() + "/x";
  EXPECT_THAT(detail(Source(), target, {.scheme = QuantizeScheme::kInt4, .group_size = 48}),
              HasSubstr("group 48 is not 32, 64 or 128"));
  ASSERT_EQ(detail(Source(), target, {}), "written");
  EXPECT_THAT(detail(target, target + "2", {}), HasSubstr("is quantised already"));
  EXPECT_THAT(detail(pixii::testing::OwnGoldenDir() + "/models/bert-mean", target + "2", {}),
              HasSubstr("architectures = \"BertModel\" is an encoder"));
}

TEST(Quantize, TheSearchedScaleIsNeverWorseThanTheLargestValuesOverSeven) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0.0F, 0.02F);
  double searched = 0.0;
  double plain = 0.0;
  for (int round = 0; round < 50; ++round) {
    std::vector<float> values(128);
    float largest = 0.0F;
    for (float& value : values) {
      value = normal(random);
      largest = std::max(largest, std::abs(value));
    }
    const auto error = [&](float scale) {
      double sum = 0.0;
      for (const float value : values) {
        const float code = std::clamp(std::nearbyint(value / scale), -8.0F, 7.0F);
        sum += std::pow(double{value} - double{code} * double{scale}, 2);
      }
      return sum;
    };
    const double of_search = error(SearchInt4Scale(values));
    const double of_largest = error(kernels::RoundToBf16(largest / 7.0F));
    EXPECT_LE(of_search, of_largest * 1.0001);
    searched += of_search;
    plain += of_largest;
  }
  EXPECT_LT(searched, 0.9 * plain);
  EXPECT_EQ(SearchInt4Scale(std::vector<float>(32)), 0.0F);
}

}  // namespace
}  // namespace pixii::model
