#include "text/parsers/chat_parser.h"

#include <type_traits>
#include <utility>

namespace pixii::text::parsers {

namespace {

std::unique_ptr<CallReader> MakeReader(const CallFormat& format, const ToolSet& tools) {
  return std::visit(
      [&](const auto& given) -> std::unique_ptr<CallReader> {
        using Format = std::remove_cvref_t<decltype(given)>;
        if constexpr (std::is_same_v<Format, JsonCallFormat>) {
          return std::make_unique<JsonCalls>(given, tools);
        } else if constexpr (std::is_same_v<Format, NamedJsonFormat>) {
          return std::make_unique<NamedJsonCalls>(given, tools);
        } else if constexpr (std::is_same_v<Format, XmlCallFormat>) {
          return std::make_unique<XmlCalls>(given, tools);
        } else if constexpr (std::is_same_v<Format, LiteralCallFormat>) {
          return std::make_unique<LiteralCalls>(given, tools);
        } else {
          return nullptr;  // harmony reads whole answers
        }
      },
      format);
}

}  // namespace

std::optional<std::size_t> OpenedBy(std::string_view prompt_tail,
                                    const std::vector<std::string>& list) {
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (!list[i].empty() && Trimmed(prompt_tail).ends_with(Trimmed(list[i]))) {
      return i;
    }
  }
  return std::nullopt;
}

bool BeginsInReasoning(const ReasoningFormat& format, std::string_view prompt_tail) {
  return OpenedBy(prompt_tail, format.openers).has_value() ||
         (format.forced && !OpenedBy(prompt_tail, format.closers));
}

ChatParser::ChatParser(const ChatFormat& format, const ToolSet& tools, ChatParserOptions options,
                       std::string_view prompt_tail) {
  if (format.harmony()) {
    harmony_.emplace(
        std::get<HarmonyFormat>(*format.calls), tools,
        HarmonyOptions{.calls = options.calls,
                       .reasoning = options.reasoning && format.reasoning_name != "none",
                       .one_call = options.one_call,
                       .pieces = options.pieces});
    return;
  }
  if (options.reasoning && format.reasoning) {
    const ReasoningFormat& reasoning = *format.reasoning;
    reasoning_.emplace(reasoning, BeginsInReasoning(reasoning, prompt_tail));
  }
  if (options.calls && format.calls) {
    std::unique_ptr<CallReader> reader = MakeReader(*format.calls, tools);
    std::optional<std::size_t> opened = OpenedBy(prompt_tail, reader->openers());
    calls_.emplace(std::move(reader),
                   ToolCallOptions{.one_call = options.one_call, .pieces = options.pieces});
    if (opened) {
      calls_->StartInside(*opened);
    }
  }
}

std::vector<ParseEvent> ChatParser::Push(std::string_view text) {
  const auto content = [&](std::string_view rest) {
    if (calls_) {
      calls_->Push(rest, events_);
    } else {
      events_.Content(WithoutMarks(rest));
    }
  };
  if (harmony_) {
    harmony_->Push(text, events_);
  } else if (reasoning_) {
    reasoning_->Push(text, events_, content);
  } else {
    content(text);
  }
  return events_.Take();
}

std::vector<ParseEvent> ChatParser::End() {
  const auto content = [&](std::string_view rest) {
    if (calls_) {
      calls_->Push(rest, events_);
    } else {
      events_.Content(WithoutMarks(rest));
    }
  };
  if (harmony_) {
    harmony_->End(events_);
  }
  if (reasoning_) {
    reasoning_->End(events_, content);
  }
  if (calls_) {
    calls_->End(events_);
  }
  return events_.Take();
}

bool ChatParser::finished() const {
  return (harmony_ && harmony_->finished()) || (calls_ && calls_->finished());
}

std::vector<ParseEvent> JoinEvents(std::vector<ParseEvent> events) {
  std::vector<ParseEvent> out;
  for (ParseEvent& event : events) {
    bool text =
        event.kind == ParseEvent::Kind::kContent || event.kind == ParseEvent::Kind::kReasoning;
    bool more = event.kind == ParseEvent::Kind::kCallPiece && !event.begins;
    if ((text || more) && !out.empty() && out.back().kind == event.kind) {
      out.back().text += event.text;
      out.back().call.arguments += event.call.arguments;
      out.back().ends = event.ends;
    } else {
      out.push_back(std::move(event));
    }
  }
  return out;
}

std::vector<ParseEvent> ParseAll(const ChatFormat& format, const ToolSet& tools,
                                 ChatParserOptions options, std::string_view prompt_tail,
                                 std::string_view text) {
  ChatParser parser(format, tools, options, prompt_tail);
  std::vector<ParseEvent> events = parser.Push(text);
  std::vector<ParseEvent> rest = parser.End();
  events.insert(events.end(), std::make_move_iterator(rest.begin()),
                std::make_move_iterator(rest.end()));
  return JoinEvents(std::move(events));
}

}  // namespace pixii::text::parsers
