#include "worker/engine_handover.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace pixii::worker {
namespace {

const HashKey& Key() {
  static const HashKey key("the secret of a cluster");
  return key;
}

wire::Json Of(const Result<EngineCall>& call) {
  EXPECT_TRUE(call) << (call ? "" : call.error().ToString());
  return call ? *wire::ParseJson(call->body) : wire::Json();
}

const EngineCall kCompletion = {
    .target = "/v1/completions",
    .body =
        R"({"prompt":[1,2],"max_tokens":12,"stream":true,"stream_options":{"include_usage":true},)"
        R"("min_tokens":3,"seed":9223372036854775807})"};

TEST(EngineHandover, ComesBackAsItWasMadeAndNoOtherWay) {
  const EngineHandover said{.kind = EngineKind::kTrtllm, .choices = {R"({"a":1})", R"({"b":"x"})"}};
  const std::string bytes = EncodeEngineHandover(said, Key());
  const Result<EngineHandover> read = DecodeEngineHandover(bytes, Key());
  ASSERT_TRUE(read);
  EXPECT_EQ(read->kind, EngineKind::kTrtllm);
  EXPECT_EQ(read->choices, said.choices);
  EXPECT_FALSE(DecodeEngineHandover(bytes, HashKey("another")));
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    std::string changed = bytes;
    changed[at] = static_cast<char>(changed[at] ^ 4);
    const Result<EngineHandover> none = DecodeEngineHandover(changed, Key());
    ASSERT_FALSE(none) << at;
    EXPECT_EQ(none.error().code(), Code::kDataCorrupt);
    EXPECT_FALSE(DecodeEngineHandover(std::string_view(bytes).substr(0, at), Key())) << at;
  }
}

TEST(EngineHandover, AVllmEngineIsAskedToKeepAndTheOtherToFetch) {
  const wire::Json asked = Of(AsPrefill(EngineKind::kVllm, kCompletion, ""));
  EXPECT_EQ(asked.Find("kv_transfer_params")->Dump(),
            R"({"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,)"
            R"("remote_block_ids":null,"remote_host":null,"remote_port":null})");
  EXPECT_EQ(*asked.Find("max_tokens"), wire::Json(1));
  EXPECT_EQ(*asked.Find("stream"), wire::Json(false));
  EXPECT_EQ(asked.Find("stream_options"), nullptr);
  EXPECT_EQ(asked.Find("min_tokens"), nullptr);
  EXPECT_EQ(asked.Find("seed")->digits(), "9223372036854775807");
  const std::string words = R"({"do_remote_prefill":true,"remote_block_ids":[5,6],"tp_size":2})";
  const Result<std::string> said = ReadPrefillAnswer(
      EngineKind::kVllm, R"({"choices":[{"text":"x"}],"kv_transfer_params":)" + words + "}");
  ASSERT_TRUE(said);
  const wire::Json told = Of(AsDecode(EngineKind::kVllm, kCompletion, *said));
  EXPECT_EQ(told.Find("kv_transfer_params")->Dump(), words);
  EXPECT_EQ(*told.Find("max_tokens"), wire::Json(12));
  EXPECT_EQ(*told.Find("stream"), wire::Json(true));
}

TEST(EngineHandover, ATrtllmEngineSaysWhatItsChoiceIs) {
  const wire::Json asked = Of(AsPrefill(EngineKind::kTrtllm, kCompletion, ""));
  EXPECT_EQ(asked.Find("disaggregated_params")->Dump(), R"({"request_type":"context_only"})");
  const Result<std::string> said = ReadPrefillAnswer(
      EngineKind::kTrtllm,
      R"({"choices":[{"disaggregated_params":{"request_type":"context_only","first_gen_tokens":[7],)"
      R"("ctx_request_id":12345678901234567890,"encoded_opaque_state":"abc="}}]})");
  ASSERT_TRUE(said);
  const wire::Json told = Of(AsDecode(EngineKind::kTrtllm, kCompletion, *said));
  EXPECT_EQ(told.Find("disaggregated_params")->Dump(),
            R"({"request_type":"generation_only","first_gen_tokens":[7],)"
            R"("ctx_request_id":12345678901234567890,"encoded_opaque_state":"abc="})");
}

TEST(EngineHandover, SglangsEnginesAreToldTheSameRoom) {
  const std::string words = BootstrapWords({.host = "10.0.0.1", .port = 8998}, ~std::uint64_t{0});
  const EngineCall generate = {.target = "/generate", .body = R"({"input_ids":[1],"stream":true})"};
  const wire::Json asked = Of(AsPrefill(EngineKind::kSglang, generate, words));
  const wire::Json told = Of(AsDecode(EngineKind::kSglang, generate, words));
  for (const wire::Json& one : {asked, told}) {
    EXPECT_EQ(*one.Find("bootstrap_host"), wire::Json("10.0.0.1"));
    EXPECT_EQ(*one.Find("bootstrap_port"), wire::Json(8998));
    EXPECT_EQ(one.Find("bootstrap_room")->digits(), "9223372036854775807") << "a signed number";
  }
  EXPECT_EQ(*asked.Find("stream"), wire::Json(false));
  EXPECT_EQ(*told.Find("stream"), wire::Json(true));
}

TEST(EngineHandover, AnAnswerThatSaysNothingIsNamed) {
  for (const EngineKind kind : {EngineKind::kVllm, EngineKind::kTrtllm}) {
    for (const char* body : {"", "[]", "{}", R"({"choices":[]})", R"({"kv_transfer_params":null})",
                             R"({"choices":[{"disaggregated_params":7}]})"}) {
      const Result<std::string> said = ReadPrefillAnswer(kind, body);
      ASSERT_FALSE(said) << body;
      EXPECT_EQ(said.error().code(), Code::kDataCorrupt);
    }
  }
}

}  // namespace
}  // namespace pixii::worker
