#include "wire/http.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/assert.h"

namespace pixii::wire {

namespace {

char Fold(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

// RFC 9110 section 5.6.2.
bool IsTokenChar(char c) {
  if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) {
    return true;
  }
  return c != '\0' && std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

bool IsToken(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), IsTokenChar);
}

// No control characters but the tab (RFC 9110 section 5.5).
bool IsFieldText(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7F;
  });
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') {
    return c - '0';
  }
  char folded = Fold(c);
  return folded >= 'a' && folded <= 'f' ? folded - 'a' + 10 : -1;
}

std::string_view Trim(std::string_view text) {
  std::size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) {
    return {};
  }
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

tl::unexpected<HttpFault> Refuse(int status, std::string detail) {
  return tl::unexpected<HttpFault>(HttpFault{status, std::move(detail)});
}

using Checked = tl::expected<void, HttpFault>;

// What comes next of a chunked body.
enum class ChunkPart : std::uint8_t { kSize, kData, kDataEnd, kTrailer };

struct Framing {
  std::optional<std::uint64_t> content_length;
  bool chunked = false;
};

}  // namespace

struct HttpRequestParser::State {
  explicit State(const HttpLimits& all_limits) : limits(all_limits) {}

  // Looks at the lines of the head as they come, so that garbage is refused at its line and not at
  // a time limit.
  Checked CheckLines(std::string_view bytes);
  Checked CheckRequestLine(std::string_view line);
  Checked CheckFieldLine(std::string_view line);
  // Whole-head rules: Host, framing, Expect, connection.
  Checked FinishHead();
  Checked CheckFraming();
  tl::expected<std::size_t, HttpFault> FeedHead(std::string_view bytes);
  tl::expected<std::size_t, HttpFault> FeedBody(std::string_view bytes);
  tl::expected<std::size_t, HttpFault> FeedChunks(std::string_view bytes);
  Checked ChunkLine(std::string_view line);
  Checked ChunkSize(std::string_view line);

  HttpLimits limits;
  HttpRequest request;
  Framing framing;
  ChunkPart chunk_part = ChunkPart::kSize;
  std::uint64_t chunk_left = 0;  // bytes of the current chunk still to come
  std::uint32_t trailer_count = 0;
  std::size_t line_begin = 0;  // within the unread bytes of the head
  std::size_t scanned = 0;
  std::uint32_t lines = 0;
  std::uint32_t blank_lines = 0;
  bool started = false;
  bool head_complete = false;
  bool complete = false;
};

Checked HttpRequestParser::State::CheckRequestLine(std::string_view line) {
  std::size_t first = line.find(' ');
  std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) {
    return Refuse(400, "the request line is not \"method target version\"");
  }
  std::string_view method = line.substr(0, first);
  std::string_view target = line.substr(first + 1, last - first - 1);
  std::string_view version = line.substr(last + 1);
  if (!IsToken(method)) {
    return Refuse(400, "the method has characters that are not allowed");
  }
  if (target.size() > limits.target_bytes_max) {
    return Refuse(414, fmt::format("the request target has {} bytes, the limit is {}",
                                   target.size(), limits.target_bytes_max));
  }
  if (std::any_of(target.begin(), target.end(), [](char c) { return c <= ' ' || c == 0x7F; })) {
    return Refuse(
        400,
        "the request target has characters that are not allowed");  // char is signed: 0x80.. too
  }
  if (version != "HTTP/1.1" && version != "HTTP/1.0") {
    bool other = version.size() == 8 && version.starts_with("HTTP/") && version[5] >= '0' &&
                 version[5] <= '9' && version[6] == '.' && version[7] >= '0' && version[7] <= '9';
    return other ? Refuse(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
                 : Refuse(400, "the protocol version is not HTTP/1.1");
  }
  if (target.front() != '/' && target != "*") {
    std::size_t scheme = target.find("://");
    if (scheme == std::string_view::npos) {
      return Refuse(400, "the request target is neither a path nor an absolute URI");
    }
    std::size_t path = target.find_first_of("/?", scheme + 3);
    target = path == std::string_view::npos || target[path] == '?' ? std::string_view("/")
                                                                   : target.substr(path);
  }
  std::size_t question = target.find('?');
  request.method = method;
  request.path = target.substr(0, question);
  request.query =
      question == std::string_view::npos ? std::string_view() : target.substr(question + 1);
  request.minor_version = version.back() - '0';
  return {};
}

