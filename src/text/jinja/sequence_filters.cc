// Filters over sequences and dicts.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <optional>
#include <utility>

#include "text/jinja/arguments.h"
#include "text/jinja/filters.h"
#include "text/jinja/operators.h"
#include "text/jinja/text.h"

namespace pixii::text::jinja {

namespace {

/// `attribute` of Jinja's filters: "a.b.0" or an integer.
class AttributePath {
 public:
  AttributePath() = default;

  static Result<AttributePath> Parse(const Value& attribute) {
    AttributePath path;
    if (attribute.missing() || attribute.is_none()) {
      return path;
    }
    if (!attribute.is_string()) {
      path.parts_.push_back(attribute);
      return path;
    }
    const Str& text = attribute.str();
    for (std::size_t begin = 0; begin <= text.size();) {
      const std::size_t end = std::min(text.view().find('.', begin), text.size());
      const std::string_view part = text.view().substr(begin, end - begin);
      std::int64_t index = 0;
      const auto parsed = std::from_chars(part.data(), part.data() + part.size(), index);
      const bool number =
          !part.empty() && part[0] != '-' && parsed.ec == std::errc() && parsed.ptr == part.end();
      path.parts_.push_back(number ? Value(index) : Value(text.Slice(begin, end)));
      begin = end + 1;
    }
    return path;
  }

  Result<Value> Of(Runtime& rt, Value item) const {
    for (const Value& part : parts_) {
      PX_TRY(item, GetItem(rt, item, part));
      if (!fallback_.missing() && item.is_undefined()) {
        item = fallback_;
      }
    }
    return item;
  }

  void set_fallback(const Value& fallback) { fallback_ = fallback.is_none() ? Value() : fallback; }

 private:
  std::vector<Value> parts_;
  Value fallback_;
};

Result<Value> IgnoreCase(Runtime& rt, const Value& value) {
  return value.is_string() ? Cased(rt, value.str(), Case::kLower) : Result<Value>(value);
}

struct Keyed {
  Value key;
  Value item;
};

Result<std::vector<Keyed>> WithKeys(Runtime& rt, const Value& input, const AttributePath& path,
                                    bool case_sensitive) {
  PX_TRY(const std::vector<Value> items, Items(rt, input));
  std::vector<Keyed> out;
  out.reserve(items.size());
  for (const Value& item : items) {
    PX_TRY(Value key, path.Of(rt, item));
    if (!case_sensitive) {
      PX_TRY(key, IgnoreCase(rt, key));
    }
    out.push_back({std::move(key), item});
  }
  return out;
}

/// Stable merge sort whose comparison may fail, as sorted() of Python: only `<`, and reverse keeps
/// equals in order.
Result<void> Sort(Runtime& rt, std::vector<Keyed>& items, bool reverse) {
  std::vector<Keyed> merged(items.size());
  for (std::size_t width = 1; width < items.size(); width *= 2) {
    for (std::size_t begin = 0; begin < items.size(); begin += 2 * width) {
      const std::size_t middle = std::min(begin + width, items.size());
      const std::size_t end = std::min(begin + 2 * width, items.size());
      std::size_t left = begin;
      std::size_t right = middle;
      for (std::size_t out = begin; out < end; ++out) {
        bool take_right = left == middle;
        if (left < middle && right < end) {
          const Value& a = items[right].key;
          const Value& b = items[left].key;
          PX_TRY(take_right,
                 reverse ? Compare(rt, Operator::kLess, b, a) : Compare(rt, Operator::kLess, a, b));
        }
        merged[out] = std::move(take_right ? items[right++] : items[left++]);
      }
    }
    std::swap(items, merged);
  }
  return {};
}

Result<Value> ItemsOf(Runtime& rt, const std::vector<Keyed>& keyed) {
  ListBuilder out(rt);
  for (const Keyed& one : keyed) {
    PX_CHECK_OK(out.Add(one.item));
  }
  return out.Finish();
}

// ---- lazy ones

/// map, select, reject, selectattr, rejectattr: one item of the source at a time, when asked.
class Transforming final : public Iterator {
 public:
  struct Plan {
    AttributePath path;           // applied first
    FilterCall filter = nullptr;  // map by a filter
    TestCall test = nullptr;      // select and reject by a test; null: by truth
    bool selects = false;
    bool wanted = true;  // false: reject
    CallArgs arguments;
    std::uint32_t arguments_depth = 0;
  };

