#include "text/jinja/interpreter.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "text/jinja/globals.h"
#include "text/jinja/loop.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"

namespace pixii::text::jinja {

/// Slots of one call of a function.
struct Activation {
  std::vector<Value> slots;
  Activation* outer = nullptr;
};

namespace {

enum class Flow : std::uint8_t { kOn, kBreak, kContinue };

/// A macro and the slots it sees around it, which live to the end of the run.
struct Macro final : Object {
  Macro(const MacroDefinition& definition_used, Activation& outer_used)
      : Object(Type::kMacro), definition(&definition_used), outer(&outer_used) {}

  Result<Value> Attribute(Runtime& rt, const Value& /*self*/, std::string_view name) override {
    if (name == "name") {
      return Value::Literal(definition->name);
    }
    if (name == "arguments") {
      std::vector<Value> names;
      for (const auto& parameter : definition->parameters) {
        names.push_back(Value::Literal(parameter.name));
      }
      return rt.NewList(std::move(names), Type::kTuple);
    }
    if (name == "catch_kwargs" || name == "catch_varargs" || name == "caller") {
      return Value(name == "caller"         ? definition->uses_caller
                   : name == "catch_kwargs" ? definition->uses_kwargs
                                            : definition->uses_varargs);
    }
    return Value();
  }

  const MacroDefinition* definition;
  Activation* outer;
};

class Interpreter final : public Caller {
 public:
  Interpreter(Runtime& rt, const Variables& variables)
      : rt_(rt), variables_(variables), root_(rt.meter()) {
    rt_.set_caller(this);
  }

  Result<StrBuilder::Taken> Run(const Template& tree) {
    out_ = &root_;
    PX_TRY(ActivationHolder holder, Activate(tree.function, nullptr));
    activation_ = holder.activation;
    PX_CHECK_OK(EnterFrame(tree.frame));
    PX_CHECK_OK(Execute(tree.body));
    return root_.Take();
  }

  Result<Value> CallValue(const Value& callee, CallArgs args) override {
    switch (callee.type()) {
      case Type::kMacro:
        return CallMacro(callee.As<Macro>(), args);
      case Type::kFunction:
        return callee.As<Function>().call(rt_, args);
      case Type::kMethod:
        return callee.As<Method>().call(rt_, callee.As<Method>().self, args);
      case Type::kLoop:
        return CallLoop(callee.As<Loop>(), args);
      case Type::kJoiner:
        return CallJoiner(rt_, callee, args);
      case Type::kUndefined:
        return rt_.UseOf(callee);
      default:
        return rt_.Raise("TypeError", fmt::format("'{}' object is not callable", TypeName(callee)));
    }
  }

 private:
  /// Restores a value at the end of a scope.
  template <class T>
  class Restore {
   public:
    Restore(T& place, T value) : place_(place), old_(std::exchange(place, value)) {}

    ~Restore() { place_ = old_; }

    Restore(const Restore&) = delete;
    Restore& operator=(const Restore&) = delete;

   private:
    T& place_;
    T old_;
  };

  struct ActivationHolder {
    Activation* activation;
    std::unique_ptr<Activation> own;  // null if the run keeps it
  };

  Result<ActivationHolder> Activate(const FunctionInfo& function, Activation* outer) {
    auto made = std::make_unique<Activation>();
    made->slots.resize(function.slot_count);
    made->outer = outer;
    Activation* const activation = made.get();
    if (!function.captured) {
      return ActivationHolder{activation, std::move(made)};
    }
    rt_.meter().Charge(sizeof(Activation) + function.slot_count * sizeof(Value));
    if (rt_.meter().exceeded()) {
      return rt_.OutOfMemory();
    }
    kept_.push_back(std::move(made));
    return ActivationHolder{activation, nullptr};
  }

  Value& Slot(SlotRef ref) {
    Activation* activation = activation_;
    for (std::uint32_t up = ref.up; up > 0; --up) {
      activation = activation->outer;
    }
    return activation->slots[ref.index];
  }

