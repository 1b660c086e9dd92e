#include "text/jinja/scope.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "text/jinja/filters.h"
#include "text/jinja/lexer.h"

namespace pixii::text::jinja {

namespace {

/// Slots of one function.
struct FunctionScope {
  const FunctionScope* parent = nullptr;
  FunctionInfo* info = nullptr;
};

Load FromContext(const std::string& name) { return {0, Load::From::kContext, name, {}}; }

Load FromOuter(SlotRef outer) { return {0, Load::From::kOuter, {}, outer}; }

/// Names of one frame. A branch of an `if` is analysed on a copy, so that what only some branches
/// assign is known.
struct Scope {
  const Scope* parent = nullptr;
  FunctionScope* function = nullptr;
  std::map<std::string, std::uint32_t, std::less<>>* slots =
      nullptr;  // of the frame, shared by its copies
  std::map<std::string, std::uint32_t, std::less<>> names;
  std::map<std::uint32_t, Load> loads;
  std::set<std::string> stores;

  /// The slot of `name` as seen from this frame, if this or an enclosing frame has one.
  std::optional<SlotRef> Find(std::string_view name) const {
    for (const Scope* scope = this; scope != nullptr; scope = scope->parent) {
      if (const auto it = scope->names.find(name); it != scope->names.end()) {
        std::uint32_t up = 0;
        for (const FunctionScope* f = function; f != scope->function; f = f->parent) {
          ++up;
        }
        return SlotRef{up, it->second};
      }
    }
    return std::nullopt;
  }

  std::uint32_t Define(const std::string& name, Load load) {
    auto [slot, made] = slots->try_emplace(name, function->info->slot_count);
    function->info->slot_count += made ? 1 : 0;
    load.slot = slot->second;
    names[name] = slot->second;
    loads[slot->second] = std::move(load);
    return slot->second;
  }

  void Use(const std::string& name) {
    if (!Find(name)) {
      Define(name, FromContext(name));
    }
  }

  void Assign(const std::string& name) {
    stores.insert(name);
    if (names.contains(name)) {
      return;
    }
    const auto outer = parent == nullptr ? std::nullopt : OuterSlot(name);
    Define(name, outer ? FromOuter(*outer) : Load{});
  }

  /// A parameter or loop variable: whoever enters the frame fills it.
  std::uint32_t Declare(const std::string& name) {
    stores.insert(name);
    const std::uint32_t slot = Define(name, {});
    loads.erase(slot);
    return slot;
  }

  std::optional<SlotRef> OuterSlot(std::string_view name) const {
    auto found = parent->Find(name);
    if (found && parent->function != function) {
      ++found->up;
    }
    return found;
  }

  void MergeBranches(const std::vector<Scope>& branches) {
    std::map<std::string, std::size_t> counts;
    for (const Scope& branch : branches) {
      for (const std::string& name : branch.stores) {
        if (!stores.contains(name)) {
          ++counts[name];
        }
      }
    }
    for (const Scope& branch : branches) {
      names.insert(branch.names.begin(), branch.names.end());
      for (const auto& [slot, load] : branch.loads) {
        loads[slot] = load;
      }
      stores.insert(branch.stores.begin(), branch.stores.end());
    }
    for (const auto& [name, count] : counts) {
      if (count == branches.size()) {
        continue;
      }
      const std::uint32_t slot = names.at(name);
      const auto outer = parent == nullptr ? std::nullopt : OuterSlot(name);
      loads[slot] = outer ? FromOuter(*outer) : FromContext(name);
      loads[slot].slot = slot;
    }
  }
};

/// Whether `name` is read anywhere below; with `assigned`, whether it is assigned.
class NameSearch {
 public:
  NameSearch(std::string_view name, bool assigned) : name_(name), assigned_(assigned) {}

  bool In(const Block& block) {
    return std::any_of(block.begin(), block.end(),
                       [&](const StmtPtr& statement) { return In(*statement); });
  }

  bool InExpr(const ExprPtr& expr) {
    if (expr == nullptr) {
      return false;
    }
    if (expr->kind == ExprKind::kName) {
      return !assigned_ && static_cast<NameExpr&>(*expr).name == name_;
    }
    if (expr->kind == ExprKind::kNamespaceRef) {
      return !assigned_ && static_cast<NamespaceRefExpr&>(*expr).name == name_;
    }
    bool found = false;
    ForEachChild(*expr, [&](const ExprPtr& child) { found = found || InExpr(child); });
    return found;
  }

