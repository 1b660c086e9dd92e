#include "model/families.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace pixii::model {
namespace {

using ::testing::HasSubstr;

/// A small valid config of `architecture` with `edits` on top; an edit replaces the key.
wire::Json Config(const std::string& architecture, const std::string& edits = "{}") {
  wire::Json json =
      *wire::ParseJson(R"({"hidden_size": 64, "intermediate_size": 160, "vocab_size": 512,
      "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "max_position_embeddings": 256})");
  json.Set("architectures", wire::Json::Array{architecture});
  const auto changes = wire::ParseJson(edits);
  EXPECT_TRUE(changes.has_value()) << edits;
  for (const auto& [key, value] : changes->object()) {
    json.Set(key, value);
  }
  return json;
}

Result<DecoderSpec> Describe(const std::string& architecture, const std::string& edits = "{}") {
  const wire::Json json = Config(architecture, edits);
  return DescribeDecoder(ConfigReader(json, "config.json"));
}

DecoderSpec DescribeOrFail(const std::string& architecture, const std::string& edits = "{}") {
  auto spec = Describe(architecture, edits);
  EXPECT_TRUE(spec.has_value()) << edits << ": " << spec.error().ToString();
  return spec ? *std::move(spec) : DecoderSpec{};
}

std::vector<std::int32_t> Windows(const DecoderSpec& spec) {
  std::vector<std::int32_t> out;
  for (const LayerSpec& layer : spec.layers) {
    out.push_back(layer.window_tokens);
  }
  return out;
}

TEST(Families, LlamaTakesTheReferenceDefaults) {
  const DecoderSpec spec = DescribeOrFail("LlamaForCausalLM");
  EXPECT_EQ(spec.architecture, "LlamaForCausalLM");
  EXPECT_EQ(spec.head_dim, 8);
  EXPECT_EQ(spec.kv_head_count, 2);
  EXPECT_EQ(spec.rope.theta, 10000.0);
  EXPECT_EQ(spec.norm_epsilon, 1e-6F);
  EXPECT_FALSE(spec.tied_head);
  EXPECT_FALSE(spec.names.qkv.bias);
  EXPECT_EQ(spec.layers.size(), 4U);
}

TEST(Families, LlamaWithoutKvHeadsHasAsManyAsQueryHeads) {
  EXPECT_EQ(DescribeOrFail("LlamaForCausalLM", R"({"num_key_value_heads": null})").kv_head_count,
            8);
}

TEST(Families, LlamaReadsBiases) {
  const DecoderSpec spec =
      DescribeOrFail("LlamaForCausalLM", R"({"attention_bias": true, "mlp_bias": true})");
  EXPECT_TRUE(spec.names.qkv.bias && spec.names.o.bias && spec.names.gate_up.bias &&
              spec.names.down.bias);
}

TEST(Families, ModelTypeStandsInForMissingArchitectures) {
  EXPECT_EQ(DescribeOrFail("", R"({"architectures": null, "model_type": "qwen3"})").architecture,
            "Qwen3ForCausalLM");
}

TEST(Families, BothRopeDialectsSayTheSame) {
  const std::string factors =
      R"("factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 64)";
  for (const std::string& dialect :
       {R"({"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", )" + factors + "}}",
        R"({"rope_theta": 5e5, "rope_scaling": {"type": "llama3", )" + factors + "}}",
        R"({"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, )" + factors + "}}"}) {
    const RopeSpec rope = DescribeOrFail("LlamaForCausalLM", dialect).rope;
    EXPECT_EQ(rope.kind, RopeKind::kLlama3) << dialect;
    EXPECT_EQ(rope.theta, 5e5) << dialect;
    EXPECT_EQ(rope.factor, 8.0) << dialect;
    EXPECT_EQ(rope.original_context_tokens, 64) << dialect;
  }
  EXPECT_EQ(
      DescribeOrFail("LlamaForCausalLM", R"({"rope_scaling": {"rope_type": "default"}})").rope.kind,
      RopeKind::kDefault);
}

TEST(Families, MistralSlidesOverAllLayers) {
  EXPECT_EQ(Windows(DescribeOrFail("MistralForCausalLM", R"({"sliding_window": 16})")),
            std::vector<std::int32_t>(4, 16));
  EXPECT_EQ(Windows(DescribeOrFail("MistralForCausalLM", R"({"sliding_window": null})")),
            std::vector<std::int32_t>(4, 0));
  EXPECT_EQ(Windows(DescribeOrFail("MistralForCausalLM")), std::vector<std::int32_t>(4, 4096));
}

TEST(Families, QwenWindowsNeedTheSwitchAndStartAtALayer) {
  const std::string window = R"("sliding_window": 32, "max_window_layers": 3)";
  for (const char* family : {"Qwen2ForCausalLM", "Qwen3ForCausalLM"}) {
    EXPECT_EQ(Windows(DescribeOrFail(family, "{" + window + "}")),
              (std::vector<std::int32_t>{0, 0, 0, 0}));
    EXPECT_EQ(Windows(DescribeOrFail(family, R"({"use_sliding_window": true, )" + window + "}")),
              (std::vector<std::int32_t>{0, 0, 0, 32}));
    EXPECT_EQ(Windows(DescribeOrFail(
                  family, R"({"use_sliding_window": true, "sliding_window": 32, "layer_types":
        ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]})")),
              (std::vector<std::int32_t>{32, 0, 32, 0}));
  }
}

