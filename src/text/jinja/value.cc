#include "text/jinja/value.h"

#include <algorithm>
#include <cmath>
#include <compare>
#include <functional>
#include <numeric>
#include <utility>

namespace pixii::text::jinja {

namespace {

constexpr std::size_t kScanMax = 8;       // entries up to which a dict is searched from end to end
constexpr std::size_t kTupleKeyMax = 16;  // items of a tuple that is a key

/// Python's integer of a number if it is whole and fits: 1, True and 1.0 are one key.
std::optional<std::int64_t> WholeNumber(const Value& value) {
  if (const auto whole = value.AsInt()) {
    return whole;
  }
  if (value.is(Type::kFloat)) {
    const double real = value.real();
    if (real >= -9.2e18 && real <= 9.2e18 && real == std::trunc(real)) {
      return static_cast<std::int64_t>(real);
    }
  }
  return std::nullopt;
}

int Rank(const Value& value) {
  switch (value.type()) {
    case Type::kBool:
    case Type::kInt:
      return 0;
    case Type::kFloat:
      return WholeNumber(value) ? 0 : 1;
    case Type::kBigInt:
      return 2;
    case Type::kNone:
      return 3;
    case Type::kString:
      return 4;
    case Type::kTuple:
      return 5;
    default:
      return 6;
  }
}

std::strong_ordering FromInt(int order) { return order <=> 0; }

std::strong_ordering KeyOrder(const Value& a, const Value& b) {
  const int rank = Rank(a);
  if (const auto order = rank <=> Rank(b); order != 0) {
    return order;
  }
  switch (rank) {
    case 0:
      return *WholeNumber(a) <=> *WholeNumber(b);
    case 1:
      return std::strong_order(a.real(), b.real());
    case 2:
      return FromInt(a.As<BigInt>().digits.compare(b.As<BigInt>().digits));
    case 3:
      return std::strong_ordering::equal;
    case 4:
      return FromInt(a.view().compare(b.view()));
    case 5: {
      const auto& left = a.As<List>().items;
      const auto& right = b.As<List>().items;
      for (std::size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
        if (const auto order = KeyOrder(left[i], right[i]); order != 0) {
          return order;
        }
      }
      return left.size() <=> right.size();
    }
    default:
      return std::compare_three_way()(a.object().get(), b.object().get());
  }
}

std::string_view ViewName(DictView::Part part) {
  switch (part) {
    case DictView::Part::kKeys:
      return "dict_keys";
    case DictView::Part::kValues:
      return "dict_values";
    case DictView::Part::kItems:
      return "dict_items";
  }
  return "dict_items";
}

}  // namespace

Object::~Object() {
  if (meter_ != nullptr) {
    meter_->Release(charged_);
  }
}

Result<Value> Object::Attribute(Runtime& /*rt*/, const Value& /*self*/, std::string_view /*name*/) {
  return Value();
}

void Object::ChargeTo(MemoryMeter& meter, std::uint64_t bytes) {
  meter_ = &meter;
  charged_ += bytes;
  meter.Charge(bytes);
}

std::optional<std::int64_t> Value::AsInt() const {
  if (const auto* whole = std::get_if<std::int64_t>(&value_)) {
    return *whole;
  }
  if (const auto* truth = std::get_if<bool>(&value_)) {
    return *truth ? 1 : 0;
  }
  return std::nullopt;
}

std::optional<double> Value::AsFloat() const {
  if (const auto* number = std::get_if<double>(&value_)) {
    return *number;
  }
  if (const auto whole = AsInt()) {
    return static_cast<double>(*whole);
  }
  return std::nullopt;
}

Dict::Dict(std::vector<Entry> entries, std::uint32_t depth) : Object(Type::kDict, depth) {
  if (entries.size() <= kScanMax) {
    entries_.reserve(entries.size());
    for (Entry& entry : entries) {
      const auto same = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& old) {
        return KeyEqual(old.first, entry.first);
      });
      if (same != entries_.end()) {
        same->second = std::move(entry.second);
      } else {
        entries_.push_back(std::move(entry));
      }
    }
    return;
  }
  // Equal keys come together, in the order of insertion; the first gives the place, the last the
  // value.
  std::vector<std::uint32_t> by_key(entries.size());
  std::iota(by_key.begin(), by_key.end(), 0U);
  std::sort(by_key.begin(), by_key.end(), [&](std::uint32_t a, std::uint32_t b) {
    const std::strong_ordering order = KeyOrder(entries[a].first, entries[b].first);
    return order != 0 ? order < 0 : a < b;
  });
  std::vector<bool> dropped(entries.size(), false);
  for (std::size_t i = 0; i < by_key.size();) {
    std::size_t end = i + 1;
    while (end < by_key.size() && KeyEqual(entries[by_key[i]].first, entries[by_key[end]].first)) {
      dropped[by_key[end++]] = true;
    }
    if (end - i > 1) {
      entries[by_key[i]].second = entries[by_key[end - 1]].second;
    }
    i = end;
  }
  std::vector<std::uint32_t> place(entries.size());
  entries_.reserve(entries.size());
  for (std::size_t i = 0; i < entries.size(); ++i) {
    place[i] = static_cast<std::uint32_t>(entries_.size());
    if (!dropped[i]) {
      entries_.push_back(std::move(entries[i]));
    }
  }
  for (const std::uint32_t i : by_key) {
    if (!dropped[i]) {
      order_.push_back(place[i]);
    }
  }
}