  Transforming(Value source, Plan plan)
      : Iterator(std::max(source.depth(), plan.arguments_depth) + 1, "generator"),
        source_(std::move(source)),
        plan_(std::move(plan)) {}

  Result<Value> Next(Runtime& rt) override {
    if (items_ == nullptr) {
      if (!Truthy(source_) && plan_.filter == nullptr && source_.is_none()) {
        return Value();
      }
      if (!Truthy(source_)) {  // Jinja: `if value:` before the loop
        return Value();
      }
      PX_TRY(items_, Iterate(rt, source_));
    }
    while (true) {
      if (!rt.Spend()) {
        return rt.OutOfSteps();
      }
      PX_TRY(Value item, items_->Next(rt));
      if (item.missing()) {
        return item;
      }
      PX_TRY(Value looked_up, plan_.path.Of(rt, item));
      if (!plan_.selects) {
        if (plan_.filter == nullptr) {
          return looked_up;
        }
        CallArgs arguments = plan_.arguments;
        return plan_.filter(rt, looked_up, arguments);
      }
      bool passes = Truthy(looked_up);
      if (plan_.test != nullptr) {
        CallArgs arguments = plan_.arguments;
        PX_TRY(passes, plan_.test(rt, looked_up, arguments));
      }
      if (passes == plan_.wanted) {
        return item;
      }
    }
  }

 private:
  Value source_;
  Plan plan_;
  std::shared_ptr<Iterator> items_;
};

std::uint32_t DepthOf(const CallArgs& args) {
  std::uint32_t depth = 0;
  for (const Value& value : args.positional) {
    depth = std::max(depth, value.depth());
  }
  for (const auto& named : args.named) {
    depth = std::max(depth, named.second.depth());
  }
  return depth;
}

Result<Value> Map(Runtime& rt, const Value& input, CallArgs& args) {
  Transforming::Plan plan;
  const bool by_attribute = args.positional.empty() &&
                            std::any_of(args.named.begin(), args.named.end(), [](const auto& n) {
                              return n.first.view() == "attribute";
                            });
  if (by_attribute) {
    ArgumentReader reader(rt, "map", args);
    PX_TRY(plan.path, AttributePath::Parse(reader.Take("attribute")));
    const Value fallback = reader.Take("default");
    for (const auto& [name, value] : args.named) {
      if (!value.missing()) {
        return rt.Raise("FilterArgumentError",
                        fmt::format("Unexpected keyword argument {}", Quoted(name.view())));
      }
    }
    plan.arguments_depth = fallback.depth();
    plan.path.set_fallback(fallback);
  } else {
    if (args.positional.empty() || !args.positional[0].is_string()) {
      return rt.Raise("FilterArgumentError", "map requires a filter argument");
    }
    const Value name = args.positional[0];
    plan.filter = FindFilter(name.view());
    if (plan.filter == nullptr) {
      return rt.Raise("TemplateRuntimeError",
                      fmt::format("No filter named {}.", Quoted(name.view())));
    }
    args.positional.erase(args.positional.begin());
    plan.arguments_depth = DepthOf(args);
    plan.arguments = std::move(args);
  }
  return rt.New<Transforming>(input, std::move(plan));
}

template <bool kWanted, bool kAttribute>
Result<Value> Select(Runtime& rt, const Value& input, CallArgs& args) {
  Transforming::Plan plan;
  plan.selects = true;
  plan.wanted = kWanted;
  std::size_t used = 0;
  if (kAttribute) {
    if (args.positional.empty()) {
      if (!Truthy(input)) {
        return rt.New<Transforming>(input, std::move(plan));
      }
      return rt.Raise("FilterArgumentError", "Missing parameter for attribute name");
    }
    PX_TRY(plan.path, AttributePath::Parse(args.positional[0]));
    used = 1;
  }
  if (args.positional.size() > used) {
    const Value name = args.positional[used++];
    plan.test = name.is_string() ? FindTest(name.view()) : nullptr;
    if (plan.test == nullptr) {
      PX_TRY(const Str shown, ToStr(rt, name));
      return rt.Raise("TemplateRuntimeError",
                      fmt::format("No test named {}.", Quoted(shown.view().substr(0, 200))));
    }
  }
  args.positional.erase(args.positional.begin(),
                        args.positional.begin() + static_cast<std::ptrdiff_t>(used));
  plan.arguments_depth = DepthOf(args);
  plan.arguments = std::move(args);
  return rt.New<Transforming>(input, std::move(plan));
}

/// Gives ready items, as a generator or reversed().
class Prepared final : public Iterator {
 public:
  Prepared(Value list, std::string_view python_type)
      : Iterator(list.depth() + 1, python_type), list_(std::move(list)) {}

