#include "frontend/pooling.h"

#include <gtest/gtest.h>

#include <cmath>

#include "unit/frontend/frontend_fixture.h"

namespace pixii::frontend::testing {
namespace {

using wire::Json;

class PoolingTest : public FrontendTest {
 protected:
  // The worker's result of a text: its size, its last token's type, its last token, and so on.
  void Serve(wire::ModelTask task, std::uint32_t feature_count) {
    worker.mutable_card().task = task;
    worker.mutable_card().feature_count = feature_count;
    worker.mutable_card().token_type_count = 2;
    Start();
  }

  static double Number(const Json& body, std::string_view list, std::size_t index,
                       std::string_view field) {
    return *body.Find(list)->array().at(index).Find(field)->AsDouble();
  }
};

TEST_F(PoolingTest, EmbeddingsComeInOrderAsFloatsOrBase64) {
  Serve(wire::ModelTask::kEmbed, 2);
  Json body = Post("/v1/embeddings", R"({"input":["abc",[65,66]]})").json();
  EXPECT_EQ(body.Dump(), R"({"object":"list","model":"tiny","data":[)"
                         R"({"index":0,"object":"embedding","embedding":[4,99]},)"
                         R"({"index":1,"object":"embedding","embedding":[2,66]}],)"
                         R"("usage":{"prompt_tokens":6,"total_tokens":6}})");
  Json packed = Post("/v1/embeddings", R"({"input":"abc","encoding_format":"base64"})").json();
  EXPECT_EQ(packed.Find("data")->array()[0].Find("embedding")->string(), "AACAQAAAxkI=");
  const auto count = [&](std::string_view more) {
    const Json embedded =
        Post("/v1/embeddings", R"({"input":"abc")" + std::string(more) + "}").json();
    return *embedded.Find("usage")->Find("prompt_tokens")->AsInt();
  };
  EXPECT_EQ(count(R"(,"add_special_tokens":false)") + 1, count(""));
  ExpectQuiet();
}

TEST_F(PoolingTest, DimensionsCutAndNormalizeWhereTheModelAllows) {
  model.pooling.matryoshka = true;
  model.pooling.dimensions = {2};
  Serve(wire::ModelTask::kEmbed, 4);
  Json body = Post("/v1/embeddings", R"({"input":[9,8,7],"dimensions":2})").json();
  const auto& cut = body.Find("data")->array()[0].Find("embedding")->array();
  ASSERT_EQ(cut.size(), 2U);
  double length = std::sqrt(9.0 + 49.0);
  EXPECT_NEAR(*cut[0].AsDouble(), 3 / length, 1e-6);
  EXPECT_NEAR(*cut[1].AsDouble(), 7 / length, 1e-6);
  EXPECT_EQ(Post("/v1/embeddings", R"({"input":[9],"dimensions":3})").param(), "dimensions");
  EXPECT_EQ(Post("/v1/embeddings", R"({"input":[9],"dimensions":5})").param(), "dimensions");
  EXPECT_EQ(Post("/v1/embeddings", R"({"input":[9],"dimensions":4})").status, 200);
}

TEST_F(PoolingTest, APromptStandsBeforeTheTextAndIsNotPooledIfTheModelSaysSo) {
  model.pooling.prompts = {{"query", "Q:"}, {"document", ""}};
  model.pooling.default_prompt = "query";
  model.pooling.skip_prompt = true;
  Serve(wire::ModelTask::kEmbed, 1);
  ASSERT_EQ(Post("/v1/embeddings", R"({"input":"ab"})").status, 200);
  EXPECT_EQ(worker.seen.back().prompt, (std::vector<TokenId>{kBos, 'Q', ':', 'a', 'b'}));
  EXPECT_EQ(worker.seen.back().pool->skip_tokens, 2U);
  ASSERT_EQ(Post("/v1/embeddings", R"({"input":"ab","input_type":"passage"})").status, 200);
  EXPECT_EQ(worker.seen.back().prompt, (std::vector<TokenId>{kBos, 'a', 'b'}));
  EXPECT_EQ(Post("/v1/embeddings", R"({"input":"ab","input_type":"code"})").param(), "input_type");
}

TEST_F(PoolingTest, ACrossEncoderReadsPairsAndRanksThem) {
  Serve(wire::ModelTask::kClassify, 1);
  Json score =
      Post("/v1/score", R"({"text_1":"q","text_2":["a","bcd"],"use_activation":false})").json();
  EXPECT_EQ(Number(score, "data", 0, "score"), 4);
  EXPECT_EQ(Number(score, "data", 1, "score"), 6);
  EXPECT_EQ(worker.seen.back().prompt, (std::vector<TokenId>{kBos, 'q', kEos, 'b', 'c', 'd'}));
  EXPECT_EQ(worker.seen.back().pool->token_types, (std::vector<std::int32_t>{0, 0, 0, 1, 1, 1}));
  for (std::string_view path : {"/v1/rerank", "/rerank", "/v2/rerank"}) {
    Json ranks = Post(path, R"({"query":"q","documents":["a","bcd","ef"],"top_n":2})").json();
    ASSERT_EQ(ranks.Find("results")->array().size(), 2U);
    EXPECT_EQ(Number(ranks, "results", 0, "index"), 1);
    EXPECT_NEAR(Number(ranks, "results", 0, "relevance_score"), 1 / (1 + std::exp(-6.0)), 1e-6);
    EXPECT_EQ(Number(ranks, "results", 1, "index"), 2);
    EXPECT_EQ(ranks.Find("results")->array()[0].Find("document")->Dump(), R"({"text":"bcd"})");
  }
  Json bare = Post("/rerank", R"({"query":"q","documents":["a"],"return_documents":false})").json();
  EXPECT_EQ(bare.Find("results")->array()[0].Find("document"), nullptr);
}

TEST_F(PoolingTest, WordsOfADocumentAreOrdinaryText) {
  Serve(wire::ModelTask::kClassify, 1);
  ASSERT_EQ(Post("/v1/score", R"({"text_1":"q","text_2":"</s>"})").status, 200);
  EXPECT_EQ(worker.seen.back().prompt, (std::vector<TokenId>{kBos, 'q', kEos, '<', '/', 's', '>'}));
}

TEST_F(PoolingTest, AGeneratorWithScoreTokensRanksByTheirLogits) {
  model.pooling.score = ScorePair{.yes = 7, .no = 9};
  model.pooling.pairs_are_prompts = true;
  Start();
  Json score = Post("/v1/score", R"({"text_1":"q","text_2":"ab"})").json();
  EXPECT_EQ(worker.seen.back().pool->logit_tokens, (std::vector<TokenId>{7, 9}));
  // Of five tokens that end in "b".
  EXPECT_NEAR(Number(score, "data", 0, "score"), 1 / (1 + std::exp(-(5.0 - 98.0))), 1e-6);
  EXPECT_EQ(Chat().status, 200);
}

TEST_F(PoolingTest, ATemplateWithRolesForPairsIsUsed) {
  auto text = std::make_shared<FakeText>();
  text->pairs = true;
  model.text = text;
  Serve(wire::ModelTask::kClassify, 1);
  ASSERT_EQ(Post("/v1/score", R"({"text_1":"q","text_2":"d","instruction":"i"})").status, 200);
  EXPECT_EQ(DecodeAll(*text, worker.seen.back().prompt, false),
            "<|im_start|>system\ni<|im_end|><|im_start|>query\nq<|im_end|><|im_start|>document\nd"
            "<|im_end|><|im_start|>assistant\n");
  EXPECT_EQ(Post("/v1/score", R"({"text_1":"q","text_2":"d","add_special_tokens":false})").param(),
            "add_special_tokens");
}

TEST_F(PoolingTest, VectorsAreComparedByTheModelsOwnMeasure) {
  model.pooling.prompts = {{"query", "Q"}, {"document", "D"}};
  Serve(wire::ModelTask::kEmbed, 2);
  Json score = Post("/v1/score", R"({"text_1":"a","text_2":["a","b"]})").json();
  EXPECT_NEAR(Number(score, "data", 0, "score"), 1, 1e-6);
  EXPECT_NEAR(Number(score, "data", 1, "score"),
              (4 + 97.0 * 98) / std::sqrt((4 + 97.0 * 97) * (4 + 98.0 * 98)), 1e-6);
  worker.seen.clear();
  Json ranks = Post("/rerank", R"({"query":"a","documents":["b","c"]})").json();
  ASSERT_EQ(worker.seen.size(), 3U);  // the query once
  EXPECT_EQ(worker.seen[0].prompt, (std::vector<TokenId>{kBos, 'Q', 'a'}));
  EXPECT_EQ(worker.seen[1].prompt, (std::vector<TokenId>{kBos, 'D', 'b'}));
}

TEST_F(PoolingTest, AnInstructionThatHasNoPlaceIsRefused) {
  Serve(wire::ModelTask::kEmbed, 2);
  EXPECT_EQ(Post("/v1/score", R"({"text_1":"a","text_2":"b","instruction":"i"})").param(),
            "instruction");
  Reply reply =
      Post("/v1/score", R"({"queries":"a","documents":["b",""],"add_special_tokens":false})");
  EXPECT_EQ(reply.param(), "documents") << reply.body;
}

TEST_F(PoolingTest, ClassesGetTheirLabels) {
  model.pooling.activation = ClassActivation::kSoftmax;
  model.pooling.labels = {"short", "late"};
  Serve(wire::ModelTask::kClassify, 2);
  Json body = Post("/classify", R"({"input":[1,2,3]})").json();
  const Json& item = body.Find("data")->array()[0];
  EXPECT_EQ(item.Find("label")->string(), "short");  // logits 3 and 3
  EXPECT_EQ(item.Find("probs")->Dump(), "[0.5,0.5]");
  EXPECT_EQ(Post("/v1/score", R"({"text_1":"a","text_2":"b"})").param(), "model");
}

TEST_F(PoolingTest, LongListsGoToTheEngineAFewAtATime) {
  worker.automatic = false;
  Serve(wire::ModelTask::kEmbed, 1);
  std::string body = R"({"input":[)";
  for (int i = 0; i < 100; ++i) {
    body += (i > 0 ? "," : "") + std::string("[1,2]");
  }
  Session session;
  tasks.Start(Talk(session, Raw("POST", "/v1/embeddings", body + "]}"), 1, false, false));
  ASSERT_TRUE(Until([&] { return worker.open.size() >= 16; }));
  world.RunUntil([] { return false; }, world.now() + 1s);
  EXPECT_EQ(worker.open.size(), 16U);  // two batches of 8
  while (worker.seen.size() < 100 || !worker.open.empty()) {
    worker.Pool(worker.open.begin()->first);
  }
  ASSERT_TRUE(Until([&] { return session.done; }));
  EXPECT_EQ(session.replies.at(0).json().Find("data")->array().size(), 100U);
  ExpectQuiet();
}

TEST_F(PoolingTest, AClientThatLeavesHasItsTextsCancelled) {
  worker.automatic = false;
  Serve(wire::ModelTask::kEmbed, 1);
  Session session;
  tasks.Start(
      Talk(session, Raw("POST", "/v1/embeddings", R"({"input":["a","b"]})"), 1, false, false));
  ASSERT_TRUE(Until([&] { return worker.open.size() == 2; }));
  session.stream->Close();
  ASSERT_TRUE(Until([&] { return worker.cancels.size() == 2; }));
  ExpectQuiet();
}

TEST_F(PoolingTest, AFaultIsATypedErrorAndEndsTheRest) {
  Serve(wire::ModelTask::kEmbed, 1);
  worker.fault = Error(Code::kModelFault, "broken");
  Reply reply = Post("/v1/embeddings", R"({"input":["a","b"]})");
  EXPECT_EQ(reply.status, 500);
  EXPECT_EQ(reply.json().Find("error")->Find("code")->string(), "model_fault");
  ExpectQuiet();
}

TEST_F(PoolingTest, TaskAndRouteThatDoNotMatchAreRefused) {
  Serve(wire::ModelTask::kEmbed, 3);
  Reply chat = Chat();
  EXPECT_EQ(chat.status, 404);
  EXPECT_EQ(chat.param(), "model");
  EXPECT_EQ(Post("/classify", R"({"input":"a"})").status, 404);
  const Json models = Get("/v1/models").json();
  EXPECT_EQ(models.Find("data")->array()[0].Find("task")->string(), "embed");
  EXPECT_EQ(models.Find("data")->array()[0].Find("dimensions")->AsInt(), 3);
}

TEST_F(PoolingTest, TextsPastTheContextAreRefusedOrCut) {
  Serve(wire::ModelTask::kEmbed, 1);
  std::string text(300, 'a');
  Reply reply = Post("/v1/embeddings", R"({"input":")" + text + "\"}");
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.param(), "input");
  EXPECT_EQ(
      Post("/v1/embeddings", R"({"input":")" + text + R"(","truncate_prompt_tokens":-1})").status,
      200);
  EXPECT_EQ(worker.seen.back().prompt.size(), 200U);
  EXPECT_EQ(Post("/v1/embeddings", R"({"input":[260]})").param(), "input");
  EXPECT_EQ(Post("/v1/embeddings", R"({"input":""})").status, 200);  // its first token is there
}

}  // namespace
}  // namespace pixii::frontend::testing
