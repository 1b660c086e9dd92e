#include "frontend/answer_constraint.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/grammar/grammar_library.h"
#include "text/parsers/call_form.h"
#include "text/parsers/call_script.h"

namespace pixii::frontend {

using text::parsers::CallScriptOptions;
using text::parsers::ScriptTool;
using wire::Constraint;
using wire::ConstraintKind;
using wire::Json;

namespace {

// One tool of the request: what is enforced, and where the client wrote it.
struct ToolInRequest {
  ScriptTool tool;
  bool strict = false;
  std::size_t index = 0;
};

bool Forces(const OpenAiRequest& request) {
  return request.tool_choice == ToolChoice::kRequired || request.tool_choice == ToolChoice::kNamed;
}

std::vector<ToolInRequest> ToolsOf(const OpenAiRequest& request) {
  std::vector<ToolInRequest> out;
  if (!request.chat.tools.is_array()) {
    return out;
  }
  for (std::size_t i = 0; i < request.chat.tools.array().size(); ++i) {
    const Json& function = *request.chat.tools.array()[i].Find("function");
    ToolInRequest tool{.tool = {.name = function.Find("name")->string(), .parameters = Json()},
                       .strict = false,
                       .index = i};
    if (const Json* parameters = function.Find("parameters"); parameters != nullptr) {
      tool.tool.parameters = *parameters;
    }
    const Json* strict = function.Find("strict");
    tool.strict = strict != nullptr && *strict == Json(true);
    const bool again = std::ranges::any_of(
        out, [&](const ToolInRequest& known) { return known.tool.name == tool.tool.name; });
    if (!again) {  // of two tools with one name the first is meant
      out.push_back(std::move(tool));
    }
  }
  return out;
}

// The model was told not to think: by name, or by a template that must be told otherwise.
bool ThinkingIsOff(const OpenAiRequest& request, const ServedModel& model,
                   const ChatParsing& parsing) {
  const auto& reasoning = parsing.answers->format.reasoning;
  if (!reasoning || text::parsers::BeginsInReasoning(*reasoning, parsing.prompt_tail)) {
    return false;
  }
  ChatPrompt asked = ShownChat(request, model);
  asked.times = nullptr;  // of the prompt itself
  Result<std::vector<TokenId>> given = model.text->EncodeChat(asked);
  Json kwargs = asked.template_kwargs.is_object() ? asked.template_kwargs : Json(Json::Object{});
  for (const char* name : {"enable_thinking", "thinking"}) {
    const Json* value = kwargs.Find(name);
    if (value != nullptr && *value == Json(false)) {
      return true;
    }
    kwargs.Set(name, true);
  }
  asked.template_kwargs = std::move(kwargs);
  const Result<std::vector<TokenId>> thinking = model.text->EncodeChat(asked);
  return given && thinking && *given != *thinking;
}

tl::unexpected<Error> Refuse(Code code, const std::string& field, std::string_view detail) {
  return Fail(code, fmt::format("{}: {}", field, detail), field);
}

/// Compiles `constraint`; `field` says so.
Result<void> Compile(const Constraint& constraint, const std::string& field,
                     const ServedModel& model) {
  PX_CHECK_OK(model.grammars->Vocabulary());
  const auto grammar = model.grammars->Get(constraint);
  if (grammar) {
    return {};
  }
  const Code code = grammar.error().code();
  return Refuse(code == Code::kTooLarge ? Code::kInvalidArgument : code, field,
                grammar.error().detail());
}

// The tool whose schema is at fault is named.
Result<void> CompileCalls(const Constraint& constraint, const std::vector<ToolInRequest>& tools,
                          const std::string& field, const ServedModel& model) {
  const Result<void> all = Compile(constraint, field, model);
  for (std::size_t i = 0; !all && i < tools.size(); ++i) {
    if (!tools[i].tool.enforced || tools[i].tool.parameters.is_null()) {
      continue;
    }
    Constraint alone;
    alone.kind = ConstraintKind::kJsonSchema;
    alone.text = tools[i].tool.parameters.Dump();
    PX_CHECK_OK(
        Compile(alone, fmt::format("tools[{}].function.parameters", tools[i].index), model));
  }
  return all;
}

// What binds the text; null: nothing, or no text may come.
const Constraint* TextConstraint(const OpenAiRequest& request) {
  return request.constraint && !Forces(request) ? &*request.constraint : nullptr;
}

/// The schema of an answer that is no call; nothing if the constraint is no schema.
std::optional<std::string> ContentSchema(const Constraint& constraint) {
  switch (constraint.kind) {
    case ConstraintKind::kJsonSchema:
      return constraint.text;
    case ConstraintKind::kJsonObject:
      return R"({"type":"object"})";
    default:
      return std::nullopt;
  }
}

/// The field that makes calls subject to a grammar, empty if none does.
std::string FieldOfCalls(const OpenAiRequest& request, const std::vector<ToolInRequest>& tools) {
  if (Forces(request)) {
    return "tool_choice";
  }
  const auto strict = std::ranges::find(tools, true, &ToolInRequest::strict);
  return strict == tools.end() ? std::string()
                               : fmt::format("tools[{}].function.strict", strict->index);
}

Result<Constraint> CallConstraint(const OpenAiRequest& request, const ServedModel& model,
                                  const ChatParsing& parsing, std::vector<ToolInRequest> tools,
                                  const std::string& field) {
  CallScriptOptions options{.required = Forces(request),
                            .one_call = request.parallel_tool_calls == false};
  for (ToolInRequest& tool : tools) {
    const bool named =
        request.tool_choice != ToolChoice::kNamed || tool.tool.name == request.tool_choice_name;
    tool.tool.enforced = options.required || tool.strict;
    if (named) {
      options.tools.push_back(tool.tool);
    }
  }
  Constraint out = MakeConstraint(ConstraintKind::kScript, {});
  if (const Constraint* text = TextConstraint(request)) {
    options.content_schema = ContentSchema(*text).value_or(std::string());
    out.spelling = text->spelling;
  }
  text::parsers::ChatFormat format = parsing.answers->format;
  if (ThinkingIsOff(request, model, parsing)) {
    format.reasoning.reset();
  }
  Result<wire::Script> script = text::parsers::CallScript(format, options, parsing.prompt_tail);
  if (!script) {
    return Refuse(script.error().code(), field, script.error().detail());
  }
  out.script = std::move(*script);
  return out;
}

// Whether the answer may be a call or follow the constraint of its content.
bool MayBeEither(const Constraint& text, const ChatParsing& parsing) {
  const auto& calls = parsing.answers->format.calls;
  return calls && ContentSchema(text) &&
         (parsing.answers->format.harmony() || !text::parsers::FormOf(*calls).bare);
}

}  // namespace

Result<void> CheckToolUse(const OpenAiRequest& request) {
  if (!Forces(request)) {
    return {};
  }
  const std::vector<ToolInRequest> tools = ToolsOf(request);
  if (tools.empty()) {
    return Refuse(Code::kInvalidArgument, "tool_choice",
                  "a call is demanded, but the request has no tools");
  }
  const bool known = std::ranges::any_of(
      tools, [&](const ToolInRequest& tool) { return tool.tool.name == request.tool_choice_name; });
  if (request.tool_choice == ToolChoice::kNamed && !known) {
    return Refuse(Code::kInvalidArgument, "tool_choice",
                  fmt::format("\"{}\" is none of the tools", request.tool_choice_name));
  }
  // What binds a text that does not come is refused; but OpenAI's form only says how a text would
  // look, and its clients send it with every request.
  if (request.constraint && request.constraint_field != "response_format") {
    return Refuse(Code::kUnsupported, request.constraint_field,
                  "not together with a tool_choice that demands a call");
  }
  return {};
}

Result<std::optional<Constraint>> PlanConstraint(const OpenAiRequest& request,
                                                 const ServedModel& model,
                                                 const ChatParsing* parsing) {
  const bool calls = request.tool_choice != ToolChoice::kNone;
  const std::vector<ToolInRequest> tools = calls ? ToolsOf(request) : std::vector<ToolInRequest>();
  std::string field = FieldOfCalls(request, tools);
  const bool enforced = !field.empty();
  const Constraint* text = TextConstraint(request);
  if (!enforced && text == nullptr) {
    return std::nullopt;
  }
  field = enforced ? field : request.constraint_field;
  if (!model.grammars) {
    return Refuse(
        Code::kUnsupported, field,
        fmt::format("the model \"{}\" has no tokenizer to constrain answers with", model.name()));
  }
  if (request.uses_beams()) {
    return Refuse(Code::kUnsupported, field, "not together with use_beam_search");
  }
  if (enforced && (parsing == nullptr || !parsing->options.calls)) {
    return Refuse(Code::kUnsupported, field,
                  request.chat.continue_final_message
                      ? "not together with continue_final_message"
                      : "calls cannot be enforced: no tool-call format is known of this model; "
                        "set --tool-call-parser");
  }
  const bool either = text != nullptr && !tools.empty() && parsing != nullptr &&
                      parsing->options.calls && MayBeEither(*text, *parsing);
  if (enforced && text != nullptr && !either) {
    return Refuse(Code::kUnsupported, field,
                  fmt::format("not together with {} in the tool-call format {}",
                              request.constraint_field, parsing->answers->format.calls_name));
  }
  if (enforced || either) {
    PX_TRY(Constraint constraint, CallConstraint(request, model, *parsing, tools, field));
    PX_CHECK_OK(CompileCalls(constraint, tools, field, model));
    return constraint;
  }
  Constraint constraint = *text;
  if (parsing != nullptr && !ThinkingIsOff(request, model, *parsing)) {
    constraint.script =
        text::parsers::ReasoningScript(parsing->answers->format, parsing->prompt_tail);
  }
  PX_CHECK_OK(Compile(constraint, field, model));
  return constraint;
}

}  // namespace pixii::frontend
