#include "text/parsers/reasoning_splitter.h"

#include <utility>

#include "text/parsers/tool_call_parser.h"

namespace pixii::text::parsers {

ReasoningSplitter::ReasoningSplitter(const ReasoningFormat& format, bool inside)
    : markers_(Joined({format.openers, format.closers, format.dropped})),
      closers_begin_(format.openers.size()),
      dropped_begin_(closers_begin_ + format.closers.size()),
      scanner_(markers_),
      inside_(inside) {}

void ReasoningSplitter::Push(std::string_view text, EventList& events, const TakeContent& content) {
  for (char byte : text) {
    PushByte(byte, events, content);
  }
}

void ReasoningSplitter::PushByte(char byte, EventList& events, const TakeContent& content) {
  if (mentioned_) {
    std::size_t marker = *std::exchange(mentioned_, std::nullopt);
    if (byte == '`') {
      Emit(WithoutMarks(markers_[marker]), events, content);
    } else {
      OnMarker(marker, events);
    }
  }
  std::string text;
  std::optional<std::size_t> marker = scanner_.Push(byte, text);
  Emit(text, events, content);
  if (!marker) {
    return;
  }
  if (last_ == '`') {
    mentioned_ = marker;
  } else {
    OnMarker(*marker, events);
  }
}

void ReasoningSplitter::Emit(std::string_view text, EventList& events, const TakeContent& content) {
  if (text.empty()) {
    return;
  }
  last_ = text.back();
  if (inside_) {
    std::string clean = WithoutMarks(text);
    begun_ = begun_ || !clean.empty();
    events.Reasoning(clean);
  } else {
    content(text);
  }
}

void ReasoningSplitter::OnMarker(std::size_t marker, EventList& events) {
  last_ = '\0';
  if (marker < closers_begin_) {
    inside_ = true;
  } else if (marker < dropped_begin_) {
    if (begun_) {
      events.ReasoningEnd();
    }
    begun_ = false;
    inside_ = false;
  }
}

void ReasoningSplitter::End(EventList& events, const TakeContent& content) {
  if (mentioned_) {
    OnMarker(*std::exchange(mentioned_, std::nullopt), events);
  }
  std::string text;
  scanner_.Flush(text);
  Emit(text, events, content);
  if (begun_) {
    events.ReasoningEnd();
  }
}

}  // namespace pixii::text::parsers