Checked HttpRequestParser::State::CheckFieldLine(std::string_view line) {
  if (line.front() == ' ' || line.front() == '\t') {
    return Refuse(400, "folded or indented header lines are not allowed");
  }
  std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || !IsToken(line.substr(0, colon))) {
    return Refuse(400, "a header line is not \"name: value\"");
  }
  if (request.fields.size() == limits.field_count_max) {
    return Refuse(431, fmt::format("more than {} header fields", limits.field_count_max));
  }
  request.fields.push_back(
      {std::string(line.substr(0, colon)), std::string(Trim(line.substr(colon + 1)))});
  return {};
}

Checked HttpRequestParser::State::CheckLines(std::string_view bytes) {
  for (; scanned < bytes.size(); ++scanned) {
    char c = bytes[scanned];
    std::size_t at = scanned;
    if (lines == 0 && at - line_begin >= limits.target_bytes_max + 64U) {
      return Refuse(
          414, fmt::format("the request target is longer than {} bytes", limits.target_bytes_max));
    }
    if (at >= limits.head_bytes_max) {
      return Refuse(431, fmt::format("the head is longer than {} bytes", limits.head_bytes_max));
    }
    if (c == '\0' || c == 0x7F ||
        (static_cast<unsigned char>(c) < 0x20 && c != '\r' && c != '\n' && c != '\t')) {
      return Refuse(400, "control characters are not allowed in a request's head");
    }
    bool after_cr = at > line_begin && bytes[at - 1] == '\r';
    if ((c == '\n') != after_cr) {
      return Refuse(400, "lines must end with CR LF");
    }
    if (c != '\n') {
      started = started || c != '\r';
      continue;
    }
    std::string_view line = bytes.substr(line_begin, at - 1 - line_begin);
    line_begin = at + 1;
    if (line.empty() && lines == 0) {
      if (++blank_lines > 4) {
        return Refuse(400, "empty lines ahead of the request line");
      }
      continue;
    }
    if (line.empty()) {
      ++scanned;
      head_complete = true;
      return {};
    }
    if (auto checked = lines == 0 ? CheckRequestLine(line) : CheckFieldLine(line); !checked) {
      return checked;
    }
    ++lines;
  }
  return {};
}

Checked HttpRequestParser::State::CheckFraming() {
  std::uint32_t lengths = 0;
  std::optional<std::string> coding;
  for (const HttpField& field : request.fields) {
    if (EqualsIgnoreCase(field.name, "content-length")) {
      ++lengths;
      bool digits =
          !field.value.empty() && std::all_of(field.value.begin(), field.value.end(),
                                              [](char c) { return c >= '0' && c <= '9'; });
      if (!digits || lengths > 1) {
        return Refuse(400, "Content-Length must be given once, as decimal digits");
      }
      if (field.value.size() > 18) {
        return Refuse(413, fmt::format("the body is longer than {} bytes", limits.body_bytes_max));
      }
      framing.content_length = std::strtoull(field.value.c_str(), nullptr, 10);
    } else if (EqualsIgnoreCase(field.name, "transfer-encoding")) {
      coding = coding ? *coding + ", " + field.value : field.value;
    }
  }
  if (!coding) {
    if (framing.content_length.value_or(0) > limits.body_bytes_max) {
      return Refuse(413, fmt::format("the body has {} bytes, the limit is {}",
                                     *framing.content_length, limits.body_bytes_max));
    }
    return {};
  }
  if (lengths > 0) {
    return Refuse(400, "Content-Length and Transfer-Encoding exclude each other");
  }
  if (request.minor_version == 0) {
    return Refuse(400, "Transfer-Encoding does not exist in HTTP/1.0");
  }
  if (!EqualsIgnoreCase(*coding, "chunked")) {
    return Refuse(501, "the only transfer coding known here is \"chunked\"");
  }
  framing.chunked = true;
  return {};
}

