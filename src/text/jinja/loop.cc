#include "text/jinja/loop.h"

#include <algorithm>
#include <utility>

#include "text/jinja/operators.h"

namespace pixii::text::jinja {

namespace {

Result<Value> CycleMethod(Runtime& rt, const Value& self, CallArgs& args) {
  if (args.positional.empty()) {
    return rt.Raise("TypeError", "no items for cycling given");
  }
  const auto index = static_cast<std::size_t>(std::max<std::int64_t>(0, self.As<Loop>().index0()));
  return args.positional[index % args.positional.size()];
}

Result<Value> ChangedMethod(Runtime& rt, const Value& self, CallArgs& args) {
  PX_TRY(Value values, rt.NewList(std::move(args.positional), Type::kTuple));
  PX_TRY(const bool changed, self.As<Loop>().Changed(rt, std::move(values)));
  return Value(changed);
}

}  // namespace

Result<Value> Loop::Peek(Runtime& rt) {
  if (after_.missing() && iterator_ != nullptr) {
    PX_TRY(after_, iterator_->Next(rt));
  }
  return after_;
}

Result<Value> Loop::Advance(Runtime& rt) {
  PX_TRY(Value item, Peek(rt));
  after_ = Value();
  if (item.missing()) {
    return item;
  }
  ++index0_;
  before_ = std::exchange(current_, item);
  return item;
}

void Loop::End() {
  iterable_ = Value();
  iterator_.reset();
  before_ = current_ = after_ = last_changed_ = Value();
}

Result<bool> Loop::Changed(Runtime& rt, Value values) {
  if (!last_changed_.missing()) {
    PX_TRY(const bool same, Equal(rt, last_changed_, values));
    if (same) {
      return false;
    }
  }
  last_changed_ = std::move(values);
  return true;
}

/// len(iterable), or the items so far and all that the iterator still has.
Result<std::int64_t> Loop::CountItems(Runtime& rt) {
  if (length_) {
    return *length_;
  }
  if (!filtered_ && HasLength(iterable_)) {
    PX_TRY(length_, Length(rt, iterable_));
    return *length_;
  }
  std::vector<Value> rest;
  if (iterator_ != nullptr) {
    PX_TRY(rest, Items(rt, Value(std::static_pointer_cast<Object>(iterator_))));
  }
  length_ = static_cast<std::int64_t>(rest.size()) + index0_ + 1 + (after_.missing() ? 0 : 1);
  PX_TRY(const Value list, rt.NewList(std::move(rest)));
  PX_TRY(iterator_, Iterate(rt, list));
  return *length_;
}

Result<Value> Loop::Attribute(Runtime& rt, const Value& self, std::string_view name) {
  if (name == "index") {
    return Value(index0_ + 1);
  }
  if (name == "index0") {
    return Value(index0_);
  }
  if (name == "first") {
    return Value(index0_ == 0);
  }
  if (name == "last") {
    PX_TRY(const Value next, Peek(rt));
    return Value(next.missing());
  }
  if (name == "length" || name == "revindex" || name == "revindex0") {
    PX_TRY(const std::int64_t length, CountItems(rt));
    return Value(name == "length"     ? length
                 : name == "revindex" ? length - index0_
                                      : length - index0_ - 1);
  }
  if (name == "depth" || name == "depth0") {
    return Value(static_cast<std::int64_t>(depth0_) + (name == "depth" ? 1 : 0));
  }
  if (name == "previtem") {
    return before_.missing() ? rt.NewUndefined("there is no previous item") : before_;
  }
  if (name == "nextitem") {
    PX_TRY(const Value next, Peek(rt));
    return next.missing() ? rt.NewUndefined("there is no next item") : next;
  }
  if (name == "cycle") {
    return rt.New<Method>(self, "cycle", CycleMethod);
  }
  if (name == "changed") {
    return rt.New<Method>(self, "changed", ChangedMethod);
  }
  return Value();
}

}  // namespace pixii::text::jinja