  bool InTarget(const ExprPtr& target) {
    if (target->kind == ExprKind::kName) {
      return assigned_ && static_cast<NameExpr&>(*target).name == name_;
    }
    if (target->kind == ExprKind::kNamespaceRef) {
      return InExpr(target);
    }
    const auto& items = static_cast<ItemsExpr&>(*target).items;
    return std::any_of(items.begin(), items.end(),
                       [&](const ExprPtr& item) { return InTarget(item); });
  }

 private:
  bool InMacro(const MacroDefinition& macro) {
    return std::any_of(macro.parameters.begin(), macro.parameters.end(),
                       [&](const auto& parameter) { return InExpr(parameter.fallback); }) ||
           In(macro.body);
  }

  bool In(const Stmt& statement) {
    switch (statement.kind) {
      case StmtKind::kOutput: {
        const auto& pieces = static_cast<const OutputStmt&>(statement).pieces;
        return std::any_of(pieces.begin(), pieces.end(),
                           [&](const ExprPtr& piece) { return InExpr(piece); });
      }
      case StmtKind::kIf: {
        const auto& branch = static_cast<const IfStmt&>(statement);
        return std::any_of(branch.branches.begin(), branch.branches.end(),
                           [&](const auto& one) { return InExpr(one.first) || In(one.second); }) ||
               In(branch.otherwise);
      }
      case StmtKind::kFor: {
        const auto& loop = static_cast<const ForStmt&>(statement);
        return InTarget(loop.target) || InExpr(loop.iterable) || InExpr(loop.test) ||
               In(loop.body) || In(loop.otherwise);
      }
      case StmtKind::kSet: {
        const auto& set = static_cast<const SetStmt&>(statement);
        return InExpr(set.value) || InTarget(set.target);
      }
      case StmtKind::kSetBlock: {
        const auto& set = static_cast<const SetBlockStmt&>(statement);
        return InTarget(set.target) || InExpr(set.filter) || In(set.body);
      }
      case StmtKind::kMacro:
        return InMacro(static_cast<const MacroStmt&>(statement).macro);
      case StmtKind::kCallBlock: {
        const auto& call = static_cast<const CallBlockStmt&>(statement);
        return InExpr(call.call) || InMacro(call.macro);
      }
      case StmtKind::kFilterBlock: {
        const auto& filter = static_cast<const FilterBlockStmt&>(statement);
        return InExpr(filter.filter) || In(filter.body);
      }
      case StmtKind::kWith:
      case StmtKind::kGeneration: {
        const auto& with = static_cast<const WithStmt&>(statement);
        return std::any_of(
                   with.targets.begin(), with.targets.end(),
                   [&](const auto& one) { return InTarget(one.first) || InExpr(one.second); }) ||
               In(with.body);
      }
      case StmtKind::kBreak:
      case StmtKind::kContinue:
        return false;
    }
    return false;
  }

  std::string_view name_;
  bool assigned_;
};

/// First pass over one frame: which names it reads and assigns. Does not enter inner frames.
class Analyser {
 public:
  explicit Analyser(Scope& scope) : scope_(&scope) {}

  void Statements(const Block& block) {
    for (const StmtPtr& statement : block) {
      Statement(*statement);
    }
  }

  void Read(const ExprPtr& expr) {
    if (expr == nullptr) {
      return;
    }
    if (expr->kind == ExprKind::kName) {
      scope_->Use(static_cast<NameExpr&>(*expr).name);
      return;
    }
    ForEachChild(*expr, [&](const ExprPtr& child) { Read(child); });
  }

  void Assign(const ExprPtr& target, bool declare) {
    if (target->kind == ExprKind::kName) {
      const std::string& name = static_cast<NameExpr&>(*target).name;
      if (declare) {
        scope_->Declare(name);
      } else {
        scope_->Assign(name);
      }
    } else if (target->kind == ExprKind::kNamespaceRef) {
      scope_->Use(static_cast<NamespaceRefExpr&>(*target).name);
    } else {
      for (const ExprPtr& item : static_cast<ItemsExpr&>(*target).items) {
        Assign(item, declare);
      }
    }
  }

