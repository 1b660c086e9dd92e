#include "wire/json.h"

#include <fmt/format.h>

#include <boost/json/basic_parser_impl.hpp>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <unordered_set>

#include "base/assert.h"
#include "base/utf8.h"

namespace pixii::wire {

Json::Json(std::int64_t value) : value_(Digits{fmt::format_int(value).str()}) {}

Json::Json(int value) : Json(static_cast<std::int64_t>(value)) {}

Json::Json(std::uint64_t value) : value_(Digits{fmt::format_int(value).str()}) {}

Json::Json(double value) {
  if (!std::isfinite(value)) {
    return;  // JSON has no infinity: null, as ECMAScript does
  }
  char text[32];
  auto end = std::to_chars(text, text + sizeof(text), value).ptr;
  std::string digits(text, end);
  if (digits.find_first_of(".e") == std::string::npos) {
    digits += ".0";
  }
  value_ = Digits{std::move(digits)};
}

Json Json::Number(std::string digits) {
  Json out;
  out.value_ = Digits{std::move(digits)};
  return out;
}

bool Json::boolean() const {
  PX_ASSERT(is_bool());
  return std::get<bool>(value_);
}

const std::string& Json::string() const {
  PX_ASSERT(is_string());
  return std::get<std::string>(value_);
}

const Json::Array& Json::array() const {
  PX_ASSERT(is_array());
  return std::get<Array>(value_);
}

const Json::Object& Json::object() const {
  PX_ASSERT(is_object());
  return std::get<Object>(value_);
}

Json::Array& Json::array() {
  PX_ASSERT(is_array());
  return std::get<Array>(value_);
}

Json::Object& Json::object() {
  PX_ASSERT(is_object());
  return std::get<Object>(value_);
}

const std::string& Json::digits() const {
  PX_ASSERT(is_number());
  return std::get<Digits>(value_).text;
}

bool Json::IsIntegerLiteral() const {
  return is_number() && digits().find_first_of(".eE") == std::string::npos;
}

std::optional<std::int64_t> Json::AsInt() const {
  if (!is_number()) {
    return std::nullopt;
  }
  const std::string& text = digits();
  std::int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc{} && end == text.data() + text.size()) {
    return value;
  }
  // 1.0 and 1e3 are integers too, as long as double holds them exactly.
  std::optional<double> real = AsDouble();
  if (!real || std::abs(*real) > 9007199254740992.0 || std::nearbyint(*real) != *real) {
    return std::nullopt;
  }
  return static_cast<std::int64_t>(*real);
}

std::optional<double> Json::AsDouble() const {
  if (!is_number()) {
    return std::nullopt;
  }
  const std::string& text = digits();
  double value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) {
    value = std::strtod(text.c_str(),
                        nullptr);  // from_chars does not say whether it was too large or too small
    return std::isfinite(value) ? std::optional(value) : std::nullopt;
  }
  if (error != std::errc{} || end != text.data() + text.size()) {
    return std::nullopt;
  }
  return value;
}

const Json* Json::Find(std::string_view key) const {
  if (!is_object()) {
    return nullptr;
  }
  for (const JsonMember& member : object()) {
    if (member.first == key) {
      return &member.second;
    }
  }
  return nullptr;
}

Json& Json::Set(std::string_view key, Json value) {
  if (is_null()) {
    value_ = Object{};
  }
  for (JsonMember& member : object()) {
    if (member.first == key) {
      member.second = std::move(value);
      return member.second;
    }
  }
  return object().emplace_back(std::string(key), std::move(value)).second;
}

void AppendJsonString(std::string& out, std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  out += '"';
  std::size_t plain = 0;  // start of the bytes not yet copied
  auto flush = [&](std::size_t end) { out.append(text, plain, end - plain); };
  for (std::size_t i = 0; i < text.size();) {
    auto byte = static_cast<unsigned char>(text[i]);
    if (byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\') {
      ++i;
      continue;
    }
    if (byte >= 0x80) {
      std::size_t length = Utf8SequenceLength(text.substr(i));
      if (length > 0) {
        i += length;
        continue;
      }
      flush(i);
      out += "\xEF\xBF\xBD";
      plain = ++i;
      continue;
    }
    flush(i);
    switch (byte) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        out += "\\u00";
        out += kHex[byte >> 4];
        out += kHex[byte & 15];
    }
    plain = ++i;
  }
  flush(text.size());
  out += '"';
}

namespace {

void DumpTo(std::string& out, const Json& value) {
  switch (value.kind()) {
    case Json::Kind::kNull:
      out += "null";
      break;
    case Json::Kind::kBool:
      out += value.boolean() ? "true" : "false";
      break;
    case Json::Kind::kNumber:
      out += value.digits();
      break;
    case Json::Kind::kString:
      AppendJsonString(out, value.string());
      break;
    case Json::Kind::kArray: {
      out += '[';
      bool first = true;
      for (const Json& item : value.array()) {
        if (!first) {
          out += ',';
        }
        first = false;
        DumpTo(out, item);
      }
      out += ']';
      break;
    }
    case Json::Kind::kObject: {
      out += '{';
      bool first = true;
      for (const JsonMember& member : value.object()) {
        if (!first) {
          out += ',';
        }
        first = false;
        AppendJsonString(out, member.first);
        out += ':';
        DumpTo(out, member.second);
      }
      out += '}';
      break;
    }
  }
}

// Builds the value from Boost.JSON's events. Open containers and their pending keys are on a stack.
class Builder final {
 public:
  static constexpr std::size_t max_object_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_array_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_key_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_string_size = static_cast<std::size_t>(-1);
  using error_code = boost::system::error_code;
  using view = boost::json::string_view;

