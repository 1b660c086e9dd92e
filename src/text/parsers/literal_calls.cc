#include "text/parsers/literal_calls.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "text/parsers/literal_parser.h"

namespace pixii::text::parsers {

namespace {

constexpr std::size_t kBeginningBytesMax = 256;  // of a list without a marker, up to a bracket

enum class Look : std::uint8_t { kOpen, kYes, kNo };

// Whether text that begins so may be a list of calls: "[", a name, "(".
Look LooksLikeCalls(std::string_view begun) {
  if (begun.size() > kBeginningBytesMax) {
    return Look::kNo;
  }
  std::string_view rest = Trimmed(begun.substr(1));
  for (std::size_t i = 0; i < rest.size(); ++i) {
    auto byte = static_cast<unsigned char>(rest[i]);
    bool letter =
        (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '_' || byte >= 0x80;
    bool inner = (byte >= '0' && byte <= '9') || byte == '.' || byte == '-';
    if (byte == '(' && i > 0) {
      return Look::kYes;
    }
    if (!letter && (i == 0 || !inner)) {
      return Look::kNo;
    }
  }
  return Look::kOpen;
}

}  // namespace

LiteralCalls::LiteralCalls(const LiteralCallFormat& format, const ToolSet& tools)
    : format_(format),
      tools_(tools),
      scanner_(Joined({format.closers, format.openers, {format.quote}})) {}

void LiteralCalls::Open(std::size_t opener) {
  bare_ = opener == std::string::npos;
  recognised_ = false;
  escaped_ = false;
  in_string_ = false;
  quote_ = '\0';
  depth_ = 0;
  body_.clear();
}

CallReader::Status LiteralCalls::Push(char byte, CallOutput& out) {
  if (bare_) {
    return PushBare(byte, out);
  }
  if (format_.notation == LiteralCallFormat::Notation::kPython) {
    TrackQuotes(byte);
  }
  if (quote_ != '\0') {
    scanner_.Flush(body_);
    body_ += byte;
    return Status::kMore;
  }
  std::optional<std::size_t> marker = scanner_.Push(byte, body_);
  if (!marker) {
    return Status::kMore;
  }
  std::size_t closers = format_.closers.size();
  if (*marker >= closers + format_.openers.size()) {
    in_string_ = !in_string_;
    body_ += format_.quote;
    return Status::kMore;
  }
  if (in_string_) {
    body_ += *marker < closers ? format_.closers[*marker] : format_.openers[*marker - closers];
    return Status::kMore;
  }
  TakeBody(out);
  if (*marker >= closers) {
    Open(*marker - closers);
    return Status::kMore;
  }
  return Status::kClosed;
}

// Where Python's strings begin and end, of which a marker may be a part.
void LiteralCalls::TrackQuotes(char byte) {
  if (quote_ == '\0') {
    quote_ = byte == '"' || byte == '\'' ? byte : '\0';
    escaped_ = false;
  } else if (escaped_) {
    escaped_ = false;
  } else if (byte == '\\') {
    escaped_ = true;
  } else if (byte == quote_) {
    quote_ = '\0';
  }
}

CallReader::Status LiteralCalls::PushBare(char byte, CallOutput& out) {
  bool quoted = quote_ != '\0';
  TrackQuotes(byte);
  body_ += byte;
  if (!recognised_) {
    Look look = LooksLikeCalls(body_);
    recognised_ = look == Look::kYes;
    if (look == Look::kNo) {
      return Status::kRefused;
    }
  }
  if (quoted || quote_ != '\0') {
    return Status::kMore;
  }
  if (byte == '[' || byte == '(' || byte == '{') {
    ++depth_;
  } else if ((byte == ']' || byte == ')' || byte == '}') && --depth_ == 0) {
    return TakeBody(out) || !out.calls.empty() ? Status::kClosed : Status::kRefused;
  }
  return Status::kMore;
}

// Gives out the calls of the body; false if it holds anything else.
bool LiteralCalls::TakeBody(CallOutput& out) {
  bool complete = false;
  if (format_.notation == LiteralCallFormat::Notation::kGemma) {
    std::optional<ParsedCall> call = GemmaCall(body_, format_.quote);
    complete = call.has_value();
    if (call) {
      out.calls.push_back(std::move(*call));
    }
  } else {
    std::vector<ParsedCall> calls = PythonCalls(body_, tools_, complete);
    if (bare_ && !tools_.empty()) {
      std::erase_if(calls, [&](const ParsedCall& call) { return !tools_.Has(call.name); });
      complete = complete && !calls.empty();
    }
    std::ranges::move(calls, std::back_inserter(out.calls));
  }
  body_.clear();
  return complete;
}

bool LiteralCalls::End(CallOutput& out) {
  scanner_.Flush(body_);
  return TakeBody(out);
}

}  // namespace pixii::text::parsers
