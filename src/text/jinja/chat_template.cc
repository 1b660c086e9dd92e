#include "text/jinja/chat_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "text/jinja/interpreter.h"
#include "text/jinja/json.h"
#include "text/jinja/parser.h"

namespace pixii::text {

struct ChatTemplate::Parsed {
  jinja::Limits limits;
  jinja::Template tree;
};

namespace {

Result<void> CheckTime(const CivilTime& now) {
  const auto in = [](std::int32_t value, std::int32_t low, std::int32_t high) {
    return value >= low && value <= high;
  };
  if (!in(now.year, 1, 9999) || !in(now.month, 1, 12) || !in(now.day, 1, 31) ||
      !in(now.hour, 0, 23) || !in(now.minute, 0, 59) || !in(now.second, 0, 59)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("the time {}-{}-{} {}:{}:{} of a chat template is no date", now.year,
                            now.month, now.day, now.hour, now.minute, now.second),
                "now");
  }
  return {};
}

Result<jinja::Variables> MakeVariables(jinja::Runtime& rt, const ChatTemplateInput& input) {
  jinja::Variables out;
  if (input.messages == nullptr || !input.messages->is_array()) {
    return Fail(Code::kInvalidArgument, "messages must be an array", "messages");
  }
  const auto add = [&](std::string_view name, const wire::Json* json) -> Result<void> {
    jinja::Value value = jinja::Value::None();
    if (json != nullptr) {
      PX_TRY(value, jinja::FromJson(rt, *json, true));
    }
    out.emplace_back(name, std::move(value));
    return {};
  };
  PX_CHECK_OK(add("messages", input.messages));
  PX_CHECK_OK(add("tools", input.tools));
  PX_CHECK_OK(add("documents", input.documents));
  out.emplace_back("add_generation_prompt", jinja::Value(input.add_generation_prompt));
  const std::size_t reserved = out.size();
  if (input.variables != nullptr) {
    if (!input.variables->is_object()) {
      return Fail(Code::kInvalidArgument, "chat_template_kwargs must be an object",
                  "chat_template_kwargs");
    }
    for (const auto& [name, json] : input.variables->object()) {
      for (std::size_t i = 0; i < reserved; ++i) {
        if (out[i].first == name) {
          return Fail(
              Code::kInvalidArgument,
              fmt::format("chat_template_kwargs may not set '{}', which has a field of its own",
                          name),
              "chat_template_kwargs");
        }
      }
      PX_CHECK_OK(add(name, &json));
    }
  }
  if (input.special_tokens != nullptr) {
    for (const auto& [name, token] : *input.special_tokens) {
      PX_TRY(jinja::Value value, jinja::MakeString(rt, token, false));
      out.emplace_back(name,
                       std::move(value));  // found after a variable of this name, which so wins
    }
  }
  return out;
}

}  // namespace

Result<ChatTemplate> ChatTemplate::Parse(std::string_view source,
                                         const ChatTemplateOptions& options) {
  PX_TRY(jinja::Template tree, jinja::ParseTemplate(source, options.limits));
  return ChatTemplate(std::make_shared<const Parsed>(Parsed{options.limits, std::move(tree)}));
}

Result<RenderedPrompt> ChatTemplate::Render(const ChatTemplateInput& input) const {
  PX_CHECK_OK(CheckTime(input.now));
  jinja::Runtime rt(parsed_->limits, input.now);
  PX_TRY(const jinja::Variables variables, MakeVariables(rt, input));
  PX_TRY(jinja::StrBuilder::Taken taken, jinja::Run(parsed_->tree, rt, variables));
  RenderedPrompt prompt{std::move(taken.text), {}};
  prompt.untrusted.reserve(taken.untrusted.size());
  for (const jinja::ByteRange& range : taken.untrusted) {
    prompt.untrusted.push_back({range.begin, range.end});
  }
  return prompt;
}

}  // namespace pixii::text
