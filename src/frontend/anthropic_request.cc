#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "frontend/anthropic.h"
#include "frontend/anthropic_writer.h"
#include "frontend/chat_content.h"
#include "frontend/field_error.h"

namespace pixii::frontend {

using wire::Json;

namespace {

constexpr std::int64_t kThinkingTokensMin = 1024;  // Anthropic's
constexpr std::string_view kPreamble = "x-anthropic-billing-header:";

// What is read on the way and decided about at the end.
struct Reading {
  Json out = Json(Json::Object{});  // in OpenAI's form
  Json::Array messages;
  std::vector<ShownPicture> pictures;  // in `messages`
  Json system;                         // string, or null
  bool has_system = false;
  Json kwargs = Json(Json::Object{});
  std::optional<std::int64_t> thinking_tokens_max;
  bool cache_control = false;
  bool continues = false;  // the last message is the start of the answer
};

// {"type":"ephemeral","ttl":"5m" or "1h"}: prefixes are kept as long as there is room, so the time
// says nothing here.
Result<void> ReadCacheControl(const Json& value, const std::string& at, Reading& reading) {
  if (value.is_null()) {
    return {};
  }
  const Json* type = value.Find("type");
  if (type == nullptr || *type != Json("ephemeral")) {
    return Bad(at, R"(must be {"type":"ephemeral"})");
  }
  for (const auto& [key, item] : value.object()) {
    if (key == "ttl" ? item != Json("5m") && item != Json("1h") : key != "type") {
      return key == "ttl" ? Bad(At(at, key), R"(must be "5m" or "1h")") : Unknown(At(at, key));
    }
  }
  reading.cache_control = true;
  return {};
}

bool IsBlank(std::string_view text) {
  return text.find_first_not_of(" \t\n\v\f\r") == std::string_view::npos;
}

Result<std::string> TextOf(const Json& block, const std::string& at, Reading& reading) {
  const Json* text = block.Find("text");
  if (text == nullptr || !text->is_string()) {
    return Bad(at + ".text", "must be a string");
  }
  if (IsBlank(text->string())) {
    return Bad(at + ".text", "text content blocks must contain non-whitespace text");
  }
  for (const auto& [key, value] : block.object()) {
    if (key == "cache_control") {
      PX_CHECK_OK(ReadCacheControl(value, At(at, key), reading));
    } else if (key != "type" && key != "text" && !(key == "citations" && value.is_null())) {
      return Unknown(At(at, key));
    }
  }
  return text->string();
}

Result<std::string> TypeOf(const Json& block, const std::string& at) {
  const Json* type = block.Find("type");
  if (type == nullptr || !type->is_string()) {
    return Bad(at, "must be an object with a type");
  }
  return type->string();
}

constexpr auto kImageTypes =
    std::to_array<std::string_view>({"image/jpeg", "image/png", "image/gif", "image/webp"});

Result<std::string> MemberOf(const Json& object, std::string_view key, const std::string& at) {
  const Json* value = object.Find(key);
  if (value == nullptr || !value->is_string()) {
    return Bad(At(at, key), "must be a string");
  }
  return value->string();
}

// {"type":"base64","media_type":…,"data":…} as a data: URL, or what {"type":"url","url":…} says.
Result<void> ReadSource(const Json& source, const std::string& part, ChatContent& out) {
  const std::string at = part + ".source";
  PX_TRY(const std::string type, TypeOf(source, at));
  if (type != "base64" && type != "url") {
    return NotDone(at + ".type", fmt::format("{} is not supported, only \"base64\" and \"url\" are",
                                             Shown(type)));
  }
  const bool inlined = type == "base64";
  for (const auto& [key, value] : source.object()) {
    if (key != "type" && (inlined ? key != "media_type" && key != "data" : key != "url")) {
      return Unknown(At(at, key));
    }
  }
  if (!inlined) {
    PX_TRY(std::string url, MemberOf(source, "url", at));
    out.AddImage(std::move(url), {}, {.part = part, .url = at + ".url", .detail = part});
    return {};
  }
  PX_TRY(const std::string media_type, MemberOf(source, "media_type", at));
  if (std::ranges::find(kImageTypes, media_type) == kImageTypes.end()) {
    return Bad(at + ".media_type",
               fmt::format("{} is none of {}", Shown(media_type), fmt::join(kImageTypes, ", ")));
  }
  PX_TRY(const std::string data, MemberOf(source, "data", at));
  out.AddImage(fmt::format("data:{};base64,{}", media_type, data), {},
               {.part = part, .url = at + ".data", .detail = part});
  return {};
}

Result<void> ReadImage(const Json& block, const std::string& at, ChatContent& out,
                       Reading& reading) {
  const Json* source = nullptr;
  for (const auto& [key, value] : block.object()) {
    if (key == "source") {
      source = &value;
    } else if (key == "cache_control") {
      PX_CHECK_OK(ReadCacheControl(value, At(at, key), reading));
    } else if (key != "type") {
      return Unknown(At(at, key));
    }
  }
  return source == nullptr ? Result<void>(Bad(at + ".source", "is missing"))
                           : ReadSource(*source, at, out);
}

// A string, or blocks of text; pictures too where `shows`.
Result<ChatContent> ContentOf(const Json& value, const std::string& at, bool shows,
                              Reading& reading) {
  ChatContent out;
  if (value.is_string()) {
    out.AddText(value.string());
    return out;
  }
  if (!value.is_array()) {
    return Bad(at, "must be a string or a list of blocks");
  }
  for (std::size_t i = 0; i < value.array().size(); ++i) {
    const Json& block = value.array()[i];
    std::string where = fmt::format("{}[{}]", at, i);
    PX_TRY(std::string type, TypeOf(block, where));
    if (type == "image" && shows) {
      PX_CHECK_OK(ReadImage(block, where, out, reading));
    } else if (type == "text") {
      PX_TRY(std::string text, TextOf(block, where, reading));
      out.AddText(text, "\n");
    } else {
      return NotDone(where + ".type",
                     fmt::format("\"{}\" is not supported here, only \"text\" is{}",
                                 type.substr(0, 60), shows ? ", and \"image\"" : ""));
    }
  }
  return out;
}

Result<Json> ToolCall(const Json& block, const std::string& at, Reading& reading) {
  Json function{Json::Object{}};
  Json call{Json::Object{}};
  call.Set("type", "function");
  const Json* input = nullptr;
  for (const auto& [key, value] : block.object()) {
    if (key == "id" || key == "name") {
      if (!value.is_string()) {
        return Bad(At(at, key), "must be a string");
      }
      (key == "id" ? call : function).Set(key, value);
    } else if (key == "input") {
      if (!value.is_object()) {
        return Bad(At(at, key), "must be an object");
      }
      input = &value;
    } else if (key == "cache_control") {
      PX_CHECK_OK(ReadCacheControl(value, At(at, key), reading));
    } else if (key != "type" && !(key == "caller" && value.is_null())) {
      return Unknown(At(at, key));
    }
  }
  if (call.Find("id") == nullptr || function.Find("name") == nullptr || input == nullptr) {
    return Bad(at, "a tool_use block needs id, name and input");
  }
  function.Set("arguments", input->Dump());
  call.Set("function", std::move(function));
  return call;
}

Result<Json> ToolResult(const Json& block, const std::string& at, Reading& reading) {
  Json message{Json::Object{}};
  message.Set("role", "tool");
  ChatContent content;
  for (const auto& [key, value] : block.object()) {
    if (key == "tool_use_id") {
      if (!value.is_string()) {
        return Bad(At(at, key), "must be a string");
      }
      message.Set("tool_call_id", value);
    } else if (key == "content" && !value.is_null()) {
      PX_TRY(content, ContentOf(value, At(at, key), true, reading));
    } else if (key == "is_error") {
      if (!value.is_bool()) {
        return Bad(At(at, key), "must be true or false");
      }
    } else if (key == "cache_control") {
      PX_CHECK_OK(ReadCacheControl(value, At(at, key), reading));
    } else if (key != "type" && key != "content") {
      return Unknown(At(at, key));
    }
  }
  if (message.Find("tool_call_id") == nullptr) {
    return Bad(at + ".tool_use_id", "is missing");
  }
  message.Set("content", content.Take(reading.messages.size(), reading.pictures));
  return message;
}

struct Turn {
  ChatContent content;
  std::string reasoning;
  Json::Array calls;
};

Result<void> ReadBlock(const Json& block, bool assistant, const std::string& at, Turn& turn,
                       Reading& reading) {
  PX_TRY(std::string type, TypeOf(block, at));
  if (type == "text") {
    PX_TRY(std::string text, TextOf(block, at, reading));
    turn.content.AddText(text);
    return {};
  }
  if (type == "image" && !assistant) {
    return ReadImage(block, at, turn.content, reading);
  }
  if (type == "tool_use" && assistant) {
    PX_TRY(Json call, ToolCall(block, at, reading));
    turn.calls.push_back(std::move(call));
    return {};
  }
  if (type == "thinking" && assistant) {
    const Json* thinking = block.Find("thinking");
    if (thinking == nullptr || !thinking->is_string()) {
      return Bad(at + ".thinking", "must be a string");
    }
    for (const auto& [key, value] : block.object()) {  // nothing is signed here
      if (key != "type" && key != "thinking" && !(key == "signature" && value.is_string())) {
        return Unknown(At(at, key));
      }
    }
    turn.reasoning += thinking->string();
    return {};
  }
  if (type == "tool_result" && !assistant) {
    PX_TRY(Json message, ToolResult(block, at, reading));
    reading.messages.push_back(std::move(message));  // before the turn's own text
    return {};
  }
  return NotDone(at + ".type", fmt::format("\"{}\" is not supported in a message of this role",
                                           type.substr(0, 60)));
}

// As Anthropic: an answer may begin with nothing, all else says something.
Result<void> CheckSaysSomething(const Json& content, bool optional, const std::string& at) {
  const bool blank = content.is_string() ? IsBlank(content.string()) : content.array().empty();
  return blank && !optional
             ? Result<void>(Bad(at,
                                "messages must have content that is not blank, but for an "
                                "assistant message at the end"))
             : Result<void>();
}

// `last`: of the conversation.
Result<void> ReadMessage(const Json& message, bool last, const std::string& at, Reading& reading) {
  const Json* role = message.Find("role");
  if (role == nullptr || (*role != Json("user") && *role != Json("assistant"))) {
    return Bad(at + ".role", "must be \"user\" or \"assistant\"");
  }
  for (const auto& [key, value] : message.object()) {
    if (key != "role" && key != "content") {
      return Unknown(At(at, key));
    }
  }
  const Json* content = message.Find("content");
  if (content == nullptr || (!content->is_string() && !content->is_array())) {
    return Bad(at + ".content", "must be a string or a list of blocks");
  }
  bool assistant = role->string() == "assistant";
  PX_CHECK_OK(CheckSaysSomething(*content, assistant && last, at + ".content"));
  const std::size_t results_before = reading.messages.size();
  Turn turn;
  if (content->is_string()) {
    turn.content.AddText(content->string());
  } else {
    for (std::size_t i = 0; i < content->array().size(); ++i) {
      PX_CHECK_OK(ReadBlock(content->array()[i], assistant, fmt::format("{}.content[{}]", at, i),
                            turn, reading));
    }
  }
  reading.continues = assistant && turn.calls.empty();
  if (turn.content.empty() && !assistant && reading.messages.size() > results_before) {
    return {};  // results alone
  }
  Json out{Json::Object{}};
  out.Set("role", *role);
  out.Set("content", turn.content.Take(reading.messages.size(), reading.pictures));
  if (!turn.reasoning.empty()) {
    out.Set("reasoning_content", std::move(turn.reasoning));
  }
  if (!turn.calls.empty()) {
    out.Set("tool_calls", std::move(turn.calls));
  }
  reading.messages.push_back(std::move(out));
  return {};
}

Result<void> ReadMessages(const Json& value, Reading& reading) {
  if (!value.is_array() || value.array().empty() || value.array().size() > kMessagesMax) {
    return Bad("messages", fmt::format("must be a list of 1 to {} messages", kMessagesMax));
  }
  for (std::size_t i = 0; i < value.array().size(); ++i) {
    std::string at = fmt::format("messages[{}]", i);
    if (!value.array()[i].is_object()) {
      return Bad(at, "must be an object");
    }
    PX_CHECK_OK(ReadMessage(value.array()[i], i + 1 == value.array().size(), at, reading));
  }
  return {};
}

Result<void> ReadTools(const Json& value, Reading& reading) {
  if (!value.is_array() || value.array().size() > kToolsMax) {
    return Bad("tools", fmt::format("must be a list of at most {} tools", kToolsMax));
  }
  Json::Array tools;
  for (std::size_t i = 0; i < value.array().size(); ++i) {
    const Json& tool = value.array()[i];
    std::string at = fmt::format("tools[{}]", i);
    if (!tool.is_object()) {
      return Bad(at, "must be an object");
    }
    Json function{Json::Object{}};
    for (const auto& [key, member] : tool.object()) {
      if (key == "type") {
        if (!member.is_null() && member != Json("custom")) {
          return NotDone(At(at, key), "only tools of the client are supported (\"custom\")");
        }
      } else if (key == "name" || key == "description" || key == "strict") {
        function.Set(key, member);
      } else if (key == "input_schema") {
        function.Set("parameters", member);
      } else if (key == "cache_control") {
        PX_CHECK_OK(ReadCacheControl(member, At(at, key), reading));
      } else {
        return Unknown(At(at, key));
      }
    }
    if (function.Find("parameters") == nullptr) {
      return Bad(at + ".input_schema", "is missing");
    }
    Json out{Json::Object{}};
    out.Set("type", "function");
    out.Set("function", std::move(function));
    tools.push_back(std::move(out));
  }
  reading.out.Set("tools", std::move(tools));
  return {};
}

Result<void> ReadToolChoice(const Json& value, Reading& reading) {
  PX_TRY(std::string type, TypeOf(value, "tool_choice"));
  for (const auto& [key, member] : value.object()) {
    if (key == "disable_parallel_tool_use") {
      if (!member.is_bool()) {
        return Bad("tool_choice.disable_parallel_tool_use", "must be true or false");
      }
      if (member.boolean()) {
        reading.out.Set("parallel_tool_calls", false);
      }
    } else if (key != "type" && !(key == "name" && type == "tool")) {
      return Unknown(At("tool_choice", key));
    }
  }
  if (type == "auto" || type == "none") {
    reading.out.Set("tool_choice", type);
  } else if (type == "any") {
    reading.out.Set("tool_choice", "required");
  } else if (type == "tool") {
    const Json* name = value.Find("name");
    if (name == nullptr || !name->is_string()) {
      return Bad("tool_choice.name", "must be a string");
    }
    Json function{Json::Object{}};
    function.Set("name", *name);
    Json choice{Json::Object{}};
    choice.Set("type", "function");
    choice.Set("function", std::move(function));
    reading.out.Set("tool_choice", std::move(choice));
  } else {
    return Bad("tool_choice.type", fmt::format("{} is none of auto, any, tool, none", Shown(type)));
  }
  return {};
}

Result<void> ReadThinking(const Json& value, Reading& reading) {
  PX_TRY(std::string type, TypeOf(value, "thinking"));
  if (type != "enabled" && type != "disabled" && type != "adaptive") {
    return Bad("thinking.type",
               fmt::format("{} is none of enabled, disabled, adaptive", Shown(type)));
  }
  reading.kwargs.Set("enable_thinking", type != "disabled");
  for (const auto& [key, member] : value.object()) {
    if (key == "budget_tokens" && type == "enabled") {
      std::optional<std::int64_t> budget =
          member.IsIntegerLiteral() ? member.AsInt() : std::nullopt;
      if (!budget || *budget < kThinkingTokensMin) {
        return Bad("thinking.budget_tokens", fmt::format("{} is no integer of at least {}",
                                                         Shown(member), kThinkingTokensMin));
      }
      reading.thinking_tokens_max = budget;
    } else if (key == "display" && type != "disabled") {
      if (!member.is_null() && member != Json("summarized")) {
        return NotDone(At("thinking", key), "only \"summarized\" is supported");
      }
    } else if (key != "type") {
      return Unknown(At("thinking", key));
    }
  }
  if (type == "enabled" && !reading.thinking_tokens_max) {
    return Bad("thinking.budget_tokens", "is missing");
  }
  return {};
}

Result<void> ReadSystem(const Json& value, const AnthropicOptions& options, Reading& reading) {
  PX_TRY(ChatContent content, ContentOf(value, "system", false, reading));
  std::string text = content.Take(0, reading.pictures).string();
  if (options.strip_preamble && text.starts_with(kPreamble)) {
    const std::size_t end = text.find('\n');
    text.erase(0, end == std::string::npos ? text.size() : end + 1);
  }
  if (!text.empty()) {
    reading.system = std::move(text);
  }
  return {};
}

FieldNames Names(const Reading& reading) {
  FieldNames names({{"stop", "stop_sequences"},
                    {"user", "metadata.user_id"},
                    {"tools[].function", "tools[]"},
                    {"tools[].function.parameters", "tools[].input_schema"},
                    {"tool_choice.function", "tool_choice"},
                    {"parallel_tool_calls", "tool_choice.disable_parallel_tool_use"},
                    {"chat_template_kwargs", "thinking"},
                    {"continue_final_message", "an assistant message at the end"}});
  return PictureNames(std::move(names), reading.pictures, reading.has_system ? 1 : 0);
}

// As they are: both dialects have them.
constexpr auto kSame = std::to_array<std::string_view>(
    {"model", "max_tokens", "stream", "temperature", "top_p", "top_k", "service_tier",
     // and what chat completions here have beside OpenAI's
     "nvext", "cache_salt", "priority"});

Result<void> ReadField(const std::string& name, const Json& value, const AnthropicOptions& options,
                       Reading& reading) {
  if (value.is_null()) {
    return {};
  }
  if (std::ranges::find(kSame, name) != kSame.end()) {
    reading.out.Set(name, name == "service_tier" ? Json("auto") : value);
    return name == "service_tier" && value != Json("auto") && value != Json("standard_only")
               ? Result<void>(Bad(name, "must be \"auto\" or \"standard_only\""))
               : Result<void>();
  }
  if (name == "messages") {
    return ReadMessages(value, reading);
  }
  if (name == "system") {
    return ReadSystem(value, options, reading);
  }
  if (name == "stop_sequences") {
    if (!value.is_array()) {
      return Bad(name, "must be a list of strings");
    }
    if (!value.array().empty()) {
      reading.out.Set("stop", value);
    }
    return {};
  }
  if (name == "tools") {
    return ReadTools(value, reading);
  }
  if (name == "tool_choice") {
    return ReadToolChoice(value, reading);
  }
  if (name == "thinking") {
    return ReadThinking(value, reading);
  }
  if (name == "metadata") {
    const Json* user = value.Find("user_id");
    if (!value.is_object() || value.object().size() > 1 ||
        (!value.object().empty() && user == nullptr)) {
      return Bad(name, "must be an object with user_id");
    }
    if (user != nullptr && !user->is_null()) {
      reading.out.Set("user", *user);
    }
    return {};
  }
  for (std::string_view known : {"container", "context_management", "mcp_servers", "output_config",
                                 "output_format", "speed", "inference_geo"}) {
    if (name == known) {
      return NotDone(name, "this field is not supported");
    }
  }
  std::string shown = name.substr(0, 100);
  return Fail(Code::kInvalidArgument, fmt::format("unknown field \"{}\"", shown), shown);
}

Result<Reading> Read(const Json& body, const AnthropicOptions& options) {
  if (!body.is_object()) {
    return Fail(Code::kInvalidArgument, "the body must be a JSON object");
  }
  Reading reading;
  for (const auto& [name, value] : body.object()) {
    PX_CHECK_OK(ReadField(name, value, options, reading));
  }
  for (std::string_view needed : {"model", "messages"}) {
    const Json* found = body.Find(needed);
    if (found == nullptr || found->is_null()) {
      return Bad(std::string(needed), "is missing");
    }
  }
  if (!reading.system.is_null()) {
    reading.has_system = true;
    Json message{Json::Object{}};
    message.Set("role", "system");
    message.Set("content", std::move(reading.system));
    reading.messages.insert(reading.messages.begin(), std::move(message));
  }
  reading.out.Set("messages", std::move(reading.messages));
  if (!reading.kwargs.object().empty()) {
    reading.out.Set("chat_template_kwargs", std::move(reading.kwargs));
  }
  if (reading.continues) {
    reading.out.Set("continue_final_message", true);
  }
  return reading;
}

}  // namespace

Result<SurfaceRequest> ReadAnthropicRequest(const Json& body, const AnthropicOptions& options) {
  PX_TRY(Reading reading, Read(body, options));
  const Json* max_tokens = body.Find("max_tokens");
  if (max_tokens == nullptr || max_tokens->is_null()) {
    return Bad("max_tokens", "is missing");
  }
  const FieldNames names = Names(reading);
  PX_TRY(SurfaceRequest out, MakeSurfaceRequest(std::move(reading.out), Surface::kChat, names));
  out.thinking_tokens_max = reading.thinking_tokens_max;
  out.writer = std::make_unique<AnthropicWriter>(reading.cache_control);
  return out;
}

Result<SurfaceRequest> ReadAnthropicCount(const Json& body, const AnthropicOptions& options) {
  PX_TRY(Reading reading, Read(body, options));
  const FieldNames names = Names(reading);
  return MakeSurfaceRequest(std::move(reading.out), Surface::kChat, names);
}

}  // namespace pixii::frontend
