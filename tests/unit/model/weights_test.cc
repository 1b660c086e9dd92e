#include "model/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/families.h"
#include "unit/model/checkpoint_writer.h"

namespace pixii::model {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;
using testing::WrittenTensor;

DecoderSpec TinySpec(bool tied) {
  const std::string text =
      R"({"architectures": ["Qwen2ForCausalLM"], "hidden_size": 4, "intermediate_size": 6, "vocab_size": 8,
          "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": )" +
      std::string(tied ? "true}" : "false}");
  auto config = ParseConfig(text, "");
  EXPECT_TRUE(config.has_value()) << config.error().ToString();
  return std::move(config->decoder);
}

std::vector<WrittenTensor> TinyTensors(const DecoderSpec& spec) {
  std::vector<WrittenTensor> out;
  for (const ExpectedTensor& expected : ExpectedTensors(spec)) {
    std::int64_t count = 1;
    for (const std::int64_t dim : expected.shape) {
      count *= dim;
    }
    out.push_back({expected.name, "F32", expected.shape,
                   std::string(static_cast<std::size_t>(count) * 4, 'w')});
  }
  return out;
}

Result<void> Check(const DecoderSpec& spec, const std::vector<WrittenTensor>& tensors) {
  const TemporaryFolder temporary;
  temporary.Write("model.safetensors", testing::Safetensors(tensors));
  PX_TRY(const auto folder, CheckpointFolder::Open(temporary.path()));
  PX_TRY(const auto checkpoint, Checkpoint::Open(folder));
  return CheckTensors(spec, checkpoint);
}

TEST(Weights, ListsTheTensorsOfADecoder) {
  std::vector<std::string> names;
  for (const ExpectedTensor& tensor : ExpectedTensors(TinySpec(false))) {
    names.push_back(tensor.name);
  }
  EXPECT_THAT(names,
              ::testing::ElementsAre(
                  "model.embed_tokens.weight", "model.layers.0.input_layernorm.weight",
                  "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.q_proj.bias",
                  "model.layers.0.self_attn.k_proj.weight", "model.layers.0.self_attn.k_proj.bias",
                  "model.layers.0.self_attn.v_proj.weight", "model.layers.0.self_attn.v_proj.bias",
                  "model.layers.0.self_attn.o_proj.weight",
                  "model.layers.0.post_attention_layernorm.weight",
                  "model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight",
                  "model.layers.0.mlp.down_proj.weight", "model.norm.weight", "lm_head.weight"));
}

TEST(Weights, AcceptsExactlyWhatTheConfigDescribes) {
  for (const bool tied : {false, true}) {
    const auto checked = Check(TinySpec(tied), TinyTensors(TinySpec(tied)));
    EXPECT_TRUE(checked.has_value()) << checked.error().ToString();
  }
}

TEST(Weights, RefusesAMissingTensor) {
  auto tensors = TinyTensors(TinySpec(false));
  tensors.erase(tensors.begin() + 3);
  const auto checked = Check(TinySpec(false), tensors);
  ASSERT_FALSE(checked.has_value());
  EXPECT_EQ(checked.error().code(), Code::kDataCorrupt);
  EXPECT_THAT(checked.error().detail(), HasSubstr("q_proj.bias of shape [4] is missing"));
}

TEST(Weights, RefusesAnotherShapeNamingBothAndTheOffset) {
  auto tensors = TinyTensors(TinySpec(false));
  tensors[0].shape = {4, 8};
  const auto checked = Check(TinySpec(false), tensors);
  ASSERT_FALSE(checked.has_value());
  EXPECT_EQ(checked.error().code(), Code::kDataCorrupt);
  EXPECT_THAT(checked.error().detail(), HasSubstr("model.safetensors: offset "));
  EXPECT_THAT(checked.error().detail(), HasSubstr("has shape [4, 8], config.json asks for [8, 4]"));
}

TEST(Weights, RefusesADtypeThatKernelsDoNotRead) {
  auto tensors = TinyTensors(TinySpec(false));
  tensors[0].dtype = "I32";
  const auto checked = Check(TinySpec(false), tensors);
  ASSERT_FALSE(checked.has_value());
  EXPECT_EQ(checked.error().code(), Code::kUnsupported);
  EXPECT_THAT(checked.error().detail(), HasSubstr("has dtype I32"));
}