  Result<void> EnterFrame(const FrameInfo& frame) {
    for (const Load& load : frame.loads) {
      Value& slot = activation_->slots[load.slot];
      switch (load.from) {
        case Load::From::kNothing:
          slot = Value();
          break;
        case Load::From::kOuter:
          slot = Slot(load.outer);
          break;
        case Load::From::kContext: {
          const auto it =
              std::find_if(variables_.begin(), variables_.end(),
                           [&](const auto& variable) { return variable.first == load.name; });
          if (it != variables_.end()) {
            slot = it->second;
          } else {
            PX_TRY(slot, FindGlobal(rt_, load.name));
          }
          break;
        }
      }
    }
    return {};
  }

  // ---- statements

  Result<Flow> Execute(const Block& block) {
    if (depth_ >= rt_.limits().evaluation_depth_max) {
      return rt_.OverBudget("evaluation_depth_max", rt_.limits().evaluation_depth_max, "levels");
    }
    const Restore<std::uint32_t> depth(depth_, depth_ + 1);
    for (const StmtPtr& statement : block) {
      if (!rt_.Spend()) {
        return rt_.OutOfSteps();
      }
      rt_.set_line(statement->line);
      PX_TRY(const Flow flow, Execute(*statement));
      if (flow != Flow::kOn) {
        return flow;
      }
    }
    return Flow::kOn;
  }

  Result<Flow> Execute(const Stmt& statement) {
    switch (statement.kind) {
      case StmtKind::kOutput:
        return Output(static_cast<const OutputStmt&>(statement));
      case StmtKind::kIf:
        return If(static_cast<const IfStmt&>(statement));
      case StmtKind::kFor:
        return For(static_cast<const ForStmt&>(statement));
      case StmtKind::kSet: {
        const auto& set = static_cast<const SetStmt&>(statement);
        PX_TRY(Value value, Eval(*set.value));
        PX_CHECK_OK(Assign(*set.target, std::move(value)));
        return Flow::kOn;
      }
      case StmtKind::kSetBlock:
        return SetBlock(static_cast<const SetBlockStmt&>(statement));
      case StmtKind::kMacro: {
        const auto& macro = static_cast<const MacroStmt&>(statement);
        PX_TRY(Slot(macro.slot), rt_.New<Macro>(macro.macro, *activation_));
        return Flow::kOn;
      }
      case StmtKind::kCallBlock:
        return CallBlock(static_cast<const CallBlockStmt&>(statement));
      case StmtKind::kFilterBlock:
        return FilterBlock(static_cast<const FilterBlockStmt&>(statement));
      case StmtKind::kWith:
      case StmtKind::kGeneration: {
        const auto& with = static_cast<const WithStmt&>(statement);
        PX_CHECK_OK(EnterFrame(with.frame));
        for (const auto& [target, expr] : with.targets) {
          PX_TRY(Value value, Eval(*expr));
          PX_CHECK_OK(Assign(*target, std::move(value)));
        }
        return Execute(with.body);
      }
      case StmtKind::kBreak:
        return Flow::kBreak;
      case StmtKind::kContinue:
        return Flow::kContinue;
    }
    return Flow::kOn;
  }

  Result<void> CheckOutput() {
    if (out_->failed()) {
      return rt_.OutOfMemory();
    }
    if (out_->size() > rt_.limits().output_bytes_max) {
      return rt_.OverBudget("output_bytes_max", rt_.limits().output_bytes_max, "bytes");
    }
    return {};
  }

  Result<void> Print(const Value& value) {
    PX_CHECK_OK(AppendStr(rt_, *out_, value));
    return CheckOutput();
  }

  Result<Flow> Output(const OutputStmt& output) {
    for (const ExprPtr& piece : output.pieces) {
      if (piece->kind == ExprKind::kConst) {
        PX_CHECK_OK(Print(static_cast<const ConstExpr&>(*piece).value));
        continue;
      }
      PX_TRY(const Value value, Eval(*piece));
      PX_CHECK_OK(Print(value));
    }
    return Flow::kOn;
  }

