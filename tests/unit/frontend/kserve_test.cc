// KServe's routes, token ids in and out, and the list of all routes.
#include "frontend/kserve.h"

#include <set>

#include "unit/frontend/frontend_fixture.h"

namespace pixii::frontend {
namespace {

using testing::FrontendTest;
using testing::Reply;
using wire::Json;

std::string Tensors(std::string_view data, std::string_view more = {}) {
  return R"({"id":"7","inputs":[{"name":"text_input","datatype":"BYTES","shape":[1],"data":)" +
         std::string(data) + "}]" + std::string(more) + "}";
}

TEST_F(FrontendTest, InfersTextAsTensors) {
  Start();
  Reply reply = Post("/v2/models/tiny/infer", Tensors(R"(["hi"])", R"(,"parameters":{"n":2})"));
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.body,
            R"({"model_name":"tiny","model_version":"1","id":"7","outputs":[)"
            R"({"name":"text_output","datatype":"BYTES","shape":[2],"data":["Hello!","Hello!"]},)"
            R"({"name":"finish_reason","datatype":"BYTES","shape":[2],"data":["stop","stop"]}]})");
  EXPECT_EQ(Post("/v2/models/tiny/versions/1/infer", Tensors(R"(["hi"])")).status, 200);
  ExpectQuiet();
}

TEST_F(FrontendTest, GeneratesTextForKserveWholeAndInPieces) {
  Start();
  Json whole =
      Post("/v2/models/tiny/generate", R"({"text_input":"hi","parameters":{"max_tokens":3}})")
          .json();
  EXPECT_EQ(whole.Find("text_output")->string(), "Hel");
  EXPECT_EQ(whole.Find("finish_reason")->string(), "length");
  Reply reply = Post("/v2/models/tiny/generate_stream", R"({"text_input":"hi","max_tokens":3})");
  std::string text;
  for (const std::string& event : reply.events()) {
    text += wire::ParseJson(event)->Find("text_output")->string();
  }
  EXPECT_EQ(text, "Hel");
  ExpectQuiet();
}

TEST_F(FrontendTest, DescribesAModelToKserve) {
  Start();
  Json model = Get("/v2/models/tiny").json();
  EXPECT_EQ(model.Find("name")->string(), "tiny");
  EXPECT_EQ(model.Find("inputs")->array().at(0).Find("name")->string(), "text_input");
  EXPECT_EQ(model.Find("outputs")->array().at(0).Find("shape")->Dump(), "[-1]");
  EXPECT_EQ(Get("/v2/models/tiny/ready").status, 200);
  EXPECT_EQ(Get("/v2/health/ready").body, R"({"ready":true})");
  EXPECT_EQ(Get("/v2/health/live").body, R"({"live":true})");
  Reply other = Get("/v2/models/other");
  EXPECT_EQ(other.status, 404);
  EXPECT_TRUE(other.json().Find("error")->is_string());
}

TEST(Kserve, RefusesTensorsItDoesNotHave) {
  const auto param = [](std::string_view text) {
    auto read = ReadKserveInfer(*wire::ParseJson(text), "m");
    return read ? std::string("taken") : std::string(read.error().param());
  };
  EXPECT_EQ(param(Tensors(R"(["a"])")), "taken");
  EXPECT_EQ(param(Tensors(R"([["a"]])")), "taken");
  EXPECT_EQ(param(Tensors(R"(["a","b"])")), "inputs[0].data");
  EXPECT_EQ(param(Tensors("[7]")), "inputs[0].data");
  EXPECT_EQ(param(R"({"inputs":[{"name":"image"}]})"), "inputs[0].name");
  EXPECT_EQ(param(R"({"inputs":[]})"), "inputs");
  EXPECT_EQ(param(Tensors(R"(["a"])", R"(,"parameters":{"foo":1})")), "foo");
  EXPECT_EQ(param(Tensors(R"(["a"])", R"(,"parameters":{"logprobs":1})")), "logprobs");
  EXPECT_EQ(param(R"({"inputs":[{"name":"text_input","datatype":"BYTES","shape":[1],"data":["a"]},)"
                  R"({"name":"streaming","datatype":"BOOL","shape":[1],"data":[true]}]})"),
            "streaming");
}

TEST_F(FrontendTest, GivesTokenIdsForTokenIds) {
  Start();
  Json body = Post("/inference/v1/generate",
                   R"({"request_id":"r","token_ids":[72,105],"sampling_params":{"max_tokens":3}})")
                  .json();
  EXPECT_EQ(body.Find("request_id")->string(), "r");
  EXPECT_EQ(body.Find("choices")->Dump(),
            R"([{"index":0,"logprobs":null,"finish_reason":"length","token_ids":[72,101,108]}])");
  EXPECT_EQ(worker.seen.at(0).prompt, (std::vector<TokenId>{72, 105}));
  Reply reply = Post("/inference/v1/generate",
                     R"({"token_ids":[72],"stream":true,"sampling_params":{"max_tokens":3}})");
  std::string ids;
  for (const Json& chunk : reply.chunks()) {
    ids += chunk.Find("choices")->array().at(0).Find("token_ids")->Dump();
  }
  EXPECT_EQ(ids, "[72][101][108][]");
  Reply refused =
      Post("/inference/v1/generate", R"({"token_ids":[72],"sampling_params":{"stop":["x"]}})");
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(refused.param(), "sampling_params.stop");
  ExpectQuiet();
}

TEST_F(FrontendTest, ListsEveryRouteThatAnswersAndNoOther) {
  Start();
  Json paths = *Get("/openapi.json").json().Find("paths");
  std::set<std::string> seen;
  for (const auto& [path, methods] : paths.object()) {
    std::string asked = path;
    const std::size_t brace = asked.find('{');
    if (brace != std::string::npos) {
      // Of stored answers and adapters there are none: a refusal that names the object is an
      // answer.
      if (asked.find("{model}") == std::string::npos) {
        continue;
      }
      asked.replace(brace, asked.find('}') - brace + 1, "tiny");
    }
    for (const auto& [method, operation] : methods.object()) {
      Reply reply = method == "get" ? Get(asked) : Post(asked, "{}");
      EXPECT_NE(reply.status, 404) << method << ' ' << path;
      EXPECT_NE(reply.status, 405) << method << ' ' << path;
    }
    seen.insert(path);
  }
  EXPECT_TRUE(seen.contains("/v1/chat/completions"));
  EXPECT_TRUE(seen.contains("/v1/responses"));
  EXPECT_TRUE(seen.contains("/v2/models/{model}/infer"));
  EXPECT_FALSE(seen.contains("/v1/messages")) << "switched off";
  EXPECT_FALSE(seen.contains("/v1/embeddings")) << "the model generates";
}

}  // namespace
}  // namespace pixii::frontend
