#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <span>
#include <utility>

#include "frontend/chat_content.h"
#include "frontend/field_error.h"
#include "frontend/responses.h"

namespace pixii::frontend {

using wire::Json;

namespace {

struct Reading {
  Json out = Json(Json::Object{});  // in OpenAI's chat form
  Json echo = Json(Json::Object{});
  Json::Array messages;
  Json kwargs = Json(Json::Object{});
  std::string instructions;
  std::string reasoning;               // of the assistant's message that follows
  std::vector<ShownPicture> pictures;  // in `messages`
  bool store = true;
};

// Where an answer repeats what was asked for, in this order; the rest is written beside them.
constexpr auto kEchoed = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"instructions", "null"},
    {"max_output_tokens", "null"},
    {"parallel_tool_calls", "true"},
    {"previous_response_id", "null"},
    {"reasoning", R"({"effort":null,"summary":null})"},
    {"store", "true"},
    {"temperature", "null"},
    {"text", R"({"format":{"type":"text"}})"},
    {"tool_choice", R"("auto")"},
    {"tools", "[]"},
    {"top_p", "null"},
    {"truncation", R"("disabled")"},
    {"metadata", "{}"},
    {"service_tier", R"("default")"},
});

// {"type":"input_image","image_url":…,"detail":…}
Result<void> ReadImagePart(const Json& part, const std::string& at, ChatContent& out) {
  const Json* file = part.Find("file_id");
  if (file != nullptr && !file->is_null()) {
    return NotDone(at + ".file_id", "pictures are given by image_url");
  }
  const Json* detail = part.Find("detail");
  const Json* url = part.Find("image_url");
  if (url == nullptr || !url->is_string()) {
    return Bad(at + ".image_url", "must be a string");
  }
  for (const auto& [key, value] : part.object()) {
    if (key != "type" && key != "image_url" && key != "detail" && key != "file_id") {
      return Unknown(At(at, key));
    }
  }
  out.AddImage(url->string(), detail == nullptr ? Json() : *detail,
               {.part = at, .url = at + ".image_url", .detail = at + ".detail"});
  return {};
}

Result<void> ReadTextPart(const Json& part, const std::string& at, ChatContent& out) {
  const Json* text = part.Find("text");
  if (text == nullptr || !text->is_string()) {
    return Bad(at + ".text", "must be a string");
  }
  const bool said = *part.Find("type") == Json("output_text");  // by an answer, which had these too
  for (const auto& [key, value] : part.object()) {
    if (key != "type" && key != "text" && !(said && (key == "annotations" || key == "logprobs"))) {
      return Unknown(At(at, key));
    }
  }
  out.AddText(text->string());
  return {};
}

// A string, or parts of text; pictures too where `shows`.
Result<ChatContent> ReadContent(const Json& content, const std::string& at, bool shows) {
  ChatContent out;
  if (content.is_string()) {
    out.AddText(content.string());
    return out;
  }
  if (!content.is_array()) {
    return Bad(at, "must be a string or a list of parts");
  }
  for (std::size_t i = 0; i < content.array().size(); ++i) {
    const Json& part = content.array()[i];
    const std::string where = fmt::format("{}[{}]", at, i);
    const Json* type = part.Find("type");
    if (type == nullptr || !type->is_string()) {
      return Bad(where, "must be an object with a type");
    }
    if (*type == Json("input_image") && shows) {
      PX_CHECK_OK(ReadImagePart(part, where, out));
    } else if (*type == Json("input_text") || *type == Json("output_text") ||
               *type == Json("text")) {
      PX_CHECK_OK(ReadTextPart(part, where, out));
    } else {
      return NotDone(where + ".type", fmt::format("{} is not supported here, only text is{}",
                                                  Shown(*type), shows ? ", and input_image" : ""));
    }
  }
  return out;
}

