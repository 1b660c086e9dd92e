#include "unit/text/parsers/format_cases.h"

#include <cctype>

#include "text/parsers/tool_set.h"

namespace pixii::text::parsers::testing {

using wire::Json;

namespace {

using Calls = std::vector<WrittenCall>;

std::string Object(const WrittenCall& call, const std::string& key = "arguments") {
  return R"({"name": ")" + call.name + R"(", ")" + key + R"(": )" + call.arguments + "}";
}

std::string List(const Calls& calls) {
  std::string out = "[";
  for (const WrittenCall& call : calls) {
    out += (out.size() > 1 ? ", " : "") + Object(call);
  }
  return out + "]";
}

// Each call by itself.
std::function<std::string(const Calls&)> Each(
    std::function<std::string(const WrittenCall&, std::size_t)> one, std::string before = "",
    std::string after = "", std::string between = "") {
  return [=](const Calls& calls) {
    std::string out = before;
    for (std::size_t i = 0; i < calls.size(); ++i) {
      out += (i > 0 ? between : "") + one(calls[i], i);
    }
    return out + after;
  };
}

std::string Plain(const Json& value) { return value.is_string() ? value.string() : value.Dump(); }

// A call whose parameters are elements; `parameter` writes one.
std::string WithParameters(
    const WrittenCall& call, const std::string& before, const std::string& after,
    const std::function<std::string(const std::string&, const Json&)>& parameter) {
  std::string out = before;
  const Json arguments = *wire::ParseJson(call.arguments);
  for (const auto& [name, value] : arguments.object()) {
    out += parameter(name, value);
  }
  return out + after;
}

std::string Python(const Json& value) {
  switch (value.kind()) {
    case Json::Kind::kNull:
      return "None";
    case Json::Kind::kBool:
      return value.boolean() ? "True" : "False";
    case Json::Kind::kNumber:
      return value.digits();
    case Json::Kind::kString: {
      std::string out = "'";
      for (char byte : value.string()) {
        out += byte == '\'' || byte == '\\' ? std::string("\\") + byte
               : byte == '\n'               ? "\\n"
               : byte == '\0'               ? "\\x00"
                                            : std::string(1, byte);
      }
      return out + "'";
    }
    case Json::Kind::kArray: {
      std::string out = "[";
      for (const Json& item : value.array()) {
        out += (out.size() > 1 ? ", " : "") + Python(item);
      }
      return out + "]";
    }
    case Json::Kind::kObject: {
      std::string out = "{";
      for (const auto& [key, item] : value.object()) {
        out += (out.size() > 1 ? ", " : "") + Python(Json(key)) + ": " + Python(item);
      }
      return out + "}";
    }
  }
  return {};
}

std::string PythonCall(const WrittenCall& call, std::size_t) {
  std::string out;
  const Json arguments = *wire::ParseJson(call.arguments);
  for (const auto& [name, value] : arguments.object()) {
    out += (out.empty() ? "" : ", ") + name + "=" + Python(value);
  }
  return call.name + "(" + out + ")";
}

std::string Gemma(const Json& value) {
  const std::string quote = "<|\"|>";
  if (value.is_string()) {
    return quote + value.string() + quote;
  }
  std::string out;
  if (value.is_array()) {
    for (const Json& item : value.array()) {
      out += (out.empty() ? "" : ",") + Gemma(item);
    }
    return "[" + out + "]";
  }
  if (value.is_object()) {
    for (const auto& [key, item] : value.object()) {
      out += (out.empty() ? "" : ",") + key + ":" + Gemma(item);
    }
    return "{" + out + "}";
  }
  return value.Dump();
}

FormatWriter Named(const std::string& name, const std::string& section, const std::string& end,
                   std::function<std::string(const WrittenCall&, std::size_t)> one,
                   std::vector<std::string> markers) {
  return {name, Each(std::move(one), section, end), std::move(markers)};
}

std::vector<FormatWriter> JsonWriters() {
  const auto list = [](std::string before, std::string after) {
    return [=](const Calls& calls) { return before + List(calls) + after; };
  };
  return {
      {"hermes",
       Each([](const WrittenCall& c,
               std::size_t) { return "<tool_call>\n" + Object(c) + "\n</tool_call>"; },
            "", "", "\n"),
       {"<tool_call>", "</tool_call>"},
       true},
      {"nemotron_deci", list("<TOOLCALL>", "</TOOLCALL>"), {"<TOOLCALL>", "</TOOLCALL>"}},
      {"llama3_json",
       Each([](const WrittenCall& c, std::size_t) { return Object(c, "parameters"); },
            "<|python_tag|>", "", "; "),
       {"<|python_tag|>"}},
      {"mistral", list("[TOOL_CALLS]", ""), {"[TOOL_CALLS]"}},
      {"mistral",
       Each([](const WrittenCall& c, std::size_t) {
         return "[TOOL_CALLS]" + c.name + "[ARGS]" + c.arguments;
       }),
       {"[TOOL_CALLS]", "[ARGS]"}},
      {"mistral",
       Each([](const WrittenCall& c, std::size_t) {
         return "[TOOL_CALLS]" + c.name + "[CALL_ID]abcdefghi[ARGS]" + c.arguments;
       }),
       {"[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"}},
      {"phi4", list("functools", ""), {"functools"}},
      {"jamba", list("<tool_calls>", "</tool_calls>"), {"<tool_calls>", "</tool_calls>"}},
      {"default", list("<TOOLCALL>", "</TOOLCALL>"), {"<TOOLCALL>", "</TOOLCALL>"}},
      {"granite", list("<|tool_call|>", ""), {"<|tool_call|>"}},
      {"command_r7b",
       [](const Calls& calls) {
         std::string out;
         for (std::size_t i = 0; i < calls.size(); ++i) {
           out += (i > 0 ? ",\n    " : "    ") + std::string(R"({"tool_call_id": ")") +
                  std::to_string(i) + R"(", "tool_name": ")" + calls[i].name +
                  R"(", "parameters": )" + calls[i].arguments + "}";
         }
         return "<|START_ACTION|>[\n" + out + "\n]<|END_ACTION|>";
       },
       {"<|START_ACTION|>", "<|END_ACTION|>"}},
      {"apertus",
       [](const Calls& calls) {
         std::string out;
         for (const WrittenCall& call : calls) {
           out += (out.empty() ? "" : ", ") + std::string("{\"") + call.name +
                  "\": " + call.arguments + "}";
         }
         return "<|tools_prefix|>[" + out + "]<|tools_suffix|>";
       },
       {"<|tools_prefix|>", "<|tools_suffix|>"}},
      {"gigachat3",
       Each([](const WrittenCall& c, std::size_t) { return "<|function_call|>" + Object(c); }),
       {"<|function_call|>"}},
      {"internlm",
       Each([](const WrittenCall& c, std::size_t) {
         return "<|action_start|><|plugin|>\n" + Object(c, "parameters") + "<|action_end|>";
       }),
       {"<|plugin|>", "<|action_end|>"}},
  };
}