const Value* Dict::Find(const Value& key) const {
  if (order_.empty()) {
    for (const Entry& entry : entries_) {
      if (KeyEqual(entry.first, key)) {
        return &entry.second;
      }
    }
    return nullptr;
  }
  const auto it = std::partition_point(order_.begin(), order_.end(), [&](std::uint32_t i) {
    return KeyLess(entries_[i].first, key);
  });
  return it != order_.end() && KeyEqual(entries_[*it].first, key) ? &entries_[*it].second : nullptr;
}

const Value* Dict::Find(std::string_view key) const {
  if (order_.empty()) {
    for (const Entry& entry : entries_) {
      if (entry.first.is_string() && entry.first.view() == key) {
        return &entry.second;
      }
    }
    return nullptr;
  }
  return Find(Value::Literal(key));
}

Result<Value> Namespace::Attribute(Runtime& /*rt*/, const Value& /*self*/, std::string_view name) {
  const Value* found = Find(name);
  return found == nullptr ? Value() : *found;
}

Value* Namespace::Find(std::string_view name) {
  for (auto& [key, value] : attributes) {
    if (key.view() == name) {
      return &value;
    }
  }
  return nullptr;
}

void Namespace::Set(const Str& name, Value value) {
  if (Value* old = Find(name.view())) {
    *old = std::move(value);
  } else {
    attributes.emplace_back(name, std::move(value));
  }
}

Range::Range(std::int64_t start_used, std::int64_t stop_used, std::int64_t step_used)
    : Object(Type::kRange), start(start_used), stop(stop_used), step(step_used), count(0) {
  // Differences are taken unsigned: they fit even where the signed ones would not.
  const auto u = [](std::int64_t n) { return static_cast<std::uint64_t>(n); };
  std::uint64_t items = 0;
  if (step > 0 && start < stop) {
    items = (u(stop) - u(start) - 1) / u(step) + 1;
  } else if (step < 0 && start > stop) {
    items = (u(start) - u(stop) - 1) / (u(0) - u(step)) + 1;
  }
  count =
      items > static_cast<std::uint64_t>(INT64_MAX) ? INT64_MAX : static_cast<std::int64_t>(items);
}

std::string_view TypeName(const Value& value) {
  switch (value.type()) {
    case Type::kMissing:
    case Type::kUndefined:
      return "Undefined";
    case Type::kNone:
      return "NoneType";
    case Type::kBool:
      return "bool";
    case Type::kInt:
    case Type::kBigInt:
      return "int";
    case Type::kFloat:
      return "float";
    case Type::kString:
      return value.str().markup() ? "Markup" : "str";
    case Type::kList:
      return "list";
    case Type::kTuple:
      return "tuple";
    case Type::kDict:
      return "dict";
    case Type::kDictView:
      return ViewName(value.As<DictView>().part);
    case Type::kNamespace:
      return "Namespace";
    case Type::kMacro:
      return "Macro";
    case Type::kFunction:
      return "function";
    case Type::kMethod:
      return "builtin_function_or_method";
    case Type::kLoop:
      return "LoopContext";
    case Type::kIterator:
      return value.As<Iterator>().python_type();
    case Type::kRange:
      return "range";
    case Type::kCycler:
      return "Cycler";
    case Type::kJoiner:
      return "Joiner";
  }
  return "object";
}

bool Truthy(const Value& value) {
  switch (value.type()) {
    case Type::kMissing:
    case Type::kUndefined:
    case Type::kNone:
      return false;
    case Type::kBool:
      return value.boolean();
    case Type::kInt:
      return value.integer() != 0;
    case Type::kFloat:
      return value.real() != 0.0;
    case Type::kString:
      return !value.str().empty();
    case Type::kList:
    case Type::kTuple:
      return !value.As<List>().items.empty();
    case Type::kDict:
      return !value.As<Dict>().entries().empty();
    case Type::kDictView:
      return !value.As<DictView>().source().entries().empty();
    case Type::kRange:
      return value.As<Range>().count != 0;
    default:
      return true;
  }
}

bool KeyLess(const Value& a, const Value& b) { return KeyOrder(a, b) < 0; }

bool KeyEqual(const Value& a, const Value& b) { return KeyOrder(a, b) == 0; }

bool Hashable(const Value& value) {
  switch (value.type()) {
    case Type::kList:
    case Type::kDict:
    case Type::kDictView:
      return false;
    case Type::kTuple: {
      // Nested or long tuples would make every look-up cost what the step budget does not see.
      const auto& items = value.As<List>().items;
      return items.size() <= kTupleKeyMax &&
             std::all_of(items.begin(), items.end(), [](const Value& item) {
               return !item.is_list_or_tuple() && Hashable(item);
             });
    }
    default:
      return true;
  }
}

}  // namespace pixii::text::jinja