  Result<Flow> If(const IfStmt& statement) {
    for (const auto& [test, body] : statement.branches) {
      PX_TRY(const Value value, Eval(*test));
      if (Truthy(value)) {
        return Execute(body);
      }
    }
    return statement.otherwise.empty() ? Result<Flow>(Flow::kOn) : Execute(statement.otherwise);
  }

  /// Runs `block` with its output caught; nothing if a break or continue left it, which `flow` then
  /// says.
  Result<Value> Capture(const Block& block, Flow& flow) {
    StrBuilder text(rt_.meter());
    {
      const Restore<StrBuilder*> out(out_, &text);
      PX_TRY(flow, Execute(block));
    }
    return rt_.NewString(text);
  }

  Result<Flow> SetBlock(const SetBlockStmt& set) {
    PX_CHECK_OK(EnterFrame(set.frame));
    Flow flow = Flow::kOn;
    PX_TRY(Value text, Capture(set.body, flow));
    if (flow != Flow::kOn) {
      return flow;
    }
    if (set.filter != nullptr) {
      const Restore<const Value*> block_text(block_text_, &text);
      PX_TRY(Value filtered, Eval(*set.filter));
      PX_CHECK_OK(Assign(*set.target, std::move(filtered)));
      return Flow::kOn;
    }
    PX_CHECK_OK(Assign(*set.target, std::move(text)));
    return Flow::kOn;
  }

  Result<Flow> FilterBlock(const FilterBlockStmt& block) {
    PX_CHECK_OK(EnterFrame(block.frame));
    Flow flow = Flow::kOn;
    PX_TRY(const Value text, Capture(block.body, flow));
    if (flow != Flow::kOn) {
      return flow;
    }
    const Restore<const Value*> block_text(block_text_, &text);
    PX_TRY(const Value filtered, Eval(*block.filter));
    PX_CHECK_OK(Print(filtered));
    return Flow::kOn;
  }

  Result<Flow> CallBlock(const CallBlockStmt& block) {
    PX_TRY(Value caller, rt_.New<Macro>(block.macro, *activation_));
    const auto& call = static_cast<const CallExpr&>(*block.call);
    PX_TRY(const Value callee, Eval(*call.callee));
    PX_TRY(CallArgs args, EvalArguments(call.arguments));
    args.named.emplace_back(Str::Literal("caller"), std::move(caller));
    PX_TRY(const Value text, CallValue(callee, std::move(args)));
    PX_CHECK_OK(Print(text));
    return Flow::kOn;
  }

  // ---- assignment

  Result<void> Assign(const Expr& target, Value value) {
    if (target.kind == ExprKind::kName) {
      Slot(static_cast<const NameExpr&>(target).slot) = std::move(value);
      return {};
    }
    if (target.kind == ExprKind::kNamespaceRef) {
      const auto& ref = static_cast<const NamespaceRefExpr&>(target);
      const Value& space = Slot(ref.slot);
      if (!space.is(Type::kNamespace)) {
        return rt_.Raise("TemplateRuntimeError", "cannot assign attribute on non-namespace object");
      }
      space.As<Namespace>().Set(ref.attribute, std::move(value));
      return {};
    }
    return Unpack(static_cast<const ItemsExpr&>(target), value);
  }

