// One run of a template: its variables, its output, and how far it may go. interpreter.cc has
// calls, statements.cc and expressions.cc what their names say.
//
// Thread: one run, one thread. Private to these.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "text/jinja/ast.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/loop.h"
#include "text/jinja/runtime.h"
#include "text/jinja/string.h"

namespace pixii::text::jinja {

/// Slots of one call of a function.
struct Activation {
  std::vector<Value> slots;
  Activation* outer = nullptr;
};

/// How a statement ended.
enum class Flow : std::uint8_t { kOn, kBreak, kContinue };

/// A macro and the slots it sees around it, which live to the end of the run.
struct Macro final : Object {
  Macro(const MacroDefinition& definition_used, Activation& outer_used)
      : Object(Type::kMacro), definition(&definition_used), outer(&outer_used) {}

  Result<Value> Attribute(Runtime& rt, const Value& self, std::string_view name) override;

  const MacroDefinition* definition;
  Activation* outer;
};

class Interpreter final : public Caller {
 public:
  Interpreter(Runtime& rt, const Variables& variables)
      : rt_(rt), variables_(variables), root_(rt.meter()) {
    rt_.set_caller(this);
  }

  Result<StrBuilder::Taken> Run(const Template& tree);
  Result<Value> CallValue(const Value& callee, CallArgs args) override;

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

  class Filtered;

  Value& Slot(SlotRef ref) {
    Activation* activation = activation_;
    for (std::uint32_t up = ref.up; up > 0; --up) {
      activation = activation->outer;
    }
    return activation->slots[ref.index];
  }

  // Calls.
  Result<ActivationHolder> Activate(const FunctionInfo& function, Activation* outer);
  Result<void> EnterFrame(const FrameInfo& frame);
  Result<void> EnterCall();
  Result<void> Bind(const MacroDefinition& macro, std::vector<Value>& slots, CallArgs& args);
  Result<Value> CallMacro(const Macro& macro, CallArgs& args);

  // Statements.
  Result<Flow> Execute(const Block& block);
  Result<Flow> Execute(const Stmt& statement);
  Result<void> CheckOutput();
  Result<void> Print(const Value& value);
  Result<Flow> Output(const OutputStmt& output);
  Result<Flow> If(const IfStmt& statement);
  /// Runs `block` with its output caught; nothing if a break or continue left it, which `flow` then
  /// says.
  Result<Value> Capture(const Block& block, Flow& flow);
  Result<Flow> SetBlock(const SetBlockStmt& set);
  Result<Flow> FilterBlock(const FilterBlockStmt& block);
  Result<Flow> CallBlock(const CallBlockStmt& block);
  Result<void> Assign(const Expr& target, Value value);
  Result<void> Unpack(const ItemsExpr& target, const Value& value);
  Result<Flow> For(const ForStmt& loop);
  Result<Value> RunRecursive(const ForStmt& loop, Activation& outer, const Value& iterable,
                             std::uint32_t depth0);
  Result<Value> CallLoop(const Loop& loop, CallArgs& args);
  Result<Flow> RunLoop(const ForStmt& loop, const Value& iterable, std::uint32_t depth0,
                       Activation* recursion_outer);
  /// Whether some iteration reached the end of the body: only that keeps `else` from running, as in
  /// Jinja.
  Result<bool> Iterations(const ForStmt& loop, Iterator& items, const std::shared_ptr<Loop>& state);

  // Expressions.
  Result<Value> Eval(const Expr& expr);
  Result<Value> Name(const NameExpr& name);
  Result<Value> EvalNode(const Expr& expr);
  Result<Value> Getitem(const GetitemExpr& get);
  Result<Value> CompareChain(const CompareExpr& chain);
  Result<Value> Logic(const ItemsExpr& all);
  Result<Value> Concat(const ItemsExpr& all);
  Result<Value> Conditional(const ConditionalExpr& conditional);
  Result<CallArgs> EvalArguments(const Arguments& arguments);
  Result<void> MoreNamed(const Expr& expr, CallArgs& out);
  Result<Value> Call(const CallExpr& call);
  Result<Value> Apply(const ApplyExpr& apply);

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

}  // namespace pixii::text::jinja
