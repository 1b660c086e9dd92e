// Cases 10 to 14 of the field report: one table of bodies and what each is answered
// with.
#include "frontend/openai_request.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace pixii::frontend {
namespace {

Result<OpenAiRequest> Chat(std::string_view fields) {
  auto body = wire::ParseJson(R"({"model":"m","messages":[{"role":"user","content":"hi"}])" +
                              (fields.empty() ? std::string() : "," + std::string(fields)) + "}");
  EXPECT_TRUE(body) << fields << ": " << body.error().ToString();
  return ParseOpenAiRequest(*body, Surface::kChat);
}

Result<OpenAiRequest> Text(std::string_view fields) {
  bool own_prompt = fields.find("\"prompt\"") != std::string_view::npos;
  auto body = wire::ParseJson(
      std::string(own_prompt ? R"({"model":"m")" : R"({"model":"m","prompt":"hi")") +
      (fields.empty() ? std::string() : "," + std::string(fields)) + "}");
  EXPECT_TRUE(body) << fields << ": " << body.error().ToString();
  return ParseOpenAiRequest(*body, Surface::kCompletions);
}

TEST(OpenAiRequest, RulesBetweenFieldsSpeakOfThoseThatWereWritten) {
  EXPECT_EQ(Chat(R"("max_completion_tokens":3,"min_tokens":5)").error().detail(),
            "min_tokens: 5 is more than max_completion_tokens");
  EXPECT_EQ(Chat(R"("max_tokens":3,"min_tokens":5)").error().detail(),
            "min_tokens: 5 is more than max_tokens");
  EXPECT_NE(Chat(R"("structured_outputs":{"regex":"a"},"guided_regex":"b")")
                .error()
                .detail()
                .find("structured_outputs.regex already"),
            std::string::npos);
}

struct Row {
  std::string_view fields;
  std::string_view param;  // at fault; empty: accepted
};

void ExpectRows(std::span<const Row> rows, Result<OpenAiRequest> (*parse)(std::string_view)) {
  for (const Row& row : rows) {
    auto got = parse(row.fields);
    if (row.param.empty()) {
      EXPECT_TRUE(got) << row.fields << ": " << got.error().ToString();
      continue;
    }
    ASSERT_FALSE(got) << row.fields;
    EXPECT_EQ(got.error().param(), row.param) << row.fields;
    EXPECT_EQ(HttpStatus(got.error().code()), 400) << row.fields;
  }
}

constexpr Row kShared[] = {
    // Case 10.
    {R"("max_tokens":0)", "max_tokens"},
    {R"("max_tokens":-5)", "max_tokens"},
    {R"("max_tokens":1.5)", "max_tokens"},
    {R"("max_tokens":1e3)", "max_tokens"},
    {R"("max_tokens":9223372036854775808)", "max_tokens"},
    {R"("max_tokens":"10")", "max_tokens"},
    {R"("max_tokens":true)", "max_tokens"},
    {R"("max_tokens":null)", ""},
    {R"("max_tokens":10)", ""},
    {R"("temperature":-0.1)", "temperature"},
    {R"("temperature":2.0000001)", "temperature"},
    {R"("temperature":1e400)", "temperature"},
    {R"("temperature":"NaN")", "temperature"},
    {R"("temperature":0)", ""},
    {R"("top_p":0)", "top_p"},
    {R"("top_p":-0)", "top_p"},
    {R"("top_p":1.0000001)", "top_p"},
    {R"("top_p":1)", ""},
    {R"("seed":-1)", "seed"},
    {R"("seed":18446744073709551616)", "seed"},
    {R"("seed":18446744073709551615)", ""},
    {R"("seed":1.0)", "seed"},
    {R"("min_p":1.1)", "min_p"},
    {R"("top_k":-2)", "top_k"},
    {R"("top_k":-1)", ""},
    {R"("presence_penalty":2.1)", "presence_penalty"},
    {R"("frequency_penalty":-2.1)", "frequency_penalty"},
    {R"("repetition_penalty":0)", "repetition_penalty"},
    {R"("repetition_penalty":1.1)", ""},
    // Case 11.
    {R"("n":0)", "n"},
    {R"("n":2)", ""},
    {R"("n":128)", ""},
    {R"("n":129)", "n"},
    {R"("n":100000)", "n"},
    // Case 12.
    {R"("prompt_logprobs":21)", "prompt_logprobs"},
    {R"("prompt_logprobs":-1)", "prompt_logprobs"},
    // Case 13.
    {R"("stop":["1","2","3","4","5"])", ""},
    {R"("stop":[""])", "stop"},
    {R"("stop":"")", "stop"},
    {R"("stop":[1])", "stop"},
    {R"("stop":7)", "stop"},
    {R"("stop":["END","EN"])", ""},
    {R"("stop_token_ids":[1,2,3,4,5])", ""},
    {R"("stop_token_ids":[-1])", "stop_token_ids"},
    {R"("stop_token_ids":"x")", "stop_token_ids"},
    // Case 14.
    {R"("logit_bias":{"-1":100})", "logit_bias"},
    {R"("logit_bias":{"abc":1})", "logit_bias"},
    {R"("logit_bias":{"0":1e9})", "logit_bias"},
    {R"("logit_bias":{"0":-100,"5":100})", ""},
    {R"("n_discard":-1)", "n_discard"},
    // Known to others, not done here.
    {R"("nvext":{"session_control":{}})", "nvext.session_control"},
    {R"("guided_json":5)", "guided_json"},
    {R"("guided_json":"{")", "guided_json"},
    {R"("guided_json":"{}")", ""},
    {R"("structured_outputs":{"regex":""})", "structured_outputs.regex"},
    {R"("structured_outputs":{"json":"{"})", "structured_outputs.json"},
    {R"("structured_outputs":{"choice":[]})", "structured_outputs.choice"},
    {R"("structured_outputs":{"grammar":1})", "structured_outputs.grammar"},
    {R"("structured_outputs":{"regex":"a","json_object":true})", "structured_outputs.json_object"},
    {R"("structured_outputs":{"else":1})", "structured_outputs.else"},
    {R"("nvext":{"top_k":-2})", "nvext.top_k"},
    {R"("nvext":{"ignore_eos":1})", "nvext.ignore_eos"},
    {R"("guided_json":null)", ""},
    {R"("response_format":{"type":"xml"})", "response_format.type"},
    {R"("response_format":{"type":"text"})", ""},
    {R"("stream_options":{"include_usage":true})", "stream_options"},
    {R"("stream":true,"stream_options":{"include_usage":true})", ""},
    {R"("stream":true,"stream_options":{"x":true})", "stream_options.x"},
    {R"("stream":1)", "stream"},
    {R"("user":"somebody","request_id":"id")", ""},
    {R"("min_tokens":5,"max_tokens":4)", "min_tokens"},
    {R"("ignore_eos":true,"skip_special_tokens":false,"include_stop_str_in_output":true,"return_token_ids":true)",
     ""},
};

TEST(OpenAiRequest, Case10To14AreTheSameOnBothSurfaces) {
  ExpectRows(kShared, Chat);
  ExpectRows(kShared, Text);
}

constexpr Row kSampling[] = {
    {R"("top_a":0.2,"typical_p":0.9,"xtc_probability":0.5,"xtc_threshold":0.1)", ""},
    {R"("top_a":1.1)", "top_a"},
    {R"("typical_p":0)", "typical_p"},
    {R"("xtc_probability":2)", "xtc_probability"},
    {R"("xtc_threshold":-0.1)", "xtc_threshold"},
    {R"("dry_multiplier":0.8,"dry_base":1.75,"dry_allowed_length":2,"dry_range":512,"dry_sequence_breakers":["\n"])",
     ""},
    {R"("dry_multiplier":-1)", "dry_multiplier"},
    {R"("dry_base":0.9)", "dry_base"},
    {R"("dry_allowed_length":0)", "dry_allowed_length"},
    {R"("dry_range":-1)", "dry_range"},
    {R"("dry_sequence_breakers":[""])", "dry_sequence_breakers"},
    {R"("dry_sequence_breakers":"x")", "dry_sequence_breakers"},
    {R"("mirostat_mode":2,"mirostat_tau":3,"mirostat_eta":0.2)", ""},
    {R"("mirostat_mode":1)", "mirostat_mode"},
    {R"("mirostat_mode":2,"top_p":0.5)", "mirostat_mode"},
    {R"("mirostat_tau":0)", "mirostat_tau"},
    {R"("mirostat_eta":1.5)", "mirostat_eta"},
    {R"("use_beam_search":true,"n":4,"length_penalty":0.6,"early_stopping":true)", ""},
    {R"("use_beam_search":true,"n":2,"beam_width":10,"temperature":0)", ""},
    {R"("use_beam_search":true,"beam_width":11)", "beam_width"},
    {R"("use_beam_search":true,"n":11)", "use_beam_search"},
    {R"("use_beam_search":true,"n":4,"beam_width":3)", "use_beam_search"},
    {R"("use_beam_search":true,"temperature":0.5)", "use_beam_search"},
    {R"("use_beam_search":true,"stream":true)", "stream"},
    {R"("beam_width":3)", "beam_width"},
    {R"("length_penalty":1)", "length_penalty"},
    {R"("length_penalty":11,"use_beam_search":true)", "length_penalty"},
    {R"("allowed_token_ids":[1,2])", ""},
    {R"("allowed_token_ids":[])", "allowed_token_ids"},
    {R"("allowed_token_ids":[-1])", "allowed_token_ids"},
    {R"("bad_words":["x",[1,2]])", ""},
    {R"("bad_words":[""])", "bad_words"},
    {R"("bad_words":[[]])", "bad_words"},
    {R"("bad_words":"x")", "bad_words"},
    {R"("logprobs_mode":"processed_logprobs")", ""},
    {R"("logprobs_mode":"logits")", "logprobs_mode"},
    {R"("nvext":null)", ""},
    {R"("nvext":1)", "nvext"},
    {R"("nvext":{"top_k":5,"repetition_penalty":1.1,"ignore_eos":true,"greed_sampling":true})", ""},
    {R"("nvext":{"top_k":-5})", "nvext.top_k"},
    {R"("nvext":{"top_k":5},"top_k":5)", "nvext.top_k"},
    {R"("nvext":{"greed_sampling":1})", "nvext.greed_sampling"},
    {R"("nvext":{"greed_sampling":true},"temperature":1)", "nvext.greed_sampling"},
    {R"("nvext":{"max_thinking_tokens":-1})", "nvext.max_thinking_tokens"},
    {R"("nvext":{"logits_processors":["a",{"name":"b"},{"name":"c","arguments":{"x":1}}]})", ""},
    {R"("nvext":{"logits_processors":{}})", "nvext.logits_processors"},
    {R"("nvext":{"logits_processors":[1]})", "nvext.logits_processors"},
    {R"("nvext":{"logits_processors":[{"arguments":{}}]})", "nvext.logits_processors"},
    {R"("nvext":{"logits_processors":[{"name":"a","arguments":[]}]})", "nvext.logits_processors"},
    {R"("nvext":{"logits_processors":[{"name":"a","x":1}]})", "nvext.logits_processors"},
};

TEST(OpenAiRequest, SamplingExtrasAreTheSameOnBothSurfaces) {
  ExpectRows(kSampling, Chat);
  ExpectRows(kSampling, Text);
}

TEST(OpenAiRequest, ChatHasItsOwnFields) {
  constexpr Row kRows[] = {
      {R"("logprobs":true,"top_logprobs":20)", ""},
      {R"("logprobs":true,"top_logprobs":21)", "top_logprobs"},
      {R"("logprobs":true,"top_logprobs":-1)", "top_logprobs"},
      {R"("logprobs":true,"top_logprobs":2147483647)", "top_logprobs"},
      {R"("top_logprobs":1)", "top_logprobs"},
      {R"("logprobs":1)", "logprobs"},
      {R"("echo":true)", "echo"},
      {R"("best_of":1)", "best_of"},
      {R"("max_completion_tokens":5)", ""},
      {R"("max_completion_tokens":0)", "max_completion_tokens"},
      {R"("max_completion_tokens":5,"max_tokens":6)", "max_completion_tokens"},
      {R"("tool_choice":"auto")", ""},
      {R"("tool_choice":"required")", ""},
      {R"("tool_choice":"some")", "tool_choice"},
      {R"("tool_choice":{"type":"function"})", "tool_choice"},
      {R"("tool_choice":{"type":"allowed_tools"})", "tool_choice"},
      {R"("tool_choice":{"type":"function","function":{"name":"f"}})", ""},
      {R"("tool_choice":{"type":"function","function":{"name":"f","x":1}})",
       "tool_choice.function.x"},
      {R"("tool_choice":{"type":"function","name":"g","function":{"name":"f"}})",
       "tool_choice.name"},
      {R"("tools":[{"type":"function","function":{"name":"f","description":5}}])",
       "tools[0].function.description"},
      {R"("tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}])",
       ""},
      {R"("tools":[{"type":"function"}])", "tools[0]"},
      {R"("tools":[{"type":"function","function":{"name":"a_B-9"}}])", ""},
      {R"("tools":[{"type":"function","function":{"name":"not a name"}}])",
       "tools[0].function.name"},
      {R"("tools":[{"type":"function","function":{"name":"a.b"}}])", "tools[0].function.name"},
      {R"("tools":[{"type":"function","function":{"name":""}}])", "tools[0].function.name"},
      {R"("tools":[{"type":"function","function":{"name":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}}])",
       "tools[0].function.name"},
      {R"("tools":[{"type":"function","function":{"name":"f","strict":true}}])", ""},
      {R"("tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"f"}}])",
       "tools[1].function.name"},
      {R"("tools":[{"type":"function","function":{"name":"f","strict":"yes"}}])",
       "tools[0].function.strict"},
      {R"("modalities":["text"])", ""},
      {R"("modalities":["audio"])", "modalities"},
      {R"("store":true)", "store"},
      {R"("metadata":{"a":"b"})", ""},
      {R"("metadata":{"a":1})", "metadata.a"},
      {R"("chat_template_kwargs":{"enable_thinking":false})", ""},
      {R"("chat_template_kwargs":1)", "chat_template_kwargs"},
      {R"("chat_template":"x")", "chat_template"},
      {R"("continue_final_message":true)", ""},
      {R"("continue_final_message":true,"add_generation_prompt":true)", "continue_final_message"},
  };
  ExpectRows(kRows, Chat);
}

