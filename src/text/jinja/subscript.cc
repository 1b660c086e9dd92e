// Attributes, items, slices and iteration of jinja_operators.h.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/checked.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/text.h"

namespace pixii::text::jinja {

namespace {

/// getattr(object, name) of Python with the sandbox around it; missing if there is no such
/// attribute.
Result<Value> PythonAttribute(Runtime& rt, const Value& object, std::string_view name) {
  const auto unsafe = [&] {
    return Value(std::make_shared<Undefined>(
        "SecurityError",
        fmt::format("access to attribute '{}' of '{}' object is unsafe.", name, TypeName(object))));
  };
  if (name.size() > 4 && name.starts_with("__") && name.ends_with("__")) {
    return unsafe();
  }
  const MethodLookup method = FindMethod(object, name);
  switch (method.kind) {
    case MethodKind::kSafe:
      return rt.New<Method>(object, method.name, method.call);
    case MethodKind::kUnsafe:
      return unsafe();
    case MethodKind::kUnsupported:
      return rt.Unsupported(fmt::format("{}.{}", TypeName(object), name));
    case MethodKind::kNone:
      break;
  }
  switch (object.type()) {
    case Type::kMissing:
    case Type::kNone:
    case Type::kBool:
    case Type::kInt:
    case Type::kFloat:
    case Type::kString:
      return Value();
    default:
      return object.object()->Attribute(rt, object, name);
  }
}

/// Index of Python's sequence rules, or nothing if out of range.
std::optional<std::size_t> Position(std::int64_t index, std::size_t count) {
  const auto size = static_cast<std::int64_t>(count);
  const std::int64_t at = index < 0 ? index + size : index;
  return at < 0 || at >= size ? std::nullopt : std::optional(static_cast<std::size_t>(at));
}

Str CharacterAt(const Str& text, std::size_t index) {
  const std::size_t begin = CharacterOffset(text, index);
  const std::size_t end =
      text.ascii() ? begin + 1 : begin + CharacterOffset(text.Slice(begin, text.size()), 1);
  return text.Slice(begin, end);
}

/// object[index] of Python; missing where Python raises LookupError or TypeError.
Result<Value> PythonItem(Runtime& rt, const Value& object, const Value& index) {
  if (object.is(Type::kDict)) {
    const Value* found = Hashable(index) ? object.As<Dict>().Find(index) : nullptr;
    return found == nullptr ? Value() : *found;
  }
  const auto at = index.AsInt();
  if (!at) {
    return Value();
  }
  if (object.is_list_or_tuple()) {
    const auto& items = object.As<List>().items;
    const auto position = Position(*at, items.size());
    return position ? items[*position] : Value();
  }
  if (object.is_string()) {
    if (!object.str().ascii() && !rt.SpendBytes(object.str().size())) {
      return rt.OutOfSteps();
    }
    const auto position = Position(*at, CharacterCount(object.str()));
    return position ? Value(CharacterAt(object.str(), *position)) : Value();
  }
  if (object.is(Type::kRange)) {
    const auto& range = object.As<Range>();
    const auto position = Position(*at, static_cast<std::size_t>(range.count));
    return position ? Value(range.start + static_cast<std::int64_t>(*position) * range.step)
                    : Value();
  }
  return Value();
}

struct SliceBounds {
  std::int64_t start;
  std::int64_t step;
  std::int64_t count;
};

Result<std::optional<std::int64_t>> SliceIndex(Runtime& rt, const Value& value) {
  if (value.missing() || value.is_none()) {
    return std::optional<std::int64_t>();
  }
  if (const auto whole = value.AsInt()) {
    return whole;
  }
  if (value.is_undefined()) {
    return rt.UseOf(value);
  }
  return rt.Raise("TypeError",
                  "slice indices must be integers or None or have an __index__ method");
}

/// slice.indices(count) of Python.
Result<SliceBounds> Bounds(Runtime& rt, std::size_t items, const Value& start, const Value& stop,
                           const Value& step) {
  PX_TRY(const auto step_given, SliceIndex(rt, step));
  PX_TRY(const auto start_given, SliceIndex(rt, start));
  PX_TRY(const auto stop_given, SliceIndex(rt, stop));
  const std::int64_t stride = std::max<std::int64_t>(step_given.value_or(1), -INT64_MAX);
  if (stride == 0) {
    return rt.Raise("ValueError", "slice step cannot be zero");
  }
  const auto size = static_cast<std::int64_t>(items);
  const std::int64_t lowest = stride < 0 ? -1 : 0;
  const std::int64_t highest = stride < 0 ? size - 1 : size;
  const auto clamp = [&](std::optional<std::int64_t> index, std::int64_t fallback) {
    if (!index) {
      return fallback;
    }
    const std::int64_t at = *index < 0 ? std::max(*index, -size - 1) + size : *index;
    return std::clamp(at, lowest, highest);
  };
  const std::int64_t first = clamp(start_given, stride < 0 ? highest : lowest);
  const std::int64_t last = clamp(stop_given, stride < 0 ? lowest : highest);
  return SliceBounds{first, stride, Range(first, last, stride).count};
}

Result<Value> SliceString(Runtime& rt, const Str& text, const Value& start, const Value& stop,
                          const Value& step) {
  if (!rt.SpendBytes(text.size())) {
    return rt.OutOfSteps();
  }
  PX_TRY(const SliceBounds bounds, Bounds(rt, CharacterCount(text), start, stop, step));
  if (bounds.count == 0) {
    return Value(Str());
  }
  if (bounds.step == 1) {
    const std::size_t begin = CharacterOffset(text, static_cast<std::size_t>(bounds.start));
    const Str rest = text.Slice(begin, text.size());
    return Value(rest.Slice(0, CharacterOffset(rest, static_cast<std::size_t>(bounds.count))));
  }
  std::vector<std::uint32_t> offsets;
  for (StrCursor cursor(text); !cursor.done(); cursor.Next()) {
    offsets.push_back(static_cast<std::uint32_t>(cursor.offset()));
  }
  offsets.push_back(static_cast<std::uint32_t>(text.size()));
  StrBuilder out(rt.meter());
  for (std::int64_t i = 0; i < bounds.count; ++i) {
    const auto at = static_cast<std::size_t>(bounds.start + i * bounds.step);
    out.Append(text.Slice(offsets[at], offsets[at + 1]));
  }
  PX_TRY(Value sliced, rt.NewString(out));
  return LikeSource(rt, Value(text), std::move(sliced));
}

// ---- iterators

class SequenceIterator final : public Iterator {
 public:
  explicit SequenceIterator(const Value& sequence)
      : Iterator(sequence.depth() + 1, "list_iterator"), sequence_(sequence) {}