 private:
  void Statement(const Stmt& statement) {
    switch (statement.kind) {
      case StmtKind::kOutput:
        for (const ExprPtr& piece : static_cast<const OutputStmt&>(statement).pieces) {
          Read(piece);
        }
        return;
      case StmtKind::kIf:
        return If(static_cast<const IfStmt&>(statement));
      case StmtKind::kFor:
        return Read(static_cast<const ForStmt&>(statement).iterable);
      case StmtKind::kSet:
        Read(static_cast<const SetStmt&>(statement).value);
        return Assign(static_cast<const SetStmt&>(statement).target, false);
      case StmtKind::kSetBlock:
        return Assign(static_cast<const SetBlockStmt&>(statement).target, false);
      case StmtKind::kMacro:
        return scope_->Assign(static_cast<const MacroStmt&>(statement).macro.name);
      case StmtKind::kCallBlock:
        return Read(static_cast<const CallBlockStmt&>(statement).call);
      case StmtKind::kFilterBlock:
        return Read(static_cast<const FilterBlockStmt&>(statement).filter);
      case StmtKind::kWith:
      case StmtKind::kGeneration:
        for (const auto& target : static_cast<const WithStmt&>(statement).targets) {
          Read(target.second);
        }
        return;
      case StmtKind::kBreak:
      case StmtKind::kContinue:
        return;
    }
  }

  /// Jinja sees an `if` as three branches: its body, all of its elifs together (each an `if` of its
  /// own), its else.
  void If(const IfStmt& statement) {
    Read(statement.branches[0].first);
    Scope* const whole = scope_;
    std::vector<Scope> branches(3, *whole);
    scope_ = &branches[0];
    Statements(statement.branches[0].second);
    scope_ = &branches[1];
    for (std::size_t i = 1; i < statement.branches.size(); ++i) {
      Elif(statement.branches[i]);
    }
    scope_ = &branches[2];
    Statements(statement.otherwise);
    scope_ = whole;
    scope_->MergeBranches(branches);
  }

  void Elif(const std::pair<ExprPtr, Block>& branch) {
    Read(branch.first);
    Scope* const whole = scope_;
    std::vector<Scope> branches(3, *whole);
    scope_ = &branches[0];
    Statements(branch.second);
    scope_ = whole;
    scope_->MergeBranches(branches);
  }

  Scope* scope_;
};

/// Second pass: gives every name its slot, frame by frame.
class Resolver {
 public:
  Result<void> Run(Template& tree) {
    FunctionScope function{nullptr, &tree.function};
    Frame frame(nullptr, function);
    Analyser(frame.scope).Statements(tree.body);
    PX_CHECK_OK(Statements(tree.body, frame));
    frame.Export(tree.frame);
    return {};
  }

 private:
  struct Frame {
    Frame(const Frame* outer, FunctionScope& function) {
      scope.parent = outer == nullptr ? nullptr : &outer->scope;
      scope.function = &function;
      scope.slots = &slots;
    }

    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

    void Export(FrameInfo& info) const {
      for (const auto& [slot, load] : scope.loads) {
        info.loads.push_back(load);
      }
    }

    std::map<std::string, std::uint32_t, std::less<>> slots;
    Scope scope;
    bool in_loop = false;      // break and continue have a target
    bool conditional = false;  // unknown filters fail when reached, not at load
  };

  Result<void> Statements(Block& block, Frame& frame) {
    for (const StmtPtr& statement : block) {
      PX_CHECK_OK(Statement(*statement, frame));
    }
    return {};
  }

  Result<void> Statement(Stmt& statement, Frame& frame) {
    switch (statement.kind) {
      case StmtKind::kOutput:
        for (ExprPtr& piece : static_cast<OutputStmt&>(statement).pieces) {
          PX_CHECK_OK(Resolve(piece, frame));
        }
        return {};
      case StmtKind::kIf:
        return If(static_cast<IfStmt&>(statement), frame);
      case StmtKind::kFor:
        return For(static_cast<ForStmt&>(statement), frame);
      case StmtKind::kSet: {
        auto& set = static_cast<SetStmt&>(statement);
        PX_CHECK_OK(Resolve(set.value, frame));
        return Resolve(set.target, frame);
      }
      case StmtKind::kSetBlock: {
        auto& set = static_cast<SetBlockStmt&>(statement);
        PX_CHECK_OK(Resolve(set.target, frame));
        return Buffered(set.filter, set.body, set.frame, frame);
      }
      case StmtKind::kFilterBlock: {
        auto& block = static_cast<FilterBlockStmt&>(statement);
        return Buffered(block.filter, block.body, block.frame, frame);
      }
      case StmtKind::kMacro: {
        auto& macro = static_cast<MacroStmt&>(statement);
        macro.slot = *frame.scope.Find(macro.macro.name);
        return Macro(macro.macro, frame, statement.line);
      }
      case StmtKind::kCallBlock: {
        auto& block = static_cast<CallBlockStmt&>(statement);
        PX_CHECK_OK(Resolve(block.call, frame));
        return Macro(block.macro, frame, statement.line);
      }
      case StmtKind::kWith:
      case StmtKind::kGeneration:
        return With(static_cast<WithStmt&>(statement), frame);
      case StmtKind::kBreak:
      case StmtKind::kContinue:
        if (!frame.in_loop) {
          return SyntaxError(statement.line, statement.kind == StmtKind::kBreak
                                                 ? "'break' outside loop"
                                                 : "'continue' outside loop");
        }
        return {};
    }
    return {};
  }