TEST(OpenAiRequest, CompletionsHaveTheirOwnFields) {
  constexpr Row kRows[] = {
      {R"("echo":true,"max_tokens":0,"logprobs":1)", ""},
      {R"("logprobs":20)", ""},
      {R"("logprobs":21)", "logprobs"},
      {R"("logprobs":true)", "logprobs"},
      {R"("best_of":2,"n":2)", ""},
      {R"("best_of":100000)", "best_of"},
      {R"("best_of":2)", ""},
      {R"("best_of":1,"n":2)", "best_of"},
      {R"("best_of":3,"n":2,"stream":true)", "best_of"},
      {R"("best_of":2,"n":2,"stream":true)", ""},
      {R"("suffix":"x")", "suffix"},
      {R"("messages":[])", "messages"},
      {R"("prompt":[114126])", ""},
      {R"("prompt":[-1])", "prompt"},
      {R"("prompt":[2147483648])", "prompt"},
      {R"("prompt":[1.0])", "prompt"},
      {R"("prompt":[])", "prompt"},
      {R"("prompt":[[1],["a"]])", "prompt"},
      {R"("prompt":[[1],[]])", "prompt"},
      {R"("prompt":[[1,2],[3]],"n":64)", ""},
      {R"("prompt":[[1,2],[3]],"n":65)", "n"},
      {R"("prompt":["a","b"])", ""},
      {R"("prompt":{"a":1})", "prompt"},
      {R"("prompt":null)", "prompt"},
  };
  ExpectRows(kRows, Text);
  std::string many = R"("prompt":["x")";
  for (int i = 1; i < 100'000; ++i) {
    many += R"(,"x")";
  }
  auto refused = Text(many + "]");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().param(), "prompt");
}