// The assistant's message that a call or its text belongs to: the last one, or a new one.
Json& AssistantMessage(Reading& reading, bool joins) {
  const bool has =
      !reading.messages.empty() && *reading.messages.back().Find("role") == "assistant";
  if (!has || !joins) {
    Json message{Json::Object{}};
    message.Set("role", "assistant");
    message.Set("content", "");
    if (!reading.reasoning.empty()) {
      message.Set("reasoning_content", std::exchange(reading.reasoning, {}));
    }
    reading.messages.push_back(std::move(message));
  }
  return reading.messages.back();
}

constexpr auto kRoles =
    std::to_array<std::string_view>({"user", "assistant", "system", "developer"});

// An item has the `known` members and those that every item may have.
Result<void> CheckMembers(const Json& item, std::initializer_list<std::string_view> known,
                          const std::string& at) {
  for (const auto& [key, value] : item.object()) {
    if (key != "type" && key != "id" && key != "status" &&
        std::ranges::find(known, key) == known.end()) {
      return Unknown(At(at, key));
    }
  }
  return {};
}

Result<void> ReadMessageItem(const Json& item, const std::string& at, Reading& reading) {
  const Json* role = item.Find("role");
  const Json* content = item.Find("content");
  if (role == nullptr || !role->is_string() ||
      std::ranges::find(kRoles, role->string()) == kRoles.end()) {
    return Bad(at + ".role", fmt::format("{} is none of user, assistant, system, developer",
                                         role == nullptr ? "nothing" : Shown(*role)));
  }
  if (content == nullptr) {
    return Bad(at + ".content", "is missing");
  }
  PX_CHECK_OK(CheckMembers(item, {"role", "content", "phase"}, at));
  PX_TRY(ChatContent read, ReadContent(*content, at + ".content", role->string() == "user"));
  if (role->string() == "assistant") {
    Json& answer = AssistantMessage(reading, false);
    answer.Set("content", read.Take(reading.messages.size() - 1, reading.pictures));
    return {};
  }
  Json message{Json::Object{}};
  message.Set("role", *role);
  message.Set("content", read.Take(reading.messages.size(), reading.pictures));
  reading.messages.push_back(std::move(message));
  return {};
}

Result<std::string> StringOf(const Json& item, std::string_view key, const std::string& at) {
  const Json* value = item.Find(key);
  if (value == nullptr || !value->is_string()) {
    return Bad(At(at, key), "must be a string");
  }
  return value->string();
}

Result<void> ReadCallItem(const Json& item, const std::string& at, Reading& reading) {
  PX_CHECK_OK(CheckMembers(item, {"call_id", "name", "arguments"}, at));
  PX_TRY(std::string id, StringOf(item, "call_id", at));
  PX_TRY(std::string name, StringOf(item, "name", at));
  PX_TRY(std::string arguments, StringOf(item, "arguments", at));
  Json function{Json::Object{}};
  function.Set("name", std::move(name));
  function.Set("arguments", std::move(arguments));
  Json call{Json::Object{}};
  call.Set("id", std::move(id));
  call.Set("type", "function");
  call.Set("function", std::move(function));
  Json& message = AssistantMessage(reading, true);
  const Json* before = message.Find("tool_calls");
  Json::Array calls = before == nullptr ? Json::Array{} : before->array();
  calls.push_back(std::move(call));
  message.Set("tool_calls", std::move(calls));
  return {};
}

Result<void> ReadOutputItem(const Json& item, const std::string& at, Reading& reading) {
  PX_CHECK_OK(CheckMembers(item, {"call_id", "output"}, at));
  PX_TRY(std::string id, StringOf(item, "call_id", at));
  const Json* output = item.Find("output");
  if (output == nullptr) {
    return Bad(at + ".output", "is missing");
  }
  PX_TRY(ChatContent read, ReadContent(*output, at + ".output", true));
  Json message{Json::Object{}};
  message.Set("role", "tool");
  message.Set("tool_call_id", std::move(id));
  message.Set("content", read.Take(reading.messages.size(), reading.pictures));
  reading.messages.push_back(std::move(message));
  return {};
}

