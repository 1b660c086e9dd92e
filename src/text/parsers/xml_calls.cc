#include "text/parsers/xml_calls.h"

#include <utility>

#include "text/parsers/json_scanner.h"

namespace pixii::text::parsers {

namespace {

constexpr std::size_t kGapBytesMax = 256;  // between a parameter's name and its value

}  // namespace

XmlCalls::XmlCalls(const XmlCallFormat& format, const ToolSet& tools)
    : format_(format), tools_(tools) {
  const auto add = [&](Marker kind, const std::string& marker) {
    if (!marker.empty()) {
      markers_.push_back(marker);
      kinds_.push_back(kind);
    }
  };
  for (const std::string& marker : format.openers) {
    add(Marker::kOpener, marker);
  }
  add(Marker::kCallOpener, format.call_opener);
  for (const std::string& marker : format.closers) {
    add(Marker::kCloser, marker);
  }
  add(Marker::kCallCloser, format.call_closer);
  add(Marker::kParameterOpener, format.parameter_opener);
  scanner_ = MarkerScanner(markers_);
}

std::vector<std::string> XmlCalls::openers() const {
  std::vector<std::string> out = format_.openers;
  if (!format_.call_opener.empty()) {
    out.push_back(format_.call_opener);
  }
  return out;
}

std::vector<std::string> XmlCalls::closers() const {
  std::vector<std::string> out = format_.closers;
  if (!format_.call_closer.empty()) {
    out.push_back(format_.call_closer);
  }
  return out;
}

void XmlCalls::Open(std::size_t opener) {
  block_ = opener < format_.openers.size();
  lost_ = false;
  begun_ = false;
  state_ = State::kBlock;
  if (!block_ || format_.call_opener.empty()) {
    BeginCall();
  }
}

void XmlCalls::BeginCall() {
  lost_ = lost_ || begun_;
  begun_ = true;
  state_ = State::kCallName;
  name_.clear();
  parameter_.clear();
  arguments_.Take();
}

CallReader::Status XmlCalls::Push(char byte, CallOutput& out) {
  switch (state_) {
    case State::kName:
    case State::kAttributes:
    case State::kBeforeValue:
    case State::kValue:
      PushPart(byte);
      return Status::kMore;
    case State::kAfterValue:
      return PushAfterValue(byte, out);
    case State::kCallName:
      if (!format_.call_name_closer.empty()) {
        name_ += byte;
        if (name_.ends_with(format_.call_name_closer)) {
          name_.resize(name_.size() - format_.call_name_closer.size());
          state_ = State::kParameters;
        } else if (byte == '\n') {
          Lose();
        }
        return Status::kMore;
      }
      return PushMarker(byte, out);
    default:
      return PushMarker(byte, out);
  }
}

void XmlCalls::Lose() {
  begun_ = false;
  lost_ = true;
  state_ = State::kLost;
}

CallReader::Status XmlCalls::PushMarker(char byte, CallOutput& out) {
  text_.clear();
  std::optional<std::size_t> marker = scanner_.Push(byte, text_);
  if (!text_.empty()) {
    OnText(out);
  }
  return marker ? OnMarker(kinds_[*marker], out) : Status::kMore;
}

void XmlCalls::OnText(CallOutput& out) {
  bool space = Trimmed(text_).empty();
  switch (state_) {
    case State::kCallName:
      name_ += text_;
      break;
    case State::kBlock:
      if (!space && !lost_) {
        state_ = State::kText;
        out.text += text_;
      }
      break;
    case State::kText:
      out.text += text_;
      break;
    case State::kParameters:
      if (!space) {
        Lose();
      }
      break;
    default:
      break;
  }
}

CallReader::Status XmlCalls::OnMarker(Marker marker, CallOutput& out) {
  switch (marker) {
    case Marker::kOpener: {
      bool lost = lost_ || begun_;
      Open(0);
      lost_ = lost;
      return Status::kMore;
    }
    case Marker::kCallOpener:
      BeginCall();
      return Status::kMore;
    case Marker::kParameterOpener:
      if (begun_ && (state_ == State::kParameters || state_ == State::kCallName)) {
        parameter_.clear();
        state_ = State::kName;
      }
      return Status::kMore;
    case Marker::kCallCloser:
      FinishCall(out);
      state_ = State::kBlock;
      return block_ ? Status::kMore : Status::kClosed;
    case Marker::kCloser:
      if (format_.call_closer.empty()) {
        FinishCall(out);
      } else {
        lost_ = lost_ || begun_;
      }
      begun_ = false;
      return Status::kClosed;
  }
  return Status::kMore;
}

// A name, its attributes, or a value.
void XmlCalls::PushPart(char byte) {
  if (state_ == State::kName) {
    parameter_ += byte;
    if (parameter_.ends_with(format_.name_closer)) {
      parameter_.resize(parameter_.size() - format_.name_closer.size());
      attributes_.clear();
      value_.clear();
      state_ = format_.attributes             ? State::kAttributes
               : format_.value_opener.empty() ? State::kValue
                                              : State::kBeforeValue;
    }
    return;
  }
  if (state_ == State::kAttributes) {
    if (byte == '>') {
      state_ = State::kValue;
    } else {
      attributes_ += byte;
    }
    return;
  }
  value_ += byte;
  if (state_ == State::kBeforeValue) {
    std::string_view begun = Trimmed(value_);
    if (begun == format_.value_opener) {
      value_.clear();
      state_ = State::kValue;
    } else if (!format_.value_opener.starts_with(begun) || value_.size() > kGapBytesMax) {
      Lose();
    }
    return;
  }
  if (value_.ends_with(format_.value_closer)) {
    after_.clear();
    after_space_ = 0;
    state_ = State::kAfterValue;
  }
}

CallReader::Status XmlCalls::PushAfterValue(char byte, CallOutput& out) {
  after_ += byte;
  if (IsSpace(byte) && after_.size() == after_space_ + 1) {
    ++after_space_;
  }
  std::string_view tag = std::string_view(after_).substr(after_space_);
  bool may_follow = tag.empty();
  for (std::size_t i = 0; i < markers_.size() && !tag.empty(); ++i) {
    bool follows = kinds_[i] == Marker::kParameterOpener || kinds_[i] == Marker::kCallCloser ||
                   (kinds_[i] == Marker::kCloser && format_.call_closer.empty());
    if (follows && tag == markers_[i]) {
      value_.resize(value_.size() - format_.value_closer.size());
      TakeParameter();
      state_ = State::kParameters;
      return OnMarker(kinds_[i], out);
    }
    may_follow = may_follow || (follows && markers_[i].starts_with(tag));
  }
  if (may_follow) {
    return Status::kMore;
  }
  // The closing tag was a part of the value.
  state_ = State::kValue;
  std::string rest = std::exchange(after_, {});
  Status status = Status::kMore;
  for (std::size_t i = 0; i < rest.size() && status == Status::kMore; ++i) {
    status = Push(rest[i], out);
  }
  return status;
}

void XmlCalls::TakeParameter() {
  std::string_view text = value_;
  if (format_.framed) {
    text.remove_prefix(text.starts_with('\n') ? 1 : 0);
    text.remove_suffix(text.ends_with('\n') ? 1 : 0);
  }
  std::string parameter(Trimmed(parameter_));
  std::string_view name = Trimmed(name_);
  std::string json;
  if (attributes_.find("string=\"true\"") != std::string::npos) {
    json = Quoted(text);
  } else if (attributes_.find("string=\"false\"") != std::string::npos && IsJson(text)) {
    json = Trimmed(text);
  } else {
    json = tools_.Typed(name, parameter, text);
  }
  arguments_.Set(std::move(parameter), std::move(json));
}

void XmlCalls::FinishCall(CallOutput& out) {
  ParsedCall call{.name = std::string(Trimmed(name_)), .arguments = {}, .id = {}};
  bool named = state_ == State::kParameters ||
               (state_ == State::kCallName && format_.call_name_closer.empty());
  bool sound = begun_ && named && !call.name.empty() &&
               call.name.find_first_of("\n<{\"") == std::string::npos;
  lost_ = lost_ || (begun_ && !sound);
  begun_ = false;
  if (sound) {
    call.arguments = arguments_.Take();
    out.calls.push_back(std::move(call));
  }
}

bool XmlCalls::End(CallOutput& out) {
  if (state_ == State::kText) {
    scanner_.Flush(out.text);
  }
  return !lost_ && !begun_;
}

}  // namespace pixii::text::parsers
