#include "text/parsers/harmony_parser.h"

#include <optional>
#include <utility>

#include "text/parsers/json_calls.h"
#include "text/parsers/tool_call_parser.h"

namespace pixii::text::parsers {

namespace {

enum Marker : std::size_t { kStart, kChannel, kMessage, kConstrain, kEnd, kCallEnd, kDone };

constexpr std::string_view kRecipient = "to=";

bool IsRecipientEnd(char byte) { return IsSpace(byte) || byte == '<'; }

// The prompt ends in the header of the answer, whose recipient may come first.
bool MayBeHeader(std::string_view text) {
  std::string_view words = Trimmed(text);
  constexpr std::size_t kBytesMax = 256;
  return text.size() <= kBytesMax &&
         (words.starts_with(kRecipient) ? words.find_first_of(" \n\t\r") == std::string_view::npos
                                        : kRecipient.starts_with(words));
}

// The word behind "to=", without "functions.".
std::string RecipientOf(std::string_view header) {
  std::size_t at = header.find(kRecipient);
  while (at != std::string_view::npos && at > 0 && !IsSpace(header[at - 1])) {
    at = header.find(kRecipient, at + 1);
  }
  if (at == std::string_view::npos) {
    return {};
  }
  std::size_t end = at += kRecipient.size();
  while (end < header.size() && !IsRecipientEnd(header[end])) {
    ++end;
  }
  std::string_view word = header.substr(at, end - at);
  constexpr std::string_view kFunctions = "functions.";
  word.remove_prefix(word.starts_with(kFunctions) ? kFunctions.size() : 0);
  return std::string(word);
}

}  // namespace

HarmonyParser::HarmonyParser(const HarmonyFormat& format, const ToolSet& tools,
                             HarmonyOptions options)
    : tools_(tools),
      options_(options),
      scanner_({format.start, format.channel, format.message, format.constrain, format.end,
                format.call, format.done}) {}

void HarmonyParser::Push(std::string_view text, EventList& events) {
  for (char byte : text) {
    if (finished_) {
      return;
    }
    PushByte(byte, events);
  }
}

void HarmonyParser::PushByte(char byte, EventList& events) {
  text_.clear();
  std::optional<std::size_t> marker = scanner_.Push(byte, text_);
  if (!text_.empty()) {
    OnText(events);
  }
  if (!marker) {
    return;
  }
  switch (*marker) {
    case kMessage:
      if (state_ != State::kHeader && state_ != State::kPlain) {
        EndMessage(false, events);
      }
      BeginMessage();
      return;
    case kConstrain:
      header_ += state_ == State::kHeader ? " " : "";
      return;
    case kChannel:
      if (state_ == State::kHeader || state_ == State::kPlain) {
        header_ += '\n';
      } else {
        EndMessage(false, events);
        header_ = "\n";
      }
      state_ = State::kHeader;
      any_ = true;
      return;
    default:
      EndMessage(false, events);
      header_.clear();
      // Behind the end of a message only another header can follow.
      state_ = State::kHeader;
      any_ = true;
      return;
  }
}

void HarmonyParser::OnText(EventList& events) {
  switch (state_) {
    case State::kHeader:
      header_ += text_;
      break;
    case State::kReasoning:
      reasoned_ = true;
      events.Reasoning(WithoutMarks(text_));
      break;
    case State::kPlain:
      header_ += text_;
      if (any_ || !MayBeHeader(header_)) {
        any_ = true;
        events.Content(WithoutMarks(std::exchange(header_, {})));
      }
      break;
    case State::kContent:
      events.Content(WithoutMarks(text_));
      break;
    case State::kCall:
      body_ += text_;
      WritePieces(events);
      break;
    case State::kIgnored:
      break;
  }
}

// White space before the arguments is no part of them, behind them neither.
void HarmonyParser::WritePieces(EventList& events) {
  if (!options_.pieces) {
    return;
  }
  for (char byte : text_) {
    if (byte != kTokenMark && !(IsSpace(byte) && json_.text().empty())) {
      json_.Push(byte);
    }
  }
  if (json_.text().starts_with('{')) {
    pieces_.Write({.serial = serial_, .name = recipient_, .id = {}, .arguments = json_.text()},
                  events);
  }
}

void HarmonyParser::BeginMessage() {
  any_ = true;
  recipient_ = RecipientOf(header_);
  body_.clear();
  json_.Clear();
  pieces_.Forget();
  ++serial_;
  bool analysis = header_.find("analysis") != std::string::npos;
  bool to_assistant = recipient_ == "assistant" || recipient_ == "user" || recipient_ == "all";
  if (!recipient_.empty() && !to_assistant && options_.calls) {
    state_ = State::kCall;
  } else {
    state_ = analysis && options_.reasoning ? State::kReasoning : State::kContent;
  }
  header_.clear();
}

void HarmonyParser::EndMessage(bool stream_ended, EventList& events) {
  if (state_ == State::kReasoning && reasoned_) {
    reasoned_ = false;
    events.ReasoningEnd();
  }
  if (state_ != State::kCall) {
    return;
  }
  state_ = State::kIgnored;
  ParsedCall call{.name = WithoutMarks(recipient_), .arguments = {}, .id = {}};
  std::string body = WithoutMarks(Trimmed(body_));
  JsonText json;
  bool broken = false;
  for (char byte : body) {
    broken = broken || json.Push(byte) == JsonText::Status::kBroken;
  }
  bool whole = body.empty() ? !stream_ended : !broken && json.CompleteAtEnd();
  if (whole && TakeArguments(json.text(), tools_, call)) {
    pieces_.Finish(std::move(call), events);
    finished_ = options_.one_call;
  }
}

void HarmonyParser::End(EventList& events) {
  if (finished_) {
    return;
  }
  text_.clear();
  scanner_.Flush(text_);
  if (!text_.empty()) {
    OnText(events);
  }
  if (state_ == State::kPlain) {
    events.Content(WithoutMarks(header_));
  }
  EndMessage(true, events);
}

}  // namespace pixii::text::parsers
