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
  EXPECT_EQ(param(Tensors(R"(["a"])", R"(,"parameters":{"foo":1})")), "parameters.foo");
  EXPECT_EQ(param(Tensors(R"(["a"])", R"(,"parameters":{"logprobs":1})")), "parameters.logprobs");
  EXPECT_EQ(param(R"({"inputs":[{"name":"text_input","datatype":"BYTES","shape":[1],"data":["a"]},)"
                  R"({"name":"streaming","datatype":"BOOL","shape":[1],"data":[true]}]})"),
            "streaming");
}

TEST(Kserve, TakesNothingThatItWouldIgnore) {
  const auto param = [](std::string_view text) {
    auto read = ReadKserveInfer(*wire::ParseJson(text), "m");
    return read ? std::string("taken") : std::string(read.error().param());
  };
  constexpr std::string_view kText =
      R"({"name":"text_input","datatype":"BYTES","shape":[1],"data":["a"]})";
  constexpr std::string_view kFlag =
      R"({"name":"streaming","datatype":"BOOL","shape":[1],"data":[false]})";
  const auto inputs = [](std::string_view one, std::string_view two) {
    return R"({"inputs":[)" + std::string(one) + "," + std::string(two) + "]}";
  };
  EXPECT_EQ(param(inputs(kText, kText)), "inputs[1].name");
  EXPECT_EQ(param(inputs(kText, kFlag)), "taken");
  EXPECT_EQ(param(R"({"inputs":[)" + std::string(kText) + "," + std::string(kFlag) + "," +
                  std::string(kFlag) + "]}"),
            "inputs[2].name");
  const auto with = [](std::string_view more) { return Tensors(R"(["a"])", more); };
  EXPECT_EQ(param(with(R"(,"outputs":[{"name":"image"}])")), "outputs[0].name");
  EXPECT_EQ(param(with(R"(,"outputs":[{"name":"text_output"},{"name":"text_output"}])")),
            "outputs[1].name");
  EXPECT_EQ(param(with(R"(,"outputs":[{"name":"text_output","shape":[1]}])")), "outputs[0].shape");
  EXPECT_EQ(param(with(R"(,"outputs":[{"name":"text_output","parameters":{"binary_data":true}}])")),
            "outputs[0].parameters.binary_data");
  EXPECT_EQ(
      param(with(R"(,"outputs":[{"name":"text_output","parameters":{"binary_data":false}}])")),
      "taken");
  EXPECT_EQ(param(with(R"(,"outputs":5)")), "outputs");
  EXPECT_EQ(param(with(R"(,"parameters":{"binary_data_output":true})")),
            "parameters.binary_data_output");
  EXPECT_EQ(param(R"({"inputs":[{"name":"text_input","datatype":"BYTES","shape":[1],)"
                  R"("data":["a"],"parameters":{"binary_data_size":5}}]})"),
            "inputs[0].parameters.binary_data_size");
  EXPECT_EQ(param(R"({"inputs":[{"name":"text_input","datatype":"BYTES","shape":[1],)"
                  R"("data":["a"],"more":1}]})"),
            "inputs[0].more");
  const auto generate = [](std::string_view text) {
    auto read = ReadKserveGenerate(*wire::ParseJson(text), "m", false);
    return read ? std::string("taken") : std::string(read.error().param());
  };
  EXPECT_EQ(generate(R"({"text_input":"a","max_tokens":3,"parameters":{"max_tokens":4}})"),
            "parameters.max_tokens");
  EXPECT_EQ(generate(R"({"text_input":"a","parameters":{"max_tokens":4},"max_tokens":4})"),
            "max_tokens");
  EXPECT_EQ(generate(R"({"text_input":"a","parameters":{"top_p":4}})"), "parameters.top_p");
  EXPECT_EQ(generate(R"({"text_input":"a","top_p":4})"), "top_p");
}

TEST_F(FrontendTest, GivesTheTensorsThatAreAskedFor) {
  Start();
  const Json body = Post("/v2/models/tiny/infer",
                         Tensors(R"(["hi"])", R"(,"outputs":[{"name":"finish_reason"}])"))
                        .json();
  EXPECT_EQ(body.Find("outputs")->Dump(),
            R"([{"name":"finish_reason","datatype":"BYTES","shape":[1],"data":["stop"]}])");
  const Reply cut =
      Post("/v2/models/tiny/infer", Tensors(R"(["hi"])", R"(,"parameters":{"max_tokens":100000})"));
  EXPECT_EQ(cut.status, 400);
  EXPECT_NE(cut.body.find("parameters.max_tokens: "), std::string::npos) << cut.body;
  const Reply large =
      Post("/v2/models/tiny/generate", R"({"text_input":")" + std::string(5000, 'x') + "\"}");
  EXPECT_NE(large.body.find("text_input: "), std::string::npos) << large.body;
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
  refused = Post("/inference/v1/generate", R"({"token_ids":[72],"sampling_params":{"top_p":7}})");
  EXPECT_EQ(refused.param(), "sampling_params.top_p");
  refused = Post("/inference/v1/generate", R"({"token_ids":[999999]})");
  EXPECT_EQ(refused.param(), "token_ids");
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
