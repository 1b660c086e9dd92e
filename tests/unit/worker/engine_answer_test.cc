// What outside engines answer. The requests: engine_call_test.cc.
#include <gtest/gtest.h>

#include <string>

#include "worker/engine_dialect.h"

namespace pixii::worker {
namespace {

using wire::FinishReason;

// One token per byte; the first text of a sequence loses a leading space, as SentencePiece has it.
EngineText Bytes(bool eats_space) {
  return {.encode =
              [eats_space](std::string_view text) {
                std::vector<TokenId> out;
                if (eats_space) {
                  out.push_back(' ');
                }
                for (const char c : text) {
                  out.push_back(static_cast<unsigned char>(c));
                }
                return Result<std::vector<TokenId>>(std::move(out));
              },
          .decode =
              [eats_space](std::span<const TokenId> tokens) {
                std::string out;
                for (const TokenId token : tokens) {
                  out.push_back(static_cast<char>(token));
                }
                return eats_space && out.starts_with(' ') ? out.substr(1) : out;
              }};
}

class EngineAnswer : public testing::Test {
 protected:
  EngineAnswerReader& Open(EngineKind kind, bool tokens = true, bool eats_space = false) {
    dialect_ = {.kind = kind,
                .model = "base",
                .token_prompts = tokens,
                .token_answers = tokens,
                .vocab_size = 256,
                .bos_token_id = 1,
                .text = Bytes(eats_space)};
    reader_.emplace(dialect_, request_, 0);
    return *reader_;
  }

  EnginePiece Read(std::string_view data) {
    Result<EnginePiece> piece = reader_->Read(data);
    EXPECT_TRUE(piece) << piece.error().ToString();
    return piece ? std::move(*piece) : EnginePiece();
  }

  Code Fails(std::string_view data) {
    const Result<EnginePiece> piece = reader_->Read(data);
    EXPECT_FALSE(piece);
    return piece ? Code::kInternal : piece.error().code();
  }

  void SetUp() override {
    request_.prompt = {5};
    request_.stop.max_tokens = 4;
    request_.stop.eos_token_ids = {2};
    request_.stop.stop_token_ids = {3};
  }

  wire::GenerateRequest request_;
  EngineDialect dialect_;
  std::optional<EngineAnswerReader> reader_;
};

TEST_F(EngineAnswer, CompletionsGiveTokensAndWhyTheyEnd) {
  Open(EngineKind::kVllm);
  EXPECT_EQ(Read(R"({"choices":[{"index":0,"text":"ab","token_ids":[10,11],"finish_reason":null}],
                     "usage":{"prompt_tokens_details":{"cached_tokens":16}}})")
                .cached_tokens,
            16U);
  const EnginePiece end =
      Read(R"({"choices":[{"text":"","token_ids":[12,2],"finish_reason":"stop"}]})");
  EXPECT_EQ(end.tokens, (std::vector<TokenId>{12}));
  EXPECT_EQ(end.finish, FinishReason::kStop);
  EXPECT_EQ(end.stop_token, 2);
  EXPECT_TRUE(Read(R"({"choices":[],"usage":{"prompt_tokens":3}})").tokens.empty());
  EXPECT_TRUE(Read("[DONE]").is_last);
}

TEST_F(EngineAnswer, AStopTokenThatIsNamedIsKnown) {
  Open(EngineKind::kVllm);
  const EnginePiece end =
      Read(R"({"choices":[{"token_ids":[12],"finish_reason":"stop","stop_reason":3}]})");
  EXPECT_EQ(end.tokens, (std::vector<TokenId>{12}));
  EXPECT_EQ(end.stop_token, 3);
}

TEST_F(EngineAnswer, NoMoreTokensThanAllowedAreTaken) {
  Open(EngineKind::kVllm);
  const EnginePiece piece = Read(R"({"choices":[{"token_ids":[1,1,1,1,1,1]}]})");
  EXPECT_EQ(piece.tokens.size(), 4U);
  EXPECT_EQ(piece.finish, FinishReason::kLength);
}

TEST_F(EngineAnswer, LogprobsComeWithTheirTokens) {
  request_.top_logprobs = 2;
  Open(EngineKind::kVllm);
  const EnginePiece piece = Read(
      R"({"choices":[{"token_ids":[10,2],"finish_reason":"stop","logprobs":{
          "tokens":["token_id:10","token_id:2"],"token_logprobs":[-0.5,-0.25],
          "top_logprobs":[{"token_id:11":-0.1,"token_id:10":-0.5,"token_id:12":-3},null]}}]})");
  ASSERT_EQ(piece.logprobs.size(), 1U);
  EXPECT_EQ(piece.logprobs[0].logprob, -0.5F);
  EXPECT_EQ(piece.logprobs[0].top,
            (std::vector<std::pair<TokenId, float>>{{11, -0.1F}, {10, -0.5F}}));
  EXPECT_EQ(piece.stop_logprob, -0.25F);
  EXPECT_EQ(Fails(R"({"choices":[{"token_ids":[10]}]})"), Code::kDataCorrupt);
}

