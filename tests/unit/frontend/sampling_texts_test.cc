#include "frontend/sampling_texts.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "unit/frontend/frontend_fixture.h"

namespace pixii::frontend {
namespace {

using testing::Choice;
using testing::FakeText;
using testing::Reply;
using wire::Json;

class SamplingTextsTest : public testing::FrontendTest {};

wire::Json Parsed(const std::string& text) {
  auto json = wire::ParseJson(text);
  EXPECT_TRUE(json) << text;
  return *json;
}

TEST_F(SamplingTextsTest, PassesEveryExtraOn) {
  worker.mutable_card().logits_processors = {"bans", "thinking_budget", "own"};
  Start();
  Reply reply = Post(
      "/v1/completions",
      R"({"prompt":"x","max_tokens":2,"top_a":0.25,"typical_p":0.5,)"
      R"("dry_multiplier":0.75,"dry_base":2,"dry_allowed_length":3,"dry_range":64,"dry_sequence_breakers":["!","?"],)"
      R"("xtc_probability":0.5,"xtc_threshold":0.25,"allowed_token_ids":[72,101],"bad_words":["no",[1,2]],)"
      R"("logprobs_mode":"processed_logprobs","nvext":{"top_k":7,"max_thinking_tokens":9,)"
      R"("logits_processors":[{"name":"bans","arguments":{"words":["a"],"tokens":[3]}},"own"]}})");
  ASSERT_EQ(reply.status, 200) << reply.body;
  const wire::GenerateRequest& request = worker.seen.at(0);
  const wire::SamplingParams& sampling = request.sampling;
  EXPECT_EQ(sampling.top_a, 0.25F);
  EXPECT_EQ(sampling.typical_p, 0.5F);
  EXPECT_EQ(sampling.top_k, 7);
  EXPECT_EQ(sampling.dry.multiplier, 0.75F);
  EXPECT_EQ(sampling.dry.base, 2.0F);
  EXPECT_EQ(sampling.dry.allowed_length, 3U);
  EXPECT_EQ(sampling.dry.range, 64U);
  EXPECT_EQ(sampling.dry.breakers, (std::vector<TokenId>{'!', '?'}));
  EXPECT_EQ(sampling.xtc.probability, 0.5F);
  EXPECT_EQ(sampling.xtc.threshold, 0.25F);
  EXPECT_EQ(sampling.allowed_token_ids, (std::vector<TokenId>{72, 101}));
  EXPECT_EQ(sampling.bad_words,
            (std::vector<std::vector<TokenId>>{{'n', 'o'}, {' ', 'n', 'o'}, {1, 2}}));
  EXPECT_TRUE(request.processed_logprobs);
  ASSERT_EQ(request.processors.size(), 3U);
  EXPECT_EQ(Parsed(request.processors[0].arguments),
            Parsed(R"({"tokens":[3],"sequences":[[97],[32,97]]})"));
  EXPECT_EQ(request.processors[1].name, "own");
  EXPECT_EQ(request.processors[2].name, "thinking_budget");
  EXPECT_EQ(Parsed(request.processors[2].arguments).Find("budget")->AsInt(), 9);
  EXPECT_EQ(Parsed(request.processors[2].arguments).Find("end_tokens")->array().size(), 8U);
}

TEST_F(SamplingTextsTest, MirostatPutsTheModelsFiltersAside) {
  model.defaults.top_p = 0.8;
  model.defaults.top_k = 20;
  Start();
  Reply reply = Chat(R"("mirostat_mode":2,"mirostat_tau":3,"mirostat_eta":0.5)");
  ASSERT_EQ(reply.status, 200) << reply.body;
  const wire::SamplingParams& sampling = worker.seen.at(0).sampling;
  EXPECT_TRUE(sampling.mirostat.on);
  EXPECT_EQ(sampling.mirostat.tau, 3.0F);
  EXPECT_EQ(sampling.mirostat.eta, 0.5F);
  EXPECT_EQ(sampling.top_p, 1.0F);
  EXPECT_EQ(sampling.top_k, 0);
}

TEST_F(SamplingTextsTest, AProcessorOutsideTheAllowListIsRefusedByName) {
  worker.mutable_card().logits_processors = {"bans"};
  Start();
  Reply reply = Chat(R"("nvext":{"logits_processors":["mystery"]})");
  EXPECT_EQ(reply.status, 400) << reply.body;
  EXPECT_EQ(reply.param(), "nvext.logits_processors");
  EXPECT_NE(reply.body.find("mystery"), std::string::npos);
  EXPECT_TRUE(worker.seen.empty());
}

TEST_F(SamplingTextsTest, BestOfGivesThoseWithTheHighestMeanLogprob) {
  worker.automatic = false;
  Start();
  auto emit = [&](std::uint32_t choice, const std::vector<std::pair<char, float>>& tokens) {
    wire::TokenFrame frame;
    for (auto [token, logprob] : tokens) {
      frame.tokens.push_back(token);
      frame.logprobs.push_back({logprob, {}});
    }
    RequestId id = worker.open.begin()->first;
    frame.finish = wire::FinishReason::kLength;
    if (choice == 3) {  // ended at once, by an unlikely token
      frame.finish = wire::FinishReason::kStop;
      frame.stop_token = 257;
      frame.stop_logprob = -3.0F;
    }
    worker.Send(id, choice, std::move(frame));
  };
  worker.on_generate = [&] {
    emit(0, {{'a', -1.0F}, {'a', -1.0F}});
    emit(1, {{'b', -0.9F}});                // fewer tokens, a larger sum, a middling mean
    emit(2, {{'c', -0.1F}, {'c', -1.1F}});  // mean -0.6
    emit(3, {});
  };
  Reply answer = Post("/v1/completions", R"({"prompt":"x","max_tokens":2,"n":2,"best_of":4})");
  ASSERT_EQ(answer.status, 200) << answer.body;
  Json body = answer.json();
  ASSERT_EQ(body.Find("choices")->array().size(), 2U);
  EXPECT_EQ(Choice(body, 0).Find("text")->string(), "cc");
  EXPECT_EQ(Choice(body, 1).Find("text")->string(), "b");
  EXPECT_TRUE(Choice(body, 0).Find("logprobs")->is_null());
  EXPECT_EQ(body.Find("usage")->Find("completion_tokens")->AsInt(), 5);
  EXPECT_EQ(worker.seen.at(0).choice_count, 4U);
}

TEST(SamplingTexts, ArgumentsGivenTwiceOrWithoutATokenizerAreRefused) {
  FakeText text;
  auto call = [&](const std::string& name, const std::string& arguments,
                  const TextProcessor* with) {
    return MakeProcessorCall({.name = name, .arguments = Parsed(arguments)}, with);
  };
  auto forced = call("forced_sequence", R"({"text":"hi","then_end":true})", &text);
  ASSERT_TRUE(forced);
  EXPECT_EQ(Parsed(forced->arguments), Parsed(R"({"then_end":true,"tokens":[104,105]})"));
  EXPECT_FALSE(call("forced_sequence", R"({"text":"hi","tokens":[1]})", &text));
  EXPECT_FALSE(call("forced_sequence", R"({"text":5})", &text));
  EXPECT_FALSE(call("forced_sequence", R"({"text":"hi"})", nullptr));
  EXPECT_TRUE(call("forced_sequence", R"({"tokens":[1]})", nullptr));
  EXPECT_FALSE(call("bans", R"({"words":[5]})", &text));
  auto negative = call("guidance", R"({"negative_prompt":"a"})", &text);
  ASSERT_TRUE(negative);
  EXPECT_EQ(Parsed(negative->arguments), Parsed(R"({"negative_tokens":[256,97]})"));
  auto own = call("somebody_elses", R"({"text":"hi"})", &text);
  ASSERT_TRUE(own);
  EXPECT_EQ(Parsed(own->arguments), Parsed(R"({"text":"hi"})"));
}

}  // namespace
}  // namespace pixii::frontend
