// What a model's answer is made of, as parsers find it: reasoning, content, tool calls.
//
// Thread: values. Law: the events of a stream, neighbours of one kind joined, depend on its bytes
// alone and never on how they were cut.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pixii::text::parsers {

/// One call as the model meant it.
struct ParsedCall {
  std::string name;
  std::string arguments;  // a JSON object; JSON formats: the model's own bytes
  std::string id;         // the model's own, mostly empty
};

struct ParseEvent {
  enum class Kind : std::uint8_t { kReasoning, kContent, kReasoningEnd, kCall, kCallPiece };

  Kind kind = Kind::kContent;
  std::string text;     // kReasoning, kContent
  ParsedCall call;      // kCall; kCallPiece: a part of the arguments, name and id as it begins
  std::uint32_t index;  // of the call, 0 for the first of a choice
  bool begins = false;  // kCallPiece: the first of its call
  bool ends = false;    // kCallPiece: the call is whole

  friend bool operator==(const ParseEvent& a, const ParseEvent& b) {
    return a.kind == b.kind && a.text == b.text && a.index == b.index &&
           a.call.name == b.call.name && a.call.arguments == b.call.arguments &&
           a.call.id == b.call.id && a.begins == b.begins && a.ends == b.ends;
  }
};

/// Takes events of one choice in their order; neighbouring text of one kind becomes one event.
class EventList final {
 public:
  void Reasoning(std::string_view text) { Text(ParseEvent::Kind::kReasoning, text); }

  void Content(std::string_view text) { Text(ParseEvent::Kind::kContent, text); }

  void ReasoningEnd() {
    events_.push_back(
        {.kind = ParseEvent::Kind::kReasoningEnd, .text = {}, .call = {}, .index = 0});
  }

  void Call(ParsedCall call) {
    ++whole_;
    events_.push_back(
        {.kind = ParseEvent::Kind::kCall, .text = {}, .call = std::move(call), .index = calls_++});
  }

  /// A call of which arguments follow, or nothing more.
  void BeginCall(ParsedCall call) {
    events_.push_back({.kind = ParseEvent::Kind::kCallPiece,
                       .text = {},
                       .call = std::move(call),
                       .index = calls_++,
                       .begins = true});
  }

  /// Arguments of the call that was begun last; `ends`: those are all.
  void MoreArguments(std::string_view arguments, bool ends) {
    if (arguments.empty() && !ends) {
      return;
    }
    if (events_.empty() || events_.back().kind != ParseEvent::Kind::kCallPiece) {
      events_.push_back(
          {.kind = ParseEvent::Kind::kCallPiece, .text = {}, .call = {}, .index = calls_ - 1});
    }
    events_.back().call.arguments += arguments;
    events_.back().ends = ends;
  }

  void CountWholeCall() { ++whole_; }

  /// Whole calls so far, taken ones too.
  std::uint32_t call_count() const { return whole_; }

  /// The events since the last Take.
  std::vector<ParseEvent> Take() { return std::exchange(events_, {}); }

 private:
  void Text(ParseEvent::Kind kind, std::string_view text) {
    if (text.empty()) {
      return;
    }
    if (events_.empty() || events_.back().kind != kind) {
      events_.push_back({.kind = kind, .text = {}, .call = {}, .index = 0});
    }
    events_.back().text += text;
  }

  std::vector<ParseEvent> events_;
  std::uint32_t calls_ = 0;  // begun
  std::uint32_t whole_ = 0;
};

}  // namespace pixii::text::parsers