std::vector<FormatWriter> NamedWriters() {
  const std::string begin = "<｜tool▁calls▁begin｜>";
  const std::string end = "<｜tool▁calls▁end｜>";
  return {
      Named("deepseek_v3", begin, end,
            [](const WrittenCall& c, std::size_t) {
              return "<｜tool▁call▁begin｜>function<｜tool▁sep｜>" + c.name + "\n```json\n" +
                     c.arguments + "\n```<｜tool▁call▁end｜>";
            },
            {"｜>", "```"}),
      Named("deepseek_v3_1", begin, end,
            [](const WrittenCall& c, std::size_t) {
              return "<｜tool▁call▁begin｜>" + c.name + "<｜tool▁sep｜>" + c.arguments +
                     "<｜tool▁call▁end｜>";
            },
            {"｜>"}),
      Named("kimi_k2", "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>",
            [](const WrittenCall& c, std::size_t i) {
              return "<|tool_call_begin|>functions." + c.name + ":" + std::to_string(i) +
                     "<|tool_call_argument_begin|>" + c.arguments + "<|tool_call_end|>";
            },
            {"_begin|>", "_end|>"}),
      Named("functionary_v3_1", "", "",
            [](const WrittenCall& c, std::size_t) {
              return "<function=" + c.name + ">" + c.arguments + "</function>";
            },
            {"<function=", "</function>"}),
      Named("functionary", "", "",
            [](const WrittenCall& c, std::size_t) { return ">>>" + c.name + "\n" + c.arguments; },
            {">>>"}),
  };
}