// Its content is what the model thought; a summary or a sealed text of another server is not read.
Result<void> ReadReasoningItem(const Json& item, const std::string& at, Reading& reading) {
  PX_CHECK_OK(CheckMembers(item, {"content", "summary", "encrypted_content"}, at));
  for (const char* key : {"summary", "encrypted_content"}) {
    const Json* given = item.Find(key);
    if (given != nullptr && !given->is_null() && *given != Json(Json::Array{})) {
      return NotDone(At(at, key), "only the content of reasoning is read here");
    }
  }
  const Json* content = item.Find("content");
  if (content == nullptr || content->is_null()) {
    return {};
  }
  if (!content->is_array()) {
    return Bad(at + ".content", "must be a list of parts");
  }
  for (std::size_t i = 0; i < content->array().size(); ++i) {
    PX_TRY(std::string text,
           StringOf(content->array()[i], "text", fmt::format("{}.content[{}]", at, i)));
    reading.reasoning += text;
  }
  return {};
}

Result<void> ReadItem(const Json& item, const std::string& at, Reading& reading) {
  if (!item.is_object()) {
    return Bad(at, "must be an object");
  }
  const Json* type = item.Find("type");
  if (type == nullptr || *type == Json("message")) {
    return ReadMessageItem(item, at, reading);
  }
  if (*type == Json("function_call")) {
    return ReadCallItem(item, at, reading);
  }
  if (*type == Json("function_call_output")) {
    return ReadOutputItem(item, at, reading);
  }
  if (*type == Json("reasoning")) {
    return ReadReasoningItem(item, at, reading);
  }
  return NotDone(at + ".type", fmt::format("{} is not supported", Shown(*type)));
}

Result<void> ReadInput(const Json& value, Reading& reading) {
  if (value.is_string()) {
    Json message{Json::Object{}};
    message.Set("role", "user");
    message.Set("content", value);
    reading.messages.push_back(std::move(message));
    return {};
  }
  if (!value.is_array() || value.array().empty() || value.array().size() > kMessagesMax) {
    return Bad("input", fmt::format("must be a string or a list of 1 to {} items", kMessagesMax));
  }
  for (std::size_t i = 0; i < value.array().size(); ++i) {
    PX_CHECK_OK(ReadItem(value.array()[i], fmt::format("input[{}]", i), reading));
  }
  return {};
}

// {"type":"function","name",…} has its fields inside "function" in the chat form.
Result<Json> ChatTool(const Json& tool, const std::string& at, Json::Array& echo) {
  const Json* type = tool.Find("type");
  if (type == nullptr || *type != Json("function")) {
    return NotDone(at + ".type", "only tools of type \"function\" are supported");
  }
  Json function{Json::Object{}};
  Json shown{Json::Object{}};
  for (const auto& [key, value] : tool.object()) {
    if (key != "type" && key != "name" && key != "description" && key != "parameters" &&
        key != "strict") {
      return Unknown(At(at, key));
    }
    shown.Set(key, value);
    if (key != "type" && !value.is_null()) {
      function.Set(key, value);
    }
  }
  for (std::string_view key : {"parameters", "strict"}) {
    if (shown.Find(key) == nullptr) {
      shown.Set(key, Json());
    }
  }
  echo.push_back(std::move(shown));
  Json out{Json::Object{}};
  out.Set("type", "function");
  out.Set("function", std::move(function));
  return out;
}

