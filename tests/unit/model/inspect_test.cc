#include "model/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "support/golden.h"

namespace pixii::model {
namespace {

using ::testing::HasSubstr;

InspectReport InspectOrFail(const std::string& name, std::uint64_t memory_bytes = 0) {
  auto report = InspectFolder(pixii::testing::OwnGoldenDir() + "/models/" + name,
                              {.memory_bytes = memory_bytes});
  EXPECT_TRUE(report.has_value()) << report.error().ToString();
  return report ? *std::move(report) : InspectReport{};
}

TEST(Inspect, CountsParametersByKind) {
  const InspectReport report = InspectOrFail("llama-gqa");
  EXPECT_EQ(report.parameters.at("embedding"), 512U * 64);
  EXPECT_EQ(report.parameters.at("head"), 512U * 64);
  EXPECT_EQ(report.parameters.at("mlp"), 3U * 3 * 160 * 64);
  EXPECT_EQ(report.parameters.at("norm"), 7U * 64);
  std::uint64_t sum = 0;
  for (const auto& [kind, count] : report.parameters) {
    sum += count;
  }
  EXPECT_EQ(sum, report.spec.parameter_count);
  EXPECT_EQ(report.dtypes.at("F32").size_bytes, sum * 4);
  EXPECT_EQ(report.tokenizer, "none");
  EXPECT_FALSE(report.has_chat_template);
}

TEST(Inspect, CountsATowerWithItsDecoder) {
  const InspectReport report = InspectOrFail("llava-clip");
  std::uint64_t sum = 0;
  for (const auto& [kind, count] : report.parameters) {
    sum += count;
  }
  EXPECT_EQ(sum, report.spec.parameter_count);
  ASSERT_NE(report.spec.vision, nullptr);
  EXPECT_EQ(report.spec.vision->tokens.image, 590);
}

TEST(Inspect, CountsKvBytesPerToken) {
  EXPECT_EQ(InspectOrFail("llama-gqa").kv_bytes_per_token, 3U * 2 * 2 * 8 * 2);
}

TEST(Inspect, SaysWhatFitsInMemory) {
  const std::uint64_t memory = 64U << 20;
  const InspectReport report = InspectOrFail("llama-gqa", memory);
  EXPECT_EQ(report.kv_tokens_fit,
            (memory - report.weights_bytes - report.workspace_bytes) / report.kv_bytes_per_token);
  EXPECT_EQ(report.full_contexts_fit, report.kv_tokens_fit / 512);
  EXPECT_EQ(InspectOrFail("llama-gqa", 1).kv_tokens_fit, 0U);
  EXPECT_THAT(InspectOrFail("llama-gqa", 1).ToText(), HasSubstr("not in"));
}

TEST(Inspect, JsonHasTheFactsToolsRead) {
  const wire::Json json = InspectOrFail("mistral-window").ToJson();
  EXPECT_EQ(json.Find("architecture")->string(), "MistralForCausalLM");
  EXPECT_GT(*json.Find("parameter_count")->AsInt(), 100000);
  EXPECT_EQ(*json.Find("window_tokens")->AsInt(), 16);
  EXPECT_EQ(*json.Find("window_layers")->AsInt(), 3);
  EXPECT_GT(*json.Find("kv_bytes_per_token")->AsInt(), 0);
  EXPECT_TRUE(wire::ParseJson(json.Dump()).has_value());
}

TEST(Inspect, TextNamesTheArchitecture) {
  EXPECT_THAT(InspectOrFail("qwen3-qknorm").ToText(), HasSubstr("Qwen3ForCausalLM"));
}

}  // namespace
}  // namespace pixii::model
