#include "model/lora_adapter.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>

#include "unit/model/checkpoint_writer.h"

namespace pixii::model {
namespace {

using testing::Safetensors;
using testing::WrittenTensor;

const std::vector<AdaptableLinear> kLinears = {
    {.name = "model.layers.0.self_attn.q_proj", .in_features = 6, .out_features = 8},
    {.name = "model.layers.0.mlp.down_proj", .in_features = 10, .out_features = 6},
    {.name = "lm_head", .in_features = 6, .out_features = 20}};

constexpr const char* kConfig =
    R"({"peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": ["q_proj", "down_proj"], "bias": "none",
        "task_type": "CAUSAL_LM", "use_dora": false, "modules_to_save": null, "some_new_key": []})";

std::string Floats(const std::vector<std::int64_t>& shape, float first) {
  std::string bytes;
  for (std::int64_t i = 0; i < shape[0] * shape[1]; ++i) {
    const float value = first + static_cast<float>(i);
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  return bytes;
}

WrittenTensor Tensor(const std::string& name, const std::vector<std::int64_t>& shape,
                     float first = 0) {
  return {.name = "base_model.model." + name,
          .dtype = "F32",
          .shape = shape,
          .bytes = Floats(shape, first)};
}

std::vector<WrittenTensor> GoodTensors() {
  return {Tensor("model.layers.0.self_attn.q_proj.lora_A.weight", {2, 6}, 1),
          Tensor("model.layers.0.self_attn.q_proj.lora_B.weight", {8, 2}, 100),
          Tensor("model.layers.0.mlp.down_proj.lora_A.weight", {2, 10}),
          Tensor("model.layers.0.mlp.down_proj.lora_B.weight", {6, 2})};
}

Result<LoraAdapter> Parse(const std::string& config, const std::vector<WrittenTensor>& tensors,
                          const LoraLimits& limits = {}) {
  return LoraAdapter::Parse(config, Safetensors(tensors), kLinears, limits);
}

std::string With(std::string_view what, std::string_view by) {
  std::string config = kConfig;
  const std::size_t at = config.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return config.replace(at, what.size(), by);
}

TEST(LoraAdapter, PairsBelongToTheLinearsTheyName) {
  const auto adapter = Parse(kConfig, GoodTensors());
  ASSERT_TRUE(adapter.has_value()) << adapter.error().detail();
  ASSERT_EQ(adapter->pairs().size(), 2U);
  const LoraPair& pair = adapter->pairs()[0];
  EXPECT_EQ(pair.linear, 0U);
  EXPECT_EQ(pair.down.rows, 2);
  EXPECT_EQ(pair.down.cols, 6);
  EXPECT_EQ(pair.up.rows, 8);
  EXPECT_EQ(pair.up.cols, 2);
  EXPECT_FLOAT_EQ(pair.scale, 3.0F);
  float value = 0;
  std::memcpy(&value, static_cast<const std::byte*>(pair.up.data) + 3 * sizeof(float),
              sizeof(value));
  EXPECT_EQ(value, 103.0F);
  EXPECT_EQ(adapter->pairs()[1].linear, 1U);
  EXPECT_EQ(adapter->rank_max(), 2);
  EXPECT_EQ(adapter->size_bytes(), (12U + 16U + 20U + 12U) * 4U);
}

TEST(LoraAdapter, ItsFingerprintCoversConfigAndWeights) {
  const auto one = Parse(kConfig, GoodTensors());
  const auto same = Parse(kConfig, GoodTensors());
  const auto other_alpha = Parse(With("\"lora_alpha\": 6", "\"lora_alpha\": 5"), GoodTensors());
  auto tensors = GoodTensors();
  tensors[0].bytes[0] ^= 1;
  const auto other_bits = Parse(kConfig, tensors);
  ASSERT_TRUE(one && same && other_alpha && other_bits);
  EXPECT_EQ(one->fingerprint(), same->fingerprint());
  EXPECT_NE(one->fingerprint(), other_alpha->fingerprint());
  EXPECT_NE(one->fingerprint(), other_bits->fingerprint());
}

TEST(LoraAdapter, ScalesFollowTheConfig) {
  const auto scale = [](const std::string& config, std::size_t pair) {
    const auto adapter = Parse(config, GoodTensors());
    EXPECT_TRUE(adapter.has_value()) << adapter.error().detail();
    return adapter ? adapter->pairs()[pair].scale : 0.0F;
  };
  EXPECT_FLOAT_EQ(scale(With("\"bias\"", "\"use_rslora\": true, \"bias\""), 0),
                  6.0F / std::sqrt(2.0F));
  const std::string pattern =
      With("\"bias\"", "\"alpha_pattern\": {\"mlp.down_proj\": 8}, \"bias\"");
  EXPECT_FLOAT_EQ(scale(pattern, 0), 3.0F);
  EXPECT_FLOAT_EQ(scale(pattern, 1), 4.0F);
  // A name counts from a dot on: "proj" is the end of no module.
  EXPECT_FLOAT_EQ(scale(With("\"bias\"", "\"alpha_pattern\": {\"proj\": 8}, \"bias\""), 1), 3.0F);
}

TEST(LoraAdapter, RanksMayDifferByModule) {
  auto tensors = GoodTensors();
  tensors[2] = Tensor("model.layers.0.mlp.down_proj.lora_A.weight", {3, 10});
  tensors[3] = Tensor("model.layers.0.mlp.down_proj.lora_B.weight", {6, 3});
  EXPECT_FALSE(Parse(kConfig, tensors).has_value());
  const auto adapter =
      Parse(With("\"bias\"", "\"rank_pattern\": {\"down_proj\": 3}, \"bias\""), tensors);
  ASSERT_TRUE(adapter.has_value()) << adapter.error().detail();
  EXPECT_EQ(adapter->rank_max(), 3);
  EXPECT_FLOAT_EQ(adapter->pairs()[1].scale, 2.0F);
}

struct Refusal {
  const char* what;
  std::string config;
  std::function<void(std::vector<WrittenTensor>&)> change;
  Code code;
  const char* says;
};

TEST(LoraAdapter, WhatCannotBeRunExactlyIsRefusedByName) {
  const auto none = [](std::vector<WrittenTensor>&) {};
  const std::vector<Refusal> refusals = {
      {"dora", With("\"use_dora\": false", "\"use_dora\": true"), none, Code::kUnsupported,
       "use_dora"},
      {"bias", With("\"none\"", "\"all\""), none, Code::kUnsupported, "bias"},
      {"other method", With("\"LORA\"", "\"LOHA\""), none, Code::kUnsupported, "peft_type"},
      {"saved modules", With("\"modules_to_save\": null", "\"modules_to_save\": [\"lm_head\"]"),
       none, Code::kUnsupported, "modules_to_save"},
      {"unknown key", With("\"some_new_key\": []", "\"some_new_key\": 3"), none, Code::kUnsupported,
       "some_new_key"},
      {"regular expression", With("[\"q_proj\", \"down_proj\"]", "\".*_proj\""), none,
       Code::kUnsupported, "target_modules"},
      {"rank", With("\"r\": 2", "\"r\": 257"), none, Code::kInvalidArgument, "r"},
      {"untargeted", With("\"q_proj\", ", ""), none, Code::kDataCorrupt, "target_modules"},
      {"embedding", kConfig,
       [](auto& tensors) {
         tensors.push_back(Tensor("model.embed_tokens.lora_embedding_A", {2, 20}));
       },
       Code::kUnsupported, "embedding"},
      {"dora tensor", kConfig,
       [](auto& tensors) {
         tensors.push_back(Tensor("model.layers.0.self_attn.q_proj.lora_magnitude_vector", {1, 8}));
       },
       Code::kUnsupported, "DoRA"},
      {"unknown module", kConfig,
       [](auto& tensors) {
         tensors.push_back(Tensor("model.layers.7.q_proj.lora_A.weight", {2, 6}));
         tensors.push_back(Tensor("model.layers.7.q_proj.lora_B.weight", {8, 2}));
       },
       Code::kUnsupported, "layers.7"},
      {"half a pair", kConfig, [](auto& tensors) { tensors.pop_back(); }, Code::kDataCorrupt,
       "other half"},
      {"another shape", kConfig,
       [](auto& tensors) {
         tensors[1] = Tensor("model.layers.0.self_attn.q_proj.lora_B.weight", {9, 2});
       },
       Code::kDataCorrupt, "[9, 2]"},
      {"integers", kConfig, [](auto& tensors) { tensors[0].dtype = "I32"; }, Code::kUnsupported,
       "I32"},
      {"twice", kConfig,
       [](auto& tensors) {
         tensors.push_back(tensors[0]);
         tensors.back().name =
             "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight";
       },
       Code::kDataCorrupt, "twice"},
      {"not a number", kConfig,
       [](auto& tensors) { tensors[1].bytes.replace(12, 4, "\xff\xff\xff\x7f"); },
       Code::kDataCorrupt, "not finite at element 3"},
      {"nothing", kConfig, [](auto& tensors) { tensors.clear(); }, Code::kDataCorrupt,
       "no tensors"},
  };
  for (const Refusal& refusal : refusals) {
    SCOPED_TRACE(refusal.what);
    auto tensors = GoodTensors();
    refusal.change(tensors);
    const auto adapter = Parse(refusal.config, tensors);
    ASSERT_FALSE(adapter.has_value());
    EXPECT_EQ(adapter.error().code(), refusal.code) << adapter.error().detail();
    EXPECT_NE(adapter.error().detail().find(refusal.says), std::string::npos)
        << adapter.error().detail();
  }
}

TEST(LoraAdapter, TheRankLimitOfTheServerHolds) {
  const auto adapter = Parse(kConfig, GoodTensors(), {.rank_max = 1});
  ASSERT_FALSE(adapter.has_value());
  EXPECT_EQ(adapter.error().code(), Code::kUnsupported);
  EXPECT_NE(adapter.error().detail().find("at most 1"), std::string::npos);
}

TEST(LoraAdapter, AFolderNeedsBothFilesAndNoPickle) {
  const testing::TemporaryFolder folder;
  const auto open = [&] {
    Result<LoraAdapter> opened =
        LoraAdapter::Open(*CheckpointFolder::Open(folder.path()), kLinears, {});
    // Who looks without reading the weights says the same.
    const Result<void> checked =
        LoraAdapter::Check(*CheckpointFolder::Open(folder.path()), kLinears, {});
    EXPECT_EQ(opened.has_value(), checked.has_value());
    if (!opened && !checked) {
      EXPECT_EQ(opened.error().ToString(), checked.error().ToString());
    }
    return opened;
  };
  EXPECT_EQ(open().error().code(), Code::kNotFound);
  folder.Write("adapter_config.json", kConfig);
  folder.Write("adapter_model.bin", "pickle");
  EXPECT_EQ(open().error().code(), Code::kUnsupported);
  folder.Write("adapter_model.safetensors", Safetensors(GoodTensors()));
  EXPECT_TRUE(open().has_value());
  EXPECT_EQ(open()->fingerprint(), Parse(kConfig, GoodTensors())->fingerprint());
  folder.Write("adapter_model.safetensors",
               Safetensors({Tensor("model.layers.0.self_attn.q_proj.lora_A.weight", {2, 6})}));
  EXPECT_EQ(open().error().code(), Code::kDataCorrupt) << "half of a pair";
  folder.Write("adapter_config.json", With("\"use_dora\": false", "\"use_dora\": true"));
  EXPECT_EQ(open().error().code(), Code::kUnsupported);
}

}  // namespace
}  // namespace pixii::model