Checked HttpRequestParser::State::FinishHead() {
  if (auto framed = CheckFraming(); !framed) {
    return framed;
  }
  std::uint32_t hosts = 0;
  bool close = false;
  bool keep = false;
  for (const HttpField& field : request.fields) {
    if (EqualsIgnoreCase(field.name, "host")) {
      ++hosts;
      if (field.value.find_first_of(" \t,") != std::string::npos) {
        return Refuse(400, "Host is not one name");
      }
    } else if (EqualsIgnoreCase(field.name, "connection")) {
      std::string_view rest = field.value;
      while (!rest.empty()) {
        std::size_t comma = rest.find(',');
        std::string_view option = Trim(rest.substr(0, comma));
        close = close || EqualsIgnoreCase(option, "close");
        keep = keep || EqualsIgnoreCase(option, "keep-alive");
        rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
      }
    } else if (EqualsIgnoreCase(field.name, "expect") && request.minor_version == 1) {
      if (!EqualsIgnoreCase(field.value, "100-continue")) {
        return Refuse(417, "the only expectation known here is \"100-continue\"");
      }
      request.expect_continue = true;
    }
  }
  if (hosts > 1 || (hosts == 0 && request.minor_version == 1)) {
    return Refuse(400, "exactly one Host field is needed");
  }
  request.keep_alive = !close && (request.minor_version == 1 || keep);
  return {};
}

tl::expected<std::size_t, HttpFault> HttpRequestParser::State::FeedHead(std::string_view bytes) {
  if (auto checked = CheckLines(bytes); !checked) {
    return tl::unexpected<HttpFault>(std::move(checked).error());
  }
  if (!head_complete) {
    return 0;
  }
  head_complete = false;  // until all rules have passed
  if (auto finished = FinishHead(); !finished) {
    return tl::unexpected<HttpFault>(std::move(finished).error());
  }
  head_complete = true;
  complete = !framing.chunked && framing.content_length.value_or(0) == 0;
  return scanned;
}

tl::expected<std::size_t, HttpFault> HttpRequestParser::State::FeedBody(std::string_view bytes) {
  if (framing.chunked) {
    return FeedChunks(bytes);
  }
  std::size_t left = static_cast<std::size_t>(*framing.content_length) - request.body.size();
  std::size_t taken = std::min(left, bytes.size());
  request.body.append(bytes.substr(0, taken));
  complete = taken == left;
  return taken;
}

// RFC 9112 section 7.1. What is not taken is a line that has not ended.
tl::expected<std::size_t, HttpFault> HttpRequestParser::State::FeedChunks(std::string_view bytes) {
  std::size_t used = 0;
  while (used < bytes.size() && !complete) {
    std::string_view rest = bytes.substr(used);
    if (chunk_part == ChunkPart::kData) {
      std::size_t taken =
          static_cast<std::size_t>(std::min<std::uint64_t>(chunk_left, rest.size()));
      request.body.append(rest.substr(0, taken));
      chunk_left -= taken;
      used += taken;
      if (chunk_left == 0) {
        chunk_part = ChunkPart::kDataEnd;
      }
      continue;
    }
    std::size_t end = rest.substr(0, limits.chunk_head_bytes_max + 2UL).find('\n');
    if (end == std::string_view::npos) {
      // The same bytes in pieces must meet the same end: CR and LF of the longest line may still
      // come.
      if (rest.size() >= limits.chunk_head_bytes_max + 2UL) {
        return Refuse(400, fmt::format("a chunk's head or trailer is longer than {} bytes",
                                       limits.chunk_head_bytes_max));
      }
      break;
    }
    std::string_view line = rest.substr(0, end);
    if (!line.ends_with('\r') || !IsFieldText(line.substr(0, end - 1))) {
      return Refuse(400, "a chunk's lines must end with CR LF and have no control characters");
    }
    line.remove_suffix(1);
    if (auto checked = ChunkLine(line); !checked) {
      return tl::unexpected<HttpFault>(std::move(checked).error());
    }
    used += end + 1;
  }
  return used;
}

