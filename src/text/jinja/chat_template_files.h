// Where a checkpoint keeps its chat template and the special tokens a template may name.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace pixii::text {

/// Contents of a checkpoint's files, nothing where a file is absent.
struct ChatTemplateFiles {
  std::optional<std::string_view> tokenizer_config_json = {};
  std::optional<std::string_view> chat_template_jinja = {};  // wins over the others
  std::optional<std::string_view> chat_template_json = {};   // {"chat_template": ...}
};

struct LoadedChatTemplates {
  /// (name, source) in the files' order; a single template is called "default".
  std::vector<std::pair<std::string, std::string>> templates;
  /// bos_token, eos_token, unk_token, pad_token, sep_token, cls_token, mask_token as far as they
  /// are set, and the extra ones of newer files, as strings.
  std::vector<std::pair<std::string, std::string>> special_tokens;

  /// The template for a request with or without tools: "tool_use" where tools are given and it
  /// exists, else "default". Null if there is none.
  const std::string* Choose(bool with_tools) const;
};

/// Errors: kDataCorrupt naming the file and the field.
Result<LoadedChatTemplates> LoadChatTemplates(const ChatTemplateFiles& files);

}  // namespace pixii::text