  Result<Value> Next(Runtime& /*rt*/) override {
    const auto& items = sequence_.As<List>().items;
    return at_ < items.size() ? items[at_++] : Value();
  }

 private:
  Value sequence_;
  std::size_t at_ = 0;
};

class DictIterator final : public Iterator {
 public:
  DictIterator(const Value& dict, DictView::Part part)
      : Iterator(dict.depth() + 2, "dict_iterator"), dict_(dict), part_(part) {}

  Result<Value> Next(Runtime& rt) override {
    const auto& entries = dict_.As<Dict>().entries();
    if (at_ >= entries.size()) {
      return Value();
    }
    const Entry& entry = entries[at_++];
    switch (part_) {
      case DictView::Part::kKeys:
        return entry.first;
      case DictView::Part::kValues:
        return entry.second;
      case DictView::Part::kItems:
        break;
    }
    return rt.NewList({entry.first, entry.second}, Type::kTuple);
  }

 private:
  Value dict_;
  DictView::Part part_;
  std::size_t at_ = 0;
};

class StringIterator final : public Iterator {
 public:
  explicit StringIterator(const Str& text) : Iterator(1, "str_iterator"), text_(text.AsPlain()) {}

  Result<Value> Next(Runtime& /*rt*/) override {
    if (at_ == text_.size()) {
      return Value();
    }
    const Str rest = text_.Slice(at_, text_.size());
    const std::size_t length = text_.ascii() ? 1 : CharacterOffset(rest, 1);
    at_ += length;
    return Value(rest.Slice(0, length));
  }

 private:
  Str text_;
  std::size_t at_ = 0;
};

class RangeIterator final : public Iterator {
 public:
  explicit RangeIterator(const Range& range)
      : Iterator(1, "range_iterator"), at_(range.start), step_(range.step), left_(range.count) {}

  Result<Value> Next(Runtime& /*rt*/) override {
    if (left_ == 0) {
      return Value();
    }
    --left_;
    const std::int64_t out = at_;
    at_ = left_ == 0 ? at_ : at_ + step_;
    return Value(out);
  }

 private:
  std::int64_t at_;
  std::int64_t step_;
  std::int64_t left_;
};

class EmptyIterator final : public Iterator {
 public:
  EmptyIterator() : Iterator(1, "generator") {}

