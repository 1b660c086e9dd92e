// One run of a template: its budgets, where it stands, and how it fails.
//
// Thread: one run, one thread; dies after every value made in it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/jinja/value.h"

namespace pixii::text::jinja {

/// A moment in the civil calendar of wherever the caller wants to be; templates print it with
/// strftime_now.
struct CivilTime {
  std::int32_t year = 1970;  // 1 .. 9999
  std::int32_t month = 1;    // 1 .. 12
  std::int32_t day = 1;      // 1 .. 31
  std::int32_t hour = 0;     // 0 .. 23
  std::int32_t minute = 0;   // 0 .. 59
  std::int32_t second = 0;   // 0 .. 59
};

/// Budgets of a template. Reaching one ends the parse or the run with kInvalidArgument that names
/// it and the line.
struct Limits {
  std::uint64_t source_bytes_max = 1 << 20;  // bytes of the template's text
  std::uint32_t nesting_depth_max =
      200;  // statements and expressions inside one another in the source
  std::uint64_t steps_max =
      20'000'000;  // nodes evaluated, items visited, 64-byte pieces of text handled
  std::uint32_t call_depth_max = 200;  // macros, call blocks and recursive loops inside one another
  std::uint32_t evaluation_depth_max =
      1'500;  // nodes being evaluated inside one another; bounds the stack
  std::uint32_t value_depth_max = 200;  // lists, dicts and iterators inside one another
  std::uint64_t memory_bytes_max = 256ULL
                                   << 20;  // bytes of all strings and containers alive at once
  std::uint64_t output_bytes_max = 64ULL << 20;  // bytes of the rendered text
};

/// How values call back into the template: macros and recursive loops.
class Caller {
 public:
  virtual Result<Value> CallValue(const Value& callable, CallArgs args) = 0;

 protected:
  ~Caller() = default;
};

class Runtime final {
 public:
  Runtime(const Limits& limits, const CivilTime& now);
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  const Limits& limits() const { return limits_; }

  const CivilTime& now() const { return now_; }

  MemoryMeter& meter() { return meter_; }

  std::uint64_t steps() const { return steps_; }

  std::uint32_t line() const { return line_; }

  void set_line(std::uint32_t line) { line_ = line; }

  /// Counts `steps`; false when the budget is spent, and from then on.
  bool Spend(std::uint64_t steps = 1) {
    steps_ += steps;
    return steps_ <= limits_.steps_max;
  }

  /// Counts work over `bytes` of text.
  bool SpendBytes(std::uint64_t bytes) { return Spend(1 + bytes / 64); }

  /// `return rt.Raise("TypeError", "...")`: what Python would raise, with the line.
  tl::unexpected<Error> Raise(std::string_view kind, std::string_view message) const;
  /// The same for a budget of Limits.
  tl::unexpected<Error> OverBudget(std::string_view budget, std::uint64_t limit,
                                   std::string_view unit) const;
  tl::unexpected<Error> OutOfSteps() const;
  tl::unexpected<Error> OutOfMemory() const;
  /// Something Jinja or Python has and this engine has not.
  tl::unexpected<Error> Unsupported(std::string_view what) const;
  /// The failure that using `undefined` is.
  tl::unexpected<Error> UseOf(const Value& undefined) const;

  Result<Value> NewList(std::vector<Value> items, Type type = Type::kList);
  Result<Value> NewDict(std::vector<Entry> entries);
  Result<Value> NewNamespace(std::vector<std::pair<Str, Value>> attributes);
  Value NewUndefined(std::string message);
  /// "'dict object' has no attribute 'x'".
  Value NoAttribute(const Value& of, std::string_view name);

  /// An object of any other type, with its bytes counted and its depth checked.
  template <class T, class... A>
  Result<Value> New(A&&... args) {
    auto made = std::make_shared<T>(std::forward<A>(args)...);
    if (made->depth() > limits_.value_depth_max) {
      return OverBudget("value_depth_max", limits_.value_depth_max, "levels");
    }
    made->ChargeTo(meter_, sizeof(T) + 16);
    if (meter_.exceeded()) {
      return OutOfMemory();
    }
    return Value(std::move(made));
  }

  /// Finishes `text`, or fails if it outgrew the memory.
  Result<Value> NewString(StrBuilder& text);

  void set_caller(Caller* caller) { caller_ = caller; }

  Result<Value> Call(const Value& callable, CallArgs args) {
    return caller_->CallValue(callable, std::move(args));
  }

 private:
  const Limits& limits_;
  CivilTime now_;
  MemoryMeter meter_;
  std::uint64_t steps_ = 0;
  std::uint32_t line_ = 0;
  Caller* caller_ = nullptr;
  std::vector<std::shared_ptr<Namespace>> namespaces_;
};

/// Gathers items of unknown number under the run's budgets.
class ListBuilder final {
 public:
  explicit ListBuilder(Runtime& rt) : rt_(&rt) {}

  ~ListBuilder() { rt_->meter().Release(charged_); }

  ListBuilder(const ListBuilder&) = delete;
  ListBuilder& operator=(const ListBuilder&) = delete;

  Result<void> Add(Value value);

  std::vector<Value>& items() { return items_; }

  Result<Value> Finish(Type type = Type::kList) { return rt_->NewList(std::move(items_), type); }

 private:
  Runtime* rt_;
  std::vector<Value> items_;
  std::uint64_t charged_ = 0;
};

/// repr(text), for messages.
std::string Quoted(std::string_view text);

}  // namespace pixii::text::jinja
