// `pixii render`: what a chat template makes of a conversation, a JSON context a line in, the text
// or the error a line out.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <iostream>

#include "apps/command.h"
#include "apps/model_host.h"
#include "apps/model_source.h"
#include "apps/option_structs.h"
#include "model/checkpoint_folder.h"
#include "rt/file.h"
#include "text/jinja/chat_template.h"
#include "text/jinja/chat_template_files.h"
#include "wire/json.h"

namespace pixii::apps {

namespace {

constexpr std::uint64_t kTemplateFileBytesMax = 16 << 20;

Result<text::CivilTime> DateOf(std::string_view text) {
  int parts[3] = {};
  const char* at = text.data();
  const char* end = at + text.size();
  for (int i = 0; i < 3; ++i) {
    auto [after, error] = std::from_chars(at, end, parts[i]);
    bool separated = i == 2 ? after == end : after != end && *after == '-';
    if (error != std::errc{} || !separated) {
      return Fail(Code::kInvalidArgument, fmt::format("--date {} is not YYYY-MM-DD", text), "date");
    }
    at = after + 1;
  }
  std::chrono::year_month_day date{std::chrono::year(parts[0]),
                                   std::chrono::month(static_cast<unsigned>(parts[1])),
                                   std::chrono::day(static_cast<unsigned>(parts[2]))};
  if (!date.ok() || parts[0] < 1 || parts[0] > 9999) {
    return Fail(Code::kInvalidArgument, fmt::format("--date {} is no day", text), "date");
  }
  return text::CivilTime{.year = parts[0], .month = parts[1], .day = parts[2]};
}

Result<text::LoadedChatTemplates> TemplatesOfModel(const std::string& name) {
  PX_TRY(ModelSource source, ResolveModel(name, false));
  PX_TRY(const model::CheckpointFolder folder, model::CheckpointFolder::Open(source.folder));
  std::string texts[3];
  text::ChatTemplateFiles files;
  auto read = [&](const char* file, std::string& text,
                  std::optional<std::string_view>& view) -> Result<void> {
    if (folder.Has(file)) {
      PX_TRY(text, folder.ReadText(file, kTemplateFileBytesMax));
      view = text;
    }
    return {};
  };
  PX_CHECK_OK(read("tokenizer_config.json", texts[0], files.tokenizer_config_json));
  PX_CHECK_OK(read("chat_template.jinja", texts[1], files.chat_template_jinja));
  PX_CHECK_OK(read("chat_template.json", texts[2], files.chat_template_json));
  return text::LoadChatTemplates(files);
}

// The templates of a model or the one of a file, parsed when a line asks for it.
class Renderer final {
 public:
  Renderer(text::LoadedChatTemplates loaded, const text::CivilTime& now)
      : loaded_(std::move(loaded)), now_(now) {}

  Result<std::string> Render(const wire::Json& context) {
    if (!context.is_object()) {
      return Fail(Code::kInvalidArgument, "a line holds one JSON object");
    }
    static const wire::Json kNoMessages{wire::Json::Array{}};
    const wire::Json* messages = context.Find("messages");
    const wire::Json* tools = Present(context, "tools");
    const wire::Json* prompt = Present(context, "add_generation_prompt");
    if (prompt != nullptr && !prompt->is_bool()) {
      return Fail(Code::kInvalidArgument, "add_generation_prompt must be true or false");
    }
    bool with_tools = tools != nullptr && tools->is_array() && !tools->array().empty();
    PX_TRY(const text::ChatTemplate* chosen, Choose(with_tools));
    text::ChatTemplateInput input;
    input.messages = messages == nullptr ? &kNoMessages : messages;
    input.tools = tools;
    input.documents = Present(context, "documents");
    input.add_generation_prompt = prompt != nullptr && prompt->boolean();
    input.variables = Present(context, "variables");
    input.special_tokens = &loaded_.special_tokens;
    input.now = now_;
    PX_TRY(text::RenderedPrompt rendered, chosen->Render(input));
    return std::move(rendered.text);
  }

 private:
  static const wire::Json* Present(const wire::Json& object, std::string_view key) {
    const wire::Json* value = object.Find(key);
    return value == nullptr || value->is_null() ? nullptr : value;
  }

  Result<const text::ChatTemplate*> Choose(bool with_tools) {
    const std::string* source = loaded_.Choose(with_tools);
    if (source == nullptr) {
      return Fail(Code::kUnsupported, "the model has no chat template");
    }
    for (const auto& [known, parsed] : parsed_) {
      if (known == source) {
        return &parsed;
      }
    }
    PX_TRY(text::ChatTemplate parsed, text::ChatTemplate::Parse(*source, {}));
    parsed_.reserve(loaded_.templates.size());
    parsed_.emplace_back(source, std::move(parsed));
    return &parsed_.back().second;
  }

  text::LoadedChatTemplates loaded_;
  text::CivilTime now_;
  std::vector<std::pair<const std::string*, text::ChatTemplate>> parsed_;
};

// As Python would name it: what raise_exception said is jinja2's TemplateError, all else has its
// type already, behind the line.
std::string ErrorText(const Error& error) {
  constexpr std::string_view kPlace = "chat template line ";
  std::string_view detail = error.detail();
  if (error.param() == "messages") {
    return fmt::format("TemplateError: {}", detail);
  }
  std::size_t colon = detail.find(": ");
  return std::string(detail.starts_with(kPlace) && colon != std::string_view::npos
                         ? detail.substr(colon + 2)
                         : detail);
}

bool RenderLine(Renderer& renderer, std::string_view line) {
  Result<wire::Json> context = wire::ParseJson(line);
  Result<std::string> text =
      context ? renderer.Render(*context) : Result<std::string>(Fail(context.error()));
  std::string out = text ? R"({"text":)" : R"({"error":)";
  wire::AppendJsonString(out, text ? *text : ErrorText(text.error()));
  out += "}\n";
  return std::fwrite(out.data(), 1, out.size(), stdout) == out.size();
}

}  // namespace

int RunRender(const Arguments& arguments) {
  RenderFlags flags;
  config::Command command;
  command.name = "render";
  command.summary =
      "Renders a chat template: reads JSON objects with messages, tools, add_generation_prompt and "
      "variables, writes {\"text\": ...} or {\"error\": ...}, a line each.";
  command.options = RowsOf(flags);
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  if (flags.template_file.empty() == flags.model.empty()) {
    return Complain(Error(Code::kInvalidArgument, "pixii render takes --template or --model"));
  }
  Result<text::CivilTime> now = flags.date.empty() ? CivilNow() : DateOf(flags.date);
  if (!now) {
    return Complain(now.error());
  }
  Result<text::LoadedChatTemplates> loaded = Fail(Code::kInternal, "nothing was loaded");
  if (!flags.model.empty()) {
    loaded = TemplatesOfModel(flags.model);
  } else if (Result<std::string> source = rt::ReadFile(flags.template_file, kTemplateFileBytesMax);
             source) {
    loaded = text::LoadedChatTemplates{.templates = {{"default", std::move(*source)}},
                                       .special_tokens = {}};
  } else {
    loaded = Fail(source.error());
  }
  if (!loaded) {
    return Complain(loaded.error());
  }
  Renderer renderer(std::move(*loaded), *now);
  for (std::string line; std::getline(std::cin, line);) {
    if (!line.empty() && !RenderLine(renderer, line)) {
      return kExitFailed;  // nobody reads any more
    }
  }
  return kExitDone;
}

}  // namespace pixii::apps
