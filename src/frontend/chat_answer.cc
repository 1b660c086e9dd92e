#include "frontend/chat_answer.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/parsers/marker_scanner.h"

namespace pixii::frontend {

namespace {

constexpr std::size_t kTailTokens = 32;  // of a prompt: more than any opener has

bool HasTool(const OpenAiRequest& request, std::string_view name) {
  return text::parsers::ToolSet(request.chat.tools).Has(name);
}

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
  for (const std::string& marker : out->format.token_markers()) {
    out->marker_tokens.push_back(*text.AddedToken(marker));
  }
  std::ranges::sort(out->marker_tokens);
  return std::shared_ptr<const ChatAnswers>(std::move(out));
}

bool IsMarker(const ChatAnswers& answers, TokenId token) {
  return std::ranges::binary_search(answers.marker_tokens, token);
}

Result<void> CheckToolUse(const OpenAiRequest& request) {
  const auto refuse = [](Code code, std::string detail) {
    return Fail(code, "tool_choice: " + std::move(detail), "tool_choice");
  };
  bool forced =
      request.tool_choice == ToolChoice::kRequired || request.tool_choice == ToolChoice::kNamed;
  if (!forced) {
    return {};
  }
  if (request.chat.tools.is_null()) {
    return refuse(Code::kInvalidArgument, "a call is demanded, but the request has no tools");
  }
  if (request.tool_choice == ToolChoice::kNamed && !HasTool(request, request.tool_choice_name)) {
    return refuse(Code::kInvalidArgument,
                  fmt::format("\"{}\" is none of the tools", request.tool_choice_name));
  }
  // A call is promised only where it is enforced: a structural tag of the format around the tool's
  // schema would be set on the request here.
  return refuse(Code::kUnsupported,
                "a call cannot be enforced here; use \"auto\", or give the tools in the prompt");
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