TEST_F(EngineAnswer, SglangMaySayAllTokensEachTime) {
  request_.top_logprobs = 1;
  Open(EngineKind::kSglang);
  EXPECT_EQ(Read(R"({"text":"a","output_ids":[10],"meta_info":{"completion_tokens":1,
                     "cached_tokens":8,"finish_reason":null,
                     "output_token_logprobs":[[-1,10,null]],
                     "output_top_logprobs":[[[-1,10,null]]]}})")
                .cached_tokens,
            8U);
  const EnginePiece end = Read(
      R"({"text":"ab","output_ids":[10,11,12],"meta_info":{"completion_tokens":3,
          "finish_reason":{"type":"length","length":3},
          "output_token_logprobs":[[-1,10,null],[-2,11,null],[-3,12,null]],
          "output_top_logprobs":[[[-1,10,null]],[[-2,11,null]],[[-0.5,9,null]]]}})");
  EXPECT_EQ(end.tokens, (std::vector<TokenId>{11, 12}));
  ASSERT_EQ(end.logprobs.size(), 2U);
  EXPECT_EQ(end.logprobs[0].logprob, -2.0F);
  EXPECT_EQ(end.logprobs[1].top.front().first, 9);
  EXPECT_EQ(end.finish, FinishReason::kLength);
}

TEST_F(EngineAnswer, SglangMaySayTheNewOnesAlone) {
  Open(EngineKind::kSglang);
  EXPECT_EQ(Read(R"({"output_ids":[10,11],"meta_info":{"completion_tokens":2}})").tokens.size(),
            2U);
  const EnginePiece end = Read(
      R"({"output_ids":[12],"meta_info":{"completion_tokens":3,
          "finish_reason":{"type":"stop","matched":3}}})");
  EXPECT_EQ(end.tokens, (std::vector<TokenId>{12}));
  EXPECT_EQ(end.stop_token, 3);
}

TEST_F(EngineAnswer, TextsBecomeTokensThatGiveThemBack) {
  for (const bool eats_space : {false, true}) {
    request_.stop.max_tokens = 100;
    Open(EngineKind::kOpenAi, false, eats_space);
    std::vector<TokenId> all;
    for (const char* piece : {"Hel", "lo", " world", "\\n"}) {
      const EnginePiece read = Read(std::string(R"({"choices":[{"text":")") + piece + R"("}]})");
      all.insert(all.end(), read.tokens.begin(), read.tokens.end());
    }
    EXPECT_EQ(dialect_.text.decode(all), "Hello world\n");
  }
}

TEST_F(EngineAnswer, NonsenseIsRefused) {
  Open(EngineKind::kVllm);
  EXPECT_EQ(Fails("{"), Code::kDataCorrupt);
  EXPECT_EQ(Fails("[1]"), Code::kDataCorrupt);
  EXPECT_EQ(Fails(R"({"choices":[{"token_ids":[256]}]})"), Code::kDataCorrupt);
  EXPECT_EQ(Fails(R"({"choices":[{"token_ids":[-1]}]})"), Code::kDataCorrupt);
  EXPECT_EQ(Fails(R"({"choices":[{"token_ids":["a"]}]})"), Code::kDataCorrupt);
  EXPECT_EQ(Fails(R"({"choices":[{"text":"no tokens"}]})"), Code::kDataCorrupt);
  EXPECT_EQ(Fails(R"({"choices":[{"finish_reason":"abort"}]})"), Code::kUnavailable);
  EXPECT_EQ(Fails(R"({"error":{"message":"full","code":429}})"), Code::kResourceExhausted);
  EXPECT_EQ(Fails(R"({"object":"error","message":"bad","code":400})"), Code::kInvalidArgument);
  Open(EngineKind::kSglang);
  EXPECT_EQ(Fails(R"({"text":"a"})"), Code::kDataCorrupt);
  EXPECT_EQ(Read(R"({"output_ids":[1,2],"meta_info":{"completion_tokens":2}})").tokens.size(), 2U);
  EXPECT_EQ(Fails(R"({"output_ids":[1],"meta_info":{"completion_tokens":1}})"), Code::kDataCorrupt);
  EXPECT_EQ(Fails(R"({"output_ids":[],"meta_info":{"finish_reason":
                      {"type":"abort","status_code":400,"message":"too long"}}})"),
            Code::kInvalidArgument);
}

TEST(EngineRefusal, SaysWhatTheEngineSaid) {
  const Error error = EngineRefusal(400, R"({"error":{"message":"too long"}})");
  EXPECT_EQ(error.code(), Code::kInvalidArgument);
  EXPECT_NE(error.detail().find("too long"), std::string::npos);
  EXPECT_EQ(EngineRefusal(503, "").code(), Code::kUnavailable);
  EXPECT_EQ(EngineRefusal(401, "").code(), Code::kUnavailable);
  EXPECT_EQ(EngineRefusal(404, "").code(), Code::kNotFound);
  EXPECT_LT(EngineRefusal(500, std::string(100'000, 'x')).detail().size(), 1000U);
}

}  // namespace
}  // namespace pixii::worker