Checked HttpRequestParser::State::ChunkLine(std::string_view line) {
  switch (chunk_part) {
    case ChunkPart::kSize:
      return ChunkSize(line);
    case ChunkPart::kDataEnd:
      chunk_part = ChunkPart::kSize;
      return line.empty() ? Checked() : Refuse(400, "a chunk is longer than its size");
    case ChunkPart::kTrailer: {
      if (line.empty()) {
        complete = true;
        return {};
      }
      std::size_t colon = line.find(':');
      if (colon == std::string_view::npos || !IsToken(line.substr(0, colon))) {
        return Refuse(400, "a trailer line is not \"name: value\"");
      }
      if (++trailer_count > limits.field_count_max) {
        return Refuse(431, fmt::format("more than {} trailer fields", limits.field_count_max));
      }
      return {};
    }
    case ChunkPart::kData:
      break;
  }
  return {};
}

// "1aF" or "1aF ; extension": the extension is ignored.
Checked HttpRequestParser::State::ChunkSize(std::string_view line) {
  std::string_view digits = Trim(line.substr(0, line.find(';')));
  if (digits.empty() || digits.front() != line.front()) {
    return Refuse(400, "a chunk has no size");
  }
  std::uint64_t size = 0;
  for (char c : digits) {
    int digit = HexDigit(c);
    if (digit < 0) {
      return Refuse(400, "a chunk's size is not hexadecimal digits");
    }
    size = size * 16 + static_cast<std::uint64_t>(digit);
    if (size > limits.body_bytes_max - request.body.size()) {
      return Refuse(413, fmt::format("the body is longer than {} bytes", limits.body_bytes_max));
    }
  }
  chunk_left = size;
  chunk_part = size == 0 ? ChunkPart::kTrailer : ChunkPart::kData;
  return {};
}

HttpRequestParser::HttpRequestParser(const HttpLimits& limits)
    : state_(std::make_unique<State>(limits)) {}

HttpRequestParser::HttpRequestParser(HttpRequestParser&&) noexcept = default;
HttpRequestParser& HttpRequestParser::operator=(HttpRequestParser&&) noexcept = default;
HttpRequestParser::~HttpRequestParser() = default;

tl::expected<std::size_t, HttpFault> HttpRequestParser::Feed(std::string_view bytes) {
  State& state = *state_;
  if (state.complete) {
    return 0;
  }
  std::size_t used = 0;
  if (!state.head_complete) {
    auto head = state.FeedHead(bytes);
    if (!head || !state.head_complete) {
      return head;
    }
    used = *head;
  }
  if (state.complete) {
    return used;
  }
  auto body = state.FeedBody(bytes.substr(used));
  if (!body) {
    return body;
  }
  return used + *body;
}

bool HttpRequestParser::started() const { return state_->started; }

bool HttpRequestParser::head_complete() const { return state_->head_complete; }

bool HttpRequestParser::complete() const { return state_->complete; }

const HttpRequest& HttpRequestParser::request() const {
  PX_ASSERT(state_->head_complete);
  return state_->request;
}

std::uint64_t HttpRequestParser::body_bytes() const { return state_->request.body.size(); }

std::optional<std::uint64_t> HttpRequestParser::content_length() const {
  PX_ASSERT(state_->head_complete);
  return state_->framing.chunked ? std::nullopt
                                 : std::optional(state_->framing.content_length.value_or(0));
}

HttpRequest HttpRequestParser::Take() {
  PX_ASSERT(state_->complete);
  HttpRequest out = std::move(state_->request);
  *state_ = State(state_->limits);
  return out;
}