  Result<Value> Next(Runtime& /*rt*/) override {
    const auto& items = list_.As<List>().items;
    return at_ < items.size() ? items[at_++] : Value();
  }

 private:
  Value list_;
  std::size_t at_ = 0;
};

class PairsOf final : public Iterator {
 public:
  explicit PairsOf(Value input)
      : Iterator(input.depth() + 2, "generator"), input_(std::move(input)) {}

  Result<Value> Next(Runtime& rt) override {
    if (input_.is_undefined()) {
      return Value();
    }
    if (!input_.is(Type::kDict)) {
      return rt.Raise("TypeError", "Can only get item pairs from a mapping.");
    }
    const auto& entries = input_.As<Dict>().entries();
    if (at_ == entries.size()) {
      return Value();
    }
    const auto& [key, value] = entries[at_++];
    return rt.NewList({key, value}, Type::kTuple);
  }

 private:
  Value input_;
  std::size_t at_ = 0;
};

Result<Value> ItemPairs(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "items", args);
  PX_CHECK_OK(reader.Done());
  return rt.New<PairsOf>(input);
}

// ---- eager ones

Result<Value> LengthOf(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "length", args);
  PX_CHECK_OK(reader.Done());
  PX_TRY(const std::int64_t length, Length(rt, input));
  return Value(length);
}

Result<Value> ToList(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "list", args);
  PX_CHECK_OK(reader.Done());
  PX_TRY(std::vector<Value> items, Items(rt, input));
  return rt.NewList(std::move(items));
}

Result<Value> First(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "first", args);
  PX_CHECK_OK(reader.Done());
  PX_TRY(const auto items, Iterate(rt, input));
  PX_TRY(const Value item, items->Next(rt));
  return item.missing() ? rt.NewUndefined("No first item, sequence was empty.") : item;
}

Result<Value> Last(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "last", args);
  PX_CHECK_OK(reader.Done());
  if (input.is(Type::kIterator) || !HasLength(input)) {
    return rt.Raise("TypeError", fmt::format("'{}' object is not reversible", TypeName(input)));
  }
  PX_TRY(const std::vector<Value> items, Items(rt, input));
  return items.empty() ? rt.NewUndefined("No last item, sequence was empty.") : items.back();
}

Result<Value> Reverse(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "reverse", args);
  PX_CHECK_OK(reader.Done());
  PX_TRY(std::vector<Value> items, Items(rt, input));
  std::reverse(items.begin(), items.end());
  if (input.is_string()) {
    StrBuilder out(rt.meter());
    for (const Value& item : items) {
      out.Append(item.str());
    }
    PX_TRY(Value reversed, rt.NewString(out));
    return LikeSource(rt, input, std::move(reversed));
  }
  PX_TRY(const Value list, rt.NewList(std::move(items)));
  return input.is(Type::kIterator) ? Result<Value>(list)
                                   : rt.New<Prepared>(list, "list_reverseiterator");
}

