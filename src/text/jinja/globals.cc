#include "text/jinja/globals.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "text/jinja/arguments.h"
#include "text/jinja/format.h"
#include "text/jinja/json.h"
#include "text/jinja/operators.h"

namespace pixii::text::jinja {

namespace {

constexpr std::int64_t kRangeMax = 100'000;  // items; Jinja's sandbox has the same bound

Result<Value> MakeRange(Runtime& rt, CallArgs& args) {
  if (!args.named.empty()) {
    return rt.Raise("TypeError", "range() takes no keyword arguments");
  }
  const std::size_t given = args.positional.size();
  if (given == 0 || given > 3) {
    return rt.Raise("TypeError", fmt::format("range expected 1 to 3 arguments, got {}", given));
  }
  std::int64_t numbers[3] = {0, 0, 1};
  for (std::size_t i = 0; i < given; ++i) {
    const Value& value = args.positional[i];
    const auto whole = value.AsInt();
    if (value.is_undefined()) {
      return rt.UseOf(value);
    }
    if (!whole) {
      return rt.Raise("TypeError", fmt::format("'{}' object cannot be interpreted as an integer",
                                               TypeName(value)));
    }
    numbers[given == 1 ? 1 : i] = *whole;
  }
  if (numbers[2] == 0) {
    return rt.Raise("ValueError", "range() arg 3 must not be zero");
  }
  PX_TRY(Value range, rt.New<Range>(numbers[0], numbers[1], numbers[2]));
  if (range.As<Range>().count > kRangeMax) {
    return rt.Raise(
        "OverflowError",
        fmt::format("Range too big. The sandbox blocks ranges larger than MAX_RANGE ({}).",
                    kRangeMax));
  }
  return range;
}

/// Entries of dict(x, a=1) and namespace(x, a=1): a mapping or pairs, then the named ones.
Result<std::vector<Entry>> Entries(Runtime& rt, std::string_view function, CallArgs& args) {
  std::vector<Entry> entries;
  if (args.positional.size() > 1) {
    return rt.Raise("TypeError", fmt::format("{} expected at most 1 argument, got {}", function,
                                             args.positional.size()));
  }
  if (!args.positional.empty()) {
    const Value& source = args.positional[0];
    if (source.is(Type::kDict)) {
      entries = source.As<Dict>().entries();
    } else {
      PX_TRY(const std::vector<Value> pairs, Items(rt, source));
      for (const Value& pair : pairs) {
        PX_TRY(const std::vector<Value> parts, Items(rt, pair));
        if (parts.size() != 2) {
          return rt.Raise(
              "ValueError",
              fmt::format("dictionary update sequence element has length {}; 2 is required",
                          parts.size()));
        }
        entries.emplace_back(parts[0], parts[1]);
      }
    }
  }
  for (auto& [name, value] : args.named) {
    entries.emplace_back(Value(name), std::move(value));
  }
  return entries;
}

Result<Value> MakeDict(Runtime& rt, CallArgs& args) {
  PX_TRY(std::vector<Entry> entries, Entries(rt, "dict", args));
  return rt.NewDict(std::move(entries));
}

Result<Value> MakeNamespace(Runtime& rt, CallArgs& args) {
  PX_TRY(const std::vector<Entry> entries, Entries(rt, "namespace", args));
  std::vector<std::pair<Str, Value>> attributes;
  for (const auto& [key, value] : entries) {
    if (!key.is_string()) {
      return rt.Unsupported("a namespace attribute whose name is no string");
    }
    attributes.emplace_back(key.str(), value);
  }
  return rt.NewNamespace(std::move(attributes));
}

Result<Value> MakeCycler(Runtime& rt, CallArgs& args) {
  if (args.positional.empty()) {
    return rt.Raise("RuntimeError", "at least one item has to be provided");
  }
  PX_TRY(const Value list, rt.NewList(args.positional));
  return rt.New<Cycler>(std::move(args.positional), list.depth());
}

Result<Value> MakeJoiner(Runtime& rt, CallArgs& args) {
  ArgumentReader reader(rt, "joiner", args);
  const Value separator = reader.Take("sep");
  PX_CHECK_OK(reader.Done());
  return rt.New<Joiner>(separator.missing() ? Value::Literal(", ") : separator);
}

/// The template refuses its input in its own words: they are the whole detail.
Result<Value> RaiseException(Runtime& rt, CallArgs& args) {
  ArgumentReader reader(rt, "raise_exception", args);
  PX_TRY(const Value message, reader.TakeRequired("message"));
  PX_CHECK_OK(reader.Done());
  PX_TRY(const Str text, ToStr(rt, message));
  constexpr std::size_t kMessageMax = 2'000;  // bytes
  Str shown = text;
  if (text.size() > kMessageMax) {
    std::size_t end = kMessageMax;
    while ((static_cast<unsigned char>(text.view()[end]) & 0xC0) == 0x80) {
      --end;
    }
    shown = text.Slice(0, end);
  }
  return Fail(Code::kInvalidArgument, std::string(shown.view()), "messages");
}

Result<Value> StrftimeNow(Runtime& rt, CallArgs& args) {
  ArgumentReader reader(rt, "strftime_now", args);
  PX_TRY(const auto format, reader.TakeString("format"));
  PX_CHECK_OK(reader.Done());
  if (!format) {
    return rt.Raise("TypeError", "strftime() argument 1 must be str, not None");
  }
  constexpr std::size_t kFormatMax = 4'096;  // bytes
  if (format->size() > kFormatMax) {
    return rt.Raise("ValueError", fmt::format("a strftime format over {} bytes", kFormatMax));
  }
  PX_TRY(const std::string text, FormatTime(rt, format->view()));
  return MakeString(rt, text, format->any_untrusted());
}

struct Row {
  std::string_view name;
  Function::Call call;
};

constexpr Row kGlobals[] = {
    {"cycler", MakeCycler},        {"dict", MakeDict},   {"joiner", MakeJoiner},
    {"namespace", MakeNamespace},  {"range", MakeRange}, {"raise_exception", RaiseException},
    {"strftime_now", StrftimeNow},
};

Result<Value> CyclerNext(Runtime& rt, const Value& self, CallArgs& args) {
  ArgumentReader reader(rt, "next", args);
  PX_CHECK_OK(reader.Done());
  auto& cycler = self.As<Cycler>();
  const Value out = cycler.items[cycler.at];
  cycler.at = (cycler.at + 1) % cycler.items.size();
  return out;
}

Result<Value> CyclerReset(Runtime& rt, const Value& self, CallArgs& args) {
  ArgumentReader reader(rt, "reset", args);
  PX_CHECK_OK(reader.Done());
  self.As<Cycler>().at = 0;
  return Value::None();
}

}  // namespace

Result<Value> Cycler::Attribute(Runtime& rt, const Value& self, std::string_view name) {
  if (name == "current") {
    return items[at];
  }
  if (name == "next") {
    return rt.New<Method>(self, "next", CyclerNext);
  }
  return name == "reset" ? rt.New<Method>(self, "reset", CyclerReset) : Result<Value>(Value());
}

Result<Value> FindGlobal(Runtime& rt, std::string_view name) {
  const Row* row = std::find_if(std::begin(kGlobals), std::end(kGlobals),
                                [&](const Row& r) { return r.name == name; });
  if (row == std::end(kGlobals)) {
    return Value();
  }
  return rt.New<Function>(row->name, row->call);
}

Result<Value> CallJoiner(Runtime& rt, const Value& joiner, CallArgs& args) {
  ArgumentReader reader(rt, "joiner", args);
  PX_CHECK_OK(reader.Done());
  auto& state = joiner.As<Joiner>();
  return std::exchange(state.used, true) ? state.separator : Value(Str());
}

}  // namespace pixii::text::jinja