Result<void> ReadTools(const Json& value, Reading& reading) {
  if (!value.is_array() || value.array().size() > kToolsMax) {
    return Bad("tools", fmt::format("must be a list of at most {} tools", kToolsMax));
  }
  Json::Array tools;
  Json::Array echo;
  for (std::size_t i = 0; i < value.array().size(); ++i) {
    PX_TRY(Json tool, ChatTool(value.array()[i], fmt::format("tools[{}]", i), echo));
    tools.push_back(std::move(tool));
  }
  reading.out.Set("tools", std::move(tools));
  reading.echo.Set("tools", std::move(echo));
  return {};
}

// A word, or {"type":"function","name":…}.
Result<void> ReadToolChoice(const Json& value, Reading& reading) {
  if (!value.is_object()) {
    reading.out.Set("tool_choice", value);
    return {};
  }
  const Json* type = value.Find("type");
  if (type == nullptr || *type != Json("function")) {
    return NotDone("tool_choice.type", "only \"function\" is supported");
  }
  PX_TRY(std::string name, StringOf(value, "name", "tool_choice"));
  for (const auto& [key, item] : value.object()) {
    if (key != "type" && key != "name") {
      return Unknown(At("tool_choice", key));
    }
  }
  Json function{Json::Object{}};
  function.Set("name", std::move(name));
  Json choice{Json::Object{}};
  choice.Set("type", "function");
  choice.Set("function", std::move(function));
  reading.out.Set("tool_choice", std::move(choice));
  return {};
}

// text.format has the schema's fields beside its type; the chat form has them inside json_schema.
Result<void> ReadText(const Json& value, Reading& reading) {
  if (!value.is_object()) {
    return Bad("text", "must be an object");
  }
  for (const auto& [key, member] : value.object()) {
    if (member.is_null() || (key == "verbosity" && member == Json("medium"))) {
      continue;
    }
    if (key == "verbosity") {
      return NotDone("text.verbosity", "only \"medium\" is supported");
    }
    if (key != "format") {
      return Unknown(At("text", key));
    }
    const Json* type = member.Find("type");
    if (type == nullptr || !type->is_string()) {
      return Bad("text.format", "must be an object with a type");
    }
    Json format{Json::Object{}};
    format.Set("type", *type);
    Json schema{Json::Object{}};
    for (const auto& [name, part] : member.object()) {
      if (name != "type") {
        schema.Set(name, part);
      }
    }
    if (*type == Json("json_schema")) {
      format.Set("json_schema", std::move(schema));
    } else if (!schema.object().empty()) {
      return Bad("text.format", "only type \"json_schema\" has further fields");
    }
    if (*type != Json("text")) {
      reading.out.Set("response_format", std::move(format));
    }
  }
  return {};
}

constexpr auto kEfforts =
    std::to_array<std::string_view>({"none", "minimal", "low", "medium", "high", "xhigh"});
constexpr auto kSummaries = std::to_array<std::string_view>({"auto", "concise", "detailed"});

Result<void> CheckWord(const Json& value, std::span<const std::string_view> known,
                       const std::string& at) {
  if (!value.is_string() || std::ranges::find(known, value.string()) == known.end()) {
    return Bad(at, fmt::format("{} is none of {}", Shown(value), fmt::join(known, ", ")));
  }
  return {};
}

Result<void> ReadReasoning(const Json& value, Reading& reading) {
  if (!value.is_object()) {
    return Bad("reasoning", "must be an object");
  }
  for (const auto& [key, member] : value.object()) {
    if (member.is_null()) {
      continue;
    }
    if (key == "summary" || key == "generate_summary") {  // what of it there is: none
      PX_CHECK_OK(CheckWord(member, kSummaries, At("reasoning", key)));
      continue;
    }
    if (key != "effort") {
      return Unknown(At("reasoning", key));
    }
    PX_CHECK_OK(CheckWord(member, kEfforts, "reasoning.effort"));
    reading.kwargs.Set("reasoning_effort", member);
    reading.kwargs.Set("enable_thinking", member.string() != "none");
  }
  Json echo{Json::Object{}};
  for (std::string_view key : {"effort", "summary"}) {
    const Json* given = value.Find(key);
    echo.Set(key, given == nullptr ? Json() : *given);
  }
  reading.echo.Set("reasoning", std::move(echo));
  return {};
}

