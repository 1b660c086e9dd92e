// A parsed template. Immutable after Parse: runs in many threads share it.
//
// Variables are slots: Jinja decides at compile time to which scope a name belongs, and so does
// jinja_scope.cc. A *function* is what has its own slots at each call: the template, a macro, a
// call block, a recursive loop's body. A *frame* is a scope inside a function: a loop's body, a
// with block; entering it runs its loads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/filters.h"
#include "text/jinja/value.h"

namespace pixii::text::jinja {

enum class ExprKind : std::uint8_t {
  kConst,
  kName,
  kNamespaceRef,
  kList,
  kTuple,
  kDict,
  kGetattr,
  kGetitem,
  kSlice,
  kCall,
  kFilter,
  kTest,
  kUnary,
  kBinary,
  kCompare,
  kAnd,
  kOr,
  kNot,
  kConcat,
  kConditional,
};

struct Expr {
  Expr(ExprKind kind_used, std::uint32_t line_used) : kind(kind_used), line(line_used) {}

  virtual ~Expr() = default;

  ExprKind kind;
  std::uint32_t line;
  std::uint32_t depth = 1;  // of the tree below, this node included
};

using ExprPtr = std::unique_ptr<Expr>;

/// Where a variable is: `up` functions outwards, slot `index` there.
struct SlotRef {
  std::uint32_t up = 0;
  std::uint32_t index = 0;
};

struct ConstExpr final : Expr {
  ConstExpr(Value value_used, std::uint32_t line_used)
      : Expr(ExprKind::kConst, line_used), value(std::move(value_used)) {}

  Value value;
};

struct NameExpr final : Expr {
  NameExpr(std::string name_used, std::uint32_t line_used)
      : Expr(ExprKind::kName, line_used), name(std::move(name_used)) {}

  std::string name;
  SlotRef slot;
};

/// `ns.attribute` as an assignment target.
struct NamespaceRefExpr final : Expr {
  NamespaceRefExpr(std::string name_used, Str attribute_used, std::uint32_t line_used)
      : Expr(ExprKind::kNamespaceRef, line_used),
        name(std::move(name_used)),
        attribute(std::move(attribute_used)) {}

  std::string name;
  Str attribute;
  SlotRef slot;
};

/// list, tuple, concat (a ~ b ~ c), and, or: items in order.
struct ItemsExpr final : Expr {
  using Expr::Expr;
  std::vector<ExprPtr> items;
};

struct DictExpr final : Expr {
  explicit DictExpr(std::uint32_t line_used) : Expr(ExprKind::kDict, line_used) {}

  std::vector<std::pair<ExprPtr, ExprPtr>> entries;
};

struct GetattrExpr final : Expr {
  explicit GetattrExpr(std::uint32_t line_used) : Expr(ExprKind::kGetattr, line_used) {}

  ExprPtr object;
  Str name;
};

struct GetitemExpr final : Expr {
  explicit GetitemExpr(std::uint32_t line_used) : Expr(ExprKind::kGetitem, line_used) {}

  ExprPtr object;
  ExprPtr index;  // or a SliceExpr
};

struct SliceExpr final : Expr {
  explicit SliceExpr(std::uint32_t line_used) : Expr(ExprKind::kSlice, line_used) {}

  ExprPtr start;  // each may be null
  ExprPtr stop;
  ExprPtr step;
};

struct Arguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<Str, ExprPtr>> named;
  ExprPtr more_positional;  // *x, or null
  ExprPtr more_named;       // **x, or null

  bool empty() const {
    return positional.empty() && named.empty() && more_positional == nullptr &&
           more_named == nullptr;
  }
};

struct CallExpr final : Expr {
  explicit CallExpr(std::uint32_t line_used) : Expr(ExprKind::kCall, line_used) {}

  ExprPtr callee;
  Arguments arguments;
};

/// object|name(arguments) or object is name(arguments).
struct ApplyExpr final : Expr {
  using Expr::Expr;
  ExprPtr object;  // null for the text of a filter block
  std::string name;
  Arguments arguments;
  FilterCall filter = nullptr;  // for filters; null if unknown, which fails when it is reached
  TestCall test = nullptr;      // for tests
};

enum class Operator : std::uint8_t {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
  kNegate,
  kPlus,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn,
};

