// Values of a template run: Python's, as far as chat templates see them. docs/subsystems/text.md
//
// Lists, tuples and dicts are immutable once built (the sandbox refuses append, update and their
// like), so their nesting depth is known when they are made and bounded then; only a namespace can
// change, and the Runtime owns all of those, so no cycle outlives a run. Thread: one run, one
// thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "text/jinja/string.h"

namespace pixii::text::jinja {

class Runtime;
class Value;

enum class Type : std::uint8_t {
  kMissing,  // no value at all: an unbound variable or an absent optional argument
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kUndefined,
  kBigInt,
  kList,
  kTuple,
  kDict,
  kDictView,
  kNamespace,
  kMacro,
  kFunction,
  kMethod,
  kLoop,
  kIterator,
  kRange,
  kCycler,
  kJoiner,
};

/// Anything that is not a plain scalar or a string.
class Object {
 public:
  explicit Object(Type type, std::uint32_t depth = 0) : type_(type), depth_(depth) {}

  virtual ~Object();
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  Type type() const { return type_; }

  /// Containers nested below and including this one.
  std::uint32_t depth() const { return depth_; }

  /// Python attribute `name` of this object, which `self` holds; missing if it has none. Methods of
  /// str, list and dict are not here (jinja_methods.h).
  virtual Result<Value> Attribute(Runtime& rt, const Value& self, std::string_view name);

  /// Counts this object's bytes until it dies.
  void ChargeTo(MemoryMeter& meter, std::uint64_t bytes);

 private:
  Type type_;
  std::uint32_t depth_;
  MemoryMeter* meter_ = nullptr;
  std::uint64_t charged_ = 0;
};

class Value final {
 public:
  Value() = default;  // missing

  Value(bool value) : value_(value) {}  // NOLINT(google-explicit-constructor)

  Value(std::int64_t value) : value_(value) {}  // NOLINT(google-explicit-constructor)

  Value(double value) : value_(value) {}  // NOLINT(google-explicit-constructor)

  Value(Str value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor)

  Value(const char*) = delete;

  Value(std::shared_ptr<Object> value)
      : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor)

  template <class T>
  Value(std::shared_ptr<T> value)  // NOLINT(google-explicit-constructor)
      : value_(std::shared_ptr<Object>(std::move(value))) {}

  static Value None() {
    Value out;
    out.value_ = NoneTag{};
    return out;
  }

  static Value Size(std::size_t size) { return static_cast<std::int64_t>(size); }

  static Value Literal(std::string_view text) { return Str::Literal(std::string(text)); }

  Type type() const {
    return value_.index() < 6 ? static_cast<Type>(value_.index()) : std::get<6>(value_)->type();
  }

  bool is(Type type_wanted) const { return type() == type_wanted; }

  bool missing() const { return value_.index() == 0; }

  bool is_none() const { return value_.index() == 1; }

  bool is_string() const { return value_.index() == 5; }

  bool is_undefined() const { return is(Type::kUndefined); }

  bool is_list_or_tuple() const { return is(Type::kList) || is(Type::kTuple); }

  /// bool or int, which is what Python's arithmetic takes as an integer.
  std::optional<std::int64_t> AsInt() const;
  /// bool, int or float.
  std::optional<double> AsFloat() const;

  bool boolean() const { return std::get<bool>(value_); }

  std::int64_t integer() const { return std::get<std::int64_t>(value_); }

  double real() const { return std::get<double>(value_); }

  const Str& str() const { return std::get<Str>(value_); }

  std::string_view view() const { return str().view(); }

  const std::shared_ptr<Object>& object() const { return std::get<6>(value_); }

  /// Pre: the type is one that T stands for.
  template <class T>
  T& As() const {
    return static_cast<T&>(*std::get<6>(value_));
  }

  std::uint32_t depth() const { return value_.index() == 6 ? std::get<6>(value_)->depth() : 0; }

 private:
  struct NoneTag {};

  std::variant<std::monostate, NoneTag, bool, std::int64_t, double, Str, std::shared_ptr<Object>>
      value_;
};

/// What a lookup that found nothing gives; using it fails with this message.
struct Undefined final : Object {
  Undefined(std::string kind_used, std::string message_used)
      : Object(Type::kUndefined), kind(std::move(kind_used)), message(std::move(message_used)) {}

  std::string kind;  // Python's exception, "UndefinedError" or "SecurityError"
  std::string message;
};