TEST(OpenAiRequest, Case13HasOneLimitOfStopStrings) {
  auto stops = [](std::size_t count, std::size_t bytes) {
    std::string out = R"("stop":[)";
    for (std::size_t i = 0; i < count; ++i) {
      out += (i == 0 ? "\"" : ",\"") + std::string(bytes, 'x') + "\"";
    }
    return out + "]";
  };
  for (auto* parse : {&Chat, &Text}) {
    EXPECT_TRUE((*parse)(stops(32, 5)));
    EXPECT_FALSE((*parse)(stops(33, 5)));
    EXPECT_TRUE((*parse)(stops(1, 4096)));
    EXPECT_FALSE((*parse)(stops(1, 1024UL * 1024)));
  }
}

TEST(OpenAiRequest, MessagesAreCheckedFieldByField) {
  auto messages = [](std::string_view text) {
    auto body = wire::ParseJson(text);
    EXPECT_TRUE(body) << text;
    return ParseMessages(*body);
  };

  struct MessageRow {
    std::string_view text;
    std::string_view param;
  };

  constexpr MessageRow kRows[] = {
      {R"([])", "messages"},
      {R"(7)", "messages"},
      {R"(["x"])", "messages[0]"},
      {R"([{"content":"x"}])", "messages[0].role"},
      {R"([{"role":"function","content":"x"}])", "messages[0].role"},
      {R"([{"role":"user"}])", "messages[0].content"},
      {R"([{"role":"user","content":7}])", "messages[0].content"},
      {R"([{"role":"user","content":"x","foo":1}])", "messages[0].foo"},
      {R"([{"role":"user","content":[{"type":"input_audio","input_audio":{}}]}])",
       "messages[0].content[0].type"},
      {R"([{"role":"user","content":[{"type":"image_url"}]}])", "messages[0].content[0].image_url"},
      {R"([{"role":"user","content":[{"type":"image_url","image_url":{}}]}])",
       "messages[0].content[0].image_url.url"},
      {R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":7}}]}])",
       "messages[0].content[0].image_url.url"},
      {R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"a","detail":"x"}}]}])",
       "messages[0].content[0].image_url.detail"},
      {R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"a","foo":1}}]}])",
       "messages[0].content[0].image_url.foo"},
      {R"([{"role":"user","content":[{"type":"input_image","image_url":"a","detail":"x"}]}])",
       "messages[0].content[0].detail"},
      {R"([{"role":"user","content":[{"type":"input_image","file_id":"a"}]}])",
       "messages[0].content[0].file_id"},
      {R"([{"role":"user","content":[{"type":"image_url","image_url":"a","foo":1}]}])",
       "messages[0].content[0].foo"},
      {R"([{"role":"system","content":[{"type":"image_url","image_url":{"url":"a"}}]}])",
       "messages[0].content"},
      {R"([{"role":"user","content":[{"type":"text"}]}])", "messages[0].content[0].text"},
      {R"([{"role":"assistant","tool_calls":[{"id":"a"}]}])", "messages[0].tool_calls[0].function"},
      {R"([{"role":"user","content":"x","tool_calls":[]}])", "messages[0].tool_calls"},
  };
  for (const MessageRow& row : kRows) {
    auto got = messages(row.text);
    ASSERT_FALSE(got) << row.text;
    EXPECT_EQ(got.error().param(), row.param);
  }
  auto good = messages(
      R"([{"role":"developer","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
    {"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]},
    {"role":"tool","tool_call_id":"1","content":"2"}])");
  ASSERT_TRUE(good) << good.error().ToString();
  EXPECT_EQ(
      good->messages.Dump(),
      R"([{"role":"system","content":"ab"},{"role":"assistant","content":"","tool_calls":[{"id":"1",)"
      R"("type":"function","function":{"name":"f","arguments":{"x":1}}}]},)"
      R"({"role":"tool","tool_call_id":"1","content":"2"}])");
  auto seen = messages(
      R"([{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"u","detail":"low"}},{"type":"video_url","video_url":"v"},{"type":"text","text":"b"}]}])");
  ASSERT_TRUE(seen) << seen.error().ToString();
  EXPECT_EQ(seen->messages.Dump(),
            R"([{"role":"user","content":[{"type":"text","text":"a"},{"type":"image"},)"
            R"({"type":"video"},{"type":"text","text":"b"}]}])");
  ASSERT_EQ(seen->media.size(), 2U);
  EXPECT_EQ(seen->media[0].url, "u");
  EXPECT_EQ(seen->media[0].where, "messages[0].content[1].image_url.url");
  EXPECT_EQ(seen->media[1].url, "v");
  EXPECT_EQ(seen->media[1].kind, wire::MediaKind::kVideo);
  seen = messages(
      R"([{"role":"user","content":[{"type":"input_image","image_url":"u","detail":"auto"}]}])");
  ASSERT_TRUE(seen) << seen.error().ToString();
  EXPECT_EQ(seen->messages.Dump(), R"([{"role":"user","content":[{"type":"image"}]}])");
  ASSERT_EQ(seen->media.size(), 1U);
  EXPECT_EQ(seen->media[0].url, "u");
  EXPECT_EQ(seen->media[0].where, "messages[0].content[0].image_url");
}