  explicit Builder(const JsonLimits& limits) : limits_(limits) {}

  Json TakeRoot() { return std::move(root_); }

  const std::string& reason() const { return reason_; }

  bool on_document_begin(error_code&) { return true; }

  bool on_document_end(error_code&) { return true; }

  bool on_object_begin(error_code& ec) { return Open(Json(Json::Object{}), ec); }

  bool on_object_end(std::size_t, error_code& ec) { return Close(ec); }

  bool on_array_begin(error_code& ec) { return Open(Json(Json::Array{}), ec); }

  bool on_array_end(std::size_t, error_code& ec) { return Close(ec); }

  bool on_key_part(view part, std::size_t, error_code&) {
    text_.append(part.data(), part.size());
    return true;
  }

  bool on_key(view part, std::size_t, error_code& ec) {
    text_.append(part.data(), part.size());
    Frame& frame = stack_.back();
    if (!AddKey(frame)) {
      return Refuse(fmt::format("duplicate key \"{}\"", text_.substr(0, 100)), ec);
    }
    frame.key = std::move(text_);
    text_.clear();
    return true;
  }

  bool on_string_part(view part, std::size_t, error_code&) {
    text_.append(part.data(), part.size());
    return true;
  }

  bool on_string(view part, std::size_t, error_code& ec) {
    text_.append(part.data(), part.size());
    Json value(std::move(text_));
    text_.clear();
    return Add(std::move(value), ec);
  }

  bool on_number_part(view part, error_code&) {
    text_.append(part.data(), part.size());
    return true;
  }

  bool on_int64(std::int64_t, view part, error_code& ec) { return AddNumber(part, ec); }

  bool on_uint64(std::uint64_t, view part, error_code& ec) { return AddNumber(part, ec); }

  bool on_double(double, view part, error_code& ec) { return AddNumber(part, ec); }

  bool on_bool(bool value, error_code& ec) { return Add(Json(value), ec); }

  bool on_null(error_code& ec) { return Add(Json(), ec); }

  bool on_comment_part(view, error_code&) { return true; }

  bool on_comment(view, error_code&) { return true; }

 private:
  // Small objects are searched, large ones indexed: duplicate detection stays linear.
  static constexpr std::size_t kSearchedKeysMax = 16;

  struct Frame {
    Json value;
    std::string key;
    std::unordered_set<std::string> keys;
  };

  bool AddKey(Frame& frame) {
    const Json::Object& members = frame.value.object();
    if (members.size() < kSearchedKeysMax) {
      return frame.value.Find(text_) == nullptr;
    }
    if (frame.keys.empty()) {
      for (const JsonMember& member : members) {
        frame.keys.insert(member.first);
      }
    }
    return frame.keys.insert(text_).second;
  }

  bool Refuse(std::string reason, error_code& ec) {
    reason_ = std::move(reason);
    ec = boost::json::make_error_code(boost::json::error::extra_data);
    return false;
  }

  bool Open(Json empty, error_code& ec) {
    if (stack_.size() >= limits_.depth_max) {
      return Refuse(fmt::format("nesting deeper than {}", limits_.depth_max), ec);
    }
    stack_.push_back(Frame{std::move(empty), {}, {}});
    return true;
  }

  bool Close(error_code& ec) {
    Json value = std::move(stack_.back().value);
    stack_.pop_back();
    return Add(std::move(value), ec);
  }

  bool AddNumber(view part, error_code& ec) {
    text_.append(part.data(), part.size());
    Json value = Json::Number(std::move(text_));
    text_.clear();
    return Add(std::move(value), ec);
  }

  bool Add(Json value, error_code& ec) {
    if (++values_ > limits_.values_max) {
      return Refuse(fmt::format("more than {} values", limits_.values_max), ec);
    }
    if (stack_.empty()) {
      root_ = std::move(value);
      return true;
    }
    Frame& frame = stack_.back();
    if (frame.value.is_array()) {
      frame.value.array().push_back(std::move(value));
    } else {
      frame.value.object().emplace_back(std::move(frame.key), std::move(value));
    }
    return true;
  }

  JsonLimits limits_;
  Json root_;
  std::vector<Frame> stack_;
  std::string text_;
  std::string reason_;
  std::uint64_t values_ = 0;
};

}  // namespace

std::string Json::Dump() const {
  std::string out;
  DumpTo(out, *this);
  return out;
}

Result<Json> ParseJson(std::string_view text, const JsonLimits& limits) {
  boost::json::parse_options options;
  options.max_depth = limits.depth_max + 1;  // ours speaks first and says the limit
  boost::json::basic_parser<Builder> parser(options, limits);
  boost::system::error_code ec;
  std::size_t used = parser.write_some(false, text.data(), text.size(), ec);
  if (!ec) {
    std::string_view rest = text.substr(used);
    std::size_t extra = rest.find_first_not_of(" \t\r\n");
    if (extra != std::string_view::npos) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("JSON: unexpected bytes after the value at byte {}", used + extra));
    }
    return parser.handler().TakeRoot();
  }
  const std::string& reason = parser.handler().reason();
  return Fail(Code::kInvalidArgument,
              fmt::format("JSON: {} at byte {}", reason.empty() ? ec.message() : reason, used));
}

}  // namespace pixii::wire