struct UnaryExpr final : Expr {  // also kNot
  using Expr::Expr;
  Operator op = Operator::kNegate;
  ExprPtr operand;
};

struct BinaryExpr final : Expr {
  explicit BinaryExpr(std::uint32_t line_used) : Expr(ExprKind::kBinary, line_used) {}

  Operator op = Operator::kAdd;
  ExprPtr left;
  ExprPtr right;
};

/// first op[0] rest[0] op[1] rest[1] ...: a chain, as in Python.
struct CompareExpr final : Expr {
  explicit CompareExpr(std::uint32_t line_used) : Expr(ExprKind::kCompare, line_used) {}

  ExprPtr first;
  std::vector<std::pair<Operator, ExprPtr>> rest;
};

struct ConditionalExpr final : Expr {
  explicit ConditionalExpr(std::uint32_t line_used) : Expr(ExprKind::kConditional, line_used) {}

  ExprPtr test;
  ExprPtr then;
  ExprPtr otherwise;  // or null
};

enum class StmtKind : std::uint8_t {
  kOutput,
  kIf,
  kFor,
  kSet,
  kSetBlock,
  kMacro,
  kCallBlock,
  kFilterBlock,
  kWith,
  kGeneration,
  kBreak,
  kContinue,
};

struct Stmt {
  Stmt(StmtKind kind_used, std::uint32_t line_used) : kind(kind_used), line(line_used) {}

  virtual ~Stmt() = default;

  StmtKind kind;
  std::uint32_t line;
};

using StmtPtr = std::unique_ptr<Stmt>;
using Block = std::vector<StmtPtr>;

/// How a slot gets its first value when its frame is entered.
struct Load {
  enum class From : std::uint8_t { kNothing, kContext, kOuter };

  std::uint32_t slot = 0;
  From from = From::kNothing;
  std::string name;  // kContext: looked up among the run's variables and the globals
  SlotRef outer;     // kOuter
};

struct FrameInfo {
  std::vector<Load> loads;
};

struct FunctionInfo {
  std::uint32_t slot_count = 0;
  bool captured =
      false;  // some macro inside may outlive a call: its slots live to the end of the run
};

struct OutputStmt final : Stmt {
  explicit OutputStmt(std::uint32_t line_used) : Stmt(StmtKind::kOutput, line_used) {}

  std::vector<ExprPtr> pieces;
};

struct IfStmt final : Stmt {
  explicit IfStmt(std::uint32_t line_used) : Stmt(StmtKind::kIf, line_used) {}

  std::vector<std::pair<ExprPtr, Block>> branches;
  Block otherwise;
};

struct ForStmt final : Stmt {
  explicit ForStmt(std::uint32_t line_used) : Stmt(StmtKind::kFor, line_used) {}

  ExprPtr target;
  ExprPtr iterable;
  ExprPtr test;         // or null
  ExprPtr test_target;  // the target again, in the test's own slots
  bool recursive = false;
  bool has_loop = false;  // the body uses `loop`, or it is recursive
  std::uint32_t loop_slot = 0;
  Block body;
  Block otherwise;
  FrameInfo body_frame;
  FrameInfo test_frame;
  FrameInfo otherwise_frame;
  FunctionInfo function;  // recursive loops only
};

struct SetStmt final : Stmt {
  explicit SetStmt(std::uint32_t line_used) : Stmt(StmtKind::kSet, line_used) {}

  ExprPtr target;
  ExprPtr value;
};

struct SetBlockStmt final : Stmt {
  explicit SetBlockStmt(std::uint32_t line_used) : Stmt(StmtKind::kSetBlock, line_used) {}

  ExprPtr target;
  ExprPtr filter;  // chain of ApplyExpr whose innermost object is null, or null
  Block body;
  FrameInfo frame;
};

/// What a macro and the body of a call block have in common.
struct MacroDefinition {
  struct Parameter {
    std::string name;
    ExprPtr fallback;  // or null
    std::uint32_t slot = 0;
  };

  std::string name;
  std::vector<Parameter> parameters;
  bool uses_caller = false;
  bool uses_kwargs = false;
  bool uses_varargs = false;
  bool explicit_caller = false;  // `caller` stands among the parameters
  std::uint32_t caller_slot = 0;
  std::uint32_t kwargs_slot = 0;
  std::uint32_t varargs_slot = 0;
  Block body;
  FrameInfo frame;
  FunctionInfo function;
};

