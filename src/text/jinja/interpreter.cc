#include "text/jinja/interpreter.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "text/jinja/globals.h"
#include "text/jinja/interpretation.h"

namespace pixii::text::jinja {

namespace {

Value TakeNamed(CallArgs& args, std::string_view name) {
  for (auto it = args.named.begin(); it != args.named.end(); ++it) {
    if (it->first.view() == name) {
      Value value = std::move(it->second);
      args.named.erase(it);
      return value;
    }
  }
  return {};
}

}  // namespace

Result<Value> Macro::Attribute(Runtime& rt, const Value& /*self*/, std::string_view name) {
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

Result<StrBuilder::Taken> Interpreter::Run(const Template& tree) {
  out_ = &root_;
  PX_TRY(ActivationHolder holder, Activate(tree.function, nullptr));
  activation_ = holder.activation;
  PX_CHECK_OK(EnterFrame(tree.frame));
  PX_CHECK_OK(Execute(tree.body));
  return root_.Take();
}

Result<Value> Interpreter::CallValue(const Value& callee, CallArgs args) {
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

Result<Interpreter::ActivationHolder> Interpreter::Activate(const FunctionInfo& function,
                                                            Activation* outer) {
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

Result<void> Interpreter::EnterFrame(const FrameInfo& frame) {
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

Result<void> Interpreter::EnterCall() {
  if (calls_ >= rt_.limits().call_depth_max) {
    return rt_.OverBudget("call_depth_max", rt_.limits().call_depth_max, "calls");
  }
  return {};
}

Result<void> Interpreter::Bind(const MacroDefinition& macro, std::vector<Value>& slots,
                               CallArgs& args) {
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
      return rt_.Raise("TypeError",
                       fmt::format("macro '{}' takes no keyword argument '{}'", macro.name, name));
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

Result<Value> Interpreter::CallMacro(const Macro& macro, CallArgs& args) {
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

Result<StrBuilder::Taken> Run(const Template& tree, Runtime& rt, const Variables& variables) {
  return Interpreter(rt, variables).Run(tree);
}

}  // namespace pixii::text::jinja
