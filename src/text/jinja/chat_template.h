// A model's chat template: messages and tools in, the prompt's text out, and which of it the
// request wrote. docs/subsystems/text.md
//
// Jinja with the semantics of transformers' apply_chat_template (ImmutableSandboxedEnvironment,
// trim_blocks, lstrip_blocks, loop controls, generation blocks, its own tojson). Strings carry
// their provenance through every operation, so text of users and tools can never turn into a
// special token: hand `untrusted` to the tokenizer. Thread: a ChatTemplate is immutable; Render may
// run in any number of threads at once and has no clock.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "text/jinja/runtime.h"
#include "text/tokenizer/text_range.h"
#include "wire/json.h"

namespace pixii::text {

using jinja::CivilTime;

struct ChatTemplateOptions {
  jinja::Limits limits;  // budgets of the source and of each Render
};

/// Borrowed for the time of one Render.
struct ChatTemplateInput {
  const wire::Json* messages = nullptr;   // a JSON array; must be there
  const wire::Json* tools = nullptr;      // null: None
  const wire::Json* documents = nullptr;  // null: None
  bool add_generation_prompt = true;
  /// chat_template_kwargs, a JSON object, or null. Its members are variables, and the request's:
  /// untrusted.
  const wire::Json* variables = nullptr;
  /// bos_token and its like from the checkpoint: trusted. `variables` of the same name win, as in
  /// transformers.
  const std::vector<std::pair<std::string, std::string>>* special_tokens = nullptr;
  CivilTime now;  // what strftime_now prints
};

struct RenderedPrompt {
  std::string text;
  /// Bytes of `text` that came from the request: sorted, disjoint, on character boundaries. A
  /// special token may be recognised only where no byte of it lies in one of these.
  std::vector<TextRange> untrusted;
};

class ChatTemplate final {
 public:
  /// Errors: kInvalidArgument (field chat_template) with the line: bad syntax, an unknown filter, a
  /// budget at load; kUnsupported for what Jinja has and this engine has not, such as include.
  static Result<ChatTemplate> Parse(std::string_view source, const ChatTemplateOptions& options);

  /// Errors: kInvalidArgument: the template's own raise_exception (field messages, its message is
  /// the whole detail), what Python would raise ("chat template line 3: TypeError: ..."), or a
  /// budget by its name; kUnsupported. About 1 ms per 100 KB of conversation.
  Result<RenderedPrompt> Render(const ChatTemplateInput& input) const;

 private:
  struct Parsed;

  explicit ChatTemplate(std::shared_ptr<const Parsed> parsed) : parsed_(std::move(parsed)) {}

  std::shared_ptr<const Parsed> parsed_;
};

}  // namespace pixii::text
