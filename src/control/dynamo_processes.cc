#include "control/dynamo_processes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <variant>

#include "config/engine_args.h"
#include "config/parse.h"

namespace pixii::control {

using config::Imported;
using config::ImportedKey;
using config::LaunchVariable;
using config::LaunchWord;
using config::Option;

namespace {

enum class RuleKind : std::uint8_t {
  kModel,
  kOption,
  kWords,
  kFrontend,
  kNamespace,
  kEndpoint,
  kReplicas,
  kEngineFile,
  kNot,
  kNothing,
};

}  // namespace

struct ProcessTranslator::Rule {
  std::string_view modules;
  std::string_view flag;
  RuleKind kind;
  std::string_view target;
  std::string_view values;
  std::string_view note;
};

struct ProcessTranslator::Module {
  std::string_view name;
  char letter;  // in the table of flags
  std::string_view command;
};

namespace {

constexpr ProcessTranslator::Rule kFlags[] = {
#define PX_DYNAMO_FLAG(modules, flag, rule, target, values, note) \
  {modules, flag, RuleKind::rule, target, values, note},
#include "control/dynamo_flags.def"
#undef PX_DYNAMO_FLAG
};

constexpr std::array<ProcessTranslator::Module, 5> kModules = {{
    {"dynamo.frontend", 'f', "frontend"},
    {"dynamo.router", 'r', "router"},
    {"dynamo.trtllm", 't', "worker"},
    {"dynamo.trtllm.unified_main", 't', "worker"},
    {"dynamo.mocker", 'm', "worker"},
}};

// What Pixii has in place of other modules.
constexpr std::pair<std::string_view, std::string_view> kOtherModules[] = {
    {"dynamo.vllm", "vLLM is attached: pixii worker --attach"},
    {"dynamo.sglang", "SGLang is attached: pixii worker --attach"},
    {"dynamo.planner", "a planner runs beside a graph: pixii planner"},
    {"planner_sla", "a planner runs beside a graph: pixii planner"},
};

// Variables whose names begin so mean something to a process of Dynamo.
constexpr std::string_view kOwnPrefixes[] = {"DYN_", "TRTLLM_", "TLLM_", "ETCD_", "NATS_"};
// And these to the libraries and drivers that both use.
constexpr std::string_view kSharedPrefixes[] = {"OTEL_", "UCX_", "HF_",   "CUDA_",
                                                "AWS_",  "OMP_", "NIXL_", "LMCACHE_"};
// Variables of Dynamo that change nothing here.
constexpr std::pair<std::string_view, std::string_view> kIdleVariables[] = {
    {"DYN_DISCOVERY_BACKEND", "processes of a graph meet in a folder of its own"},
    {"DYN_STORE_KV", "processes of a graph meet in a folder of its own"},
    {"DYN_REQUEST_PLANE", "requests go over connections of their own"},
    {"DYN_EVENT_PLANE", "KV events go to frontends directly"},
    {"ETCD_ENDPOINTS", "processes of a graph meet in a folder of its own"},
    {"NATS_SERVER", "KV events go to frontends directly"},
    {"DYN_HEALTH_CHECK_ENABLED", "a worker's health is always looked at"},
    {"DYN_SYSTEM_ENABLED", "--system-port says it"},
    {"DYN_SYSTEM_USE_ENDPOINT_HEALTH_STATUS", "/health of a worker is that of its engine"},
    {"DYN_SYSTEM_STARTING_HEALTH_STATUS", "a worker is not ready until it is"},
    {"DYN_WORKER_GRACEFUL_SHUTDOWN_TIMEOUT", "--drain-timeout says it"},
    {"TLLM_LOG_LEVEL", "--log-level says it"},
};

bool BeginsWithAny(std::string_view text, std::span<const std::string_view> prefixes) {
  return std::ranges::any_of(prefixes,
                             [&](std::string_view prefix) { return text.starts_with(prefix); });
}

bool Goes(const Option& option, std::string_view flag) {
  return option.name == flag ||
         std::ranges::find(option.flag_aliases, flag) != option.flag_aliases.end();
}

bool IsSwitch(const Option& option) {
  return std::holds_alternative<config::BoolField>(option.field);
}

std::optional<Option> OptionOf(const std::vector<Option>& options, std::string_view flag) {
  for (const Option& option : options) {
    if (Goes(option, flag)) {
      return option;
    }
  }
  return std::nullopt;
}

// The word that `values` ("a=x,b=y,*=z") makes of another.
std::optional<std::string> WordFor(std::string_view values, std::string_view word) {
  while (!values.empty()) {
    const std::size_t comma = std::min(values.find(','), values.size());
    const std::string_view one = values.substr(0, comma);
    const std::size_t equals = one.find('=');
    if (one.substr(0, equals) == word || one.substr(0, equals) == "*") {
      return std::string(one.substr(equals + 1));
    }
    values.remove_prefix(std::min(comma + 1, values.size()));
  }
  return std::nullopt;
}

}  // namespace

void ProcessTranslator::Say(Imported outcome, std::string key, std::uint32_t line,
                            std::string said) {
  out_.keys.push_back(
      {.outcome = outcome, .key = std::move(key), .line = line, .said = std::move(said)});
}

void ProcessTranslator::Refuse(std::string key, std::uint32_t line, std::string_view why) {
  out_.keys.push_back(config::RefusedKey(path_, std::move(key), line, why));
}

void ProcessTranslator::Nothing(std::string key, std::uint32_t line, std::string_view note) {
  Say(Imported::kNoEffect, std::move(key), line, std::string(note));
}

bool IsForeignVariable(std::string_view name) {
  return BeginsWithAny(name, kOwnPrefixes) || BeginsWithAny(name, kSharedPrefixes);
}

void ProcessTranslator::SetOption(const Argument& argument, const std::string& option,
                                  const std::string& value, GraphComponent& component) {
  const std::vector<Option> options = rules_.options(component.command);
  const std::optional<Option> found = OptionOf(options, option);
  if (!found) {
    return Refuse(argument.key, argument.line,
                  fmt::format("pixii {} has no --{}", component.command, option));
  }
  if (const Result<void> fits = config::Assign(*found, value); !fits) {
    return Refuse(argument.key, argument.line, fits.error().detail());
  }
  if (found->name == "discovery" || found->name == "namespace" || found->name == "port-file") {
    return Refuse(argument.key, argument.line, "a graph sets it for each process");
  }
  const bool same = argument.flag == found->name;
  const bool many = std::holds_alternative<config::ListField>(found->field);
  if (!many) {
    std::erase_if(component.flags, [&](const auto& one) { return one.first == found->name; });
  }
  component.flags.emplace_back(found->name, value);
  Say(same ? Imported::kTaken : Imported::kRenamed, argument.key, argument.line,
      fmt::format("--{} {}", found->name, value));
}

void ProcessTranslator::SetNamespace(const std::string& key, std::uint32_t line,
                                     const std::string& value) {
  if (named_ && out_.graph.ns != value) {
    return Refuse(key, line,
                  fmt::format("a graph has one namespace, and that is {}", out_.graph.ns));
  }
  named_ = true;
  out_.graph.ns = value;
  Say(Imported::kRenamed, key, line, fmt::format("namespace: {}", value));
}

void ProcessTranslator::SetEndpoint(const Argument& argument, GraphComponent& component) {
  std::string_view rest = argument.value ? *argument.value : std::string_view();
  if (rest.starts_with("dyn://")) {
    rest.remove_prefix(6);
  }
  const std::size_t first = rest.find('.');
  const std::size_t second = first == std::string_view::npos ? first : rest.find('.', first + 1);
  if (second == std::string_view::npos) {
    return Refuse(argument.key, argument.line, "must be dyn://NAMESPACE.COMPONENT.ENDPOINT");
  }
  SetNamespace(argument.key, argument.line, std::string(rest.substr(0, first)));
  SetOption(argument, "component", std::string(rest.substr(first + 1, second - first - 1)),
            component);
  SetOption(argument, "endpoint", std::string(rest.substr(second + 1)), component);
}

void ProcessTranslator::ReadEngine(const Argument& argument, GraphComponent& component) {
  const std::string path = argument.value.value_or("");
  const std::string base =
      path.substr(path.rfind('/') == std::string::npos ? 0 : path.rfind('/') + 1);
  std::string file = path;
  std::string text;
  if (const auto map = files_.find(base); map != files_.end()) {
    file = fmt::format("{}({})", path_, base);
    text = map->second;
  } else {
    Result<std::string> read = rules_.engine_file(path);
    if (!read) {
      return Refuse(argument.key, argument.line, read.error().detail());
    }
    text = std::move(*read);
  }
  Result<config::ImportedEngineArgs> imported = config::ImportEngineArgs(text, file);
  if (!imported) {
    return Refuse(argument.key, argument.line, imported.error().detail());
  }
  std::string target = rules_.engine_path(component.name);
  Say(Imported::kTaken, argument.key, argument.line, fmt::format("--extra-engine-args {}", target));
  for (ImportedKey& key : imported->keys) {
    key.file = file;
    out_.keys.push_back(std::move(key));
  }
  component.flags.emplace_back("extra-engine-args", std::move(target));
  out_.engines.push_back({.component = component.name, .text = std::move(imported->text)});
}

void ProcessTranslator::SetReplicas(const Argument& argument, const std::string& value,
                                    GraphComponent& component) {
  const std::optional<std::int64_t> count = ReplicasOf(value);
  if (!count) {
    return Refuse(argument.key, argument.line,
                  fmt::format("\"{}\" is no number up to {}", value, kReplicasMax));
  }
  component.replicas *= *count;
  Say(Imported::kRenamed, argument.key, argument.line, fmt::format("replicas: {}", *count));
}

void ProcessTranslator::ByNothing(const Argument& argument, const Rule& rule) {
  const std::string list = fmt::format(",{},", rule.values);
  const std::string value = fmt::format(",{},", argument.value.value_or("true"));
  if (rule.values == "*" || list.find(value) != std::string::npos) {
    Nothing(argument.key, argument.line, rule.note);
  } else {
    Refuse(argument.key, argument.line, rule.note);
  }
}

void ProcessTranslator::ByTable(const Argument& argument, const Rule& rule,
                                GraphComponent& component) {
  const std::string value = argument.value.value_or("true");
  const std::string target(rule.target);
  switch (rule.kind) {
    case RuleKind::kModel:
      component.model = value;
      return Say(Imported::kRenamed, argument.key, argument.line, fmt::format("model: {}", value));
    case RuleKind::kOption:
      return SetOption(argument, target, value, component);
    case RuleKind::kNot:
      return SetOption(argument, target, value == "true" ? "false" : "true", component);
    case RuleKind::kWords:
      if (const std::optional<std::string> word = WordFor(rule.values, value)) {
        return SetOption(argument, target, *word, component);
      }
      return Refuse(argument.key, argument.line,
                    fmt::format("\"{}\" is none of {}", value, rule.values));
    case RuleKind::kFrontend:
      for_frontends_.push_back({.argument = argument, .option = target, .value = value});
      return;
    case RuleKind::kNamespace:
      return SetNamespace(argument.key, argument.line, value);
    case RuleKind::kEndpoint:
      return SetEndpoint(argument, component);
    case RuleKind::kEngineFile:
      return ReadEngine(argument, component);
    case RuleKind::kReplicas:
      return SetReplicas(argument, value, component);
    case RuleKind::kNothing:
      return ByNothing(argument, rule);
  }
}

bool ProcessTranslator::ByOption(const Argument& argument, GraphComponent& component) {
  const std::vector<Option> options = rules_.options(component.command);
  if (const std::optional<Option> option = OptionOf(options, argument.flag)) {
    if (!argument.value && !IsSwitch(*option)) {
      Refuse(argument.key, argument.line, "wants a value");
      return true;
    }
    SetOption(argument, option->name, argument.value.value_or("true"), component);
    return true;
  }
  if (argument.flag.starts_with("no-")) {
    const std::optional<Option> option = OptionOf(options, argument.flag.substr(3));
    if (option && IsSwitch(*option)) {
      SetOption(argument, option->name, "false", component);
      return true;
    }
  }
  return false;
}

// A worker's flag that is a key of the engine YAML by another name.
bool ProcessTranslator::ByEngineKey(const Argument& argument, GraphComponent& component) {
  if (component.command != "worker" || !argument.value) {
    return false;
  }
  std::string key = argument.flag;
  std::ranges::replace(key, '-', '_');
  const Result<config::EngineSettings> read =
      config::ReadEngineArgs({.file = {}, .json = {}, .dotted = {{key, *argument.value}}});
  if (!read && read.error().code() != Code::kUnsupported) {
    return false;
  }
  if (!read) {
    Refuse(argument.key, argument.line, read.error().detail());
  } else if (read->settings.empty()) {
    Nothing(argument.key, argument.line, "");
  } else {
    SetOption(argument, read->settings.front().option, read->settings.front().value, component);
  }
  return true;
}

void ProcessTranslator::Translate(Argument argument, const Module& module,
                                  GraphComponent& component) {
  for (const Rule& rule : kFlags) {
    if (rule.modules.find(module.letter) == std::string_view::npos) {
      continue;
    }
    const bool negated = argument.flag.starts_with("no-") && argument.flag.substr(3) == rule.flag;
    if (rule.flag != argument.flag && !negated) {
      continue;
    }
    if (negated) {
      argument.value = "false";
    }
    ByTable(argument, rule, component);
    return;
  }
  if (ByOption(argument, component) || ByEngineKey(argument, component)) {
    return;
  }
  std::vector<std::string> names;
  for (const Option& option : rules_.options(component.command)) {
    names.push_back(option.name);
  }
  const std::optional<std::string> nearest = config::Nearest(argument.flag, names);
  Refuse(argument.key, argument.line,
         fmt::format("pixii {} has no such flag{}", component.command,
                     nearest ? fmt::format("; the nearest is --{}", *nearest) : ""));
}

void ProcessTranslator::AddFlags(const ForeignProcess& process, std::size_t first,
                                 const Module& module, GraphComponent& component) {
  const std::vector<LaunchWord>& words = process.words;
  for (std::size_t i = first; i < words.size(); ++i) {
    const LaunchWord& word = words[i];
    if (!word.text.starts_with("--") || !word.unknown.empty()) {
      Refuse(fmt::format("{} {}", component.name, word.text), word.line,
             word.unknown.empty() ? "is no flag"
                                  : fmt::format("{} is not known from here; --set {}=VALUE",
                                                word.unknown, word.unknown));
      continue;
    }
    Argument argument{.flag = word.text.substr(2), .value = {}, .line = word.line};
    std::string unknown;
    const std::size_t equals = argument.flag.find('=');
    if (equals != std::string::npos) {
      argument.value = argument.flag.substr(equals + 1);
      argument.flag.resize(equals);
    } else if (i + 1 < words.size() && !words[i + 1].text.starts_with("--")) {
      ++i;
      argument.value = words[i].text;
      unknown = words[i].unknown;
    }
    std::ranges::replace(argument.flag, '_', '-');
    argument.key = fmt::format("{} --{}", component.name, argument.flag);
    if (!unknown.empty()) {
      Refuse(argument.key, argument.line,
             fmt::format("{} is not known from here; --set {}=VALUE", unknown, unknown));
    } else {
      Translate(std::move(argument), module, component);
    }
  }
}

void ProcessTranslator::AddVariable(const LaunchVariable& variable, GraphComponent& component) {
  const Argument argument{.flag = variable.name,
                          .value = variable.value.text,
                          .line = variable.value.line,
                          .key = fmt::format("{} {}", component.name, variable.name)};
  if (!variable.value.unknown.empty()) {
    return Refuse(argument.key, argument.line,
                  fmt::format("{} is not known from here; --set {}=VALUE", variable.value.unknown,
                              variable.value.unknown));
  }
  if (variable.name == "DYN_NAMESPACE") {
    return SetNamespace(argument.key, argument.line, variable.value.text);
  }
  const auto idle = std::ranges::find(kIdleVariables, variable.name,
                                      &std::pair<std::string_view, std::string_view>::first);
  if (idle != std::end(kIdleVariables)) {
    return Nothing(argument.key, argument.line, idle->second);
  }
  for (const Option& option : rules_.options(component.command)) {
    const auto& names = option.environment_aliases;
    if (std::ranges::find(names, variable.name) != names.end()) {
      const std::string& text = variable.value.text;
      const bool digit = IsSwitch(option) && (text == "0" || text == "1");
      return SetOption(argument, option.name, digit ? (text == "1" ? "true" : "false") : text,
                       component);
    }
  }
  if (BeginsWithAny(variable.name, kOwnPrefixes)) {
    return Refuse(argument.key, argument.line,
                  fmt::format("pixii {} reads no such variable", component.command));
  }
  component.environment.emplace_back(variable.name, variable.value.text);
  Say(Imported::kTaken, argument.key, argument.line,
      fmt::format("environment: {}={}", variable.name, variable.value.text));
}

std::string ProcessTranslator::NameFor(const ForeignProcess& process,
                                       const GraphComponent& component) const {
  std::string base = process.name;
  if (base.empty()) {
    base = component.command;
    for (std::size_t i = 0; i + 1 < process.words.size(); ++i) {
      const std::string& value = process.words[i + 1].text;
      const bool role = value == "prefill" || value == "decode" || value == "encode";
      base = process.words[i].text == "--disaggregation-mode" && role ? value : base;
    }
  }
  std::string name = base;
  for (int number = 2; std::ranges::find(out_.graph.components, name, &GraphComponent::name) !=
                       out_.graph.components.end();
       ++number) {
    name = fmt::format("{}-{}", base, number);
  }
  return name;
}

void ProcessTranslator::Add(const ForeignProcess& process) {
  const std::vector<LaunchWord>& words = process.words;
  std::size_t at = words.size();
  for (std::size_t i = 0; i + 2 < words.size() && at == words.size(); ++i) {
    const std::string& text = words[i].text;
    const std::string_view base = std::string_view(text).substr(text.rfind('/') + 1);
    at = base.starts_with("python") && words[i + 1].text == "-m" ? i : at;
  }
  const std::string called = process.name.empty() ? "a command" : process.name;
  std::string module_name = process.is_frontend && words.empty() ? "dynamo.frontend" : "";
  if (at < words.size()) {
    module_name = words[at + 2].text;
    if (!words[at + 2].unknown.empty()) {
      return Refuse(called, words[at + 2].line,
                    fmt::format("{} is not known from here; --set {}=VALUE", words[at + 2].unknown,
                                words[at + 2].unknown));
    }
  }
  const auto module = std::ranges::find(kModules, module_name, &Module::name);
  if (module == kModules.end()) {
    const auto other = std::ranges::find(kOtherModules, module_name,
                                         &std::pair<std::string_view, std::string_view>::first);
    return Refuse(
        module_name.empty() ? called : module_name, process.line,
        other != std::end(kOtherModules) ? other->second : "is no process that Pixii has");
  }
  GraphComponent component;
  component.command = module->command;
  component.name = NameFor(process, component);
  component.replicas = process.replicas;
  component.line = process.line;
  Say(Imported::kRenamed, component.name, process.line,
      fmt::format("pixii {}, from {}", component.command, module_name));
  for (std::size_t i = 0; i < std::min(at, words.size()); ++i) {
    Nothing(fmt::format("{} {}", component.name, words[i].text), words[i].line,
            "processes are started as they are");
  }
  if (module->letter == 'm') {
    component.flags.emplace_back("mock", "true");
  }
  for (const LaunchVariable& variable : process.environment) {
    AddVariable(variable, component);
  }
  // Flags rank above variables.
  AddFlags(process, std::min(at + 3, words.size()), *module, component);
  out_.graph.components.push_back(std::move(component));
}

void ProcessTranslator::TellFrontends() {
  for (const ForFrontends& wanted : for_frontends_) {
    const Argument& argument = wanted.argument;
    bool told = false;
    for (GraphComponent& component : out_.graph.components) {
      if (component.command != "frontend") {
        continue;
      }
      told = true;
      const std::string* const has = component.Flag(wanted.option);
      if (has == nullptr) {
        SetOption(argument, wanted.option, wanted.value, component);
      } else if (*has != wanted.value) {
        Refuse(argument.key, argument.line,
               fmt::format("{} has --{} {} already", component.name, wanted.option, *has));
      } else {
        Say(Imported::kRenamed, argument.key, argument.line,
            fmt::format("--{} {} of {}", wanted.option, wanted.value, component.name));
      }
    }
    if (!told) {
      Refuse(argument.key, argument.line,
             fmt::format("--{} is of a frontend, and there is none", wanted.option));
    }
  }
}

// Replicas on one host cannot listen at one port.
void ProcessTranslator::SettlePorts(GraphComponent& component) {
  if (component.replicas <= 1) {
    return;
  }
  if (component.command != "worker") {
    Refuse(component.name + " replicas", component.line, "a host has one such port; one is left");
    component.replicas = 1;
    return;
  }
  const std::string* const port = component.Flag("system-port");
  if (port != nullptr && *port != "0" && !port->starts_with('-')) {
    Refuse(component.name + " --system-port", component.line,
           "each replica needs one of its own; the system picks them");
    std::erase_if(component.flags, [](const auto& one) { return one.first == "system-port"; });
    component.flags.emplace_back("system-port", "0");
  }
}

ImportedGraph ProcessTranslator::Finish() && {
  TellFrontends();
  std::vector<GraphComponent>& components = out_.graph.components;
  const auto router =
      std::ranges::find(components, std::string("router"), &GraphComponent::command);
  for (GraphComponent& component : components) {
    SettlePorts(component);
    if (component.command == "frontend" && router != components.end()) {
      component.flags.emplace_back("router-url", "discovery");
      component.needs.push_back(router->name);
    }
  }
  out_.text = GraphText(out_.graph);
  return std::move(out_);
}

}  // namespace pixii::control
