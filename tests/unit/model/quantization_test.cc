#include "model/quantization.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace pixii::model {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Result<QuantizationSpec> Read(const std::string& quantization) {
  PX_TRY(const wire::Json json,
         ParseConfigJson(R"({"quantization_config": )" + quantization + "}", "config.json"));
  return ReadQuantization(ConfigReader(json, "config.json"));
}

std::string Refusal(const std::string& quantization) {
  const auto spec = Read(quantization);
  return spec ? std::string("accepted") : spec.error().detail();
}

std::string Compressed(const std::string& weights, const std::string& more = "") {
  return R"({"quant_method": "compressed-tensors", "format": "pack-quantized",
             "config_groups": {"group_0": {"targets": ["Linear"], "weights": )" +
         weights + "}}" + more + "}";
}

TEST(Quantization, AConfigWithoutItIsPlain) {
  const auto json = ParseConfigJson("{}", "config.json");
  const auto spec = ReadQuantization(ConfigReader(*json, "config.json"));
  ASSERT_TRUE(spec.has_value());
  EXPECT_TRUE(spec->method.empty());
  EXPECT_EQ(spec->SchemeOf("model.layers.0.mlp.up_proj"), nullptr);
}

TEST(Quantization, ReadsTheSchemesOfEachMethod) {
  struct Case {
    std::string config;
    QuantKind kind;
    std::int32_t bits;
    std::int64_t scale_rows;
    std::int64_t scale_cols;
  };

  const Case cases[] = {
      {R"({"quant_method": "fp8", "weight_block_size": [128, 64]})", QuantKind::kFp8, 8, 128, 64},
      {R"({"quant_method": "fp8", "activation_scheme": "static"})", QuantKind::kFp8, 8, 0, 0},
      {R"({"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0})", QuantKind::kFp8, 8, 1,
       0},
      {R"({"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": true})",
       QuantKind::kGptq, 4, 1, 128},
      {R"({"quant_method": "gptq", "bits": 8, "group_size": -1})", QuantKind::kGptq, 8, 1, 0},
      {R"({"quant_method": "awq", "bits": 4, "group_size": 64, "version": "GEMM"})",
       QuantKind::kAwq, 4, 1, 64},
      {R"({"quant_method": "mxfp4"})", QuantKind::kMxfp4, 4, 1, 32},
      {Compressed(R"({"num_bits": 4, "group_size": 32, "strategy": "group"})"), QuantKind::kPacked,
       4, 1, 32},
      {Compressed(R"({"num_bits": 8, "strategy": "channel"})", R"(, "kv_cache_scheme": null)"),
       QuantKind::kPacked, 8, 1, 0},
      {Compressed(R"({"num_bits": 8, "type": "float", "strategy": "tensor"})"), QuantKind::kFp8, 8,
       0, 0},
      {Compressed(
           R"({"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [64, 32]})"),
       QuantKind::kFp8, 8, 64, 32},
  };
  for (const Case& one : cases) {
    const auto spec = Read(one.config);
    ASSERT_TRUE(spec.has_value()) << one.config << spec.error().ToString();
    const WeightScheme* scheme = spec->SchemeOf("any");
    ASSERT_NE(scheme, nullptr) << one.config;
    EXPECT_EQ(scheme->kind, one.kind) << one.config;
    EXPECT_EQ(scheme->bits, one.bits) << one.config;
    EXPECT_EQ(scheme->scale_rows, one.scale_rows) << one.config;
    EXPECT_EQ(scheme->scale_cols, one.scale_cols) << one.config;
  }
}

TEST(Quantization, GptqZerosAreOffByOneUnlessTheSecondVersion) {
  const std::string common = R"({"quant_method": "gptq", "bits": 4, "group_size": 32)";
  EXPECT_TRUE(Read(common + "}")->SchemeOf("x")->zero_plus_one);
  EXPECT_FALSE(Read(common + R"(, "checkpoint_format": "gptq_v2"})")->SchemeOf("x")->zero_plus_one);
}