  Result<void> Unpack(const ItemsExpr& target, const Value& value) {
    if (value.is(Type::kUndefined) || value.missing()) {
      return rt_.Raise("ValueError", fmt::format("not enough values to unpack (expected {}, got 0)",
                                                 target.items.size()));
    }
    std::vector<Value> items;
    if (value.is_list_or_tuple()) {
      items = value.As<List>().items;
    } else if (!HasLength(value) && !value.is(Type::kIterator)) {
      return rt_.Raise("TypeError",
                       fmt::format("cannot unpack non-iterable {} object", TypeName(value)));
    } else {
      PX_TRY(items, Items(rt_, value));
    }
    if (items.size() != target.items.size()) {
      return rt_.Raise(
          "ValueError",
          items.size() < target.items.size()
              ? fmt::format("not enough values to unpack (expected {}, got {})",
                            target.items.size(), items.size())
              : fmt::format("too many values to unpack (expected {})", target.items.size()));
    }
    for (std::size_t i = 0; i < items.size(); ++i) {
      PX_CHECK_OK(Assign(*target.items[i], std::move(items[i])));
    }
    return {};
  }

  // ---- loops

  /// The items of a loop that pass its `if`, tested when they are asked for.
  class Filtered final : public Iterator {
   public:
    Filtered(Interpreter& interpreter, const ForStmt& loop, std::shared_ptr<Iterator> source)
        : Iterator(source->depth() + 1, "generator"),
          interpreter_(interpreter),
          loop_(loop),
          source_(std::move(source)),
          activation_(interpreter.activation_) {}

    Result<Value> Next(Runtime& rt) override {
      const Restore<Activation*> activation(interpreter_.activation_, activation_);
      if (!entered_) {
        PX_CHECK_OK(interpreter_.EnterFrame(loop_.test_frame));
        entered_ = true;
      }
      while (true) {
        if (!rt.Spend()) {
          return rt.OutOfSteps();
        }
        PX_TRY(Value item, source_->Next(rt));
        if (item.missing()) {
          return item;
        }
        PX_CHECK_OK(interpreter_.Assign(*loop_.test_target, item));
        PX_TRY(const Value passes, interpreter_.Eval(*loop_.test));
        if (Truthy(passes)) {
          return item;
        }
      }
    }

   private:
    Interpreter& interpreter_;
    const ForStmt& loop_;
    std::shared_ptr<Iterator> source_;
    Activation* activation_;
    bool entered_ = false;
  };

  Result<Flow> For(const ForStmt& loop) {
    PX_TRY(const Value iterable, Eval(*loop.iterable));
    if (!loop.recursive) {
      return RunLoop(loop, iterable, 0, nullptr);
    }
    PX_TRY(const Value text, RunRecursive(loop, *activation_, iterable, 0));
    PX_CHECK_OK(Print(text));
    return Flow::kOn;
  }

  Result<Value> RunRecursive(const ForStmt& loop, Activation& outer, const Value& iterable,
                             std::uint32_t depth0) {
    PX_CHECK_OK(EnterCall());
    const Restore<std::uint32_t> calls(calls_, calls_ + 1);
    PX_TRY(const ActivationHolder holder, Activate(loop.function, &outer));
    const Restore<Activation*> activation(activation_, holder.activation);
    StrBuilder text(rt_.meter());
    {
      const Restore<StrBuilder*> out(out_, &text);
      PX_TRY([[maybe_unused]] const Flow flow, RunLoop(loop, iterable, depth0, &outer));
    }
    return rt_.NewString(text);
  }

  Result<Value> CallLoop(const Loop& loop, CallArgs& args) {
    if (loop.statement() == nullptr) {
      return rt_.Raise("TypeError",
                       "The loop must have the 'recursive' marker to be called recursively.");
    }
    if (args.positional.size() != 1 || !args.named.empty()) {
      return rt_.Raise("TypeError", "a recursive loop is called with one iterable");
    }
    return RunRecursive(*loop.statement(), *loop.outer(), args.positional[0], loop.depth0() + 1);
  }