Result<void> ReadPrevious(const Json& value, const ResponsesContext& context, Reading& reading) {
  if (!value.is_string()) {
    return Bad("previous_response_id", fmt::format("{} is not a string", Shown(value)));
  }
  if (context.previous == nullptr) {
    return Fail(
        Code::kNotFound,
        fmt::format("previous_response_id: there is no response {} (any more)", Shown(value)),
        "previous_response_id");
  }
  reading.messages = context.previous->messages;
  for (std::size_t i = 0; i < reading.messages.size(); ++i) {
    const Json* content = reading.messages[i].Find("content");
    const std::size_t count =
        content != nullptr && content->is_array() ? content->array().size() : 0;
    for (std::size_t part = 0; part < count; ++part) {
      if (*content->array()[part].Find("type") == Json("image_url")) {
        const std::string field = "previous_response_id";
        reading.pictures.push_back(
            {.message = i, .part = part, .fields = {.part = field, .url = field, .detail = field}});
      }
    }
  }
  return {};
}

// As they are in both.
constexpr auto kSame = std::to_array<std::string_view>(
    {"model", "stream", "temperature", "top_p", "parallel_tool_calls", "metadata", "user",
     "safety_identifier", "prompt_cache_key", "service_tier", "nvext",
     // and what chat completions here have beside OpenAI's
     "top_k", "min_p", "seed", "stop", "stop_token_ids", "min_tokens", "ignore_eos",
     "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "priority",
     "skip_special_tokens", "cache_salt"});

Result<void> ReadAllowed(const std::string& name, const Json& value, const Json& allowed) {
  if (value != allowed) {
    return NotDone(name,
                   fmt::format("{} is not supported, only {} is", Shown(value), allowed.Dump()));
  }
  return {};
}

Result<void> ReadInclude(const Json& value, Reading& reading) {
  if (!value.is_array()) {
    return Bad("include", "must be a list");
  }
  for (const Json& item : value.array()) {
    if (item != Json("message.output_text.logprobs")) {
      return NotDone("include", fmt::format("{} cannot be included, only "
                                            "\"message.output_text.logprobs\" can",
                                            Shown(item)));
    }
    reading.out.Set("logprobs", true);
  }
  return {};
}

Result<void> ReadField(const std::string& name, const Json& value, Reading& reading) {
  if (std::ranges::find(kSame, name) != kSame.end()) {
    reading.out.Set(name, value);
    return {};
  }
  if (name == "instructions") {
    if (!value.is_string()) {
      return Bad(name, "must be a string");
    }
    reading.instructions = value.string();
    return {};
  }
  if (name == "top_logprobs") {
    reading.out.Set("logprobs", true);
    reading.out.Set(name, value);
    return {};
  }
  if (name == "max_output_tokens") {
    reading.out.Set("max_completion_tokens", value);
    return {};
  }
  if (name == "store") {
    if (!value.is_bool()) {
      return Bad(name, fmt::format("{} is neither true nor false", Shown(value)));
    }
    reading.store = value.boolean();
    return {};
  }
  if (name == "tools") {
    return ReadTools(value, reading);
  }
  if (name == "tool_choice") {
    return ReadToolChoice(value, reading);
  }
  if (name == "text") {
    return ReadText(value, reading);
  }
  if (name == "reasoning") {
    return ReadReasoning(value, reading);
  }
  if (name == "truncation") {
    return ReadAllowed(name, value, "disabled");
  }
  if (name == "background") {
    return ReadAllowed(name, value, false);
  }
  if (name == "stream_options") {
    const Json* obfuscation = value.Find("include_obfuscation");
    if (!value.is_object() || value.object().size() > (obfuscation != nullptr ? 1U : 0U)) {
      return Bad(name, "must be an object with include_obfuscation");
    }
    return obfuscation == nullptr
               ? Result<void>()
               : ReadAllowed("stream_options.include_obfuscation", *obfuscation, false);
  }
  if (name == "include") {
    return ReadInclude(value, reading);
  }
  for (std::string_view known :
       {"conversation", "prompt", "max_tool_calls", "moderation", "context_management",
        "prompt_cache_retention", "prompt_cache_options"}) {
    if (name == known) {
      return NotDone(name, "this field is not supported");
    }
  }
  std::string shown = name.substr(0, 100);
  return Fail(Code::kInvalidArgument, fmt::format("unknown field \"{}\"", shown), shown);
}