TEST(Quantization, TargetsAndIgnoredModulesMatchNamesAndPatterns) {
  const auto spec = Read(R"({"quant_method": "compressed-tensors", "format": "int-quantized",
      "ignore": ["lm_head", "re:.*\\.gate$"],
      "config_groups": {
        "all": {"targets": ["Linear"], "weights": {"num_bits": 8, "strategy": "channel"}},
        "some": {"targets": ["re:model\\.layers\\.[01]\\..*down_proj", "a.b"],
                 "weights": {"num_bits": 8, "strategy": "group", "group_size": 16}}}})");
  ASSERT_TRUE(spec.has_value()) << spec.error().ToString();
  EXPECT_EQ(spec->SchemeOf("model.layers.1.mlp.down_proj")->scale_cols, 16);
  EXPECT_EQ(spec->SchemeOf("x.model.layers.1.mlp.down_proj")->scale_cols, 0);  // matched at 0 only
  EXPECT_EQ(spec->SchemeOf("model.layers.2.mlp.down_proj")->scale_cols, 0);
  EXPECT_EQ(spec->SchemeOf("a.b")->scale_cols, 16);
  EXPECT_TRUE(spec->Ignores("lm_head"));
  EXPECT_TRUE(spec->Ignores("model.layers.3.mlp.gate"));
  EXPECT_FALSE(spec->Ignores("model.layers.3.mlp.gate_proj"));
}

TEST(Quantization, RefusesWhatItDoesNotUnderstandNamingKeyValueAndReason) {
  const std::pair<std::string, std::string> cases[] = {
      {R"({"quant_method": "bitsandbytes"})", "quant_method"},
      {R"({"bits": 4})", "quant_method"},
      {R"([])", "quantization_config"},
      {R"({"quant_method": "fp8", "fmt": "e5m2"})", "fmt"},
      {R"({"quant_method": "fp8", "weight_block_size": [128]})", "weight_block_size"},
      {R"({"quant_method": "fp8", "weight_block_size": [0, 128]})", "weight_block_size"},
      {R"({"quant_method": "fp8", "rotation": "hadamard"})", "rotation"},
      {R"({"quant_method": "gptq", "bits": 3, "group_size": 128})", "bits"},
      {R"({"quant_method": "gptq", "bits": 4, "group_size": 0})", "group_size"},
      {R"({"quant_method": "gptq", "bits": 4, "group_size": 128, "checkpoint_format": "marlin"})",
       "checkpoint_format"},
      {R"({"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": {"-:x": {}}})",
       "dynamic"},
      {R"({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemv"})", "version"},
      {Compressed(R"({"num_bits": 3})"), "num_bits"},
      {Compressed(R"({"num_bits": 4, "type": "float"})"), "num_bits"},
      {Compressed(R"({"num_bits": 4, "strategy": "tensor_group"})"), "strategy"},
      {Compressed(R"({"num_bits": 4, "strategy": "group"})"), "group_size"},
      {Compressed(R"({"num_bits": 4, "dynamic": true})"), "dynamic"},
      {Compressed(R"({"num_bits": 8})", R"(, "sparsity_config": {"format": "sparse-24-bitmask"})"),
       "sparsity_config"},
      {Compressed(R"({"num_bits": 8})", R"(, "transform_config": {"config_groups": {}})"),
       "transform_config"},
      {Compressed(R"({"num_bits": 8})", R"(, "ignore": ["re:("])"), "ignore"},
      {Compressed(R"({"num_bits": 8})", R"(, "format": "marlin-24")"), "format"},
  };
  for (const auto& [config, key] : cases) {
    EXPECT_THAT(Refusal(config), AllOf(HasSubstr("config.json"), HasSubstr(key))) << config;
  }
}

}  // namespace
}  // namespace pixii::model