std::optional<std::string_view> HttpRequest::Field(std::string_view name) const {
  for (const HttpField& field : fields) {
    if (EqualsIgnoreCase(field.name, name)) {
      return field.value;
    }
  }
  return std::nullopt;
}

bool EqualsIgnoreCase(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(),
                                            [](char x, char y) { return Fold(x) == Fold(y); });
}

std::string_view HttpReason(int status) {
  static constexpr std::array<std::pair<int, std::string_view>, 26> kReasons = {{
      {100, "Continue"},
      {102, "Processing"},
      {200, "OK"},
      {206, "Partial Content"},
      {400, "Bad Request"},
      {401, "Unauthorized"},
      {403, "Forbidden"},
      {404, "Not Found"},
      {405, "Method Not Allowed"},
      {408, "Request Timeout"},
      {409, "Conflict"},
      {413, "Content Too Large"},
      {414, "URI Too Long"},
      {415, "Unsupported Media Type"},
      {416, "Range Not Satisfiable"},
      {417, "Expectation Failed"},
      {422, "Unprocessable Content"},
      {429, "Too Many Requests"},
      {431, "Request Header Fields Too Large"},
      {499, "Client Closed Request"},
      {500, "Internal Server Error"},
      {501, "Not Implemented"},
      {503, "Service Unavailable"},
      {504, "Gateway Timeout"},
      {505, "HTTP Version Not Supported"},
      {529, "Overloaded"},
  }};
  for (const auto& [code, reason] : kReasons) {
    if (code == status) {
      return reason;
    }
  }
  return "Unknown";
}

std::optional<std::string> PercentDecode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    int high = i + 2 < text.size() ? HexDigit(text[i + 1]) : -1;
    int low = i + 2 < text.size() ? HexDigit(text[i + 2]) : -1;
    if (high < 0 || low < 0 || (high == 0 && low == 0)) {
      return std::nullopt;
    }
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

void AppendHttpHead(std::string& out, const HttpResponseHead& head) {
  const auto field = [&](std::string_view name, std::string_view value) {
    out.append(name).append(": ").append(value).append("\r\n");
  };
  const auto digits = [](auto number) { return fmt::format_int(number); };
  const auto status = digits(head.status);
  out.append("HTTP/1.1 ").append(status.data(), status.size());
  out.append(" ").append(HttpReason(head.status)).append("\r\n");
  if (!head.content_type.empty()) {
    field("Content-Type", head.content_type);
  }
  if (head.content_length) {
    const auto length = digits(*head.content_length);
    field("Content-Length", {length.data(), length.size()});
  } else if (head.chunked) {
    out += "Transfer-Encoding: chunked\r\n";
  }
  // Answers are for one client unless they say otherwise, and are what their type says.
  const bool cached = std::ranges::any_of(
      head.fields, [](const HttpField& one) { return one.name == "Cache-Control"; });
  out += cached ? "" : "Cache-Control: no-store\r\n";
  out += "X-Content-Type-Options: nosniff\r\n";
  for (const HttpField& further : head.fields) {
    field(further.name, further.value);
  }
  if (!head.keep_alive) {
    out += "Connection: close\r\n";
  } else if (head.minor_version == 0) {
    out += "Connection: keep-alive\r\n";
  }
  out += "\r\n";
}

namespace {

constexpr std::string_view kChunkRoom = "00000000\r\n";

}  // namespace

std::size_t BeginHttpChunk(std::string& out) {
  std::size_t begin = out.size();
  out += kChunkRoom;
  return begin;
}

void EndHttpChunk(std::string& out, std::size_t begin) {
  std::size_t size = out.size() - begin - kChunkRoom.size();
  if (size == 0) {
    out.resize(begin);
    return;
  }
  static constexpr char kHex[] = "0123456789abcdef";
  for (std::size_t i = 0; i < 8; ++i) {
    out[begin + 7 - i] = kHex[(size >> (4 * i)) & 15U];
  }
  out += "\r\n";
}

}  // namespace pixii::wire