Result<Value> JoinItems(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "join", args);
  const Value separator = reader.Take("d");
  PX_TRY(const AttributePath path, AttributePath::Parse(reader.Take("attribute")));
  PX_CHECK_OK(reader.Done());
  Str between;
  if (!separator.missing()) {
    PX_TRY(between, ToStr(rt, separator));
  }
  PX_TRY(const auto items, Iterate(rt, input));
  StrBuilder out(rt.meter());
  for (bool first = true;; first = false) {
    PX_TRY(Value item, items->Next(rt));
    if (item.missing()) {
      return rt.NewString(out);
    }
    if (!first) {
      out.Append(between);
    }
    PX_TRY(item, path.Of(rt, std::move(item)));
    PX_CHECK_OK(AppendStr(rt, out, item));
    if (out.failed() || !rt.Spend()) {
      return out.failed() ? rt.OutOfMemory() : rt.OutOfSteps();
    }
  }
}

Result<Value> SortItems(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "sort", args);
  const bool reverse = reader.TakeFlag("reverse", false);
  const bool case_sensitive = reader.TakeFlag("case_sensitive", false);
  const Value attribute = reader.Take("attribute");
  PX_CHECK_OK(reader.Done());
  std::vector<AttributePath> paths;
  if (attribute.is_string()) {  // "a,b.c": several keys
    const Str& text = attribute.str();
    for (std::size_t begin = 0; begin <= text.size();) {
      const std::size_t end = std::min(text.view().find(',', begin), text.size());
      PX_TRY(AttributePath path, AttributePath::Parse(Value(text.Slice(begin, end))));
      paths.push_back(std::move(path));
      begin = end + 1;
    }
  } else {
    PX_TRY(AttributePath path, AttributePath::Parse(attribute));
    paths.push_back(std::move(path));
  }
  // Jinja sorts by a list of keys; sorting by the last key first is the same, for the sort is
  // stable.
  Value list = input;
  for (std::size_t i = paths.size(); i-- > 0;) {
    PX_TRY(std::vector<Keyed> items, WithKeys(rt, list, paths[i], case_sensitive));
    PX_CHECK_OK(Sort(rt, items, reverse));
    PX_TRY(list, ItemsOf(rt, items));
  }
  return list;
}

Result<Value> DictSort(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "dictsort", args);
  const bool case_sensitive = reader.TakeFlag("case_sensitive", false);
  PX_TRY(const auto by, reader.TakeString("by"));
  const bool reverse = reader.TakeFlag("reverse", false);
  PX_CHECK_OK(reader.Done());
  const std::string_view part = by ? by->view() : "key";
  if (part != "key" && part != "value") {
    return rt.Raise("FilterArgumentError", "You can only sort by either \"key\" or \"value\"");
  }
  if (!input.is(Type::kDict)) {
    return input.is_undefined()
               ? rt.UseOf(input)
               : rt.Raise("AttributeError",
                          fmt::format("'{}' object has no attribute 'items'", TypeName(input)));
  }
  PX_TRY(const Value view, rt.New<DictView>(DictView::Part::kItems, input.object()));
  PX_TRY(const AttributePath path,
         AttributePath::Parse(Value(std::int64_t{part == "key" ? 0 : 1})));
  PX_TRY(std::vector<Keyed> items, WithKeys(rt, view, path, case_sensitive));
  PX_CHECK_OK(Sort(rt, items, reverse));
  return ItemsOf(rt, items);
}