TEST(Families, SmolLm3TurnsOnlySomeLayersAndWindowsTheOthers) {
  const auto turning = [](const DecoderSpec& spec) {
    std::string out;
    for (const LayerSpec& layer : spec.layers) {
      out += layer.rope ? '1' : '0';
    }
    return out;
  };
  EXPECT_EQ(turning(DescribeOrFail("SmolLM3ForCausalLM")), "1110");
  EXPECT_EQ(turning(DescribeOrFail("SmolLM3ForCausalLM", R"({"no_rope_layer_interval": 2})")),
            "1010");
  const DecoderSpec listed =
      DescribeOrFail("SmolLM3ForCausalLM", R"({"no_rope_layers": [0, 1, 1, 0],
          "use_sliding_window": true, "sliding_window": 8})");
  EXPECT_EQ(turning(listed), "0110");
  EXPECT_EQ(Windows(listed), (std::vector<std::int32_t>{8, 0, 0, 8}));
}

TEST(Families, QwensDifferInBiasAndNorm) {
  const DecoderSpec qwen2 = DescribeOrFail("Qwen2ForCausalLM");
  EXPECT_TRUE(qwen2.names.qkv.bias);
  EXPECT_FALSE(qwen2.names.o.bias);
  EXPECT_FALSE(qwen2.qk_norm());
  const DecoderSpec qwen3 = DescribeOrFail("Qwen3ForCausalLM");
  EXPECT_FALSE(qwen3.names.qkv.bias);
  EXPECT_TRUE(qwen3.qk_norm());
  EXPECT_EQ(qwen3.head_dim, 128);
}

struct Refusal {
  std::string edits;
  std::string what;
  Code code = Code::kUnsupported;
  std::string architecture = "LlamaForCausalLM";
};

TEST(Families, RefuseWhatCannotBeRunExactlyNamingKeyAndValue) {
  const std::vector<Refusal> cases = {
      {R"({"architectures": ["GPT2LMHeadModel"]})",
       "architectures = [\"GPT2LMHeadModel\"] is not built"},
      {R"({"architectures": ["LlamaForTokenClassification"]})", "is not built"},
      {R"({"architectures": ["LlamaForCausalLM", "MistralForCausalLM"]})", "names more than one"},
      {R"({"architectures": []})", "model_type"},
      {R"({"hidden_act": "relu2"})", "hidden_act = \"relu2\""},
      {R"({"quantization_config": {"quant_method": "bitsandbytes"}})",
       "quantization_config.quant_method = \"bitsandbytes\""},
      {R"({"is_causal": false})", "is_causal = false"},
      {R"({"partial_rotary_factor": 0.5})", "partial_rotary_factor = 0.5"},
      {R"({"rope_parameters": {"rope_type": "spiral", "factor": 4}})",
       "rope_parameters.rope_type = \"spiral\""},
      {R"({"topk_method": "random"})", "topk_method = \"random\"", Code::kUnsupported,
       "DeepseekV3ForCausalLM"},
      {R"({"kv_lora_rank": 600})", "kv_lora_rank = 600", Code::kUnsupported,
       "DeepseekV2ForCausalLM"},
      {R"({"norm_topk_prob": true, "kv_lora_rank": 32})", "norm_topk_prob = true",
       Code::kUnsupported, "DeepseekV2ForCausalLM"},
      {R"({"use_bidirectional_attention": true})", "use_bidirectional_attention = true",
       Code::kUnsupported, "Gemma3ForCausalLM"},
      {R"({"no_rope_layers": [1, 0]})", "no_rope_layers", Code::kInvalidArgument,
       "SmolLM3ForCausalLM"},
      {R"({"layer_types": ["full_attention", "sliding_attention", "full_attention", "full_attention"]})",
       "layer 1"},
      {R"({"layer_types": ["linear_attention", "full_attention", "full_attention", "full_attention"]})",
       "layer 0 is linear_attention", Code::kUnsupported, "Qwen3ForCausalLM"},
  };
  for (const Refusal& refusal : cases) {
    const auto spec = Describe(refusal.architecture, refusal.edits);
    ASSERT_FALSE(spec.has_value()) << refusal.edits;
    EXPECT_EQ(spec.error().code(), refusal.code)
        << refusal.edits << ": " << spec.error().ToString();
    EXPECT_THAT(spec.error().detail(), HasSubstr(refusal.what)) << refusal.edits;
    EXPECT_THAT(spec.error().detail(), HasSubstr("config.json: ")) << refusal.edits;
  }
}

TEST(Families, RefuseSizesOutOfBounds) {
  for (
      const char* edits :
      {R"({"hidden_size": 0})",
       R"({"hidden_size": 9007199254740993})",
       R"({"hidden_size": "64"})",
       R"({"hidden_size": null})",
       R"({"vocab_size": 4194305})",
       R"({"num_hidden_layers": 1025})",
       R"({"num_attention_heads": -8})",
       R"({"num_attention_heads": 7})",
       R"({"num_key_value_heads": 3})",
       R"({"num_key_value_heads": 16})",
       R"({"head_dim": 7})",
       R"({"head_dim": 1024})",
       R"({"max_position_embeddings": 1048577})",
       R"({"intermediate_size": 1048577})",
       R"({"rms_norm_eps": -1})",
       R"({"rope_theta": 0})",
       R"({"rope_theta": 1e300})",
       R"({"rope_scaling": {"rope_type": "llama3"}})",
       R"({"rope_scaling": 5})",
       R"({"layer_types": ["full_attention"]})",
       R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4,
            "original_max_position_embeddings": 64}})",
       R"({"tie_word_embeddings": 1})"}) {
    const auto spec = Describe("LlamaForCausalLM", edits);
    ASSERT_FALSE(spec.has_value()) << edits;
    EXPECT_EQ(spec.error().code(), Code::kInvalidArgument)
        << edits << ": " << spec.error().ToString();
    EXPECT_FALSE(spec.error().param().empty()) << edits;
  }
}

}  // namespace
}  // namespace pixii::model
