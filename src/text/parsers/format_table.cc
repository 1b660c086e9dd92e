// The one table of formats and how a template gives them away.
#include <array>

#include "text/parsers/chat_format.h"
#include "text/parsers/literal_parser.h"

namespace pixii::text::parsers {

namespace {

std::vector<NamedCallFormat> JsonFormats() {
  return {
      {{"hermes", "qwen25", "qwen", "qwen3", "granite-4"},
       JsonCallFormat{.openers = {"<tool_call>"}, .closers = {"</tool_call>"}, .strict = true}},
      {{"nemotron_deci"},
       JsonCallFormat{
           .openers = {"<TOOLCALL>"}, .closers = {"</TOOLCALL>"}, .bare = true, .list = true}},
      {{"llama3_json", "llama3", "llama4_json"},
       JsonCallFormat{.openers = {"<|python_tag|>"},
                      .bare = true,
                      .arguments_key = "parameters",
                      .separator = ";",
                      .closed = false}},
      {{"mistral"},
       JsonCallFormat{.openers = {"[TOOL_CALLS]"},
                      .closers = {"[/TOOL_CALLS]"},
                      .keeps_id = true,
                      .arguments_marker = "[ARGS]",
                      .id_marker = "[CALL_ID]",
                      .list = true,
                      .closed = false}},
      {{"phi4", "phi4_mini_json", "firefunction"},
       JsonCallFormat{.openers = {"functools"}, .list = true, .closed = false}},
      {{"jamba", "apriel"},
       JsonCallFormat{.openers = {"<tool_calls>"}, .closers = {"</tool_calls>"}, .list = true}},
      {{"default"},
       JsonCallFormat{.openers = {"<TOOLCALL>", "<|python_tag|>"},
                      .closers = {"</TOOLCALL>"},
                      .bare = true,
                      .list = true}},
      {{"granite"},
       JsonCallFormat{.openers = {"<|tool_call|>", "<tool_call>"},
                      .closers = {"</tool_call>"},
                      .bare = true,
                      .list = true,
                      .closed = false}},
      {{"command_r7b", "cohere"},
       JsonCallFormat{.openers = {"<|START_ACTION|>"},
                      .closers = {"<|END_ACTION|>"},
                      .name_key = "tool_name",
                      .arguments_key = "parameters",
                      .number_key = "tool_call_id",
                      .list = true}},
      {{"apertus"},
       JsonCallFormat{.openers = {"<|tools_prefix|>"},
                      .closers = {"<|tools_suffix|>"},
                      .name_as_key = true,
                      .list = true}},
      {{"gigachat3", "gigachat"},
       JsonCallFormat{.openers = {"<|function_call|>", "function call<|role_sep|>\n"},
                      .closed = false}},
      {{"internlm"},
       JsonCallFormat{.openers = {"<|action_start|><|plugin|>"},
                      .closers = {"<|action_end|>"},
                      .arguments_key = "parameters"}},
  };
}

NamedJsonFormat DeepSeek(std::string kind, std::string name_opener,
                         std::vector<std::string> name_closers, std::string fence) {
  return {.section_openers = {"<｜tool▁calls▁begin｜>"},
          .section_closers = {"<｜tool▁calls▁end｜>"},
          .call_opener = "<｜tool▁call▁begin｜>",
          .name_opener = std::move(name_opener),
          .name_closers = std::move(name_closers),
          .call_closer = "<｜tool▁call▁end｜>",
          .numbered = false,
          .content_name = {},
          .kind = std::move(kind),
          .fence = std::move(fence)};
}

std::vector<NamedCallFormat> NamedJsonFormats() {
  return {
      {{"deepseek_v3"}, DeepSeek("function", "<｜tool▁sep｜>", {"\n```json"}, "```")},
      {{"deepseek_v3_1", "deepseek_v31"}, DeepSeek({}, {}, {"<｜tool▁sep｜>"}, {})},
      {{"kimi_k2"},
       NamedJsonFormat{
           .section_openers = {"<|tool_calls_section_begin|>", "<|tool_call_section_begin|>"},
           .section_closers = {"<|tool_calls_section_end|>", "<|tool_call_section_end|>"},
           .call_opener = "<|tool_call_begin|>",
           .name_opener = {},
           .name_closers = {"<|tool_call_argument_begin|>"},
           .call_closer = "<|tool_call_end|>",
           .numbered = true,
           .content_name = {},
           .kind = "functions."}},
      {{"functionary_v3_1"},
       NamedJsonFormat{.section_openers = {},
                       .section_closers = {},
                       .call_opener = "<function=",
                       .name_opener = {},
                       .name_closers = {">"},
                       .call_closer = "</function>",
                       .numbered = false,
                       .content_name = {}}},
      {{"functionary", "functionary_v3_2"},
       NamedJsonFormat{.section_openers = {},
                       .section_closers = {},
                       .call_opener = ">>>",
                       .name_opener = {},
                       .name_closers = {"\n"},
                       .call_closer = {},
                       .numbered = false,
                       .content_name = "all"}},
  };
}

XmlCallFormat Dsml(const std::string& block) {
  return {.openers = {"<｜DSML｜" + block + ">"},
          .closers = {"</｜DSML｜" + block + ">"},
          .call_opener = "<｜DSML｜invoke name=\"",
          .call_name_closer = "\">",
          .call_closer = "</｜DSML｜invoke>",
          .parameter_opener = "<｜DSML｜parameter name=\"",
          .name_closer = "\"",
          .attributes = true,
          .value_opener = {},
          .value_closer = "</｜DSML｜parameter>",
          .framed = false,
          .shares_block = true,
          .tells_kind = true};
}

XmlCallFormat Elements(const std::string& opener, const std::string& closer) {
  return {.openers = {opener},
          .closers = {closer},
          .call_opener = "<function=",
          .call_name_closer = ">",
          .call_closer = "</function>",
          .parameter_opener = "<parameter=",
          .name_closer = ">",
          .attributes = false,
          .value_opener = {},
          .value_closer = "</parameter>",
          .framed = true};
}

std::vector<NamedCallFormat> XmlFormats() {
  return {
      {{"deepseek_v3_2", "deepseek_v32"}, Dsml("function_calls")},
      {{"deepseek_v4", "deepseek-v4", "deepseekv4"}, Dsml("tool_calls")},
      {{"qwen3_coder", "nemotron_nano", "qwen3_xml", "step3p5"},
       Elements("<tool_call>", "</tool_call>")},
      {{"seed_oss"}, Elements("<seed:tool_call>", "</seed:tool_call>")},
      {{"minimax_m2", "minimax-m2"},
       XmlCallFormat{.openers = {"<minimax:tool_call>"},
                     .closers = {"</minimax:tool_call>"},
                     .call_opener = "<invoke name=\"",
                     .call_name_closer = "\">",
                     .call_closer = "</invoke>",
                     .parameter_opener = "<parameter name=\"",
                     .name_closer = "\"",
                     .attributes = true,
                     .value_opener = {},
                     .value_closer = "</parameter>",
                     .framed = false,
                     .shares_block = true}},
      {{"glm47", "glm45"},
       XmlCallFormat{.openers = {"<tool_call>"},
                     .closers = {"</tool_call>"},
                     .call_opener = {},
                     .call_name_closer = {},
                     .call_closer = {},
                     .parameter_opener = "<arg_key>",
                     .name_closer = "</arg_key>",
                     .attributes = false,
                     .value_opener = "<arg_value>",
                     .value_closer = "</arg_value>",
                     .framed = false}},
  };
}

std::vector<NamedCallFormat> LiteralFormats() {
  using Notation = LiteralCallFormat::Notation;
  return {
      {{"gemma4", "gemma-4"},
       LiteralCallFormat{.notation = Notation::kGemma,
                         .openers = {"<|tool_call>"},
                         .closers = {"<tool_call|>"},
                         .bare = false,
                         .quote = std::string(kGemmaQuote)}},
      {{"pythonic", "llama4_pythonic"},
       LiteralCallFormat{.notation = Notation::kPython,
                         .openers = {"<|python_start|>"},
                         .closers = {"<|python_end|>"},
                         .bare = true,
                         .quote = {}}},
      {{"lfm2"},
       LiteralCallFormat{.notation = Notation::kPython,
                         .openers = {"<|tool_call_start|>"},
                         .closers = {"<|tool_call_end|>"},
                         .bare = true,
                         .quote = {}}},
      {{"harmony", "gpt_oss", "openai"}, HarmonyFormat{}},
  };
}

std::vector<NamedCallFormat> MakeCallFormats() {
  std::vector<NamedCallFormat> out;
  for (std::vector<NamedCallFormat>& part :
       std::array{JsonFormats(), NamedJsonFormats(), XmlFormats(), LiteralFormats()}) {
    out.insert(out.end(), part.begin(), part.end());
  }
  return out;
}

ReasoningFormat Think(bool forced) {
  return {.openers = {"<think>"}, .closers = {"</think>"}, .dropped = {}, .forced = forced};
}

std::vector<NamedReasoningFormat> MakeReasoningFormats() {
  return {
      {{"basic", "qwen3", "nemotron_deci", "glm45", "deepseek_v4", "deepseek-v4", "deepseekv4"},
       Think(false)},
      {{"deepseek_r1", "step3", "nemotron3", "nemotron_v3", "nemotron_nano", "kimi_k25",
        "minimax_append_think", "minimax-append-think"},
       Think(true)},
      {{"kimi"}, {.openers = {"◁think▷"}, .closers = {"◁/think▷"}, .dropped = {}, .forced = false}},
      {{"mistral"},
       {.openers = {"[THINK]"}, .closers = {"[/THINK]"}, .dropped = {}, .forced = true}},
      {{"mistral_unforced"},
       {.openers = {"[THINK]"}, .closers = {"[/THINK]"}, .dropped = {}, .forced = false}},
      {{"granite"},
       {.openers = {"Here's my thought process:", "Here is my thought process:"},
        .closers = {"Here's my response:", "Here is my response:"},
        .dropped = {},
        .forced = false}},
      {{"granite3", "granite-3.3"},
       {.openers = {"<think>"},
        .closers = {"</think>"},
        .dropped = {"<response>", "</response>"},
        .forced = false}},
      {{"gpt_oss", "harmony", "openai"}, {}, true},
      {{"gemma4", "gemma-4"},
       {.openers = {"<|channel>thought\n"},
        .closers = {"<channel|>"},
        .dropped = {},
        .forced = false}},
      {{"command_r7b", "cohere"},
       {.openers = {"<|START_THINKING|>"},
        .closers = {"<|END_THINKING|>"},
        .dropped = {"<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"},
        .forced = false}},
      {{"apertus"},
       {.openers = {"<|inner_prefix|>"},
        .closers = {"<|inner_suffix|>"},
        .dropped = {},
        .forced = false}},
      {{"apriel"},
       {.openers = {"Here are my reasoning steps:"},
        .closers = {"[BEGIN FINAL RESPONSE]"},
        .dropped = {"[END FINAL RESPONSE]"},
        .forced = false}},
      {{"seed_oss"},
       {.openers = {"<seed:think>"}, .closers = {"</seed:think>"}, .dropped = {}, .forced = false}},
  };
}

// A format is chosen if the template holds all the texts; the first line that does, counts.
struct Detection {
  std::vector<std::string_view> texts;
  std::string_view name;
};

const std::vector<Detection>& CallDetections() {
  static const std::vector<Detection> table = {
      {{"<|channel|>", "<|message|>"}, "harmony"},
      {{"<｜DSML｜", "function_calls"}, "deepseek_v3_2"},
      {{"<｜DSML｜"}, "deepseek_v4"},
      {{"<｜tool▁calls▁begin｜>", "```json"}, "deepseek_v3"},
      {{"<｜tool▁calls▁begin｜>"}, "deepseek_v3_1"},
      {{"<|tool_calls_section_begin|>"}, "kimi_k2"},
      {{"<minimax:tool_call>"}, "minimax_m2"},
      {{"<seed:tool_call>"}, "seed_oss"},
      {{"<arg_key>", "<tool_call>"}, "glm47"},
      {{"<function=", "<parameter="}, "qwen3_coder"},
      {{"<|START_ACTION|>"}, "command_r7b"},
      {{"<|tools_prefix|>"}, "apertus"},
      {{"<|tool_call>", "<tool_call|>"}, "gemma4"},
      {{"<|tool_call_start|>"}, "lfm2"},
      {{"<|tool_list_start|>"}, "lfm2"},
      {{"<|function_call|>"}, "gigachat3"},
      {{"function call", "<|role_sep|>"}, "gigachat3"},
      {{"<|action_start|><|plugin|>"}, "internlm"},
      {{">>>all"}, "functionary"},
      {{"<function=", "</function>"}, "functionary_v3_1"},
      {{"<tool_calls>"}, "jamba"},
      {{"<TOOLCALL>"}, "nemotron_deci"},
      {{"<|tool_call|>"}, "granite"},
      {{"[TOOL_CALLS]"}, "mistral"},
      {{"functools"}, "phi4"},
      {{"<tool_call>"}, "hermes"},
      {{"<|python_tag|>"}, "llama3_json"},
      {{"Environment: ipython"}, "llama3_json"},
      {{"<|python_start|>"}, "pythonic"},
      {{"<|tool|>", "<|/tool|>"}, "phi4"},
  };
  return table;
}

const std::vector<Detection>& ReasoningDetections() {
  static const std::vector<Detection> table = {
      {{"<|channel|>", "<|message|>"}, "gpt_oss"},
      {{"<|START_THINKING|>"}, "command_r7b"},
      {{"<|inner_prefix|>"}, "apertus"},
      {{"<|channel>thought"}, "gemma4"},
      {{"<seed:think>"}, "seed_oss"},
      {{"◁think▷"}, "kimi"},
      {{"[BEGIN FINAL RESPONSE]"}, "apriel"},
      {{"Here's my thought process:"}, "granite"},
      {{"'Here is my thought process:'"}, "granite"},
      {{"[THINK]"}, "mistral_unforced"},
      {{"<think>", "<response>"}, "granite3"},
      {{"<think>"}, "basic"},
      {{"</think>"}, "basic"},
      {{"/no_think"}, "basic"},
  };
  return table;
}

std::string_view Detect(const std::vector<Detection>& table, std::string_view source) {
  for (const Detection& line : table) {
    bool all = true;
    for (std::string_view text : line.texts) {
      all = all && source.find(text) != std::string_view::npos;
    }
    if (all) {
      return line.name;
    }
  }
  return "none";
}

}  // namespace

std::span<const NamedCallFormat> CallFormats() {
  static const std::vector<NamedCallFormat> table = MakeCallFormats();
  return table;
}

std::span<const NamedReasoningFormat> ReasoningFormats() {
  static const std::vector<NamedReasoningFormat> table = MakeReasoningFormats();
  return table;
}

std::string_view DetectCalls(std::string_view template_source) {
  return Detect(CallDetections(), template_source);
}

std::string_view DetectReasoning(std::string_view template_source) {
  return Detect(ReasoningDetections(), template_source);
}

}  // namespace pixii::text::parsers
