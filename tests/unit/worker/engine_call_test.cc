// How requests are put to outside engines. The answers: engine_answer_test.cc.
#include <gtest/gtest.h>

#include <string>

#include "wire/json.h"
#include "worker/engine_dialect.h"

namespace pixii::worker {
namespace {

using wire::Json;

// One token per byte.
EngineText Bytes() {
  return {.encode =
              [](std::string_view text) {
                std::vector<TokenId> out;
                for (const char c : text) {
                  out.push_back(static_cast<unsigned char>(c));
                }
                return Result<std::vector<TokenId>>(std::move(out));
              },
          .decode =
              [](std::span<const TokenId> tokens) {
                std::string out;
                for (const TokenId token : tokens) {
                  out.push_back(static_cast<char>(token));
                }
                return out;
              }};
}

EngineDialect DialectOf(EngineKind kind, bool tokens = true) {
  return {.kind = kind,
          .model = "base",
          .token_prompts = tokens,
          .token_answers = tokens,
          .vocab_size = 256,
          .bos_token_id = 1,
          .text = Bytes()};
}

wire::GenerateRequest Request() {
  wire::GenerateRequest request;
  request.prompt = {1, 'h', 'i'};
  request.stop.max_tokens = 10;
  request.stop.eos_token_ids = {2};
  request.sampling.temperature = 0.7F;
  request.sampling.seed = 42;
  return request;
}

Json BodyOf(const EngineDialect& dialect, const wire::GenerateRequest& request,
            std::uint32_t choice = 0) {
  const auto call = WriteEngineCall(dialect, request, choice);
  EXPECT_TRUE(call) << call.error().ToString();
  return call ? wire::ParseJson(call->body).value() : Json();
}

std::string At(const Json& json, std::string_view path) {
  const Json* at = &json;
  while (!path.empty() && at != nullptr) {
    const std::size_t dot = std::min(path.find('.'), path.size());
    at = at->Find(path.substr(0, dot));
    path.remove_prefix(std::min(dot + 1, path.size()));
  }
  return at == nullptr ? "-" : at->Dump();
}

TEST(EngineCall, VllmGetsTokensAndIsAskedForThem) {
  wire::GenerateRequest request = Request();
  request.sampling.top_k = 5;
  request.sampling.logit_bias = {{7, -1.5F}};
  request.stop.min_tokens = 4;
  request.top_logprobs = 2;
  request.adapter = "tuned";
  request.tenant = "t";
  const Json body = BodyOf(DialectOf(EngineKind::kVllm), request);
  EXPECT_EQ(At(body, "model"), R"("tuned")");
  EXPECT_EQ(At(body, "prompt"), "[1,104,105]");
  EXPECT_EQ(At(body, "max_tokens"), "10");
  EXPECT_EQ(At(body, "min_tokens"), "4");
  EXPECT_EQ(At(body, "temperature"), "0.7");
  EXPECT_EQ(At(body, "top_k"), "5");
  EXPECT_EQ(At(body, "seed"), "42");
  EXPECT_EQ(At(body, "stop_token_ids"), "[2]");
  EXPECT_EQ(At(body, "logit_bias.7"), "-1.5");
  EXPECT_EQ(At(body, "logprobs"), "2");
  EXPECT_EQ(At(body, "return_token_ids"), "true");
  EXPECT_EQ(At(body, "return_tokens_as_token_ids"), "true");
  EXPECT_EQ(At(body, "stream"), "true");
  EXPECT_EQ(At(body, "cache_salt"), R"("pixii-salt:t\n")");
  EXPECT_EQ(At(body, "repetition_penalty"), "-");  // as usual
}

TEST(EngineCall, SglangIsAskedByItsOwnInterface) {
  wire::GenerateRequest request = Request();
  request.stop.min_tokens = 3;
  request.top_logprobs = 1;
  request.adapter = "tuned";
  request.cache_salt = "s";
  const auto call = WriteEngineCall(DialectOf(EngineKind::kSglang), request, 0);
  ASSERT_TRUE(call);
  EXPECT_EQ(call->target, "/generate");
  const Json body = wire::ParseJson(call->body).value();
  EXPECT_EQ(At(body, "input_ids"), "[1,104,105]");
  EXPECT_EQ(At(body, "sampling_params.max_new_tokens"), "10");
  EXPECT_EQ(At(body, "sampling_params.min_new_tokens"), "3");
  EXPECT_EQ(At(body, "sampling_params.sampling_seed"), "42");
  EXPECT_EQ(At(body, "lora_path"), R"("tuned")");
  EXPECT_EQ(At(body, "return_logprob"), "true");
  EXPECT_EQ(At(body, "extra_key"), R"("pixii-salt:s")");
}

TEST(EngineCall, TrtllmGivesTokensInPlaceOfText) {
  const Json body = BodyOf(DialectOf(EngineKind::kTrtllm), Request());
  EXPECT_EQ(At(body, "detokenize"), "false");
  EXPECT_EQ(At(body, "return_token_ids"), "-");
}

TEST(EngineCall, AnEngineOfTextsGetsTheTextWithoutItsBeginning) {
  const Json body = BodyOf(DialectOf(EngineKind::kOpenAi, false), Request());
  EXPECT_EQ(At(body, "prompt"), R"("hi")");
  EXPECT_EQ(At(body, "stop_token_ids"), "-");  // it ends at its own
  EXPECT_EQ(At(body, "return_token_ids"), "-");
}

TEST(EngineCall, WhatTheClientHasIsPromptAndLeavesLessToDo) {
  wire::GenerateRequest request = Request();
  request.choice_count = 2;
  request.generated = {{'a', 'b', 'c'}, {}};
  request.stop.min_tokens = 5;
  const Json first = BodyOf(DialectOf(EngineKind::kVllm), request, 0);
  EXPECT_EQ(At(first, "prompt"), "[1,104,105,97,98,99]");
  EXPECT_EQ(At(first, "max_tokens"), "7");
  EXPECT_EQ(At(first, "min_tokens"), "2");
  const Json second = BodyOf(DialectOf(EngineKind::kVllm), request, 1);
  EXPECT_EQ(At(second, "max_tokens"), "10");
  EXPECT_NE(At(first, "seed"), At(second, "seed"));
}

TEST(EngineCall, SeedsFitASignedInteger) {
  wire::GenerateRequest request = Request();
  request.sampling.seed = ~std::uint64_t{0};
  EXPECT_EQ(At(BodyOf(DialectOf(EngineKind::kVllm), request), "seed"), "9223372036854775807");
}

TEST(EngineCall, ConstraintsAreSaidInEachEnginesWords) {
  wire::GenerateRequest request = Request();
  request.constraint.emplace();
  request.constraint->kind = wire::ConstraintKind::kJsonSchema;
  request.constraint->text = R"({"type":"integer"})";
  EXPECT_EQ(At(BodyOf(DialectOf(EngineKind::kVllm), request), "structured_outputs.json.type"),
            R"("integer")");
  EXPECT_EQ(At(BodyOf(DialectOf(EngineKind::kSglang), request), "sampling_params.json_schema"),
            R"("{\"type\":\"integer\"}")");
  EXPECT_EQ(At(BodyOf(DialectOf(EngineKind::kTrtllm), request), "response_format.schema.type"),
            R"("integer")");
  EXPECT_EQ(At(BodyOf(DialectOf(EngineKind::kOpenAi), request),
               "response_format.json_schema.schema.type"),
            R"("integer")");
  request.constraint->kind = wire::ConstraintKind::kChoice;
  request.constraint->choices = {"a.b", "c"};
  EXPECT_EQ(At(BodyOf(DialectOf(EngineKind::kVllm), request), "structured_outputs.choice"),
            R"(["a.b","c"])");
  EXPECT_EQ(At(BodyOf(DialectOf(EngineKind::kSglang), request), "sampling_params.regex"),
            R"x("(a\\.b|c)")x");
  request.constraint->kind = wire::ConstraintKind::kStructuralTags;
  request.constraint->tags = {{"<a>", "", "</a>"}};
  EXPECT_EQ(At(BodyOf(DialectOf(EngineKind::kTrtllm), request), "response_format.triggers"),
            R"(["<a>"])");
}

TEST(EngineCall, WhatAnEngineCannotBeToldIsRefused) {
  const auto refused = [](EngineKind kind, auto change, bool tokens = true) {
    wire::GenerateRequest request = Request();
    change(request);
    const auto call = WriteEngineCall(DialectOf(kind, tokens), request, 0);
    if (call) {
      return std::string("taken");
    }
    EXPECT_EQ(call.error().code(), Code::kUnsupported);
    return call.error().param();
  };
  using Request = wire::GenerateRequest;
  using enum EngineKind;
  EXPECT_EQ(refused(kVllm, [](Request& r) { r.pool.emplace(); }), "input");
  EXPECT_EQ(refused(kVllm, [](Request& r) { r.prompt_logprobs = true; }), "prompt_logprobs");
  EXPECT_EQ(refused(kVllm, [](Request& r) { r.processors.push_back({"p", ""}); }),
            "logits_processors");
  EXPECT_EQ(refused(kVllm, [](Request& r) { r.sampling.mirostat.on = true; }), "sampling");
  EXPECT_EQ(refused(kVllm, [](Request& r) { r.sampling.bad_words = {{1}}; }), "bad_words");
  EXPECT_EQ(refused(kVllm, [](Request& r) { r.sampling.top_a = 0.1F; }), "top_a");
  EXPECT_EQ(refused(kSglang, [](Request& r) { r.sampling.allowed_token_ids = {1}; }),
            "allowed_token_ids");
  EXPECT_EQ(refused(kVllm, [](Request& r) { r.sampling.allowed_token_ids = {1}; }), "taken");
  EXPECT_EQ(refused(kOpenAi, [](Request& r) { r.top_logprobs = 1; }, false), "logprobs");
  EXPECT_EQ(refused(kTrtllm, [](Request& r) { r.adapter = "a"; }), "model");
  const auto script = [](Request& r) {
    r.constraint.emplace();
    r.constraint->kind = wire::ConstraintKind::kScript;
    r.constraint->script.nodes.resize(1);
  };
  EXPECT_EQ(refused(kVllm, script), "tool_choice");
  EXPECT_EQ(refused(kOpenAi, script), "tool_choice");
}

TEST(EngineKind, HasTheNamesOfTheFlag) {
  for (const std::string_view name : {"vllm", "sglang", "trtllm", "openai"}) {
    EXPECT_EQ(NameOf(EngineKindOf(name).value()), name);
  }
  EXPECT_FALSE(EngineKindOf("mock"));
}

}  // namespace
}  // namespace pixii::worker