TEST(OpenAiRequest, AThousandPicturesAreTooMany) {
  std::string parts;
  for (int i = 0; i < 1'000; ++i) {
    parts += fmt::format(R"({}{{"type":"image_url","image_url":"u{}"}})", i > 0 ? "," : "", i);
  }
  const auto got =
      ParseMessages(*wire::ParseJson(fmt::format(R"([{{"role":"user","content":[{}]}}])", parts)));
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().param(), "messages[0].content[256]");
  EXPECT_NE(got.error().detail().find("at most 256 pictures"), std::string::npos);
}

TEST(OpenAiRequest, AnAnswerWithReasoningAndCallsCanBeSentBack) {
  auto good = ParseMessages(*wire::ParseJson(
      R"([{"role":"assistant","content":null,"reasoning":"why","refusal":null,"tool_calls":)"
      R"([{"id":"1","type":"function","function":{"name":"f","arguments":""}}]}])"));
  ASSERT_TRUE(good) << good.error().ToString();
  EXPECT_EQ(good->messages.Dump(),
            R"([{"role":"assistant","content":"","reasoning_content":"why","tool_calls":)"
            R"([{"id":"1","type":"function","function":{"name":"f","arguments":{}}}]}])");
}

TEST(OpenAiRequest, AbsentMeansTheModelsDefault) {
  auto request = Chat("");
  ASSERT_TRUE(request);
  EXPECT_FALSE(request->max_tokens) << "no hidden default length";
  EXPECT_FALSE(request->temperature);
  EXPECT_EQ(request->choice_count(), 1U);
  EXPECT_FALSE(request->streams());
}

}  // namespace
}  // namespace pixii::frontend
