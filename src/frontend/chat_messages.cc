// Chat messages and tools of a request, checked field by field and brought into the form that
// templates expect.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <optional>
#include <set>
#include <utility>

#include "frontend/field_error.h"
#include "frontend/media_features.h"
#include "frontend/openai_draft.h"
#include "frontend/openai_request.h"

namespace pixii::frontend {

using wire::Json;

namespace {

constexpr auto kRoles =
    std::to_array<std::string_view>({"system", "developer", "user", "assistant", "tool"});

constexpr std::string_view kFeatures = "image_embeds";
constexpr std::string_view kInputImage = "input_image";  // as /v1/responses has it

/// The kind of media that a part of this type shows.
std::optional<wire::MediaKind> MediaKindOf(std::string_view type) {
  return type == "image_url" || type == kInputImage || type == kFeatures
             ? std::optional(wire::MediaKind::kImage)
         : type == "video_url" ? std::optional(wire::MediaKind::kVideo)
                               : std::nullopt;
}

// Of a part with this name and text. Features may come without a scheme: the file itself, in
// base64.
MediaPart MakePart(wire::MediaKind kind, std::string_view name, std::string url,
                   std::string where) {
  MediaPart out{.kind = kind, .url = std::move(url), .where = std::move(where)};
  if (name == kFeatures) {
    out.is_features = true;
    if (out.url.find(':') == std::string::npos) {
      out.url.insert(0, "data:application/octet-stream;base64,");
    }
  } else if (kind == wire::MediaKind::kImage) {
    out.is_features = IsFeatureUrl(out.url);
  }
  return out;
}

// `where` is that of the part or object that it stands in.
Result<void> CheckDetail(const Json& value, const std::string& where) {
  if (value == Json("auto") || value == Json("low") || value == Json("high")) {
    return {};
  }
  return Bad(where + ".detail", fmt::format("{} is none of auto, low, high", Shown(value)));
}

// {"type": "image_url", "image_url": {"url": …, "detail": …}}, or the URL itself in its place.
// {"type": "input_image", "image_url": …, "detail": …}
Result<MediaPart> ParseMediaPart(const Json& part, wire::MediaKind kind, const std::string& where) {
  const std::string& type = part.Find("type")->string();
  const std::string name = type == kInputImage ? "image_url" : type;
  for (const auto& [key, value] : part.object()) {
    if (key == "detail" && type == kInputImage) {
      PX_CHECK_OK(CheckDetail(value, where));
    } else if (key != "type" && key != name) {
      return Unknown(fmt::format("{}.{}", where, key.substr(0, 60)));
    }
  }
  const std::string at = fmt::format("{}.{}", where, name);
  const Json* given = part.Find(name);
  if (given == nullptr) {
    return Bad(at, "is missing");
  }
  if (given->is_string()) {
    return MakePart(kind, name, given->string(), at);
  }
  const Json* url = given->Find("url");
  if (!given->is_object() || url == nullptr || !url->is_string()) {
    return Bad(at + ".url", "must be a string");
  }
  for (const auto& [key, value] : given->object()) {
    if (key == "detail" && kind == wire::MediaKind::kImage) {
      PX_CHECK_OK(CheckDetail(value, at));
    } else if (key != "url") {
      return Unknown(fmt::format("{}.{}", at, key.substr(0, 60)));
    }
  }
  return MakePart(kind, name, url->string(), at + ".url");
}

// Content parts of type text, joined; with pictures among them, a list of parts as templates of
// models that see expect it.
Result<Json> ParseContent(const Json& content, const std::string& at,
                          std::vector<MediaPart>& media) {
  if (content.is_string() || content.is_null()) {
    return content;
  }
  if (!content.is_array()) {
    return Bad(at, "must be a string or a list of parts");
  }
  std::string text;
  Json::Array parts;
  const std::size_t media_before = media.size();
  for (std::size_t i = 0; i < content.array().size(); ++i) {
    const Json& part = content.array()[i];
    std::string where = fmt::format("{}[{}]", at, i);
    const Json* type = part.Find("type");
    if (type == nullptr || !type->is_string()) {
      return Bad(where, "must be an object with a type");
    }
    Json& made = parts.emplace_back(Json::Object{});
    if (const std::optional<wire::MediaKind> kind = MediaKindOf(type->string())) {
      if (media.size() == kMediaPartsMax) {
        return Bad(where, fmt::format("at most {} pictures and films are taken", kMediaPartsMax));
      }
      if (*kind == wire::MediaKind::kVideo &&
          std::ranges::count(media, wire::MediaKind::kVideo, &MediaPart::kind) ==
              std::ptrdiff_t{kFilmPartsMax}) {
        return Bad(where, fmt::format("at most {} videos are taken", kFilmPartsMax));
      }
      PX_TRY(MediaPart shown, ParseMediaPart(part, *kind, where));
      media.push_back(std::move(shown));
      made.Set("type", *kind == wire::MediaKind::kImage ? "image" : "video");
      continue;
    }
    if (type->string() != "text") {
      return Fail(Code::kUnsupported,
                  fmt::format("{}.type: {} is not supported, only \"text\", \"image_url\", "
                              "\"input_image\", \"image_embeds\" and \"video_url\" are",
                              where, Shown(*type)),
                  where + ".type");
    }
    for (const auto& [key, value] : part.object()) {
      if (key == "text" && !value.is_string()) {
        return Bad(where + ".text", "must be a string");
      }
      if (key != "type" && key != "text") {
        return Unknown(fmt::format("{}.{}", where, key.substr(0, 60)));
      }
    }
    const Json* piece = part.Find("text");
    if (piece == nullptr) {
      return Bad(where + ".text", "is missing");
    }
    text += piece->string();
    made.Set("type", "text");
    made.Set("text", *piece);
  }
  return media.size() > media_before ? Json(std::move(parts)) : Json(std::move(text));
}

// OpenAI carries arguments as JSON text; templates written for Hugging Face expect the object.
Result<Json> ParseToolCall(const Json& call, const std::string& at) {
  const Json* function = call.Find("function");
  if (function == nullptr || !function->is_object()) {
    return Bad(at + ".function", "must be an object");
  }
  for (const auto& [key, value] : call.object()) {
    if (key == "type" && value != Json("function")) {
      return Fail(Code::kUnsupported, fmt::format("{}.type: {} is not supported", at, Shown(value)),
                  at + ".type");
    }
    if (key == "id" && !value.is_string()) {
      return Bad(at + ".id", "must be a string");
    }
    if (key != "type" && key != "id" && key != "function" && key != "index") {
      return Unknown(fmt::format("{}.{}", at, key.substr(0, 60)));
    }
  }
  Json out = call;
  Json& made = out.Set("function", *function);
  const Json* name = function->Find("name");
  if (name == nullptr || !name->is_string()) {
    return Bad(at + ".function.name", "must be a string");
  }
  const Json* arguments = function->Find("arguments");
  if (arguments != nullptr && arguments->is_string()) {
    Result<Json> parsed = wire::ParseJson(arguments->string().empty() ? "{}" : arguments->string());
    if (parsed && parsed->is_object()) {
      made.Set("arguments", std::move(*parsed));
    }
  } else if (arguments != nullptr && !arguments->is_object()) {
    return Bad(at + ".function.arguments", "must be JSON text");
  }
  return out;
}

Result<Json> ParseMessage(const Json& message, const std::string& at,
                          std::vector<MediaPart>& media) {
  const Json* role = message.Find("role");
  if (role == nullptr || !role->is_string()) {
    return Bad(at + ".role", "is missing");
  }
  if (std::find(kRoles.begin(), kRoles.end(), role->string()) == kRoles.end()) {
    return Bad(at + ".role",
               fmt::format("{} is none of system, developer, user, assistant, tool", Shown(*role)));
  }
  bool assistant = role->string() == "assistant";
  Json out{Json::Object{}};
  bool calls = false;
  for (const auto& [key, value] : message.object()) {
    std::string where = fmt::format("{}.{}", at, key.substr(0, 60));
    if (key == "role") {
      out.Set(key, value.string() == "developer" ? Json("system") : value);
    } else if (key == "content") {
      const std::size_t media_before = media.size();
      PX_TRY(Json content, ParseContent(value, where, media));
      if (media.size() > media_before && role->string() != "user" && role->string() != "tool") {
        return Fail(Code::kUnsupported,
                    fmt::format("{}: only messages of user and tool show pictures", where), where);
      }
      out.Set(key, std::move(content));
    } else if (key == "tool_calls" && assistant) {
      if (value.is_null()) {
        continue;
      }
      if (!value.is_array() || value.array().size() > kToolsMax) {
        return Bad(where, fmt::format("must be a list of at most {} calls", kToolsMax));
      }
      Json::Array made;
      for (std::size_t i = 0; i < value.array().size(); ++i) {
        PX_TRY(Json call, ParseToolCall(value.array()[i], fmt::format("{}[{}]", where, i)));
        made.push_back(std::move(call));
      }
      calls = !made.empty();
      out.Set(key, std::move(made));
    } else if (key == "name" || (key == "tool_call_id" && role->string() == "tool") ||
               ((key == "reasoning_content" || key == "reasoning" || key == "refusal") &&
                assistant)) {
      if (value.is_null()) {
        continue;
      }
      if (!value.is_string()) {
        return Bad(where, "must be a string");
      }
      // What an answer calls by the other name, templates know by this one.
      out.Set(key == "reasoning" ? "reasoning_content" : std::string_view(key), value);
    } else if (!value.is_null()) {
      return Unknown(where);
    }
  }
  const Json* content = out.Find("content");
  if ((content == nullptr || content->is_null()) && !(assistant && calls)) {
    return Bad(at + ".content", "is missing");
  }
  if (content == nullptr || content->is_null()) {
    out.Set("content", Json(""));
  }
  return out;
}

Result<void> CheckMembers(const Json& object, std::initializer_list<std::string_view> known,
                          std::string_view at) {
  for (const auto& [key, value] : object.object()) {
    if (std::ranges::find(known, key) == known.end()) {
      return Unknown(At(at, key));
    }
  }
  return {};
}

}  // namespace

Result<ChatMessages> ParseMessages(const Json& messages) {
  if (!messages.is_array() || messages.array().empty() || messages.array().size() > kMessagesMax) {
    return Bad("messages", fmt::format("must be a list of 1 to {} messages", kMessagesMax));
  }
  ChatMessages made;
  Json::Array out;
  out.reserve(messages.array().size());
  for (std::size_t i = 0; i < messages.array().size(); ++i) {
    std::string at = fmt::format("messages[{}]", i);
    if (!messages.array()[i].is_object()) {
      return Bad(at, "must be an object");
    }
    PX_TRY(Json message, ParseMessage(messages.array()[i], at, made.media));
    out.push_back(std::move(message));
  }
  made.messages = Json(std::move(out));
  return made;
}

namespace {

constexpr std::size_t kToolNameMax =
    64;  // characters: OpenAI API reference, Create chat completion

bool IsToolName(std::string_view name) {
  return !name.empty() && name.size() <= kToolNameMax && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
}

}  // namespace

Result<Json> ParseTools(const Json& tools) {
  if (!tools.is_array() || tools.array().size() > kToolsMax) {
    return Bad("tools", fmt::format("must be a list of at most {} tools", kToolsMax));
  }
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < tools.array().size(); ++i) {
    const Json& tool = tools.array()[i];
    std::string at = fmt::format("tools[{}]", i);
    const Json* type = tool.Find("type");
    const Json* function = tool.Find("function");
    if (type == nullptr || *type != Json("function") || function == nullptr ||
        !function->is_object()) {
      return Bad(at, "must be {\"type\":\"function\",\"function\":{...}}");
    }
    const Json* name = function->Find("name");
    if (name == nullptr || !name->is_string() || !IsToolName(name->string())) {
      return Bad(at + ".function.name",
                 fmt::format("must be 1 to {} of a-z, A-Z, 0-9, _ and -", kToolNameMax));
    }
    if (!names.insert(name->string()).second) {
      return Bad(at + ".function.name",
                 fmt::format("\"{:.80}\" is the name of another tool too", name->string()));
    }
    const Json* description = function->Find("description");
    if (description != nullptr && !description->is_null() && !description->is_string()) {
      return Bad(at + ".function.description", "must be a string");
    }
    const Json* parameters = function->Find("parameters");
    if (parameters != nullptr && !parameters->is_null() && !parameters->is_object()) {
      return Bad(at + ".function.parameters", "must be a JSON schema object");
    }
    const Json* strict = function->Find("strict");
    if (strict != nullptr && !strict->is_null() && !strict->is_bool()) {
      return Bad(at + ".function.strict", "must be true or false");
    }
  }
  return tools.array().empty() ? Json() : tools;
}