TEST(Weights, RefusesATensorThatNothingWouldUse) {
  auto tensors = TinyTensors(TinySpec(false));
  tensors.push_back({"model.layers.0.self_attn.q_norm.weight", "F32", {1}, "1234"});
  const auto checked = Check(TinySpec(false), tensors);
  ASSERT_FALSE(checked.has_value());
  EXPECT_EQ(checked.error().code(), Code::kUnsupported);
  EXPECT_THAT(checked.error().detail(),
              HasSubstr("q_norm.weight\" is no part of Qwen2ForCausalLM"));
}

TEST(Weights, ToleratesStoredRotaryFrequencies) {
  auto tensors = TinyTensors(TinySpec(false));
  tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", "F32", {1}, "1234"});
  EXPECT_TRUE(Check(TinySpec(false), tensors).has_value());
}

TEST(Weights, RefusesATiedHeadThatDiffersFromTheTable) {
  auto tensors = TinyTensors(TinySpec(true));
  WrittenTensor head = tensors[0];
  head.name = "lm_head.weight";
  tensors.push_back(head);
  EXPECT_TRUE(Check(TinySpec(true), tensors).has_value());
  tensors.back().bytes.back() = 'x';
  const auto checked = Check(TinySpec(true), tensors);
  ASSERT_FALSE(checked.has_value());
  EXPECT_EQ(checked.error().code(), Code::kUnsupported);
  EXPECT_THAT(checked.error().detail(), HasSubstr("tie_word_embeddings"));
}

TEST(Weights, ReadsMisalignedTensors) {
  const std::vector<float> values = {1.5F, -2.0F, 3.25F, 4.0F};
  std::string bytes(16, '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  const TemporaryFolder temporary;
  temporary.Write("model.safetensors",
                  testing::Safetensors({{"a", "F32", {2, 2}, bytes}, {"b", "F32", {4}, bytes}}, 3));
  const auto folder = CheckpointFolder::Open(temporary.path());
  const auto checkpoint = Checkpoint::Open(*folder);
  ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error().ToString();
  const auto weights = MakeCheckpointWeights(*checkpoint, {});
  const auto part = weights->Part("a", 2, 2);
  ASSERT_TRUE(part.has_value());
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(part->data) % alignof(float), 0U);
  EXPECT_EQ(std::memcmp(part->data, values.data(), 16), 0);
  EXPECT_EQ(*weights->Vector("b", 4), values);
}

TEST(Weights, WidensHalfTypesExactly) {
  const std::vector<std::uint16_t> bf16 = {0x3FC0, 0xC000};  // 1.5, -2
  const std::vector<std::uint16_t> f16 = {0x3E00, 0xC000};   // 1.5, -2
  const TemporaryFolder temporary;
  temporary.Write(
      "model.safetensors",
      testing::Safetensors(
          {{"a", "BF16", {2}, std::string(reinterpret_cast<const char*>(bf16.data()), 4)},
           {"b", "F16", {2}, std::string(reinterpret_cast<const char*>(f16.data()), 4)}}));
  const auto folder = CheckpointFolder::Open(temporary.path());
  const auto checkpoint = Checkpoint::Open(*folder);
  ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error().ToString();
  const auto weights = MakeCheckpointWeights(*checkpoint, {});
  EXPECT_EQ(*weights->Vector("a", 2), (std::vector<float>{1.5F, -2.0F}));
  EXPECT_EQ(*weights->Vector("b", 2), (std::vector<float>{1.5F, -2.0F}));
}

TEST(Weights, RandomOnesRepeatBySeedAndNameAndHaveTheStatedSpread) {
  const auto values = [](std::uint64_t seed, const std::string& name) {
    const auto weights = MakeRandomWeights(seed);
    const auto part = weights->Part(name, 100, 100);
    const auto* bits = static_cast<const std::uint16_t*>(part->data);
    return std::vector<std::uint16_t>(bits, bits + 10000);
  };
  const auto first = values(1, "a");
  EXPECT_EQ(first, values(1, "a"));
  EXPECT_NE(first, values(2, "a"));
  EXPECT_NE(first, values(1, "b"));
  double sum = 0.0;
  double squares = 0.0;
  for (const std::uint16_t bits : first) {
    const double value = kernels::FloatFromBf16(bits);
    sum += value;
    squares += value * value;
  }
  EXPECT_NEAR(sum / 10000, 0.0, 1e-3);
  EXPECT_NEAR(std::sqrt(squares / 10000), 0.02, 2e-3);
}

}  // namespace
}  // namespace pixii::model