  Result<Value> Next(Runtime& /*rt*/) override { return Value(); }
};

template <class T, class... A>
Result<std::shared_ptr<Iterator>> Make(Runtime& rt, A&&... args) {
  PX_TRY(const Value made, rt.New<T>(std::forward<A>(args)...));
  return std::static_pointer_cast<Iterator>(made.object());
}

}  // namespace

Result<Value> GetAttribute(Runtime& rt, const Value& object, std::string_view name) {
  if (object.is_undefined()) {
    return rt.UseOf(object);
  }
  PX_TRY(Value found, PythonAttribute(rt, object, name));
  if (!found.missing()) {
    return found;
  }
  if (object.is(Type::kDict)) {
    if (const Value* item = object.As<Dict>().Find(name)) {
      return *item;
    }
  }
  return rt.NoAttribute(object, name);
}

Result<Value> GetItem(Runtime& rt, const Value& object, const Value& index) {
  if (object.is_undefined()) {
    return rt.UseOf(object);
  }
  PX_TRY(Value found, PythonItem(rt, object, index));
  if (!found.missing()) {
    return found;
  }
  if (index.is_string()) {
    PX_TRY(found, PythonAttribute(rt, object, index.view()));
    return found.missing() ? rt.NoAttribute(object, index.view()) : found;
  }
  StrBuilder shown(rt.meter());
  PX_CHECK_OK(AppendRepr(rt, shown, index));
  if (shown.failed()) {
    return rt.OutOfMemory();
  }
  const Str text = shown.Finish();
  return rt.NewUndefined(
      fmt::format("{}{} has no element {}", object.is_none() ? "None" : TypeName(object),
                  object.is_none() ? "" : " object", text.view().substr(0, 200)));
}

Result<Value> GetSlice(Runtime& rt, const Value& object, const Value& start, const Value& stop,
                       const Value& step) {
  if (object.is_undefined()) {
    return rt.UseOf(object);
  }
  if (object.is_string()) {
    return SliceString(rt, object.str(), start, stop, step);
  }
  if (object.is(Type::kRange)) {
    const auto& range = object.As<Range>();
    PX_TRY(const SliceBounds bounds,
           Bounds(rt, static_cast<std::size_t>(range.count), start, stop, step));
    if (bounds.count == 0) {
      return rt.New<Range>(0, 0, 1);
    }
    const std::int64_t first = range.start + bounds.start * range.step;
    const auto stride = CheckedMul(range.step, bounds.step);
    const auto length = stride ? CheckedMul(*stride, bounds.count) : std::nullopt;
    const auto end = length ? CheckedAdd(first, *length) : std::nullopt;
    if (!end) {
      return rt.Raise("OverflowError", "the slice of a range does not fit into 64 bits");
    }
    return rt.New<Range>(first, *end, *stride);
  }
  if (!object.is_list_or_tuple()) {
    if (object.is(Type::kDict)) {
      return rt.Raise("TypeError", "unhashable type: 'slice'");
    }
    return rt.Raise("TypeError", fmt::format("'{}' object is not subscriptable", TypeName(object)));
  }
  const auto& items = object.As<List>().items;
  PX_TRY(const SliceBounds bounds, Bounds(rt, items.size(), start, stop, step));
  ListBuilder out(rt);
  for (std::int64_t i = 0; i < bounds.count; ++i) {
    PX_CHECK_OK(out.Add(items[static_cast<std::size_t>(bounds.start + i * bounds.step)]));
  }
  return out.Finish(object.type());
}

Result<std::shared_ptr<Iterator>> Iterate(Runtime& rt, const Value& value) {
  switch (value.type()) {
    case Type::kList:
    case Type::kTuple:
      return Make<SequenceIterator>(rt, value);
    case Type::kDict:
      return Make<DictIterator>(rt, value, DictView::Part::kKeys);
    case Type::kDictView:
      return Make<DictIterator>(rt, Value(value.As<DictView>().dict), value.As<DictView>().part);
    case Type::kString:
      return Make<StringIterator>(rt, value.str());
    case Type::kRange:
      return Make<RangeIterator>(rt, value.As<Range>());
    case Type::kIterator:
      return std::static_pointer_cast<Iterator>(value.object());
    case Type::kMissing:
      return Make<EmptyIterator>(rt);
    case Type::kUndefined:
      if (value.As<Undefined>().kind != "UndefinedError") {
        return rt.UseOf(value);
      }
      return Make<EmptyIterator>(rt);
    default:
      return rt.Raise("TypeError", fmt::format("'{}' object is not iterable", TypeName(value)));
  }
}

Result<std::vector<Value>> Items(Runtime& rt, const Value& value) {
  PX_TRY(const auto iterator, Iterate(rt, value));
  ListBuilder out(rt);
  while (true) {
    PX_TRY(Value item, iterator->Next(rt));
    if (item.missing()) {
      return std::move(out.items());
    }
    PX_CHECK_OK(out.Add(std::move(item)));
  }
}

bool HasLength(const Value& value) {
  switch (value.type()) {
    case Type::kString:
    case Type::kList:
    case Type::kTuple:
    case Type::kDict:
    case Type::kDictView:
    case Type::kRange:
    case Type::kUndefined:
      return true;
    default:
      return false;
  }
}

Result<std::int64_t> Length(Runtime& rt, const Value& value) {
  switch (value.type()) {
    case Type::kString:
      if (!value.str().ascii() && !rt.SpendBytes(value.str().size())) {
        return rt.OutOfSteps();
      }
      return static_cast<std::int64_t>(CharacterCount(value.str()));
    case Type::kList:
    case Type::kTuple:
      return static_cast<std::int64_t>(value.As<List>().items.size());
    case Type::kDict:
      return static_cast<std::int64_t>(value.As<Dict>().entries().size());
    case Type::kDictView:
      return static_cast<std::int64_t>(value.As<DictView>().source().entries().size());
    case Type::kRange:
      return value.As<Range>().count;
    case Type::kUndefined:
      return 0;
    default:
      return rt.Raise("TypeError",
                      fmt::format("object of type '{}' has no len()", TypeName(value)));
  }
}

}  // namespace pixii::text::jinja