  Result<void> Resolve(ExprPtr& expr, Frame& frame) {
    if (expr == nullptr) {
      return {};
    }
    switch (expr->kind) {
      case ExprKind::kName: {
        auto& name = static_cast<NameExpr&>(*expr);
        frame.scope.Use(name.name);
        name.slot = *frame.scope.Find(name.name);
        return {};
      }
      case ExprKind::kNamespaceRef: {
        auto& ref = static_cast<NamespaceRefExpr&>(*expr);
        frame.scope.Use(ref.name);
        ref.slot = *frame.scope.Find(ref.name);
        return {};
      }
      default:
        break;
    }
    if (expr->kind == ExprKind::kFilter || expr->kind == ExprKind::kTest) {
      PX_CHECK_OK(Apply(static_cast<ApplyExpr&>(*expr), frame.conditional));
    }
    const bool outer_conditional = frame.conditional;
    frame.conditional = outer_conditional || expr->kind == ExprKind::kConditional;
    Result<void> done;
    ForEachChild(*expr, [&](ExprPtr& child) {
      if (done) {
        done = Resolve(child, frame);
      }
    });
    frame.conditional = outer_conditional;
    return done;
  }

  Result<void> Apply(ApplyExpr& apply, bool conditional) {
    const bool is_filter = apply.kind == ExprKind::kFilter;
    const std::string_view what = is_filter ? "filter" : "test";
    if (is_filter) {
      apply.filter = FindFilter(apply.name);
    } else {
      apply.test = FindTest(apply.name);
    }
    if (apply.filter != nullptr || apply.test != nullptr) {
      return {};
    }
    if (is_filter && IsUnsupportedFilter(apply.name)) {
      return Fail(Code::kUnsupported,
                  fmt::format("chat template line {}: the filter '{}' is not supported", apply.line,
                              apply.name),
                  "chat_template");
    }
    if (conditional) {
      return {};
    }
    return Fail(Code::kInvalidArgument,
                fmt::format("chat template line {}: TemplateAssertionError: No {} named '{}'.",
                            apply.line, what, apply.name),
                "chat_template");
  }

  Result<void> If(IfStmt& statement, Frame& frame) {
    const bool outer_conditional = std::exchange(frame.conditional, true);
    for (auto& [test, body] : statement.branches) {
      PX_CHECK_OK(Resolve(test, frame));
      PX_CHECK_OK(Statements(body, frame));
    }
    PX_CHECK_OK(Statements(statement.otherwise, frame));
    frame.conditional = outer_conditional;
    return {};
  }

  static ExprPtr CloneTarget(const ExprPtr& target) {
    if (target->kind == ExprKind::kName) {
      return std::make_unique<NameExpr>(static_cast<NameExpr&>(*target).name, target->line);
    }
    auto tuple = std::make_unique<ItemsExpr>(ExprKind::kTuple, target->line);
    for (const ExprPtr& item : static_cast<ItemsExpr&>(*target).items) {
      tuple->items.push_back(CloneTarget(item));
    }
    return tuple;
  }