Result<Reading> Read(const Json& body, const ResponsesContext& context) {
  if (!body.is_object()) {
    return Fail(Code::kInvalidArgument, "the body must be a JSON object");
  }
  Reading reading;
  for (const auto& [name, fallback] : kEchoed) {
    const Json* given = body.Find(name);
    PX_TRY(Json shown, wire::ParseJson(fallback));
    reading.echo.Set(name, given == nullptr || given->is_null() ? std::move(shown) : *given);
  }
  const Json* previous = body.Find("previous_response_id");
  if (previous != nullptr && !previous->is_null()) {
    PX_CHECK_OK(ReadPrevious(*previous, context, reading));
  }
  const Json* input = body.Find("input");
  if (input == nullptr || input->is_null()) {
    return Bad("input", "is missing");
  }
  PX_CHECK_OK(ReadInput(*input, reading));
  for (const auto& [name, value] : body.object()) {
    if (!value.is_null() && name != "input" && name != "previous_response_id") {
      PX_CHECK_OK(ReadField(name, value, reading));
    }
  }
  Json::Array messages = reading.messages;
  if (!reading.instructions.empty()) {
    Json message{Json::Object{}};
    message.Set("role", "system");
    message.Set("content", reading.instructions);
    messages.insert(messages.begin(), std::move(message));
  }
  reading.out.Set("messages", std::move(messages));
  if (!reading.kwargs.object().empty()) {
    reading.out.Set("chat_template_kwargs", std::move(reading.kwargs));
  }
  return reading;
}

FieldNames Names(const Reading& reading) {
  FieldNames names({{"messages", "input"},
                    {"max_tokens", "max_output_tokens"},
                    {"max_completion_tokens", "max_output_tokens"},
                    {"response_format", "text.format"},
                    {"response_format.json_schema", "text.format"},
                    {"tools[].function", "tools[]"},
                    {"tool_choice.function", "tool_choice"},
                    {"chat_template_kwargs", "reasoning"}});
  return PictureNames(std::move(names), reading.pictures, reading.instructions.empty() ? 0 : 1);
}

}  // namespace

std::string PreviousResponseId(const Json& body) {
  const Json* id = body.Find("previous_response_id");
  return id != nullptr && id->is_string() ? id->string() : std::string();
}

Result<SurfaceRequest> ReadResponsesRequest(const Json& body, const ResponsesContext& context) {
  PX_TRY(Reading reading, Read(body, context));
  const FieldNames names = Names(reading);
  PX_TRY(SurfaceRequest out, MakeSurfaceRequest(std::move(reading.out), Surface::kChat, names));
  ResponsesEcho echo{.fields = std::move(reading.echo),
                     .messages = std::move(reading.messages),
                     .store = reading.store};
  out.writer = std::make_unique<ResponsesWriter>(std::move(echo), context.store);
  return out;
}

Result<SurfaceRequest> ReadResponsesCount(const Json& body, const ResponsesContext& context) {
  PX_TRY(Reading reading, Read(body, context));
  const FieldNames names = Names(reading);
  return MakeSurfaceRequest(std::move(reading.out), Surface::kChat, names);
}

}  // namespace pixii::frontend