/// An integer past 64 bits from the request: it can be shown and compared, not computed with.
struct BigInt final : Object {
  explicit BigInt(std::string digits_used)
      : Object(Type::kBigInt), digits(std::move(digits_used)) {}

  std::string digits;
};

/// list or tuple.
struct List : Object {
  List(Type type_used, std::vector<Value> items_used, std::uint32_t depth_used)
      : Object(type_used, depth_used), items(std::move(items_used)) {}

  std::vector<Value> items;
};

using Entry = std::pair<Value, Value>;

/// Keys in the order of insertion. Pre of all: keys are hashable (Runtime::NewDict saw to it).
class Dict final : public Object {
 public:
  /// Later entries replace earlier ones of an equal key, which keep their place.
  Dict(std::vector<Entry> entries, std::uint32_t depth);

  const std::vector<Entry>& entries() const { return entries_; }

  const Value* Find(const Value& key) const;
  const Value* Find(std::string_view key) const;

 private:
  std::vector<Entry> entries_;
  std::vector<std::uint32_t> order_;  // indices by key; empty while a scan is as fast
};

struct DictView final : Object {
  enum class Part : std::uint8_t { kKeys, kValues, kItems };

  DictView(Part part_used, std::shared_ptr<Object> dict_used)
      : Object(Type::kDictView, dict_used->depth() + 1),
        part(part_used),
        dict(std::move(dict_used)) {}

  const Dict& source() const { return static_cast<const Dict&>(*dict); }

  Part part;
  std::shared_ptr<Object> dict;
};

/// The one mutable container. Owned by the Runtime, which empties all of them at the end of the
/// run.
struct Namespace final : Object {
  Namespace() : Object(Type::kNamespace) {}

  Result<Value> Attribute(Runtime& rt, const Value& self, std::string_view name) override;

  Value* Find(std::string_view name);
  void Set(const Str& name, Value value);

  std::vector<std::pair<Str, Value>> attributes;
};

struct Range final : Object {
  Range(std::int64_t start_used, std::int64_t stop_used, std::int64_t step_used);

  std::int64_t start;
  std::int64_t stop;
  std::int64_t step;
  std::int64_t count;
};

/// A generator or iterator: gives each item once.
class Iterator : public Object {
 public:
  Iterator(std::uint32_t depth, std::string_view python_type)
      : Object(Type::kIterator, depth), python_type_(python_type) {}

  /// The next item, or a missing value at the end.
  virtual Result<Value> Next(Runtime& rt) = 0;

  std::string_view python_type() const { return python_type_; }

 private:
  std::string_view python_type_;
};

/// Arguments of a call as evaluated.
struct CallArgs {
  std::vector<Value> positional;
  std::vector<std::pair<Str, Value>> named;
};

/// A global such as range().
struct Function final : Object {
  using Call = Result<Value> (*)(Runtime& rt, CallArgs& args);

  Function(std::string_view name_used, Call call_used)
      : Object(Type::kFunction), name(name_used), call(call_used) {}

  std::string_view name;
  Call call;
};

/// receiver.name, not yet called.
struct Method final : Object {
  using Call = Result<Value> (*)(Runtime& rt, const Value& self, CallArgs& args);

  Method(Value self_used, std::string_view name_used, Call call_used)
      : Object(Type::kMethod, self_used.depth() + 1),
        self(std::move(self_used)),
        name(name_used),
        call(call_used) {}

  Value self;
  std::string_view name;
  Call call;
};

struct Cycler final : Object {
  Cycler(std::vector<Value> items_used, std::uint32_t depth_used)
      : Object(Type::kCycler, depth_used), items(std::move(items_used)) {}

  Result<Value> Attribute(Runtime& rt, const Value& self, std::string_view name) override;

  std::vector<Value> items;
  std::size_t at = 0;
};

struct Joiner final : Object {
  explicit Joiner(Value separator_used)
      : Object(Type::kJoiner, separator_used.depth() + 1), separator(std::move(separator_used)) {}

  Value separator;
  bool used = false;
};

/// type(value).__name__.
std::string_view TypeName(const Value& value);

/// Python's truth.
bool Truthy(const Value& value);

/// Strict order over hashable keys: equal exactly where Python's keys are equal.
bool KeyLess(const Value& a, const Value& b);
bool KeyEqual(const Value& a, const Value& b);
/// Whether `value` may be a key: Python's rule, and tuples only flat and up to 16 items.
bool Hashable(const Value& value);

}  // namespace pixii::text::jinja