  Result<Flow> RunLoop(const ForStmt& loop, const Value& iterable, std::uint32_t depth0,
                       Activation* recursion_outer) {
    PX_TRY(std::shared_ptr<Iterator> items, Iterate(rt_, iterable));
    if (loop.test != nullptr) {
      items = std::make_shared<Filtered>(*this, loop, std::move(items));
    }
    std::shared_ptr<Loop> state;
    if (loop.has_loop) {
      PX_TRY(const Value made, rt_.New<Loop>(iterable, items, loop.test != nullptr, depth0));
      state = std::static_pointer_cast<Loop>(made.object());
      if (recursion_outer != nullptr) {
        state->SetRecursion(loop, *recursion_outer);
      }
    }
    Result<bool> completed = Iterations(loop, *items, state);
    if (state != nullptr) {
      state->End();
    }
    if (!completed) {
      return tl::unexpected<Error>(std::move(completed).error());
    }
    for (const Load& load : loop.body_frame.loads) {
      activation_->slots[load.slot] = Value();
    }
    if (*completed || loop.otherwise.empty()) {
      return Flow::kOn;
    }
    PX_CHECK_OK(EnterFrame(loop.otherwise_frame));
    return Execute(loop.otherwise);
  }

  /// Whether some iteration reached the end of the body: only that keeps `else` from running, as in
  /// Jinja.
  Result<bool> Iterations(const ForStmt& loop, Iterator& items,
                          const std::shared_ptr<Loop>& state) {
    bool completed = false;
    while (true) {
      PX_TRY(Value item, state != nullptr ? state->Advance(rt_) : items.Next(rt_));
      if (item.missing()) {
        return completed;
      }
      if (!rt_.Spend()) {
        return rt_.OutOfSteps();
      }
      PX_CHECK_OK(Assign(*loop.target, std::move(item)));
      if (state != nullptr) {
        activation_->slots[loop.loop_slot] = Value(state);
      }
      PX_CHECK_OK(EnterFrame(loop.body_frame));
      PX_TRY(const Flow flow, Execute(loop.body));
      if (flow == Flow::kBreak) {
        return completed;
      }
      completed = completed || flow == Flow::kOn;
    }
  }

  // ---- macros

  Result<void> EnterCall() {
    if (calls_ >= rt_.limits().call_depth_max) {
      return rt_.OverBudget("call_depth_max", rt_.limits().call_depth_max, "calls");
    }
    return {};
  }

  static Value TakeNamed(CallArgs& args, std::string_view name) {
    for (auto it = args.named.begin(); it != args.named.end(); ++it) {
      if (it->first.view() == name) {
        Value value = std::move(it->second);
        args.named.erase(it);
        return value;
      }
    }
    return {};
  }

  Result<void> Bind(const MacroDefinition& macro, std::vector<Value>& slots, CallArgs& args) {
    for (std::size_t i = 0; i < macro.parameters.size(); ++i) {
      const auto& parameter = macro.parameters[i];
      slots[parameter.slot] =
          i < args.positional.size() ? args.positional[i] : TakeNamed(args, parameter.name);
    }
    if (macro.uses_caller && !macro.explicit_caller) {
      Value caller = TakeNamed(args, "caller");
      const bool absent = caller.missing() || caller.is_none();
      slots[macro.caller_slot] = absent ? rt_.NewUndefined("No caller defined") : std::move(caller);
    }
    if (macro.uses_kwargs) {
      std::vector<Entry> rest;
      for (auto& [name, value] : args.named) {
        rest.emplace_back(Value(name), std::move(value));
      }
      PX_TRY(slots[macro.kwargs_slot], rt_.NewDict(std::move(rest)));
    } else if (!args.named.empty()) {
      const std::string_view name = args.named[0].first.view();
      if (TakeNamed(args, "caller").missing()) {
        return rt_.Raise("TypeError", fmt::format("macro '{}' takes no keyword argument '{}'",
                                                  macro.name, name));
      }
      return rt_.Raise(
          "TypeError",
          fmt::format("macro '{}' was invoked with two values for the special caller argument. "
                      "This is most likely a bug.",
                      macro.name));
    }
    const std::size_t taken = std::min(args.positional.size(), macro.parameters.size());
    if (macro.uses_varargs) {
      std::vector<Value> rest(args.positional.begin() + static_cast<std::ptrdiff_t>(taken),
                              args.positional.end());
      PX_TRY(slots[macro.varargs_slot], rt_.NewList(std::move(rest), Type::kTuple));
    } else if (taken < args.positional.size()) {
      return rt_.Raise("TypeError", fmt::format("macro '{}' takes not more than {} argument(s)",
                                                macro.name, macro.parameters.size()));
    }
    return {};
  }