  Result<void> For(ForStmt& loop, Frame& frame) {
    if (NameSearch stores("loop", true);
        stores.InTarget(loop.target) || stores.In(loop.body) || stores.In(loop.otherwise)) {
      return SyntaxError(loop.line, "Can't assign to special loop variable in for-loop target");
    }
    PX_CHECK_OK(Resolve(loop.iterable, frame));
    FunctionScope own{frame.scope.function, &loop.function};
    FunctionScope& function = loop.recursive ? own : *frame.scope.function;
    loop.has_loop = loop.recursive || NameSearch("loop", false).In(loop.body);
    if (loop.recursive) {
      frame.scope.function->info->captured = true;
    }

    Frame body(&frame, function);
    body.in_loop = true;
    if (loop.has_loop) {
      loop.loop_slot = body.scope.Declare("loop");
    }
    Analyser body_names(body.scope);
    body_names.Assign(loop.target, true);
    body_names.Statements(loop.body);
    PX_CHECK_OK(Resolve(loop.target, body));
    PX_CHECK_OK(Statements(loop.body, body));
    body.Export(loop.body_frame);

    if (loop.test != nullptr) {
      Frame test(&frame, function);
      loop.test_target = CloneTarget(loop.target);
      Analyser test_names(test.scope);
      test_names.Assign(loop.test_target, true);
      test_names.Read(loop.test);
      PX_CHECK_OK(Resolve(loop.test_target, test));
      PX_CHECK_OK(Resolve(loop.test, test));
      test.Export(loop.test_frame);
    }

    Frame otherwise(&frame, function);
    otherwise.in_loop = frame.in_loop && !loop.recursive;
    Analyser(otherwise.scope).Statements(loop.otherwise);
    PX_CHECK_OK(Statements(loop.otherwise, otherwise));
    otherwise.Export(loop.otherwise_frame);
    return {};
  }

  /// The body of a set block or filter block: a frame whose output a filter takes.
  Result<void> Buffered(ExprPtr& filter, Block& body, FrameInfo& info, Frame& outer) {
    Frame frame(&outer, *outer.scope.function);
    frame.in_loop = outer.in_loop;
    Analyser names(frame.scope);
    names.Read(filter);
    names.Statements(body);
    PX_CHECK_OK(Resolve(filter, frame));
    PX_CHECK_OK(Statements(body, frame));
    frame.Export(info);
    return {};
  }

  Result<void> With(WithStmt& with, Frame& outer) {
    Frame frame(&outer, *outer.scope.function);
    frame.in_loop = outer.in_loop && with.kind == StmtKind::kWith;
    Analyser names(frame.scope);
    for (auto& [target, value] : with.targets) {
      PX_CHECK_OK(Resolve(value, outer));
      names.Assign(target, true);
    }
    names.Statements(with.body);
    for (auto& [target, value] : with.targets) {
      PX_CHECK_OK(Resolve(target, frame));
    }
    PX_CHECK_OK(Statements(with.body, frame));
    frame.Export(with.frame);
    return {};
  }

  Result<void> Macro(MacroDefinition& macro, Frame& outer, std::uint32_t line) {
    outer.scope.function->info->captured = true;
    FunctionScope function{outer.scope.function, &macro.function};
    Frame frame(&outer, function);
    for (auto& parameter : macro.parameters) {
      parameter.slot = frame.scope.Declare(parameter.name);
    }
    const auto uses = [&](std::string_view name) { return NameSearch(name, false).In(macro.body); };
    const auto declared = [&](std::string_view name) { return frame.scope.names.contains(name); };
    macro.explicit_caller = declared("caller");
    if (uses("caller")) {
      macro.uses_caller = true;
      if (macro.explicit_caller) {
        const auto it =
            std::find_if(macro.parameters.begin(), macro.parameters.end(),
                         [](const auto& parameter) { return parameter.name == "caller"; });
        if (it->fallback == nullptr) {
          return SyntaxError(
              line,
              "When defining macros or call blocks the special \"caller\" argument must be "
              "omitted or be given a default.");
        }
      } else {
        macro.caller_slot = frame.scope.Declare("caller");
      }
    }
    if (!declared("kwargs") && uses("kwargs")) {
      macro.uses_kwargs = true;
      macro.kwargs_slot = frame.scope.Declare("kwargs");
    }
    if (!declared("varargs") && uses("varargs")) {
      macro.uses_varargs = true;
      macro.varargs_slot = frame.scope.Declare("varargs");
    }
    Analyser names(frame.scope);
    for (const auto& parameter : macro.parameters) {
      names.Read(parameter.fallback);
    }
    names.Statements(macro.body);
    for (auto& parameter : macro.parameters) {
      PX_CHECK_OK(Resolve(parameter.fallback, frame));
    }
    PX_CHECK_OK(Statements(macro.body, frame));
    frame.Export(macro.frame);
    return {};
  }
};

}  // namespace

Result<void> ResolveNames(Template& tree) { return Resolver().Run(tree); }

}  // namespace pixii::text::jinja
