#include "model/diffusion/lora_merger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "model/diffusion/diffusion_run.h"
#include "model/diffusion/wan_pipeline.h"
#include "unit/model/diffusion/golden_folder.h"
#include "unit/model/diffusion/tiny_wan.h"

namespace pixii::model {
namespace {

using testing::CpuOperators;
using ::testing::ElementsAre;
using testing::FloatTensor;
using ::testing::HasSubstr;
using testing::TemporaryFolder;
using testing::TinyWan;
using testing::WrittenTensor;

/// A pair of rank 2 for a linear of 3 rows and 2 columns.
std::vector<WrittenTensor> Pair(const std::string& name, const std::string& down = ".lora_A.weight",
                                const std::string& up = ".lora_B.weight") {
  return {FloatTensor(name + down, {2, 2}, {1, 2, 3, 4}),
          FloatTensor(name + up, {3, 2}, {1, 0, 0, 1, 1, 1})};
}

struct Adapter {
  TemporaryFolder folder;

  std::string Write(const std::vector<WrittenTensor>& tensors,
                    const std::string& name = "a.safetensors") const {
    folder.Write(name, testing::Safetensors(tensors));
    return folder.path() + "/" + name;
  }
};

constexpr LoraMerger::Shape kShape = {.rows = 3, .cols = 2};

std::vector<float> Merged(LoraMerger& merger, const std::string& name) {
  std::vector<float> values = {10, 20, 30, 40, 50, 60};
  const auto done = merger.Merge("transformer", name, kShape, values);
  EXPECT_TRUE(done.has_value()) << done.error().ToString();
  return values;
}

TEST(ParseLoraFile, TakesAScaleBehindTheLastSign) {
  EXPECT_EQ(ParseLoraFile("a.safetensors")->path, "a.safetensors");
  EXPECT_EQ(ParseLoraFile("a.safetensors")->scale, 1.0);
  EXPECT_EQ(ParseLoraFile("x=y/a=-0.5")->path, "x=y/a");
  EXPECT_EQ(ParseLoraFile("x=y/a=-0.5")->scale, -0.5);
  for (const char* bad : {"", "=1", "a=", "a=b", "a=1x", "a=1e9", "a=nan"}) {
    EXPECT_FALSE(ParseLoraFile(bad).has_value()) << bad;
  }
}

TEST(LoraMerger, AddsUpTimesDownByAlphaOverRank) {
  const Adapter adapter;
  const std::string path = adapter.Write(Pair("transformer.blocks.0.attn1.to_q"));
  auto merger = LoraMerger::Open(std::vector<LoraFile>{{path, 2.0}});
  ASSERT_TRUE(merger.has_value()) << merger.error().ToString();
  EXPECT_TRUE(merger->Changes("transformer", "blocks.0.attn1.to_q"));
  EXPECT_FALSE(merger->Changes("transformer", "blocks.1.attn1.to_q"));
  EXPECT_FALSE(merger->Changes("text_encoder", "blocks.0.attn1.to_q"));
  EXPECT_THAT(Merged(*merger, "blocks.0.attn1.to_q"), ElementsAre(12, 24, 36, 48, 58, 72));
  EXPECT_TRUE(merger->CheckAllUsed().has_value());

  std::vector<WrittenTensor> with_alpha = Pair("transformer.blocks.0.attn1.to_q");
  with_alpha.push_back(FloatTensor("transformer.blocks.0.attn1.to_q.alpha", {}, {1.0F}));
  const std::string half = adapter.Write(with_alpha, "b.safetensors");
  merger = LoraMerger::Open(std::vector<LoraFile>{{path, 2.0}, {half, 1.0}});
  ASSERT_TRUE(merger.has_value()) << merger.error().ToString();
  EXPECT_THAT(Merged(*merger, "blocks.0.attn1.to_q"), ElementsAre(12.5, 25, 37.5, 50, 60, 75))
      << "two files";
}

TEST(LoraMerger, KnowsTheNamesOfOtherWriters) {
  struct Dialect {
    std::string file;
    std::string ours;
    std::string down = ".lora_A.weight";
    std::string up = ".lora_B.weight";
  };

  for (const Dialect& dialect :
       {Dialect{"base_model.model.blocks.2.ffn.net.0.proj", "blocks.2.ffn.net.0.proj"},
        Dialect{"blocks.2.attn2.to_out.0", "blocks.2.attn2.to_out.0"},
        Dialect{"diffusion_model.blocks.2.self_attn.o", "blocks.2.attn1.to_out.0"},
        Dialect{"diffusion_model.blocks.2.cross_attn.k_img", "blocks.2.attn2.add_k_proj",
                ".lora_down.weight", ".lora_up.weight"},
        Dialect{"lora_unet_blocks_2_ffn_2", "blocks.2.ffn.net.2", ".lora_down.weight",
                ".lora_up.weight"},
        Dialect{"lora_unet_transformer_blocks_1_attn_to_q", "transformer_blocks.1.attn.to_q",
                ".lora_down.weight", ".lora_up.weight"},
        Dialect{"transformer.single_transformer_blocks.3.proj_out",
                "single_transformer_blocks.3.proj_out", ".lora.down.weight", ".lora.up.weight"}}) {
    const Adapter adapter;
    const std::string path = adapter.Write(Pair(dialect.file, dialect.down, dialect.up));
    auto merger = LoraMerger::Open(std::vector<LoraFile>{{path, 1.0}});
    ASSERT_TRUE(merger.has_value()) << merger.error().ToString();
    ASSERT_TRUE(merger->Changes("transformer", dialect.ours)) << dialect.file;
    EXPECT_THAT(Merged(*merger, dialect.ours), ElementsAre(11, 22, 33, 44, 54, 66));
  }
}

TEST(LoraMerger, ReadsAFolderOfPeft) {
  const Adapter adapter;
  adapter.Write(Pair("base_model.model.blocks.0.attn1.to_q"), "adapter_model.safetensors");
  adapter.folder.Write("adapter_config.json", R"({"r": 2, "lora_alpha": 4, "use_rslora": false})");
  auto merger = LoraMerger::Open(std::vector<LoraFile>{{adapter.folder.path(), 1.0}});
  ASSERT_TRUE(merger.has_value()) << merger.error().ToString();
  EXPECT_THAT(Merged(*merger, "blocks.0.attn1.to_q"), ElementsAre(12, 24, 36, 48, 58, 72));
  adapter.folder.Write("adapter_config.json", R"({"r": 2, "lora_alpha": 4, "use_dora": true})");
  merger = LoraMerger::Open(std::vector<LoraFile>{{adapter.folder.path(), 1.0}});
  ASSERT_FALSE(merger.has_value());
  EXPECT_THAT(merger.error().detail(), HasSubstr("use_dora"));
}

TEST(LoraMerger, RefusesWhatItCannotMergeNamingTheKey) {
  struct Bad {
    std::vector<WrittenTensor> tensors;
    const char* said;
  };

  const std::string name = "transformer.blocks.0.attn1.to_q";
  std::vector<WrittenTensor> half = Pair(name);
  half.pop_back();
  std::vector<WrittenTensor> strange = Pair(name);
  strange.push_back(FloatTensor(name + ".diff_b", {3}, {1, 2, 3}));
  std::vector<WrittenTensor> magnitude = Pair(name);
  magnitude.push_back(FloatTensor(name + ".lora_magnitude_vector", {3}, {1, 2, 3}));
  for (const Bad& bad : {Bad{half, "attn1.to_q has half"}, Bad{strange, "attn1.to_q.diff_b"},
                         Bad{magnitude, "lora_magnitude_vector"}}) {
    const Adapter adapter;
    const auto merger = LoraMerger::Open(std::vector<LoraFile>{{adapter.Write(bad.tensors), 1.0}});
    ASSERT_FALSE(merger.has_value()) << bad.said;
    EXPECT_THAT(merger.error().detail(), HasSubstr(bad.said));
  }
  const Adapter adapter;
  auto merger = LoraMerger::Open(std::vector<LoraFile>{{adapter.Write(Pair(name)), 1.0}});
  std::vector<float> values(8);
  const auto done = merger->Merge("transformer", "blocks.0.attn1.to_q", {4, 2}, values);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().detail(), HasSubstr("attn1.to_q.lora_B.weight"));
  EXPECT_THAT(done.error().detail(), HasSubstr("[4, 2]"));
  EXPECT_EQ(LoraMerger::Open(std::vector<LoraFile>{{"/nowhere/a.safetensors", 1.0}}).error().code(),
            Code::kNotFound);
}

std::vector<float> Latents(const TinyWan& wan, const std::vector<LoraFile>& loras) {
  const auto operators = CpuOperators();
  auto pipeline = DiffusionPipeline::Load(wan.path(), *operators, {.loras = loras});
  EXPECT_TRUE(pipeline.has_value()) << pipeline.error().ToString();
  VideoRequest request = (*pipeline)->defaults().request;
  request.prompt = "red circle";
  const auto run = std::move(*(*pipeline)->Start({request}));
  while (!run->done()) {
    EXPECT_TRUE(run->Advance().has_value());
  }
  return {run->latents(0).begin(), run->latents(0).end()};
}

/// What a pair adds to a linear of [rows, cols].
std::vector<WrittenTensor> TinyPair(const std::string& name, std::int64_t rows, std::int64_t cols) {
  std::vector<float> down(static_cast<std::size_t>(cols));
  std::vector<float> up(static_cast<std::size_t>(rows));
  for (std::size_t i = 0; i < down.size(); ++i) {
    down[i] = i % 3 == 0 ? 0.5F : -0.25F;
  }
  for (std::size_t i = 0; i < up.size(); ++i) {
    up[i] = i % 2 == 0 ? 0.5F : 0.25F;
  }
  return {FloatTensor(name + ".lora_A.weight", {1, cols}, down),
          FloatTensor(name + ".lora_B.weight", {rows, 1}, up)};
}

TEST(LoraMerger, GivesWhatWeightsChangedByHandGive) {
  const TinyWan plain;
  const TinyWan changed;
  changed.ChangeWeights("transformer", [](std::vector<WrittenTensor>& tensors) {
    for (WrittenTensor& tensor : tensors) {
      if (tensor.name != "blocks.1.attn2.to_k.weight") {
        continue;
      }
      const std::vector<WrittenTensor> pair = TinyPair("x", 24, 24);
      const std::vector<float> down = testing::FloatsOf(pair[0]);
      const std::vector<float> up = testing::FloatsOf(pair[1]);
      std::vector<float> values = testing::FloatsOf(tensor);
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] += 0.5F * (up[i / 24] * down[i % 24]);
      }
      tensor = FloatTensor(tensor.name, tensor.shape, values);
    }
  });
  const Adapter adapter;
  const std::string path = adapter.Write(TinyPair("transformer.blocks.1.attn2.to_k", 24, 24));
  const std::vector<float> merged = Latents(plain, {{path, 0.5}});
  EXPECT_EQ(merged, Latents(changed, {}));
  EXPECT_NE(merged, Latents(plain, {}));
}

TEST(LoraMerger, SaysWhichKeyChangesNothingOfThePipeline) {
  const TinyWan wan;
  const Adapter adapter;
  const auto operators = CpuOperators();
  const std::string path = adapter.Write(TinyPair("transformer.blocks.7.attn1.to_q", 24, 24));
  const auto pipeline = DiffusionPipeline::Load(wan.path(), *operators, {.loras = {{path, 1.0}}});
  ASSERT_FALSE(pipeline.has_value());
  EXPECT_EQ(pipeline.error().code(), Code::kUnsupported);
  EXPECT_THAT(pipeline.error().detail(), HasSubstr("transformer.blocks.7.attn1.to_q"));
}

}  // namespace
}  // namespace pixii::model