Result<Value> Unique(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "unique", args);
  const bool case_sensitive = reader.TakeFlag("case_sensitive", false);
  PX_TRY(const AttributePath path, AttributePath::Parse(reader.Take("attribute")));
  PX_CHECK_OK(reader.Done());
  PX_TRY(std::vector<Keyed> items, WithKeys(rt, input, path, case_sensitive));
  for (const Keyed& one : items) {
    if (!Hashable(one.key)) {
      return rt.Raise("TypeError", fmt::format("unhashable type: '{}'", TypeName(one.key)));
    }
  }
  if (!rt.Spend(items.size() * 8)) {
    return rt.OutOfSteps();
  }
  std::vector<std::size_t> order(items.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    order[i] = i;
  }
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    const bool less = KeyLess(items[a].key, items[b].key);
    return less || (a < b && !KeyLess(items[b].key, items[a].key));
  });
  std::vector<bool> repeated(items.size(), false);
  for (std::size_t i = 1; i < order.size(); ++i) {
    repeated[order[i]] = KeyEqual(items[order[i - 1]].key, items[order[i]].key);
  }
  ListBuilder out(rt);
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (!repeated[i]) {
      PX_CHECK_OK(out.Add(items[i].item));
    }
  }
  PX_TRY(const Value list, out.Finish());
  return rt.New<Prepared>(list, "generator");
}

template <bool kMax>
Result<Value> Extreme(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, kMax ? "max" : "min", args);
  const bool case_sensitive = reader.TakeFlag("case_sensitive", false);
  PX_TRY(const AttributePath path, AttributePath::Parse(reader.Take("attribute")));
  PX_CHECK_OK(reader.Done());
  PX_TRY(const std::vector<Keyed> items, WithKeys(rt, input, path, case_sensitive));
  if (items.empty()) {
    return rt.NewUndefined("No aggregated item, sequence was empty.");
  }
  std::size_t best = 0;
  for (std::size_t i = 1; i < items.size(); ++i) {
    PX_TRY(const bool better,
           Compare(rt, kMax ? Operator::kGreater : Operator::kLess, items[i].key, items[best].key));
    best = better ? i : best;
  }
  return items[best].item;
}

Result<Value> Sum(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "sum", args);
  PX_TRY(const AttributePath path, AttributePath::Parse(reader.Take("attribute")));
  const Value start = reader.Take("start");
  PX_CHECK_OK(reader.Done());
  Value total = start.missing() ? Value(std::int64_t{0}) : start;
  if (total.is_string()) {
    return rt.Raise("TypeError", "sum() can't sum strings [use ''.join(seq) instead]");
  }
  PX_TRY(const std::vector<Value> items, Items(rt, input));
  for (const Value& item : items) {
    PX_TRY(const Value part, path.Of(rt, item));
    PX_TRY(total, Arithmetic(rt, Operator::kAdd, total, part));
  }
  return total;
}

/// (grouper, list), whose parts have these names too.
struct Group final : List {
  using List::List;

  Result<Value> Attribute(Runtime& /*rt*/, const Value& /*self*/, std::string_view name) override {
    return name == "grouper" ? items[0] : name == "list" ? items[1] : Value();
  }
};

Result<Value> GroupBy(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "groupby", args);
  PX_TRY(const Value attribute, reader.TakeRequired("attribute"));
  const Value fallback = reader.Take("default");
  const bool case_sensitive = reader.TakeFlag("case_sensitive", false);
  PX_CHECK_OK(reader.Done());
  PX_TRY(AttributePath path, AttributePath::Parse(attribute));
  path.set_fallback(fallback);
  PX_TRY(std::vector<Keyed> items, WithKeys(rt, input, path, case_sensitive));
  PX_CHECK_OK(Sort(rt, items, false));
  ListBuilder groups(rt);
  for (std::size_t begin = 0; begin < items.size();) {
    ListBuilder members(rt);
    std::size_t end = begin;
    for (; end < items.size(); ++end) {
      PX_TRY(const bool same, Equal(rt, items[end].key, items[begin].key));
      if (!same) {
        break;
      }
      PX_CHECK_OK(members.Add(items[end].item));
    }
    PX_TRY(const Value list, members.Finish());
    PX_TRY(const Value key, path.Of(rt, items[begin].item));
    const std::uint32_t depth = std::max(list.depth(), key.depth()) + 1;
    PX_TRY(const Value group, rt.New<Group>(Type::kTuple, std::vector<Value>{key, list}, depth));
    PX_CHECK_OK(groups.Add(group));
    begin = end;
  }
  return groups.Finish();
}