struct MacroStmt final : Stmt {
  explicit MacroStmt(std::uint32_t line_used) : Stmt(StmtKind::kMacro, line_used) {}

  MacroDefinition macro;
  SlotRef slot;
};

struct CallBlockStmt final : Stmt {
  explicit CallBlockStmt(std::uint32_t line_used) : Stmt(StmtKind::kCallBlock, line_used) {}

  ExprPtr call;  // a CallExpr
  MacroDefinition macro;
};

struct FilterBlockStmt final : Stmt {
  explicit FilterBlockStmt(std::uint32_t line_used) : Stmt(StmtKind::kFilterBlock, line_used) {}

  ExprPtr filter;
  Block body;
  FrameInfo frame;
};

/// `with a = x, b = y`, and `generation` (no targets).
struct WithStmt final : Stmt {
  using Stmt::Stmt;
  std::vector<std::pair<ExprPtr, ExprPtr>> targets;
  Block body;
  FrameInfo frame;
};

struct BareStmt final : Stmt {  // break, continue
  using Stmt::Stmt;
};

struct Template {
  Block body;
  FrameInfo frame;
  FunctionInfo function;
};

/// Calls f(child) for each direct child expression that is not null; f takes ExprPtr&.
template <class F>
void ForEachArgument(Arguments& arguments, F&& f) {
  for (ExprPtr& argument : arguments.positional) {
    f(argument);
  }
  for (auto& named : arguments.named) {
    f(named.second);
  }
  if (arguments.more_positional != nullptr) {
    f(arguments.more_positional);
  }
  if (arguments.more_named != nullptr) {
    f(arguments.more_named);
  }
}

template <class F>
void ForEachChild(Expr& expr, F&& f) {
  const auto visit = [&](ExprPtr& child) {
    if (child != nullptr) {
      f(child);
    }
  };
  switch (expr.kind) {
    case ExprKind::kConst:
    case ExprKind::kName:
    case ExprKind::kNamespaceRef:
      return;
    case ExprKind::kList:
    case ExprKind::kTuple:
    case ExprKind::kConcat:
    case ExprKind::kAnd:
    case ExprKind::kOr:
      for (ExprPtr& item : static_cast<ItemsExpr&>(expr).items) {
        visit(item);
      }
      return;
    case ExprKind::kDict:
      for (auto& [key, value] : static_cast<DictExpr&>(expr).entries) {
        visit(key);
        visit(value);
      }
      return;
    case ExprKind::kGetattr:
      visit(static_cast<GetattrExpr&>(expr).object);
      return;
    case ExprKind::kGetitem:
      visit(static_cast<GetitemExpr&>(expr).object);
      visit(static_cast<GetitemExpr&>(expr).index);
      return;
    case ExprKind::kSlice:
      visit(static_cast<SliceExpr&>(expr).start);
      visit(static_cast<SliceExpr&>(expr).stop);
      visit(static_cast<SliceExpr&>(expr).step);
      return;
    case ExprKind::kCall:
      visit(static_cast<CallExpr&>(expr).callee);
      ForEachArgument(static_cast<CallExpr&>(expr).arguments, visit);
      return;
    case ExprKind::kFilter:
    case ExprKind::kTest:
      visit(static_cast<ApplyExpr&>(expr).object);
      ForEachArgument(static_cast<ApplyExpr&>(expr).arguments, visit);
      return;
    case ExprKind::kUnary:
    case ExprKind::kNot:
      visit(static_cast<UnaryExpr&>(expr).operand);
      return;
    case ExprKind::kBinary:
      visit(static_cast<BinaryExpr&>(expr).left);
      visit(static_cast<BinaryExpr&>(expr).right);
      return;
    case ExprKind::kCompare:
      visit(static_cast<CompareExpr&>(expr).first);
      for (auto& operand : static_cast<CompareExpr&>(expr).rest) {
        visit(operand.second);
      }
      return;
    case ExprKind::kConditional:
      visit(static_cast<ConditionalExpr&>(expr).test);
      visit(static_cast<ConditionalExpr&>(expr).then);
      visit(static_cast<ConditionalExpr&>(expr).otherwise);
      return;
  }
}

}  // namespace pixii::text::jinja
