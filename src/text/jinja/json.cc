#include "text/jinja/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/utf8.h"
#include "text/jinja/operators.h"

namespace pixii::text::jinja {

namespace {

Result<Value> Convert(Runtime& rt, const wire::Json& json, bool untrusted,
                      std::uint32_t depth_left) {
  using Kind = wire::Json::Kind;
  if (depth_left == 0) {
    return rt.OverBudget("value_depth_max", rt.limits().value_depth_max, "levels");
  }
  switch (json.kind()) {
    case Kind::kNull:
      return Value::None();
    case Kind::kBool:
      return Value(json.boolean());
    case Kind::kNumber: {
      if (!json.IsIntegerLiteral()) {
        const bool negative = json.digits().starts_with('-');
        const double infinity = std::numeric_limits<double>::infinity();
        return Value(json.AsDouble().value_or(negative ? -infinity : infinity));
      }
      if (const auto whole = json.AsInt()) {
        return Value(*whole);
      }
      return rt.New<BigInt>(json.digits());
    }
    case Kind::kString:
      return MakeString(rt, json.string(), untrusted);
    case Kind::kArray: {
      std::vector<Value> items;
      items.reserve(json.array().size());
      for (const wire::Json& item : json.array()) {
        PX_TRY(Value value, Convert(rt, item, untrusted, depth_left - 1));
        items.push_back(std::move(value));
      }
      return rt.NewList(std::move(items));
    }
    case Kind::kObject: {
      std::vector<Entry> entries;
      entries.reserve(json.object().size());
      for (const auto& [name, member] : json.object()) {
        PX_TRY(Value key, MakeString(rt, name, untrusted));
        PX_TRY(Value value, Convert(rt, member, untrusted, depth_left - 1));
        entries.emplace_back(std::move(key), std::move(value));
      }
      return rt.NewDict(std::move(entries));
    }
  }
  return Value::None();
}

bool NeedsEscape(char c, bool ensure_ascii) {
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x20 || c == '"' || c == '\\' || (ensure_ascii && byte >= 0x7F);
}

std::string EscapedCharacter(char32_t c) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    default:
      break;
  }
  const auto value = static_cast<std::uint32_t>(c);
  if (value < 0x10000) {
    return fmt::format("\\u{:04x}", value);
  }
  return fmt::format("\\u{:04x}\\u{:04x}", 0xD7C0 + (value >> 10), 0xDC00 + (value & 0x3FF));
}

class Dumper {
 public:
  Dumper(Runtime& rt, const DumpOptions& options) : rt_(rt), options_(options), out_(rt.meter()) {}

  Result<Value> Run(const Value& value) {
    PX_CHECK_OK(Dump(value, 0));
    return rt_.NewString(out_);
  }

 private:
  Result<void> Dump(const Value& value, std::uint32_t level) {
    if (!rt_.Spend()) {
      return rt_.OutOfSteps();
    }
    if (out_.failed()) {
      return rt_.OutOfMemory();
    }
    switch (value.type()) {
      case Type::kNone:
        out_.Append("null");
        return {};
      case Type::kBool:
        out_.Append(value.boolean() ? "true" : "false");
        return {};
      case Type::kInt:
        out_.Append(std::to_string(value.integer()));
        return {};
      case Type::kBigInt:
        out_.Append(value.As<BigInt>().digits);
        return {};
      case Type::kFloat:
        out_.Append(FloatText(value.real()));
        return {};
      case Type::kString:
        return DumpString(value.str());
      case Type::kList:
      case Type::kTuple:
        return DumpList(value.As<List>().items, level);
      case Type::kDict:
        return DumpDict(value.As<Dict>(), level);
      default:
        return rt_.Raise("TypeError", fmt::format("Object of type {} is not JSON serializable",
                                                  TypeName(value)));
    }
  }

  static std::string FloatText(double value) {
    return std::isnan(value)   ? "NaN"
           : std::isinf(value) ? (value < 0 ? "-Infinity" : "Infinity")
                               : FormatFloat(value);
  }

