#include "frontend/chat_answer.h"

#include <algorithm>

#include "text/parsers/marker_scanner.h"

namespace pixii::frontend {

namespace {

constexpr std::size_t kTailTokens = 32;  // of a prompt: more than any opener has

}  // namespace

Result<std::shared_ptr<const ChatAnswers>> MakeChatAnswers(const ChatAnswerOptions& options,
                                                           const TextProcessor& text) {
  auto out = std::make_shared<ChatAnswers>();
  out->options = options;
  PX_TRY(out->format,
         text::parsers::MakeChatFormat(options.tool_call_parser, options.reasoning_parser,
                                       text.TemplateSource()));
  out->format.MarkTokens(
      [&](std::string_view marker) { return text.AddedToken(marker).has_value(); });
  for (const std::string& marker : out->format.token_markers) {
    out->marker_tokens.push_back(*text.AddedToken(marker));
  }
  std::ranges::sort(out->marker_tokens);
  return std::shared_ptr<const ChatAnswers>(std::move(out));
}

bool IsMarker(const ChatAnswers& answers, TokenId token) {
  return std::ranges::binary_search(answers.marker_tokens, token);
}

std::shared_ptr<const ChatParsing> PlanParsing(const OpenAiRequest& request,
                                               const std::shared_ptr<const ChatAnswers>& answers,
                                               const TextProcessor& text,
                                               std::span<const TokenId> prompt) {
  if (!answers || request.surface != Surface::kChat || request.chat.continue_final_message) {
    return nullptr;
  }
  bool calls = !request.chat.tools.is_null() && request.tool_choice != ToolChoice::kNone;
  bool parses = answers->format.harmony() || answers->format.reasoning.has_value() ||
                (calls && answers->format.calls.has_value());
  if (!parses) {
    return nullptr;
  }
  auto out = std::make_shared<ChatParsing>();
  out->answers = answers;
  if (calls) {
    out->tools = text::parsers::ToolSet(request.chat.tools);
  }
  out->options = {
      .calls = calls, .reasoning = true, .one_call = request.parallel_tool_calls == false};
  for (TokenId token : prompt.last(std::min(prompt.size(), kTailTokens))) {
    if (IsMarker(*answers, token)) {
      out->prompt_tail += text::parsers::kTokenMark;
    }
    out->prompt_tail += text.TokenBytes(token);
  }
  return out;
}

}  // namespace pixii::frontend
