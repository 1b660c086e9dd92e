// What several ranks make is what one makes, bit for bit.
#include "model/diffusion/wan_ranks.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "model/diffusion/diffusion_run.h"
#include "support/golden.h"
#include "unit/model/diffusion/golden_folder.h"
#include "unit/model/diffusion/tiny_wan.h"

namespace pixii::model {
namespace {

using testing::CpuOperators;
using testing::GoldenFolder;
using testing::TinyWan;

struct Made {
  std::vector<float> latents;
  std::vector<float> pictures;
  std::int32_t steps_reused = 0;

  bool operator==(const Made&) const = default;
};

/// wan-i2v's transformer with heads of 16 in place of 12, which two tensor ranks can share, and
/// other weights.
void Widen(const GoldenFolder& folder) {
  constexpr char kWeights[] = "transformer/diffusion_pytorch_model.safetensors";
  folder.Replace("transformer/config.json", "\"attention_head_dim\": 12",
                 "\"attention_head_dim\": 16");
  folder.Replace("transformer/config.json", "\"added_kv_proj_dim\": 24",
                 "\"added_kv_proj_dim\": 32");
  folder.ChangeTensors(kWeights, [](std::vector<testing::WrittenTensor>& tensors) {
    std::uint32_t state = 1;
    for (testing::WrittenTensor& tensor : tensors) {
      const bool sees_picture = tensor.name.find("image_embedder") != std::string::npos;
      const bool ends_in_dim = tensor.name.find("image_embedder.norm2") != std::string::npos ||
                               tensor.name.find("image_embedder.ff.net.2") != std::string::npos;
      const bool sees_text = tensor.name.find("text_embedder.linear_1") != std::string::npos;
      std::size_t count = 1;
      for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
        const bool input = i > 0 && (sees_text || sees_picture);  // of 24 features, as before
        if (!input && (!sees_picture || ends_in_dim) && tensor.shape[i] % 24 == 0) {
          tensor.shape[i] = tensor.shape[i] / 24 * 32;
        }
        count *= static_cast<std::size_t>(tensor.shape[i]);
      }
      tensor.dtype = "F32";
      tensor.bytes.clear();
      for (std::size_t i = 0; i < count; ++i) {
        state = state * 1664525U + 1013904223U;
        const float value = static_cast<float>(state >> 8U) * 0x1p-24F - 0.5F;
        tensor.bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
      }
    }
  });
}

struct Case {
  std::int32_t cfg = 1;
  std::int32_t sequence = 1;
  std::int32_t tensor = 1;
};

class WanRanksTest : public ::testing::Test {
 protected:
  Result<std::unique_ptr<DiffusionPipeline>> Load(
      const Case& ranks, kernels::ComputeType compute = kernels::ComputeType::kF32) {
    return DiffusionPipeline::Load(
        path_, *operators_,
        {.compute = compute,
         .prompt_tokens = 12,
         .ranks = {
             .cfg_count = ranks.cfg,
             .sequence_count = ranks.sequence,
             .tensor_count = ranks.tensor,
             .make_operators = [] { return kernels::MakeCpuOperators({.thread_count = 1}); }}});
  }

  Made Run(DiffusionPipeline& pipeline, double guidance, std::size_t requests = 1,
           const StepCacheOptions& cache = {}) const {
    std::vector<VideoRequest> asked;
    for (std::size_t i = 0; i < requests; ++i) {
      asked.push_back({.prompt = "red circle moves left",
                       .negative_prompt = "blue",
                       .width = side_,
                       .height = side_,
                       .frames = 5,
                       .steps = 3,
                       .guidance_scale = guidance,
                       .seed = 7 + i,
                       .image = image_});
    }
    auto run = pipeline.Start(asked, cache);
    EXPECT_TRUE(run.has_value()) << run.error().detail();
    Made out;
    while (!(*run)->done()) {
      const Result<void> advanced = (*run)->Advance();
      EXPECT_TRUE(advanced.has_value()) << advanced.error().detail();
      if (!advanced) {
        return out;
      }
    }
    for (std::size_t i = 0; i < requests; ++i) {
      const auto latents = (*run)->latents(i);
      const auto pictures = (*run)->pictures(i);
      out.latents.insert(out.latents.end(), latents.begin(), latents.end());
      out.pictures.insert(out.pictures.end(), pictures.begin(), pictures.end());
    }
    out.steps_reused = (*run)->progress().steps_reused;
    return out;
  }

  Error LoadError(const Case& ranks) {
    auto pipeline = Load(ranks);
    EXPECT_FALSE(pipeline.has_value());
    return pipeline ? Error(Code::kInternal, "") : pipeline.error();
  }

  void UseBundled() {
    path_ = pixii::testing::SourceDir() + "/models/tiny-video";
    side_ = 48;
  }

  /// A model whose videos begin with a picture that its transformer sees.
  void UsePictures(const GoldenFolder& folder) {
    path_ = folder.path();
    side_ = 32;
    auto image = std::make_shared<media::Image>(media::Image{.size = {9, 8}, .rgb = {}});
    for (std::uint32_t i = 0; i < 9 * 8 * media::kImageChannels; ++i) {
      image->rgb.push_back(static_cast<std::uint8_t>(i * 11));
    }
    image_ = std::move(image);
  }

