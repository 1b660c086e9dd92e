#include "text/jinja/chat_template_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "wire/json.h"

namespace pixii::text {

namespace {

constexpr std::string_view kTokenizerConfig = "tokenizer_config.json";

Result<wire::Json> ParseFile(std::string_view name, std::string_view text) {
  auto json = wire::ParseJson(text);
  if (!json) {
    return Fail(Code::kDataCorrupt, fmt::format("{}: {}", name, json.error().detail()),
                std::string(name));
  }
  if (!json->is_object()) {
    return Fail(Code::kDataCorrupt, fmt::format("{}: the top is no object", name),
                std::string(name));
  }
  return std::move(*json);
}

tl::unexpected<Error> BadTemplate(std::string_view file) {
  return Fail(
      Code::kDataCorrupt,
      fmt::format("{}: chat_template must be a string or a list of objects with name and template",
                  file),
      std::string(file));
}

/// Reads the member chat_template: a string, or a list of {name, template}.
Result<void> ReadTemplates(std::string_view file, const wire::Json& json,
                           LoadedChatTemplates& out) {
  const wire::Json* found = json.Find("chat_template");
  if (found == nullptr || found->is_null()) {
    return {};
  }
  if (found->is_string()) {
    out.templates.emplace_back("default", found->string());
    return {};
  }
  if (!found->is_array()) {
    return BadTemplate(file);
  }
  for (const wire::Json& one : found->array()) {
    const wire::Json* name = one.Find("name");
    const wire::Json* source = one.Find("template");
    if (name == nullptr || source == nullptr || !name->is_string() || !source->is_string()) {
      return BadTemplate(file);
    }
    out.templates.emplace_back(name->string(), source->string());
  }
  return {};
}

/// A token is a string or an object with its string as `content`.
Result<void> ReadToken(const std::string& name, const wire::Json& json, LoadedChatTemplates& out) {
  const wire::Json* content = json.is_object() ? json.Find("content") : &json;
  if (json.is_null()) {
    return {};
  }
  if (content == nullptr || !content->is_string()) {
    return Fail(
        Code::kDataCorrupt,
        fmt::format("{}: {} must be a string or an object with content", kTokenizerConfig, name),
        std::string(kTokenizerConfig));
  }
  out.special_tokens.emplace_back(name, content->string());
  return {};
}

Result<void> ReadTokens(const wire::Json& config, LoadedChatTemplates& out) {
  constexpr std::array<std::string_view, 7> kNames = {
      "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};
  for (const std::string_view name : kNames) {
    if (const wire::Json* token = config.Find(name)) {
      PX_CHECK_OK(ReadToken(std::string(name), *token, out));
    }
  }
  for (const std::string_view group : {"model_specific_special_tokens", "extra_special_tokens"}) {
    const wire::Json* extra = config.Find(group);
    if (extra == nullptr ||
        !extra->is_object()) {  // older files have a list here, whose tokens have no names
      continue;
    }
    for (const auto& [name, token] : extra->object()) {
      PX_CHECK_OK(ReadToken(name, token, out));
    }
  }
  return {};
}

}  // namespace

const std::string* LoadedChatTemplates::Choose(bool with_tools) const {
  const auto find = [&](std::string_view name) -> const std::string* {
    const auto it = std::find_if(templates.begin(), templates.end(),
                                 [&](const auto& t) { return t.first == name; });
    return it == templates.end() ? nullptr : &it->second;
  };
  const std::string* tool_use = with_tools ? find("tool_use") : nullptr;
  return tool_use != nullptr ? tool_use : find("default");
}

Result<LoadedChatTemplates> LoadChatTemplates(const ChatTemplateFiles& files) {
  LoadedChatTemplates out;
  if (files.tokenizer_config_json) {
    PX_TRY(const wire::Json config, ParseFile(kTokenizerConfig, *files.tokenizer_config_json));
    PX_CHECK_OK(ReadTokens(config, out));
    if (!files.chat_template_jinja && !files.chat_template_json) {
      PX_CHECK_OK(ReadTemplates(kTokenizerConfig, config, out));
    }
  }
  if (files.chat_template_jinja) {
    out.templates.emplace_back("default", *files.chat_template_jinja);
  } else if (files.chat_template_json) {
    PX_TRY(const wire::Json json, ParseFile("chat_template.json", *files.chat_template_json));
    PX_CHECK_OK(ReadTemplates("chat_template.json", json, out));
  }
  return out;
}

}  // namespace pixii::text