FormatWriter Elements(const std::string& name, const std::string& tag) {
  return {name,
          Each([tag](const WrittenCall& c, std::size_t) {
            return WithParameters(
                c, "<" + tag + ">\n<function=" + c.name + ">\n", "</function>\n</" + tag + ">",
                [](const std::string& parameter, const Json& value) {
                  return "<parameter=" + parameter + ">\n" + Plain(value) + "\n</parameter>\n";
                });
          }),
          {"<" + tag + ">", "<function=", "</parameter>\n</"},
          false,
          false};
}

FormatWriter Dsml(const std::string& name, const std::string& block) {
  return {name,
          Each(
              [](const WrittenCall& c, std::size_t) {
                return WithParameters(
                    c, "<｜DSML｜invoke name=\"" + c.name + "\">\n", "</｜DSML｜invoke>\n",
                    [](const std::string& parameter, const Json& value) {
                      return "<｜DSML｜parameter name=\"" + parameter + "\" string=\"" +
                             (value.is_string() ? "true" : "false") + "\">" + Plain(value) +
                             "</｜DSML｜parameter>\n";
                    });
              },
              "<｜DSML｜" + block + ">\n", "</｜DSML｜" + block + ">"),
          {"<｜DSML｜" + block + ">"},
          false,
          false};
}

std::vector<FormatWriter> OtherWriters() {
  return {
      Dsml("deepseek_v3_2", "function_calls"),
      Dsml("deepseek_v4", "tool_calls"),
      Elements("qwen3_coder", "tool_call"),
      Elements("seed_oss", "seed:tool_call"),
      {"minimax_m2",
       Each(
           [](const WrittenCall& c, std::size_t) {
             return WithParameters(c, "<invoke name=\"" + c.name + "\">\n", "</invoke>\n",
                                   [](const std::string& parameter, const Json& value) {
                                     return "<parameter name=\"" + parameter + "\">" +
                                            Plain(value) + "</parameter>\n";
                                   });
           },
           "<minimax:tool_call>\n", "</minimax:tool_call>"),
       {"<minimax:tool_call>", "<invoke name"},
       false,
       false},
      {"glm47",
       Each(
           [](const WrittenCall& c, std::size_t) {
             return WithParameters(c, "<tool_call>" + c.name + "\n", "</tool_call>",
                                   [](const std::string& parameter, const Json& value) {
                                     return "<arg_key>" + parameter + "</arg_key>\n<arg_value>" +
                                            Plain(value) + "</arg_value>\n";
                                   });
           },
           "", "", "\n"),
       {"<arg_key>", "<arg_value>"},
       true,
       false},
      {"gemma4",
       Each([](const WrittenCall& c, std::size_t) {
         return "<|tool_call>call:" + c.name + Gemma(*wire::ParseJson(c.arguments)) +
                "<tool_call|>";
       }),
       {"<|tool_call>", "<tool_call|>"},
       false,
       false},
      {"pythonic", Each(PythonCall, "[", "]", ", "), {}, false, false},
      {"lfm2",
       Each(PythonCall, "<|tool_call_start|>[", "]<|tool_call_end|>", ", "),
       {"<|tool_call_start|>", "<|tool_call_end|>"},
       false,
       false},
      {"harmony",
       Each([](const WrittenCall& c, std::size_t) {
         return "<|start|>assistant<|channel|>commentary to=functions." + c.name +
                " <|constrain|>json<|message|>" + c.arguments + "<|call|>";
       }),
       {"<|start|>", "<|channel|>", "<|message|>"}},
  };
}

}  // namespace

std::vector<FormatWriter> AllWriters() {
  std::vector<FormatWriter> out = JsonWriters();
  for (std::vector<FormatWriter> part : {NamedWriters(), OtherWriters()}) {
    out.insert(out.end(), part.begin(), part.end());
  }
  return out;
}

}  // namespace pixii::text::parsers::testing
