// What statements do, loops among them.
#include <fmt/format.h>

#include <memory>
#include <utility>
#include <vector>

#include "text/jinja/interpretation.h"
#include "text/jinja/operators.h"

namespace pixii::text::jinja {

Result<Flow> Interpreter::Execute(const Block& block) {
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

Result<Flow> Interpreter::Execute(const Stmt& statement) {
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

Result<void> Interpreter::CheckOutput() {
  if (out_->failed()) {
    return rt_.OutOfMemory();
  }
  if (out_->size() > rt_.limits().output_bytes_max) {
    return rt_.OverBudget("output_bytes_max", rt_.limits().output_bytes_max, "bytes");
  }
  return {};
}

Result<void> Interpreter::Print(const Value& value) {
  PX_CHECK_OK(AppendStr(rt_, *out_, value));
  return CheckOutput();
}

Result<Flow> Interpreter::Output(const OutputStmt& output) {
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

Result<Flow> Interpreter::If(const IfStmt& statement) {
  for (const auto& [test, body] : statement.branches) {
    PX_TRY(const Value value, Eval(*test));
    if (Truthy(value)) {
      return Execute(body);
    }
  }
  return statement.otherwise.empty() ? Result<Flow>(Flow::kOn) : Execute(statement.otherwise);
}

Result<Value> Interpreter::Capture(const Block& block, Flow& flow) {
  StrBuilder text(rt_.meter());
  {
    const Restore<StrBuilder*> out(out_, &text);
    PX_TRY(flow, Execute(block));
  }
  return rt_.NewString(text);
}

Result<Flow> Interpreter::SetBlock(const SetBlockStmt& set) {
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

Result<Flow> Interpreter::FilterBlock(const FilterBlockStmt& block) {
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

Result<Flow> Interpreter::CallBlock(const CallBlockStmt& block) {
  PX_TRY(Value caller, rt_.New<Macro>(block.macro, *activation_));
  const auto& call = static_cast<const CallExpr&>(*block.call);
  PX_TRY(const Value callee, Eval(*call.callee));
  PX_TRY(CallArgs args, EvalArguments(call.arguments));
  args.named.emplace_back(Str::Literal("caller"), std::move(caller));
  PX_TRY(const Value text, CallValue(callee, std::move(args)));
  PX_CHECK_OK(Print(text));
  return Flow::kOn;
}

Result<void> Interpreter::Assign(const Expr& target, Value value) {
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

Result<void> Interpreter::Unpack(const ItemsExpr& target, const Value& value) {
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
            ? fmt::format("not enough values to unpack (expected {}, got {})", target.items.size(),
                          items.size())
            : fmt::format("too many values to unpack (expected {})", target.items.size()));
  }
  for (std::size_t i = 0; i < items.size(); ++i) {
    PX_CHECK_OK(Assign(*target.items[i], std::move(items[i])));
  }
  return {};
}

/// The items of a loop that pass its `if`, tested when they are asked for.
class Interpreter::Filtered final : public Iterator {
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

Result<Flow> Interpreter::For(const ForStmt& loop) {
  PX_TRY(const Value iterable, Eval(*loop.iterable));
  if (!loop.recursive) {
    return RunLoop(loop, iterable, 0, nullptr);
  }
  PX_TRY(const Value text, RunRecursive(loop, *activation_, iterable, 0));
  PX_CHECK_OK(Print(text));
  return Flow::kOn;
}

Result<Value> Interpreter::RunRecursive(const ForStmt& loop, Activation& outer,
                                        const Value& iterable, std::uint32_t depth0) {
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

Result<Value> Interpreter::CallLoop(const Loop& loop, CallArgs& args) {
  if (loop.statement() == nullptr) {
    return rt_.Raise("TypeError",
                     "The loop must have the 'recursive' marker to be called recursively.");
  }
  if (args.positional.size() != 1 || !args.named.empty()) {
    return rt_.Raise("TypeError", "a recursive loop is called with one iterable");
  }
  return RunRecursive(*loop.statement(), *loop.outer(), args.positional[0], loop.depth0() + 1);
}

Result<Flow> Interpreter::RunLoop(const ForStmt& loop, const Value& iterable, std::uint32_t depth0,
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

Result<bool> Interpreter::Iterations(const ForStmt& loop, Iterator& items,
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

}  // namespace pixii::text::jinja
