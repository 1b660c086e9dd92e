// The engine YAML: what each key becomes, what is refused, who wins; hostile files.
#include "config/engine_args.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "config/parse.h"

namespace pixii::config {
namespace {

EngineArgsInput File(const std::string& text) {
  EngineArgsInput input;
  input.file = EngineArgsFile{text, "engine.yaml"};
  return input;
}

std::map<std::string, std::string> OptionsOf(const Result<EngineSettings>& read) {
  std::map<std::string, std::string> out;
  EXPECT_TRUE(read) << read.error().detail();
  if (read) {
    for (const EngineSetting& setting : read->settings) {
      out[setting.option] = setting.value;
    }
  }
  return out;
}

Error ErrorOf(const std::string& text) {
  Result<EngineSettings> read = ReadEngineArgs(File(text));
  EXPECT_FALSE(read) << text;
  return read ? Error(Code::kInternal, "") : read.error();
}

TEST(EngineArgs, KeysBecomeOptions) {
  auto options = OptionsOf(ReadEngineArgs(File(R"(
# a deployment's file
model: org/name
dtype: bfloat16
max_batch_size: 16
max_num_tokens: 2048
max_seq_len: 4096
max_input_len: 3000
disable_overlap_scheduler: True
enable_chunked_prefill: true
tensor_parallel_size: 4
enable_attention_dp: true
attention_dp_config: {enable_balance: true, timeout_iters: 20, batching_wait_iters: 5, conversation_affinity: true, max_sessions: 100}
backend: pytorch
trust_remote_code: true
print_iter_log: off
scheduler_config:
  capacity_scheduler_policy: MAX_UTILIZATION
kv_cache_config:
  enable_block_reuse: no
  free_gpu_memory_fraction: 0.85
  max_tokens: 65536
  tokens_per_block: 32
  dtype: fp8
  host_cache_size: 1073741824
  event_buffer_max_size: 0
  max_util_for_resume: .95
speculative_config: {decoding_type: NGram, max_draft_len: 3, max_concurrency: 4}
lora_config: {max_lora_rank: 32, lora_target_modules: [attn_q, attn_k]}
)")));
  const std::map<std::string, std::string> expected = {
      {"MODEL", "org/name"},
      {"dtype", "bf16"},
      {"max-batch", "16"},
      {"max-batched-tokens", "2048"},
      {"max-context", "4096"},
      {"max-input-tokens", "3000"},
      {"overlap", "false"},
      {"admission", "eager"},
      {"prefix-cache", "false"},
      {"kv-memory-fraction", "0.85"},
      {"kv-tokens", "65536"},
      {"block-size", "32"},
      {"kv-dtype", "fp8"},
      {"swap-memory", "1073741824"},
      {"speculation", "lookup"},
      {"draft-tokens", "3"},
      {"draft-max-batch", "4"},
      {"lora-rank", "32"},
      {"tensor-parallel-size", "4"},
      {"enable-attention-dp", "true"},
      {"attention-dp-balance", "true"},
      {"attention-dp-timeout-iters", "20"},
      {"attention-dp-batching-wait-iters", "5"},
      {"conversation-affinity", "true"},
      {"conversation-affinity-max-sessions", "100"}};
  EXPECT_EQ(options, expected);
}

TEST(EngineArgs, AConnectorIsAWordOrASharedObject) {
  const auto module = [](const std::string& value) {
    return "kv_connector_config: {connector_module: " + value + "}";
  };
  EXPECT_EQ(OptionsOf(ReadEngineArgs(File(module("kvbm.trtllm_integration.connector")))),
            (std::map<std::string, std::string>{{"connector", "kvbm"}}));
  EXPECT_EQ(OptionsOf(ReadEngineArgs(File(module("/opt/Yes.so")))),
            (std::map<std::string, std::string>{{"kv-connector", "/opt/Yes.so"}}));
  const Error error = ErrorOf(module("my.connector"));
  EXPECT_EQ(error.code(), Code::kUnsupported);
  EXPECT_NE(error.detail().find("*.so"), std::string::npos) << error.detail();
}

TEST(EngineArgs, NullAndEmptyGroupsAreTheDefault) {
  EXPECT_TRUE(OptionsOf(ReadEngineArgs(File(R"(
kv_cache_config:
speculative_config: null
cache_transceiver_config: {}
pp_partition: []
max_batch_size: ~
lora_config: {max_lora_rank: null}
)")))
                  .empty());
  EXPECT_TRUE(OptionsOf(ReadEngineArgs(File(""))).empty());
}

TEST(EngineArgs, AKnownKeyWithoutCounterpartSaysWhatIsDoneInstead) {
  Error error = ErrorOf("max_batch_size: 8\ncontext_parallel_size: 2\n");
  EXPECT_EQ(error.code(), Code::kUnsupported);
  EXPECT_EQ(error.param(), "context_parallel_size");
  EXPECT_EQ(error.detail(),
            "engine.yaml:2: context_parallel_size: 2 is not available: a model runs on one device; "
            "allowed: 1");
  for (const char* text :
       {"kv_cache_config: {event_buffer_max_size: 1024}", "cp_config: {cp_type: helix}",
        "kv_cache_config: {mamba_ssm_cache_dtype: float32}", "max_beam_width: 11",
        "pp_partition: [4, 4]", "load_format: dummy", "enable_lm_head_tp_in_adp: true",
        "dtype: float16", "scheduler_config: {capacity_scheduler_policy: STATIC_BATCH}",
        "speculative_config: {decoding_type: Medusa}", "kv_cache_config: {dtype: nvfp4}",
        "cuda_graph_config: {batch_sizes: [1, 2]}", "moe_config: {load_balancer: x.yaml}",
        "context_parallel_size: \"two\"", "kv_cache_config: {max_attention_window: [512]}"}) {
    EXPECT_EQ(ErrorOf(text).code(), Code::kUnsupported) << text;
  }
}

TEST(EngineArgs, UnknownKeysNameTheNearestOne) {
  Error error = ErrorOf("kv_cache_config:\n  max_token: 5\n");
  EXPECT_EQ(error.code(), Code::kInvalidArgument);
  EXPECT_EQ(error.detail(),
            "engine.yaml:2: unknown key kv_cache_config.max_token; did you mean "
            "kv_cache_config.max_tokens?");
  EXPECT_NE(ErrorOf("max_batchsize: 5").detail().find("max_batch_size"), std::string::npos);
  EXPECT_NE(ErrorOf("zzzzzzzzzzzz: 5").detail().find("engine_yaml.md"), std::string::npos);
  EXPECT_EQ(ErrorOf("max_batch_size: {a: 1}").code(), Code::kInvalidArgument);
}

TEST(EngineArgs, LaterSourcesReplaceSingleKeysAndSaySo) {
  EngineArgsInput input = File(
      "max_batch_size: 8\nkv_cache_config: {max_tokens: 100}\n"
      "context_parallel_size: 4\n");
  input.json = R"({"kv_cache_config": {"max_tokens": 200}, "context_parallel_size": 1})";
  Result<EngineSettings> read = ReadEngineArgs(input);
  auto options = OptionsOf(read);
  EXPECT_EQ(options["max-batch"], "8");
  EXPECT_EQ(options["kv-tokens"], "200");
  ASSERT_EQ(read->notices.size(), 2U);
  EXPECT_EQ(read->notices[0],
            "--override-engine-args: kv_cache_config.max_tokens 200 takes the place of 100 "
            "(engine.yaml:2)");
  // A whole group can be taken out.
  input = File("speculative_config: {decoding_type: MTP, max_draft_len: 2}");
  input.json = R"({"speculative_config": null})";
  EXPECT_TRUE(OptionsOf(ReadEngineArgs(input)).empty());
}

TEST(EngineArgs, DottedFlagsAreAsJson) {
  EngineArgsInput input;
  input.dotted = {{"kv_cache_config.max_tokens", "300"}, {"disable_overlap_scheduler", "false"}};
  auto options = OptionsOf(ReadEngineArgs(input));
  EXPECT_EQ(options["kv-tokens"], "300");
  EXPECT_EQ(options["overlap"], "true");
  input.json = "{}";
  Result<EngineSettings> both = ReadEngineArgs(input);
  ASSERT_FALSE(both);
  EXPECT_NE(both.error().detail().find("exclude"), std::string::npos);
}

TEST(EngineArgs, SpeculationNeedsItsKind) {
  Error error = ErrorOf("speculative_config: {max_draft_len: 3}");
  EXPECT_EQ(error.code(), Code::kInvalidArgument);
  EXPECT_NE(error.detail().find("decoding_type"), std::string::npos);
}

TEST(EngineArgs, HostileFilesAreErrors) {
  std::string deep;
  for (int i = 0; i < 4000; ++i) {
    deep += "{a: ";
  }
  std::string bomb = "a: &a {x1: 1, x2: 1, x3: 1, x4: 1, x5: 1, x6: 1, x7: 1, x8: 1}\n";
  for (char c = 'b'; c < 'i'; ++c) {
    bomb += std::string(1, c) + ": &" + c + " {";
    for (int i = 0; i < 8; ++i) {
      bomb += "k" + std::to_string(i) + ": *" + static_cast<char>(c - 1) + ", ";
    }
    bomb += "}\n";
  }
  const std::string nested = "kv_cache_config: {a: {b: {c: {d: {e: {f: {g: {h: {i: 1}}}}}}}}}";
  for (const std::string& text :
       {deep, bomb, nested, std::string("- a\n- b\n"),
        std::string("max_batch_size: 1\nmax_batch_size: 2"), std::string("? [a, b]\n: 1"),
        std::string("a.b: 1"), std::string("\"\": 1"), std::string("kv_cache_config.max_tokens: 5"),
        std::string("<<: {max_batch_size: 4}"), std::string("max_batch_size: [1"),
        std::string("kv_cache_config: 7"), std::string("max_batch_size: [1]"),
        std::string("disable_overlap_scheduler: maybe"), std::string("\xff\xfe: 1"),
        std::string("&a max_batch_size: *b"), std::string(2 << 20, 'x'),
        std::string("kv_cache_config: &k {dtype: *k}")}) {
    Error error = ErrorOf(text);
    EXPECT_TRUE(error.detail().starts_with("engine.yaml")) << error.detail();
    EXPECT_LT(error.detail().size(), 600U);
  }
}

// -- through Parse ------------------------------------------------------------------------------

struct Flags {
  std::int64_t max_batch = 4;
  std::string extra;
  std::string override_json;
};

Command MakeCommand(Flags& flags) {
  Command command;
  command.name = "serve";
  command.takes_engine_args = true;
  command.positionals = {{.name = "MODEL", .help = "", .required = false, .repeated = false}};
  auto add = [&](const char* name, Field field) {
    Option option;
    option.name = name;
    option.field = std::move(field);
    command.options.push_back(std::move(option));
  };
  add("max-batch", IntegerField{&flags.max_batch, {1, 64}});
  add("extra-engine-args", TextField{&flags.extra, {}});
  add("override-engine-args", TextField{&flags.override_json, {}});
  return command;
}

Result<Parsed> ParseWith(Flags& flags, std::vector<std::string> arguments) {
  ParseInput input;
  input.arguments = std::move(arguments);
  input.environment = [](const std::string&) { return std::nullopt; };
  input.read_file = [](const std::string&) -> Result<std::string> {
    return std::string("max_batch_size: 8\nmodel: m\n");
  };
  return Parse(MakeCommand(flags), input);
}

TEST(EngineArgs, TheFileRanksAboveFlagsAndTheOverrideAboveTheFile) {
  Flags flags;
  auto parsed = ParseWith(flags, {"--max-batch", "2", "--extra-engine-args", "e.yaml"});
  ASSERT_TRUE(parsed) << parsed.error().detail();
  EXPECT_EQ(flags.max_batch, 8);
  EXPECT_EQ(parsed->positionals, std::vector<std::string>{"m"});
  EXPECT_EQ(parsed->values[0].source, Source::kEngineArgs);
  ASSERT_EQ(parsed->notices.size(), 1U);
  EXPECT_EQ(parsed->notices[0], "e.yaml:1: max_batch_size 8 takes the place of --max-batch 2");

  Flags over;
  ASSERT_TRUE(ParseWith(over, {"--extra-engine-args", "e.yaml", "--override-engine-args",
                               "{\"max_batch_size\": 16}"}));
  EXPECT_EQ(over.max_batch, 16);

  Flags dotted;
  ASSERT_TRUE(ParseWith(dotted, {"--trtllm.max_batch_size", "32"}));
  EXPECT_EQ(dotted.max_batch, 32);
}

TEST(EngineArgs, ValuesOutOfRangeAndASecondModelAreRefused) {
  Flags flags;
  auto parsed = ParseWith(flags, {"--trtllm.max_batch_size=65"});
  ASSERT_FALSE(parsed);
  EXPECT_NE(parsed.error().detail().find("1 .. 64"), std::string::npos);
  EXPECT_NE(parsed.error().detail().find("--trtllm.max_batch_size"), std::string::npos);
  parsed = ParseWith(flags, {"other", "--extra-engine-args", "e.yaml"});
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().param(), "model");
  EXPECT_FALSE(ParseWith(flags, {"--trtllm.max_batch_size"}));
}

}  // namespace
}  // namespace pixii::config