Result<void> ReadToolChoice(std::string_view name, const Json& value, Draft& draft) {
  constexpr std::pair<std::string_view, ToolChoice> kWords[] = {
      {"auto", ToolChoice::kAuto},
      {"none", ToolChoice::kNone},
      {"required", ToolChoice::kRequired}};
  for (const auto& [word, choice] : kWords) {
    if (value.is_string() && value.string() == word) {
      draft.tool_choice = choice;
      return {};
    }
  }
  const Json* type = value.Find("type");
  if (type != nullptr && *type == Json("allowed_tools")) {
    return NotDone(name,
                   "\"allowed_tools\" is not supported; give only the tools that may be used");
  }
  const Json* function = value.Find("function");
  const Json* wanted = function == nullptr ? nullptr : function->Find("name");
  if (type == nullptr || *type != Json("function") || wanted == nullptr || !wanted->is_string()) {
    return Bad(name, fmt::format("{} is neither \"auto\", \"none\", \"required\" nor "
                                 "{{\"type\":\"function\",\"function\":{{\"name\":...}}}}",
                                 Shown(value)));
  }
  PX_CHECK_OK(CheckMembers(value, {"type", "function"}, name));
  PX_CHECK_OK(CheckMembers(*function, {"name"}, At(name, "function")));
  draft.tool_choice = ToolChoice::kNamed;
  draft.tool_choice_name = wanted->string();
  return {};
}

}  // namespace pixii::frontend