Result<Value> Batch(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "batch", args);
  PX_TRY(const auto size, reader.TakeInteger("linecount"));
  const Value fill = reader.Take("fill_with");
  PX_CHECK_OK(reader.Done());
  if (!size || *size < 1) {
    return rt.Raise("TypeError", "batch needs a line count of 1 or more");
  }
  const auto width = static_cast<std::size_t>(*size);
  PX_TRY(const std::vector<Value> items, Items(rt, input));
  ListBuilder rows(rt);
  for (std::size_t begin = 0; begin < items.size(); begin += width) {
    ListBuilder row(rt);
    for (std::size_t i = begin; i < std::min(begin + width, items.size()); ++i) {
      PX_CHECK_OK(row.Add(items[i]));
    }
    while (!fill.missing() && !fill.is_none() && row.items().size() < width) {
      PX_CHECK_OK(row.Add(fill));
    }
    PX_TRY(const Value list, row.Finish());
    PX_CHECK_OK(rows.Add(list));
    if (width > items.size()) {
      break;
    }
  }
  PX_TRY(const Value list, rows.Finish());
  return rt.New<Prepared>(list, "generator");
}

Result<Value> Slices(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "slice", args);
  PX_TRY(const auto count, reader.TakeInteger("slices"));
  const Value fill = reader.Take("fill_with");
  PX_CHECK_OK(reader.Done());
  if (!count || *count < 1) {
    return rt.Raise("ZeroDivisionError", "integer division or modulo by zero");
  }
  PX_TRY(const std::vector<Value> items, Items(rt, input));
  const auto slices = static_cast<std::size_t>(*count);
  const std::size_t each = items.size() / slices;
  const std::size_t longer = items.size() % slices;
  ListBuilder rows(rt);
  std::size_t at = 0;
  for (std::size_t i = 0; i < slices; ++i) {
    ListBuilder row(rt);
    for (const std::size_t end = at + each + (i < longer ? 1 : 0); at < end; ++at) {
      PX_CHECK_OK(row.Add(items[at]));
    }
    if (!fill.missing() && !fill.is_none() && i >= longer) {
      PX_CHECK_OK(row.Add(fill));
    }
    PX_TRY(const Value list, row.Finish());
    PX_CHECK_OK(rows.Add(list));
  }
  PX_TRY(const Value list, rows.Finish());
  return rt.New<Prepared>(list, "generator");
}

struct Row {
  std::string_view name;
  FilterCall call;
};

constexpr Row kFilters[] = {
    {"batch", Batch},
    {"count", LengthOf},
    {"dictsort", DictSort},
    {"first", First},
    {"groupby", GroupBy},
    {"items", ItemPairs},
    {"join", JoinItems},
    {"last", Last},
    {"length", LengthOf},
    {"list", ToList},
    {"map", Map},
    {"max", Extreme<true>},
    {"min", Extreme<false>},
    {"reject", Select<false, false>},
    {"rejectattr", Select<false, true>},
    {"reverse", Reverse},
    {"select", Select<true, false>},
    {"selectattr", Select<true, true>},
    {"slice", Slices},
    {"sort", SortItems},
    {"sum", Sum},
    {"unique", Unique},
};

}  // namespace

FilterCall FindSequenceFilter(std::string_view name) {
  const Row* row = std::find_if(std::begin(kFilters), std::end(kFilters),
                                [&](const Row& r) { return r.name == name; });
  return row == std::end(kFilters) ? nullptr : row->call;
}

}  // namespace pixii::text::jinja
