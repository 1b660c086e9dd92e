// Methods of list, tuple and dict; and which of them the sandbox refuses.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "text/jinja/arguments.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"

namespace pixii::text::jinja {

namespace {

template <DictView::Part kPart>
Result<Value> View(Runtime& rt, const Value& self, CallArgs& args) {
  ArgumentReader reader(rt, "items", args);
  PX_CHECK_OK(reader.Done());
  return rt.New<DictView>(kPart, self.object());
}

Result<Value> Get(Runtime& rt, const Value& self, CallArgs& args) {
  ArgumentReader reader(rt, "get", args);
  PX_TRY(const Value key, reader.TakeRequired("key"));
  const Value fallback = reader.Take("default");
  PX_CHECK_OK(reader.Done());
  if (!Hashable(key)) {
    return rt.Raise("TypeError", fmt::format("unhashable type: '{}'", TypeName(key)));
  }
  const Value* found = self.As<Dict>().Find(key);
  return found != nullptr ? *found : fallback.missing() ? Value::None() : fallback;
}

/// Values here never change, so a copy is the thing itself.
Result<Value> Copy(Runtime& rt, const Value& self, CallArgs& args) {
  ArgumentReader reader(rt, "copy", args);
  PX_CHECK_OK(reader.Done());
  return self;
}

Result<Value> Index(Runtime& rt, const Value& self, CallArgs& args) {
  ArgumentReader reader(rt, "index", args);
  PX_TRY(const Value wanted, reader.TakeRequired("value"));
  PX_TRY(const auto start, reader.TakeInteger("start"));
  PX_TRY(const auto stop, reader.TakeInteger("stop"));
  PX_CHECK_OK(reader.Done());
  const auto& items = self.As<List>().items;
  const auto count = static_cast<std::int64_t>(items.size());
  const auto clip = [&](std::int64_t at) {
    return std::clamp<std::int64_t>(at < 0 ? at + count : at, 0, count);
  };
  const std::int64_t last = clip(stop.value_or(count));
  for (std::int64_t i = clip(start.value_or(0)); i < last; ++i) {
    PX_TRY(const bool same, Equal(rt, items[static_cast<std::size_t>(i)], wanted));
    if (same) {
      return Value(i);
    }
  }
  return rt.Raise("ValueError", fmt::format("the value is not in the {}", TypeName(self)));
}

Result<Value> Count(Runtime& rt, const Value& self, CallArgs& args) {
  ArgumentReader reader(rt, "count", args);
  PX_TRY(const Value wanted, reader.TakeRequired("value"));
  PX_CHECK_OK(reader.Done());
  std::int64_t count = 0;
  for (const Value& item : self.As<List>().items) {
    PX_TRY(const bool same, Equal(rt, item, wanted));
    count += same ? 1 : 0;
  }
  return Value(count);
}

struct Row {
  std::string_view name;
  MethodKind kind;
  Method::Call call;
};

constexpr Row kDict[] = {
    {"items", MethodKind::kSafe, View<DictView::Part::kItems>},
    {"keys", MethodKind::kSafe, View<DictView::Part::kKeys>},
    {"values", MethodKind::kSafe, View<DictView::Part::kValues>},
    {"get", MethodKind::kSafe, Get},
    {"copy", MethodKind::kSafe, Copy},
    {"fromkeys", MethodKind::kUnsupported, nullptr},
    {"clear", MethodKind::kUnsafe, nullptr},
    {"pop", MethodKind::kUnsafe, nullptr},
    {"popitem", MethodKind::kUnsafe, nullptr},
    {"setdefault", MethodKind::kUnsafe, nullptr},
    {"update", MethodKind::kUnsafe, nullptr},
};

constexpr Row kList[] = {
    {"index", MethodKind::kSafe, Index},      {"count", MethodKind::kSafe, Count},
    {"copy", MethodKind::kSafe, Copy},        {"append", MethodKind::kUnsafe, nullptr},
    {"clear", MethodKind::kUnsafe, nullptr},  {"extend", MethodKind::kUnsafe, nullptr},
    {"insert", MethodKind::kUnsafe, nullptr}, {"pop", MethodKind::kUnsafe, nullptr},
    {"remove", MethodKind::kUnsafe, nullptr}, {"reverse", MethodKind::kUnsafe, nullptr},
    {"sort", MethodKind::kUnsafe, nullptr},
};

constexpr Row kTuple[] = {
    {"index", MethodKind::kSafe, Index},
    {"count", MethodKind::kSafe, Count},
};

template <std::size_t N>
MethodLookup Find(const Row (&table)[N], std::string_view name) {
  const Row* row = std::find_if(std::begin(table), std::end(table),
                                [&](const Row& r) { return r.name == name; });
  return row == std::end(table) ? MethodLookup() : MethodLookup{row->kind, row->name, row->call};
}

}  // namespace

MethodLookup FindContainerMethod(Type type, std::string_view name) {
  switch (type) {
    case Type::kDict:
      return Find(kDict, name);
    case Type::kList:
      return Find(kList, name);
    case Type::kTuple:
      return Find(kTuple, name);
    default:
      return {};
  }
}

MethodLookup FindMethod(const Value& object, std::string_view name) {
  return object.is_string() ? FindStringMethod(name) : FindContainerMethod(object.type(), name);
}

}  // namespace pixii::text::jinja
