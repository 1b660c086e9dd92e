// What expressions are worth.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "text/jinja/interpretation.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"

namespace pixii::text::jinja {

Result<Value> Interpreter::Eval(const Expr& expr) {
  if (expr.kind == ExprKind::kConst) {
    return static_cast<const ConstExpr&>(expr).value;
  }
  if (!rt_.Spend()) {
    return rt_.OutOfSteps();
  }
  if (depth_ >= rt_.limits().evaluation_depth_max) {
    return rt_.OverBudget("evaluation_depth_max", rt_.limits().evaluation_depth_max, "levels");
  }
  rt_.set_line(expr.line);
  if (expr.kind == ExprKind::kName) {
    return Name(static_cast<const NameExpr&>(expr));
  }
  const Restore<std::uint32_t> depth(depth_, depth_ + 1);
  return EvalNode(expr);
}

Result<Value> Interpreter::Name(const NameExpr& name) {
  const Value& value = Slot(name.slot);
  return value.missing() ? rt_.NewUndefined(fmt::format("'{}' is undefined", name.name)) : value;
}

Result<Value> Interpreter::EvalNode(const Expr& expr) {
  switch (expr.kind) {
    case ExprKind::kGetattr: {
      const auto& get = static_cast<const GetattrExpr&>(expr);
      PX_TRY(const Value object, Eval(*get.object));
      return GetAttribute(rt_, object, get.name.view());
    }
    case ExprKind::kGetitem:
      return Getitem(static_cast<const GetitemExpr&>(expr));
    case ExprKind::kCompare:
      return CompareChain(static_cast<const CompareExpr&>(expr));
    case ExprKind::kBinary: {
      const auto& binary = static_cast<const BinaryExpr&>(expr);
      PX_TRY(const Value left, Eval(*binary.left));
      PX_TRY(const Value right, Eval(*binary.right));
      rt_.set_line(expr.line);
      return Arithmetic(rt_, binary.op, left, right);
    }
    case ExprKind::kAnd:
    case ExprKind::kOr:
      return Logic(static_cast<const ItemsExpr&>(expr));
    case ExprKind::kNot: {
      PX_TRY(const Value value, Eval(*static_cast<const UnaryExpr&>(expr).operand));
      return Value(!Truthy(value));
    }
    case ExprKind::kUnary: {
      const auto& unary = static_cast<const UnaryExpr&>(expr);
      PX_TRY(const Value value, Eval(*unary.operand));
      return Negate(rt_, unary.op, value);
    }
    case ExprKind::kConcat:
      return Concat(static_cast<const ItemsExpr&>(expr));
    case ExprKind::kConditional:
      return Conditional(static_cast<const ConditionalExpr&>(expr));
    case ExprKind::kCall:
      return Call(static_cast<const CallExpr&>(expr));
    case ExprKind::kFilter:
    case ExprKind::kTest:
      return Apply(static_cast<const ApplyExpr&>(expr));
    case ExprKind::kList:
    case ExprKind::kTuple: {
      ListBuilder items(rt_);
      for (const ExprPtr& item : static_cast<const ItemsExpr&>(expr).items) {
        PX_TRY(Value value, Eval(*item));
        PX_CHECK_OK(items.Add(std::move(value)));
      }
      return items.Finish(expr.kind == ExprKind::kList ? Type::kList : Type::kTuple);
    }
    case ExprKind::kDict: {
      std::vector<Entry> entries;
      for (const auto& [key_expr, value_expr] : static_cast<const DictExpr&>(expr).entries) {
        PX_TRY(Value key, Eval(*key_expr));
        PX_TRY(Value value, Eval(*value_expr));
        entries.emplace_back(std::move(key), std::move(value));
      }
      return rt_.NewDict(std::move(entries));
    }
    case ExprKind::kConst:
    case ExprKind::kName:
    case ExprKind::kNamespaceRef:
    case ExprKind::kSlice:
      break;
  }
  return rt_.Raise("TemplateRuntimeError", "a slice or target outside its place");
}

Result<Value> Interpreter::Getitem(const GetitemExpr& get) {
  PX_TRY(const Value object, Eval(*get.object));
  if (get.index->kind != ExprKind::kSlice) {
    PX_TRY(const Value index, Eval(*get.index));
    return GetItem(rt_, object, index);
  }
  const auto& slice = static_cast<const SliceExpr&>(*get.index);
  Value parts[3];
  const ExprPtr* exprs[3] = {&slice.start, &slice.stop, &slice.step};
  for (std::size_t i = 0; i < 3; ++i) {
    if (*exprs[i] != nullptr) {
      PX_TRY(parts[i], Eval(**exprs[i]));
    }
  }
  return GetSlice(rt_, object, parts[0], parts[1], parts[2]);
}

Result<Value> Interpreter::CompareChain(const CompareExpr& chain) {
  PX_TRY(Value left, Eval(*chain.first));
  for (const auto& [op, expr] : chain.rest) {
    PX_TRY(Value right, Eval(*expr));
    PX_TRY(const bool holds, Compare(rt_, op, left, right));
    if (!holds) {
      return Value(false);
    }
    left = std::move(right);
  }
  return Value(true);
}

Result<Value> Interpreter::Logic(const ItemsExpr& all) {
  const bool stops_at = all.kind == ExprKind::kOr;
  for (std::size_t i = 0; i + 1 < all.items.size(); ++i) {
    PX_TRY(Value value, Eval(*all.items[i]));
    if (Truthy(value) == stops_at) {
      return value;
    }
  }
  return Eval(*all.items.back());
}

Result<Value> Interpreter::Concat(const ItemsExpr& all) {
  PX_TRY(const Value first, Eval(*all.items[0]));
  PX_TRY(const Str base, ToStr(rt_, first));
  std::vector<Value>
      rest;  // evaluated before they are joined: an evaluation may append to the same buffer
  for (std::size_t i = 1; i < all.items.size(); ++i) {
    PX_TRY(Value value, Eval(*all.items[i]));
    rest.push_back(std::move(value));
  }
  StrBuilder joined(rt_.meter(), base);
  for (const Value& value : rest) {
    PX_CHECK_OK(AppendStr(rt_, joined, value));
  }
  if (joined.failed()) {
    return rt_.OutOfMemory();
  }
  return Value(joined.Finish());
}

Result<Value> Interpreter::Conditional(const ConditionalExpr& conditional) {
  PX_TRY(const Value test, Eval(*conditional.test));
  if (Truthy(test)) {
    return Eval(*conditional.then);
  }
  if (conditional.otherwise != nullptr) {
    return Eval(*conditional.otherwise);
  }
  return rt_.NewUndefined(
      fmt::format("the inline if-expression on line {} evaluated to false and no else section was "
                  "defined.",
                  conditional.line));
}

Result<CallArgs> Interpreter::EvalArguments(const Arguments& arguments) {
  CallArgs out;
  out.positional.reserve(arguments.positional.size());
  for (const ExprPtr& expr : arguments.positional) {
    PX_TRY(Value value, Eval(*expr));
    out.positional.push_back(std::move(value));
  }
  for (const auto& [name, expr] : arguments.named) {
    PX_TRY(Value value, Eval(*expr));
    out.named.emplace_back(name, std::move(value));
  }
  if (arguments.more_positional != nullptr) {
    PX_TRY(const Value more, Eval(*arguments.more_positional));
    PX_TRY(std::vector<Value> items, Items(rt_, more));
    std::move(items.begin(), items.end(), std::back_inserter(out.positional));
  }
  if (arguments.more_named != nullptr) {
    PX_CHECK_OK(MoreNamed(*arguments.more_named, out));
  }
  return out;
}

Result<void> Interpreter::MoreNamed(const Expr& expr, CallArgs& out) {
  PX_TRY(const Value more, Eval(expr));
  if (!more.is(Type::kDict)) {
    return more.is_undefined()
               ? rt_.UseOf(more)
               : rt_.Raise("TypeError", fmt::format("argument after ** must be a mapping, not {}",
                                                    TypeName(more)));
  }
  const auto& entries = more.As<Dict>().entries();
  constexpr std::size_t kNamedMax = 1'000;  // arguments; they are found by a scan
  if (entries.size() > kNamedMax) {
    return rt_.Raise("TypeError", fmt::format("more than {} keyword arguments", kNamedMax));
  }
  for (const auto& [key, value] : entries) {
    if (!key.is_string()) {
      return rt_.Raise("TypeError", "keywords must be strings");
    }
    for (const auto& other : out.named) {
      if (other.first.view() == key.view()) {
        return rt_.Raise("TypeError",
                         fmt::format("got multiple values for keyword argument '{}'", key.view()));
      }
    }
    out.named.emplace_back(key.str(), value);
  }
  return {};
}

Result<Value> Interpreter::Call(const CallExpr& call) {
  if (call.callee->kind ==
      ExprKind::kGetattr) {  // a method of str, list or dict needs no object of its own
    const auto& get = static_cast<const GetattrExpr&>(*call.callee);
    PX_TRY(const Value object, Eval(*get.object));
    const MethodLookup method = FindMethod(object, get.name.view());
    if (method.kind == MethodKind::kSafe) {
      PX_TRY(CallArgs args, EvalArguments(call.arguments));
      rt_.set_line(call.line);
      return method.call(rt_, object, args);
    }
    PX_TRY(const Value callee, GetAttribute(rt_, object, get.name.view()));
    PX_TRY(CallArgs args, EvalArguments(call.arguments));
    rt_.set_line(call.line);
    return CallValue(callee, std::move(args));
  }
  PX_TRY(const Value callee, Eval(*call.callee));
  PX_TRY(CallArgs args, EvalArguments(call.arguments));
  rt_.set_line(call.line);
  return CallValue(callee, std::move(args));
}

Result<Value> Interpreter::Apply(const ApplyExpr& apply) {
  Value object;
  if (apply.object != nullptr) {
    PX_TRY(object, Eval(*apply.object));
  } else {
    object = *block_text_;
  }
  CallArgs args;
  if (!apply.arguments.empty()) {
    PX_TRY(args, EvalArguments(apply.arguments));
  }
  rt_.set_line(apply.line);
  if (apply.filter != nullptr) {
    return apply.filter(rt_, object, args);
  }
  if (apply.test != nullptr) {
    PX_TRY(const bool holds, apply.test(rt_, object, args));
    return Value(holds);
  }
  return rt_.Raise("TemplateRuntimeError",
                   fmt::format("No {} named '{}' found.",
                               apply.kind == ExprKind::kFilter ? "filter" : "test", apply.name));
}

}  // namespace pixii::text::jinja
