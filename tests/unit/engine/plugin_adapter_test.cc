#include "engine/plugin_adapter.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/processor_set.h"
#include "engine_harness.h"
#include "support/golden.h"

namespace pixii::engine {
namespace {

using testing::Harness;
using testing::HarnessOptions;
using testing::MakeRequest;

constexpr std::uint32_t kVocab = 64;

Result<std::unique_ptr<LogitsProcessor>> Load(int kind, const std::string& config = "{}") {
  auto json = wire::ParseJson(config);
  return LoadPluginProcessor(
      std::string(PIXII_TEST_PLUGIN_DIR) + "/test_plugin_" + std::to_string(kind) + ".so", *json,
      kVocab);
}

class PluginTest : public ::testing::Test {
 protected:
  Harness& Start(FailurePolicy policy) {
    auto plugin = Load(0);
    EXPECT_TRUE(plugin) << plugin.error().ToString();
    set_ = std::make_shared<ProcessorSet>();
    EXPECT_TRUE(set_->Add(std::move(*plugin), {.policy = policy, .always = false}));
    HarnessOptions options;
    options.limits.vocab_size = kVocab;
    options.processors = set_;
    harness_ = std::make_unique<Harness>(options);
    return *harness_;
  }

  static wire::GenerateRequest Request(std::uint64_t id, const std::string& arguments) {
    wire::GenerateRequest request = MakeRequest(id, 5, 4, static_cast<TokenId>(id));
    request.processors.push_back({"test_plugin", arguments});
    return request;
  }

  std::shared_ptr<ProcessorSet> set_;
  std::unique_ptr<Harness> harness_;
};

TEST_F(PluginTest, ChangesRowsAndKeepsItsStateForEachChoice) {
  Harness& harness = Start(FailurePolicy::kFailRequest);
  wire::GenerateRequest request = Request(1, "{}");
  request.choice_count = 2;
  ASSERT_TRUE(harness.Submit(request));
  harness.RunDry();
  EXPECT_EQ(harness.streams().at(1, 0).tokens, (std::vector<TokenId>{10, 11, 12, 13}));
  EXPECT_EQ(harness.streams().at(1, 1).tokens, (std::vector<TokenId>{10, 11, 12, 13}));
}

TEST_F(PluginTest, WhatItThrowsFailsOnlyTheRequestItThrewOn) {
  Harness& harness = Start(FailurePolicy::kFailRequest);
  ASSERT_TRUE(harness.Submit(Request(1, "{}")));
  ASSERT_TRUE(harness.Submit(Request(2, "{\"throw_at_2\": 1}")));
  ASSERT_TRUE(harness.Submit(Request(3, "{}")));
  harness.RunDry();
  EXPECT_EQ(harness.streams().at(1).tokens, (std::vector<TokenId>{10, 11, 12, 13}));
  EXPECT_EQ(harness.streams().at(3).tokens, (std::vector<TokenId>{10, 11, 12, 13}));
  EXPECT_EQ(harness.streams().at(2).tokens, (std::vector<TokenId>{10, 11}));
  ASSERT_TRUE(harness.streams().at(2).error);
  EXPECT_EQ(harness.streams().at(2).error->code(), Code::kProcessorFault);
  EXPECT_NE(harness.streams().at(2).error->detail().find("row threw"), std::string::npos);
  EXPECT_EQ(set_->counters(0).failures, 1U);
}

TEST_F(PluginTest, WithPolicySkipTheRowIsAsItWas) {
  Harness& harness = Start(FailurePolicy::kSkip);
  ASSERT_TRUE(harness.Submit(Request(1, "{\"throw_at_2\": 1}")));
  ASSERT_TRUE(harness.Submit(Request(2, "{\"oversize\": 1}")));
  harness.RunDry();
  const std::vector<TokenId>& tokens = harness.streams().at(1).tokens;
  ASSERT_EQ(tokens.size(), 4U);
  std::vector<TokenId> context = Request(1, "").prompt;
  context.insert(context.end(), {10, 11});
  EXPECT_EQ(tokens[2], MockNextToken(context, kVocab));
  EXPECT_EQ(tokens[3], 12);  // its state is that of position 2: the failed row left none
  harness.ExpectOracle(Request(2, ""));
  EXPECT_EQ(set_->counters(0).failures, 5U);
}

TEST_F(PluginTest, ArgumentsThatItRefusesAreTheClientsFault) {
  Harness& harness = Start(FailurePolicy::kFailRequest);
  Result<void> refused = harness.Submit(Request(1, "{\"refuse\": 1}"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::kInvalidArgument);
  EXPECT_NE(refused.error().detail().find("the arguments say so"), std::string::npos);
  EXPECT_FALSE(harness.Submit(Request(1, "{\"throw_in_open\": 1}")));
  EXPECT_FALSE(harness.engine().has_work());
}

TEST(Plugin, IsRefusedIfItIsNotWhole) {
  auto refused = Load(0, "{\"refuse\": true}");
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().detail().find("vocabulary 64"), std::string::npos);
  for (int kind : {1, 2, 3}) {  // another ABI number, none that will do, a function missing
    auto loaded = Load(kind);
    ASSERT_FALSE(loaded) << kind;
    EXPECT_EQ(loaded.error().code(), Code::kUnsupported);
  }
  auto missing = LoadPluginProcessor("/nowhere/plugin.so", wire::Json(wire::Json::Object{}), 64);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), Code::kNotFound);
  auto text = LoadPluginProcessor(pixii::testing::SourceDir() + "/README.md",
                                  wire::Json(wire::Json::Object{}), 64);
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code(), Code::kUnsupported);
}

}  // namespace
}  // namespace pixii::engine
