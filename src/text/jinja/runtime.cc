#include "text/jinja/runtime.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace pixii::text::jinja {

namespace {

/// What Jinja calls the owner of a missing attribute.
std::string OwnerName(const Value& value) {
  switch (value.type()) {
    case Type::kNone:
      return "None";
    case Type::kNamespace:
      return "jinja2.utils.Namespace object";
    case Type::kMacro:
      return "jinja2.runtime.Macro object";
    case Type::kLoop:
      return "jinja2.runtime.LoopContext object";
    case Type::kCycler:
      return "jinja2.utils.Cycler object";
    case Type::kJoiner:
      return "jinja2.utils.Joiner object";
    default:
      return fmt::format("{} object", TypeName(value));
  }
}

std::uint32_t DepthOf(const std::vector<Value>& items) {
  std::uint32_t depth = 0;
  for (const Value& item : items) {
    depth = std::max(depth, item.depth());
  }
  return depth + 1;
}

}  // namespace

Runtime::Runtime(const Limits& limits, const CivilTime& now)
    : limits_(limits), now_(now), meter_(limits.memory_bytes_max) {}

Runtime::~Runtime() {
  // Namespaces may hold one another, in rings and long chains: empty each while all are still
  // alive.
  for (const auto& space : namespaces_) {
    space->attributes.clear();
  }
}

tl::unexpected<Error> Runtime::Raise(std::string_view kind, std::string_view message) const {
  return Fail(Code::kInvalidArgument,
              fmt::format("chat template line {}: {}: {}", line_, kind, message), "chat_template");
}

tl::unexpected<Error> Runtime::OverBudget(std::string_view budget, std::uint64_t limit,
                                          std::string_view unit) const {
  return Fail(Code::kInvalidArgument,
              fmt::format("chat template line {}: stopped at its budget {} of {} {}", line_, budget,
                          limit, unit),
              "chat_template");
}

tl::unexpected<Error> Runtime::OutOfSteps() const {
  return OverBudget("steps_max", limits_.steps_max, "steps");
}

tl::unexpected<Error> Runtime::OutOfMemory() const {
  return OverBudget("memory_bytes_max", limits_.memory_bytes_max, "bytes");
}

tl::unexpected<Error> Runtime::Unsupported(std::string_view what) const {
  return Fail(Code::kUnsupported,
              fmt::format("chat template line {}: {} is not supported", line_, what),
              "chat_template");
}

tl::unexpected<Error> Runtime::UseOf(const Value& undefined) const {
  if (undefined.missing()) {
    return Raise("UndefinedError", "the value is undefined");
  }
  const auto& what = undefined.As<Undefined>();
  return Raise(what.kind, what.message);
}

Result<Value> Runtime::NewList(std::vector<Value> items, Type type) {
  const std::uint32_t depth = DepthOf(items);
  if (depth > limits_.value_depth_max) {
    return OverBudget("value_depth_max", limits_.value_depth_max, "levels");
  }
  const std::uint64_t bytes = sizeof(List) + items.capacity() * sizeof(Value);
  auto list = std::make_shared<List>(type, std::move(items), depth);
  list->ChargeTo(meter_, bytes);
  if (meter_.exceeded()) {
    return OutOfMemory();
  }
  return Value(std::move(list));
}

Result<Value> Runtime::NewDict(std::vector<Entry> entries) {
  std::uint32_t depth = 0;
  for (const Entry& entry : entries) {
    if (!Hashable(entry.first)) {
      return Raise("TypeError", fmt::format("unhashable type: '{}'", TypeName(entry.first)));
    }
    depth = std::max({depth, entry.first.depth(), entry.second.depth()});
  }
  if (depth + 1 > limits_.value_depth_max) {
    return OverBudget("value_depth_max", limits_.value_depth_max, "levels");
  }
  if (!Spend(entries.size())) {
    return OutOfSteps();
  }
  const std::uint64_t bytes =
      sizeof(Dict) + entries.size() * (sizeof(Entry) + sizeof(std::uint32_t));
  auto dict = std::make_shared<Dict>(std::move(entries), depth + 1);
  dict->ChargeTo(meter_, bytes);
  if (meter_.exceeded()) {
    return OutOfMemory();
  }
  return Value(std::move(dict));
}

Result<Value> Runtime::NewNamespace(std::vector<std::pair<Str, Value>> attributes) {
  if (!Spend(attributes.size() * attributes.size() / 16)) {  // names are found by a scan
    return OutOfSteps();
  }
  auto space = std::make_shared<Namespace>();
  space->ChargeTo(meter_, sizeof(Namespace) + attributes.size() * sizeof(attributes[0]));
  if (meter_.exceeded()) {
    return OutOfMemory();
  }
  for (auto& [name, value] : attributes) {
    space->Set(name, std::move(value));
  }
  namespaces_.push_back(space);
  return Value(std::move(space));
}

Value Runtime::NewUndefined(std::string message) {
  return std::make_shared<Undefined>("UndefinedError", std::move(message));
}

Value Runtime::NoAttribute(const Value& of, std::string_view name) {
  return NewUndefined(fmt::format("'{}' has no attribute {}", OwnerName(of), Quoted(name)));
}

Result<Value> Runtime::NewString(StrBuilder& text) {
  if (text.failed()) {
    return OutOfMemory();
  }
  if (!SpendBytes(text.size())) {
    return OutOfSteps();
  }
  return Value(text.Finish());
}

Result<void> ListBuilder::Add(Value value) {
  if (items_.size() == items_.capacity()) {
    const std::uint64_t before = items_.capacity();
    const std::uint64_t after = std::max<std::uint64_t>(4, before * 2);
    const std::uint64_t bytes = (after - before) * sizeof(Value);
    if (bytes > rt_->meter().left()) {
      return rt_->OutOfMemory();
    }
    items_.reserve(after);
    rt_->meter().Charge(bytes);
    charged_ += bytes;
  }
  if (!rt_->Spend()) {
    return rt_->OutOfSteps();
  }
  items_.push_back(std::move(value));
  return {};
}

}  // namespace pixii::text::jinja