  Result<Value> CallMacro(const Macro& macro, CallArgs& args) {
    const MacroDefinition& definition = *macro.definition;
    PX_CHECK_OK(EnterCall());
    const Restore<std::uint32_t> calls(calls_, calls_ + 1);
    PX_TRY(const ActivationHolder holder, Activate(definition.function, macro.outer));
    PX_CHECK_OK(Bind(definition, holder.activation->slots, args));
    const Restore<Activation*> activation(activation_, holder.activation);
    PX_CHECK_OK(EnterFrame(definition.frame));
    for (const auto& parameter : definition.parameters) {
      if (!activation_->slots[parameter.slot].missing()) {
        continue;
      }
      if (parameter.fallback == nullptr) {
        activation_->slots[parameter.slot] =
            rt_.NewUndefined(fmt::format("parameter '{}' was not provided", parameter.name));
      } else {
        PX_TRY(Value value, Eval(*parameter.fallback));
        activation_->slots[parameter.slot] = std::move(value);
      }
    }
    Flow flow = Flow::kOn;
    return Capture(definition.body, flow);
  }

  // ---- expressions

  Result<Value> Eval(const Expr& expr) {
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

  Result<Value> Name(const NameExpr& name) {
    const Value& value = Slot(name.slot);
    return value.missing() ? rt_.NewUndefined(fmt::format("'{}' is undefined", name.name)) : value;
  }

  Result<Value> EvalNode(const Expr& expr) {
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

  Result<Value> Getitem(const GetitemExpr& get) {
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

  Result<Value> CompareChain(const CompareExpr& chain) {
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

  Result<Value> Logic(const ItemsExpr& all) {
    const bool stops_at = all.kind == ExprKind::kOr;
    for (std::size_t i = 0; i + 1 < all.items.size(); ++i) {
      PX_TRY(Value value, Eval(*all.items[i]));
      if (Truthy(value) == stops_at) {
        return value;
      }
    }
    return Eval(*all.items.back());
  }

  Result<Value> Concat(const ItemsExpr& all) {
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

  Result<Value> Conditional(const ConditionalExpr& conditional) {
    PX_TRY(const Value test, Eval(*conditional.test));
    if (Truthy(test)) {
      return Eval(*conditional.then);
    }
    if (conditional.otherwise != nullptr) {
      return Eval(*conditional.otherwise);
    }
    return rt_.NewUndefined(fmt::format(
        "the inline if-expression on line {} evaluated to false and no else section was "
        "defined.",
        conditional.line));
  }

  Result<CallArgs> EvalArguments(const Arguments& arguments) {
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

  Result<void> MoreNamed(const Expr& expr, CallArgs& out) {
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
          return rt_.Raise("TypeError", fmt::format("got multiple values for keyword argument '{}'",
                                                    key.view()));
        }
      }
      out.named.emplace_back(key.str(), value);
    }
    return {};
  }

  Result<Value> Call(const CallExpr& call) {
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

  Result<Value> Apply(const ApplyExpr& apply) {
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

  Runtime& rt_;
  const Variables& variables_;
  StrBuilder root_;
  StrBuilder* out_ = nullptr;
  Activation* activation_ = nullptr;
  const Value* block_text_ = nullptr;
  std::uint32_t depth_ = 0;
  std::uint32_t calls_ = 0;
  std::vector<std::unique_ptr<Activation>> kept_;
};

}  // namespace

Result<StrBuilder::Taken> Run(const Template& tree, Runtime& rt, const Variables& variables) {
  return Interpreter(rt, variables).Run(tree);
}

}  // namespace pixii::text::jinja