  /// Expects that each of `cases` makes what one rank does.
  void ExpectEqual(const std::vector<Case>& cases) {
    for (const auto compute : {kernels::ComputeType::kF32, kernels::ComputeType::kBf16}) {
      auto alone = Load({}, compute);
      ASSERT_TRUE(alone.has_value()) << alone.error().detail();
      const Made wanted = Run(**alone, 4.0, 2);
      ASSERT_FALSE(wanted.pictures.empty());
      for (const Case& ranks : cases) {
        auto pipeline = Load(ranks, compute);
        ASSERT_TRUE(pipeline.has_value()) << pipeline.error().detail();
        EXPECT_TRUE(Run(**pipeline, 4.0, 2) == wanted)
            << ranks.cfg << " x " << ranks.sequence << " x " << ranks.tensor;
      }
    }
  }

  TinyWan folder_;
  std::string path_ = folder_.path();
  std::int32_t side_ = 24;
  std::shared_ptr<const media::Image> image_;
  std::unique_ptr<kernels::Operators> operators_ = CpuOperators();
};

// 3 frames of 3 x 3 tokens: 27, which two ranks cannot share evenly.
TEST_F(WanRanksTest, PicturesAreThoseOfOneRankBitForBit) {
  ExpectEqual({{.cfg = 2}, {.sequence = 2}, {.cfg = 2, .sequence = 2}});
}

// Six heads of 32 in eight shards of 24.
TEST_F(WanRanksTest, TensorRanksGiveTheBitsOfOneToo) {
  UseBundled();
  ExpectEqual({{.tensor = 2},
               {.cfg = 2, .tensor = 2},
               {.sequence = 6},
               {.cfg = 2, .sequence = 3, .tensor = 2}});
}

TEST_F(WanRanksTest, PicturesToBeginWithAreSeenAsByOneRank) {
  const GoldenFolder stored("wan-i2v");
  UsePictures(stored);
  ExpectEqual({{.cfg = 2}, {.sequence = 2}, {.cfg = 2, .sequence = 2}});
  const GoldenFolder wide("wan-i2v");
  Widen(wide);
  UsePictures(wide);
  ExpectEqual({{.tensor = 2}, {.cfg = 2, .tensor = 2}});
}

TEST_F(WanRanksTest, ARankWithoutALaneWaits) {
  auto alone = Load({});
  auto ranks = Load({.cfg = 2, .sequence = 2});
  ASSERT_TRUE(alone.has_value() && ranks.has_value());
  EXPECT_TRUE(Run(**ranks, 1.0) == Run(**alone, 1.0));
}

// 2 tokens.
TEST_F(WanRanksTest, RanksWithoutATokenWait) {
  UseBundled();
  side_ = 16;
  ExpectEqual({{.sequence = 3}, {.cfg = 2, .sequence = 6}, {.sequence = 3, .tensor = 2}});
}

TEST_F(WanRanksTest, StepsAreReusedAsByOneRank) {
  const StepCacheOptions cache = {.threshold = 10.0};
  auto alone = Load({});
  auto ranks = Load({.cfg = 2, .sequence = 2});
  ASSERT_TRUE(alone.has_value() && ranks.has_value());
  const Made wanted = Run(**alone, 3.0, 1, cache);
  EXPECT_GT(wanted.steps_reused, 0);
  EXPECT_TRUE(Run(**ranks, 3.0, 1, cache) == wanted);
}

TEST_F(WanRanksTest, RunsTakeTurnsBetweenBlocks) {
  auto alone = Load({});
  auto ranks = Load({.sequence = 2});
  ASSERT_TRUE(alone.has_value() && ranks.has_value());
  const VideoRequest request = {.prompt = "red",
                                .negative_prompt = "",
                                .width = 16,
                                .height = 16,
                                .frames = 3,
                                .steps = 2,
                                .guidance_scale = 2.0};
  const auto latents = [&](DiffusionPipeline& pipeline, bool turns) {
    auto run = pipeline.Start({request});
    auto other = pipeline.Start({request});
    while ((*run)->progress().step < 2) {
      EXPECT_TRUE((*run)->Advance().has_value());
      if (turns) {
        EXPECT_TRUE((*other)->Advance().has_value());
      }
    }
    return std::vector<float>((*run)->latents(0).begin(), (*run)->latents(0).end());
  };
  EXPECT_EQ(latents(**ranks, true), latents(**alone, false));
}

TEST_F(WanRanksTest, SizesThatDoNotDivideAreRefusedByName) {
  const Error cfg = LoadError({.cfg = 3});
  EXPECT_EQ(cfg.param(), "dit-cfg-size");
  EXPECT_NE(cfg.detail().find("is 3"), std::string::npos) << cfg.detail();
  const Error sequence = LoadError({.sequence = 3});
  EXPECT_EQ(sequence.param(), "dit-ulysses-size");
  EXPECT_NE(sequence.detail().find("2 heads"), std::string::npos) << sequence.detail();
  EXPECT_EQ(LoadError({.tensor = 4}).param(), "tensor-parallel-size");
  EXPECT_EQ(LoadError({.tensor = 3}).param(), "tensor-parallel-size");
  EXPECT_EQ(LoadError({.tensor = 2}).param(), "tensor-parallel-size") << "24 features";
  UseBundled();
  EXPECT_EQ(LoadError({.sequence = 2, .tensor = 2}).param(), "dit-ulysses-size");
}

}  // namespace
}  // namespace pixii::model