  Result<void> DumpString(const Str& text) {
    if (!rt_.SpendBytes(text.size())) {
      return rt_.OutOfSteps();
    }
    out_.Append("\"");
    text.ForEachPiece([&](std::string_view piece, bool untrusted) {
      while (!piece.empty()) {
        const auto special = std::find_if(piece.begin(), piece.end(), [&](char c) {
          return NeedsEscape(c, options_.ensure_ascii);
        });
        const auto plain = static_cast<std::size_t>(special - piece.begin());
        out_.Append(piece.substr(0, plain), untrusted);
        piece.remove_prefix(plain);
        if (!piece.empty()) {
          const std::size_t length = std::max<std::size_t>(1, Utf8SequenceLength(piece));
          out_.Append(piece[0] == '\x7F' ? "\x7F" : EscapedCharacter(DecodeUtf8(piece)), untrusted);
          piece.remove_prefix(length);
        }
      }
    });
    out_.Append("\"");
    return {};
  }

  void NewLine(std::uint32_t level) {
    if (!options_.indented) {
      return;
    }
    out_.Append("\n");
    for (std::uint32_t i = 0; i < level; ++i) {
      out_.Append(options_.indent);
    }
  }

  Result<void> DumpList(const std::vector<Value>& items, std::uint32_t level) {
    if (items.empty()) {
      out_.Append("[]");
      return {};
    }
    out_.Append("[");
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i != 0) {
        out_.Append(options_.item_separator);
      }
      NewLine(level + 1);
      PX_CHECK_OK(Dump(items[i], level + 1));
    }
    NewLine(level);
    out_.Append("]");
    return {};
  }

  Result<void> DumpDict(const Dict& dict, std::uint32_t level) {
    if (dict.entries().empty()) {
      out_.Append("{}");
      return {};
    }
    std::vector<const Entry*> entries;
    for (const Entry& entry : dict.entries()) {
      entries.push_back(&entry);
    }
    if (options_.sort_keys) {
      PX_CHECK_OK(Sort(entries));
    }
    out_.Append("{");
    bool first = true;
    for (const Entry* entry : entries) {
      if (!first) {
        out_.Append(options_.item_separator);
      }
      first = false;
      NewLine(level + 1);
      PX_CHECK_OK(DumpKey(entry->first));
      out_.Append(options_.key_separator);
      PX_CHECK_OK(Dump(entry->second, level + 1));
    }
    NewLine(level);
    out_.Append("}");
    return {};
  }

  Result<void> Sort(std::vector<const Entry*>& entries) {
    for (const Entry* entry : entries) {
      if (entry->first.is_string() != entries[0]->first.is_string()) {
        return rt_.Raise("TypeError",
                         fmt::format("'<' not supported between instances of '{}' and '{}'",
                                     TypeName(entry->first), TypeName(entries[0]->first)));
      }
    }
    if (!rt_.Spend(entries.size() * 8)) {
      return rt_.OutOfSteps();
    }
    std::sort(entries.begin(), entries.end(),
              [](const Entry* a, const Entry* b) { return KeyLess(a->first, b->first); });
    return {};
  }

  Result<void> DumpScalarKey(const Value& key) {
    out_.Append("\"");
    PX_CHECK_OK(Dump(key, 0));
    out_.Append("\"");
    return {};
  }

  Result<void> DumpKey(const Value& key) {
    switch (key.type()) {
      case Type::kString:
        return DumpString(key.str());
      case Type::kNone:
      case Type::kBool:
      case Type::kInt:
      case Type::kBigInt:
      case Type::kFloat:
        return DumpScalarKey(key);
      default:
        return rt_.Raise(
            "TypeError",
            fmt::format("keys must be str, int, float, bool or None, not {}", TypeName(key)));
    }
  }

  Runtime& rt_;
  const DumpOptions& options_;
  StrBuilder out_;
};

}  // namespace

Result<Value> MakeString(Runtime& rt, std::string_view text, bool untrusted) {
  if (!IsValidUtf8(text)) {
    return Fail(Code::kInvalidArgument,
                "a string among the messages, tools or variables is not valid UTF-8", "messages");
  }
  StrBuilder out(rt.meter());
  out.Append(text, untrusted);
  if (out.failed()) {
    return rt.OutOfMemory();
  }
  return Value(out.Finish());
}

Result<Value> FromJson(Runtime& rt, const wire::Json& json, bool untrusted) {
  return Convert(rt, json, untrusted, rt.limits().value_depth_max);
}

Result<Value> ToJson(Runtime& rt, const Value& value, const DumpOptions& options) {
  return Dumper(rt, options).Run(value);
}

}  // namespace pixii::text::jinja
