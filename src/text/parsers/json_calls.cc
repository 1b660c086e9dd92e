#include "text/parsers/json_calls.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <optional>
#include <utility>

namespace pixii::text::parsers {

namespace {

constexpr std::size_t kNameBytesMax = 512;       // of a call's name between markers
constexpr std::size_t kBeginningBytesMax = 256;  // of a call without a marker, up to its first key

constexpr auto kNameKeys = std::to_array<std::string_view>({"name", "tool_name", "function"});
constexpr auto kArgumentKeys = std::to_array<std::string_view>({"arguments", "parameters"});
constexpr auto kOtherKeys = std::to_array<std::string_view>({"type", "id", "tool_call_id"});

template <std::size_t N>
bool Contains(const std::array<std::string_view, N>& list, std::string_view key) {
  return std::ranges::find(list, key) != list.end();
}

enum class Look : std::uint8_t { kOpen, kYes, kNo };

// Whether JSON that begins so may be a call: its first key tells.
Look LooksLikeCall(std::string_view begun) {
  if (begun.size() > kBeginningBytesMax) {
    return Look::kNo;
  }
  std::string_view rest = Trimmed(begun);
  if (rest.starts_with('[')) {
    rest = Trimmed(rest.substr(1));
  }
  if (rest.empty()) {
    return Look::kOpen;
  }
  if (rest[0] != '{') {
    return Look::kNo;
  }
  rest = Trimmed(rest.substr(1));
  if (rest.empty()) {
    return Look::kOpen;
  }
  if (rest[0] != '"') {
    return Look::kNo;
  }
  std::size_t end = rest.find('"', 1);
  if (end == std::string_view::npos) {
    return rest.size() > 20 ? Look::kNo : Look::kOpen;
  }
  std::string_view key = rest.substr(1, end - 1);
  return Contains(kNameKeys, key) || Contains(kArgumentKeys, key) || Contains(kOtherKeys, key)
             ? Look::kYes
             : Look::kNo;
}

bool CallOfObject(std::string_view object, const JsonCallFormat& format, const ToolSet& tools,
                  ParsedCall& call) {
  std::string arguments;
  std::string nested;
  bool sound = true;
  ForEachMember(object, [&](const std::string& key, std::string_view value) {
    if (format.name_as_key) {
      call.name = key;
      arguments = value;
    } else if (key == "function" && JsonKind(value) == '{') {
      nested = value;
    } else if (Contains(kNameKeys, key)) {
      sound = sound && JsonKind(value) == '"';
      call.name = sound ? Unescaped(value) : std::string();
    } else if (Contains(kArgumentKeys, key)) {
      arguments = value;
    } else if (key == "id" && format.keeps_id && JsonKind(value) == '"') {
      call.id = Unescaped(value);
    }
    return true;
  });
  if (!nested.empty()) {
    return CallOfObject(nested, format, tools, call);
  }
  return sound && !call.name.empty() && TakeArguments(arguments, tools, call);
}

constexpr std::uint32_t kNamedSerials = 0x80000000;  // apart from those of JsonCallWatch

}  // namespace

void JsonCallWatch::Begin() {
  depth_ = 0;
  in_string_ = false;
  escaped_ = false;
  name_.clear();
  arguments_begin_ = std::string::npos;
}

void JsonCallWatch::OpenObject(std::size_t at) {
  ++depth_;
  if (depth_ == level_) {
    ++serial_;
    key_next_ = true;
    name_.clear();
    id_.clear();
    arguments_begin_ = arguments_end_ = std::string::npos;
  } else if (depth_ == level_ + 1 && arguments_begin_ == std::string::npos &&
             (format_.name_as_key || Contains(kArgumentKeys, key_))) {
    arguments_begin_ = at;
    name_ = format_.name_as_key ? key_ : name_;
  }
}

void JsonCallWatch::EndString(std::string_view text, std::size_t at) {
  in_string_ = false;
  if (depth_ != level_) {
    return;
  }
  std::string word = Unescaped(text.substr(string_begin_, at + 1 - string_begin_));
  if (std::exchange(key_next_, false)) {
    key_ = std::move(word);
  } else if (!format_.name_as_key && Contains(kNameKeys, key_)) {
    name_ = std::move(word);
  } else if (key_ == "id" && format_.keeps_id) {
    id_ = std::move(word);
  }
}

void JsonCallWatch::Push(std::string_view text, std::size_t at) {
  char byte = text[at];
  if (in_string_) {
    if (escaped_ || byte == '\\') {
      escaped_ = !escaped_;
    } else if (byte == '"') {
      EndString(text, at);
    }
    return;
  }
  switch (byte) {
    case '"':
      in_string_ = true;
      string_begin_ = at;
      return;
    case '{':
      level_ = depth_ == 0 ? 1 : level_;
      OpenObject(at);
      return;
    case '[':
      level_ = depth_ == 0 ? 2 : level_;
      ++depth_;
      return;
    case '}':
    case ']':
      if (depth_ == level_ + 1 && arguments_end_ == std::string::npos &&
          arguments_begin_ != std::string::npos) {
        arguments_end_ = at + 1;
      }
      --depth_;
      return;
    case ',':
      key_next_ = depth_ == level_;
      return;
    default:
      return;
  }
}

std::optional<CallInProgress> JsonCallWatch::Call(std::string_view text) const {
  if (name_.empty() || arguments_begin_ == std::string::npos) {
    return std::nullopt;
  }
  const std::size_t end = std::min(arguments_end_, text.size());
  return CallInProgress{.serial = serial_,
                        .name = name_,
                        .id = id_,
                        .arguments = text.substr(arguments_begin_, end - arguments_begin_)};
}

bool TakeArguments(std::string_view json, const ToolSet& tools, ParsedCall& call) {
  json = Trimmed(json);
  if (json.empty() || json == "null") {
    call.arguments = "{}";
    return tools.AllowsNoArguments(call.name);
  }
  if (json[0] == '{') {
    call.arguments = json;
    return true;
  }
  if (json[0] != '"') {
    return false;
  }
  std::string inner = Unescaped(json);
  std::string_view object = Trimmed(inner);
  if (object.empty()) {
    call.arguments = "{}";
    return tools.AllowsNoArguments(call.name);
  }
  call.arguments = object;
  return object[0] == '{' && IsJson(object);
}

bool CallsOfJson(std::string_view json, const JsonCallFormat& format, const ToolSet& tools,
                 std::vector<ParsedCall>& calls) {
  bool all = true;
  const auto take = [&](std::string_view item) {
    ParsedCall call;
    if (JsonKind(item) == '{' && CallOfObject(item, format, tools, call)) {
      calls.push_back(std::move(call));
    } else {
      all = false;
    }
    return true;
  };
  if (JsonKind(json) == '[') {
    ForEachItem(json, take);
  } else {
    take(json);
  }
  return all;
}

JsonCalls::JsonCalls(const JsonCallFormat& format, const ToolSet& tools)
    : format_(format),
      tools_(tools),
      markers_(Joined({format.openers, format.closers})),
      scanner_(Joined({markers_, {format.arguments_marker, format.id_marker}})),
      watch_(format) {}

void JsonCalls::Open(std::size_t opener) {
  bare_ = opener == std::string::npos;
  recognised_ = false;
  lost_ = false;
  state_ = State::kStart;
  has_name_ = false;
  in_id_ = false;
  BeginValue();
  pending_.clear();
  text_.clear();
}

CallReader::Status JsonCalls::Push(char byte, CallOutput& out) {
  if (state_ == State::kValue) {
    return PushValue(byte, out);
  }
  bool begins =
      byte == '{' ||
      (byte == '[' && (state_ == State::kStart ? !scanner_.holds() : !named() && !has_name_));
  if (has_name_ && state_ == State::kStart && !IsSpace(byte)) {
    begins = byte == '{' || byte == '"';
  }
  bool waits = state_ == State::kStart || (state_ == State::kBetween && !scanner_.holds());
  if (waits && begins) {
    BeginValue();
    state_ = State::kValue;
    return PushValue(byte, out);
  }
  return PushMarker(byte, out);
}

void JsonCalls::BeginValue() {
  value_.Clear();
  watch_.Begin();
  ++serial_;
}

std::optional<CallInProgress> JsonCalls::Writing() const {
  if (has_name_ && state_ == State::kValue && value_.text().starts_with('{')) {
    return CallInProgress{.serial = kNamedSerials | serial_,
                          .name = Trimmed(name_),
                          .id = format_.keeps_id ? Trimmed(id_) : std::string_view(),
                          .arguments = value_.text()};
  }
  std::optional<CallInProgress> call =
      has_name_ || lost_ ? std::nullopt : watch_.Call(value_.text());
  bool known = !bare_ || tools_.empty() || (call && tools_.Has(call->name));
  return known ? call : std::nullopt;
}

CallReader::Status JsonCalls::PushValue(char byte, CallOutput& out) {
  const std::size_t read = value_.text().size();
  const JsonText::Status taken = value_.Push(byte);
  for (std::size_t at = read; watches_ && !has_name_ && at < value_.text().size(); ++at) {
    watch_.Push(value_.text(), at);
  }
  switch (taken) {
    case JsonText::Status::kMore:
      if (bare_ && !recognised_ && pending_.empty()) {
        Look look = LooksLikeCall(value_.text());
        recognised_ = look == Look::kYes;
        if (look == Look::kNo) {
          return Status::kRefused;
        }
      }
      return Status::kMore;
    case JsonText::Status::kDone: {
      std::size_t before = out.calls.size() + pending_.size();
      TakeValue(out);
      state_ = State::kBetween;
      if (bare_ && out.calls.size() + pending_.size() == before) {
        return Status::kRefused;
      }
      return Status::kMore;
    }
    default:
      if (bare_) {
        return Status::kRefused;
      }
      Broken();
      return PushMarker(byte, out);
  }
}

// Markers that began inside the broken value are still seen.
void JsonCalls::Broken() {
  lost_ = true;
  has_name_ = false;
  state_ = State::kSkip;
  std::string ignored;
  constexpr std::size_t kLongestMarker = 64;
  std::string_view tail = value_.text();
  tail.remove_prefix(tail.size() > kLongestMarker ? tail.size() - kLongestMarker : 0);
  for (char byte : tail) {
    scanner_.Push(byte, ignored);
  }
}

void JsonCalls::TakeValue(CallOutput& out) {
  std::vector<ParsedCall> calls;
  if (has_name_) {
    ParsedCall call{.name = std::string(Trimmed(name_)), .arguments = {}, .id = {}};
    if (format_.keeps_id) {
      call.id = Trimmed(id_);
    }
    if (TakeArguments(value_.text(), tools_, call)) {
      calls.push_back(std::move(call));
    } else {
      lost_ = true;
    }
  } else {
    lost_ = !CallsOfJson(value_.text(), format_, tools_, calls) || lost_;
  }
  has_name_ = false;
  if (bare_ && !tools_.empty()) {
    std::erase_if(calls, [&](const ParsedCall& call) { return !tools_.Has(call.name); });
  }
  std::vector<ParsedCall>& to = format_.strict ? pending_ : out.calls;
  std::ranges::move(calls, std::back_inserter(to));
}

CallReader::Status JsonCalls::PushMarker(char byte, CallOutput& out) {
  text_.clear();
  std::optional<std::size_t> marker = scanner_.Push(byte, text_);
  Status status = text_.empty() ? Status::kMore : OnText(out);
  if (status == Status::kRefused) {
    return status;
  }
  return marker ? OnMarker(*marker, out) : status;
}

// Bytes that are no marker, outside of a value.
CallReader::Status JsonCalls::OnText(CallOutput& out) {
  switch (state_) {
    case State::kName:
      (in_id_ ? id_ : name_) += text_;
      if (name_.size() > kNameBytesMax || text_.find('\n') != std::string::npos) {
        out.text += format_.strict ? std::string() : name_;
        state_ = format_.strict ? State::kSkip : State::kText;
      }
      return Status::kMore;
    case State::kText:
      out.text += text_;
      return Status::kMore;
    case State::kSkip:
    case State::kValue:
      return Status::kMore;
    case State::kStart:
    case State::kBetween:
      break;
  }
  std::string_view rest = Trimmed(text_);
  bool between = state_ == State::kBetween;
  if (rest.empty() || (between && rest.find_first_not_of(",;") == std::string_view::npos)) {
    return Status::kMore;
  }
  if (named() && !has_name_) {
    state_ = State::kName;
    in_id_ = false;
    name_ = rest;
    id_.clear();
    return Status::kMore;
  }
  if (bare_ || (between && format_.closers.empty())) {
    scanner_.Flush(text_);
    out.again = text_;
    return Status::kRefused;
  }
  lost_ = true;
  if (format_.strict) {
    pending_.clear();
    state_ = State::kSkip;
  } else {
    out.text += text_;
    state_ = State::kText;
  }
  return Status::kMore;
}

CallReader::Status JsonCalls::OnMarker(std::size_t marker, CallOutput& out) {
  if (marker < format_.openers.size()) {
    pending_.clear();
    Open(marker);
    return Status::kMore;
  }
  if (marker < markers_.size()) {
    Commit(out);
    return Status::kClosed;
  }
  if (state_ != State::kName) {
    lost_ = true;
    state_ = State::kSkip;
    return Status::kMore;
  }
  if (marker == markers_.size()) {  // the arguments follow
    state_ = State::kStart;
    has_name_ = true;
  } else {
    in_id_ = true;
  }
  return Status::kMore;
}

void JsonCalls::Commit(CallOutput& out) {
  std::ranges::move(pending_, std::back_inserter(out.calls));
  pending_.clear();
}

bool JsonCalls::End(CallOutput& out) {
  if (state_ == State::kText || (state_ == State::kName && !in_id_ && !format_.strict)) {
    out.text += state_ == State::kName ? name_ : std::string();
    std::string held;
    scanner_.Flush(held);
    out.text += state_ == State::kText ? held : std::string();
  }
  bool lost = lost_ || state_ == State::kValue || has_name_ || !pending_.empty();
  pending_.clear();
  return !lost;
}

}  // namespace pixii::text::parsers
