#include "text/parsers/named_json_calls.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "text/parsers/json_calls.h"

namespace pixii::text::parsers {

NamedJsonCalls::NamedJsonCalls(const NamedJsonFormat& format, const ToolSet& tools)
    : format_(format), tools_(tools), content_({format.call_opener}) {
  std::vector<std::string> markers;
  const auto add = [&](Marker kind, const std::string& marker) {
    markers.push_back(marker);
    kinds_.push_back(kind);
  };
  for (const std::string& marker : format.section_openers) {
    add(Marker::kSectionOpener, marker);
  }
  add(Marker::kCallOpener, format.call_opener);
  for (const std::string& marker : format.section_closers) {
    add(Marker::kSectionCloser, marker);
  }
  add(Marker::kCallCloser, format.call_closer);
  add(Marker::kNameOpener, format.name_opener);
  for (const std::string& marker : format.name_closers) {
    add(Marker::kNameCloser, marker);
  }
  scanner_ = MarkerScanner(std::move(markers));
}

std::vector<std::string> NamedJsonCalls::openers() const {
  return Joined({format_.section_openers, {format_.call_opener}});
}

std::vector<std::string> NamedJsonCalls::closers() const {
  return Joined({format_.section_closers, {format_.call_closer}});
}

void NamedJsonCalls::Open(std::size_t opener) {
  in_section_ = opener < format_.section_openers.size();
  lost_ = false;
  begun_ = false;
  state_ = State::kSection;
  if (!in_section_) {
    StartCall();
  }
}

void NamedJsonCalls::StartCall() {
  lost_ = lost_ || begun_;
  begun_ = true;
  ++serial_;
  named_ = {};
  state_ = State::kHeader;
  header_.clear();
  value_.Clear();
}

CallReader::Status NamedJsonCalls::Push(char byte, CallOutput& out) {
  if (state_ == State::kArguments && (byte == '{' || byte == '"')) {
    // A line break before the value may have begun a marker.
    text_.clear();
    scanner_.Flush(text_);
    OnText(out);
    state_ = state_ == State::kArguments ? State::kValue : state_;
  }
  if (state_ != State::kValue) {
    return PushMarker(byte, out);
  }
  switch (value_.Push(byte)) {
    case JsonText::Status::kMore:
      return Status::kMore;
    case JsonText::Status::kDone:
      state_ = State::kAfter;
      if (format_.call_closer.empty()) {
        Commit(out);
      }
      return Status::kMore;
    default:
      lost_ = true;
      begun_ = false;
      state_ = State::kSection;
      return PushMarker(byte, out);
  }
}

CallReader::Status NamedJsonCalls::PushMarker(char byte, CallOutput& out) {
  text_.clear();
  if (state_ == State::kContent) {
    if (content_.Push(byte, out.text)) {
      StartCall();
    }
    return Status::kMore;
  }
  std::optional<std::size_t> marker = scanner_.Push(byte, text_);
  if (!text_.empty()) {
    Status status = OnText(out);
    if (status != Status::kMore) {
      return status;
    }
  }
  if (!marker) {
    return Status::kMore;
  }
  if (Marker kind = kinds_[*marker]; kind != Marker::kNameCloser || state_ == State::kHeader) {
    return OnMarker(kind, out);
  }
  return Status::kMore;  // the end of a name elsewhere is white space or a fence
}

CallReader::Status NamedJsonCalls::OnText(CallOutput& out) {
  if (state_ == State::kHeader) {
    header_ += text_;
  } else if (state_ == State::kArguments && !Trimmed(text_).empty()) {
    lost_ = true;  // no JSON: the call cannot be told
    begun_ = false;
    state_ = State::kSection;
  } else if (state_ == State::kAfter && !in_section_ && format_.call_closer.empty() &&
             !Trimmed(text_).empty()) {
    scanner_.Flush(text_);
    out.again = text_;
    return Status::kRefused;
  }
  return Status::kMore;
}

CallReader::Status NamedJsonCalls::OnMarker(Marker marker, CallOutput& out) {
  switch (marker) {
    case Marker::kSectionOpener:
      in_section_ = true;
      return Status::kMore;
    case Marker::kCallOpener:
      StartCall();
      return Status::kMore;
    case Marker::kNameOpener:
      if (state_ == State::kHeader) {
        header_.clear();
      }
      return Status::kMore;
    case Marker::kNameCloser:
      state_ = State::kArguments;
      named_ = NamedCall();
      if (!format_.content_name.empty() && Trimmed(header_) == format_.content_name) {
        begun_ = false;
        state_ = State::kContent;
      }
      return Status::kMore;
    case Marker::kCallCloser:
      Commit(out);
      return in_section_ ? Status::kMore : Status::kClosed;
    case Marker::kSectionCloser:
      Commit(out);
      return Status::kClosed;
  }
  return Status::kMore;
}

// Name and id of the call that was begun.
ParsedCall NamedJsonCalls::NamedCall() const {
  ParsedCall call{.name = std::string(Trimmed(header_)), .arguments = {}, .id = {}};
  if (!format_.numbered) {
    return call;
  }
  std::size_t colon = call.name.rfind(':');
  bool digits = colon != std::string::npos && colon + 1 < call.name.size() &&
                std::all_of(call.name.begin() + static_cast<std::ptrdiff_t>(colon) + 1,
                            call.name.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
  if (digits) {
    call.id = call.name;
    call.name.resize(colon);
  }
  if (call.name.starts_with("functions.")) {
    call.name.erase(0, 10);
  }
  return call;
}

std::optional<CallInProgress> NamedJsonCalls::Writing() const {
  bool value = begun_ && (state_ == State::kValue || state_ == State::kAfter);
  if (!value || named_.name.empty() || !value_.text().starts_with('{')) {
    return std::nullopt;
  }
  return CallInProgress{
      .serial = serial_, .name = named_.name, .id = named_.id, .arguments = value_.text()};
}

// Gives out the call that was begun, if it is whole.
void NamedJsonCalls::Commit(CallOutput& out) {
  if (!begun_) {
    return;
  }
  begun_ = false;
  ParsedCall call = NamedCall();
  bool whole = state_ == State::kAfter || state_ == State::kArguments || state_ == State::kHeader;
  bool sound = whole && !call.name.empty() && TakeArguments(value_.text(), tools_, call);
  if (sound) {
    out.calls.push_back(std::move(call));
  } else {
    lost_ = true;
  }
  state_ = state_ == State::kAfter && format_.call_closer.empty() ? State::kAfter : State::kSection;
}

bool NamedJsonCalls::End(CallOutput& out) {
  if (state_ == State::kContent) {
    content_.Flush(out.text);
  }
  if (state_ == State::kAfter) {
    Commit(out);
  }
  return !lost_ && !begun_;
}

}  // namespace pixii::text::parsers
