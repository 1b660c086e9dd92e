#include "control/graph.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string_view>

#include "config/option.h"
#include "config/parse.h"
#include "config/yaml_adapter.h"
#include "control/discovery_source.h"
#include "control/instance_codec.h"

namespace pixii::control {

using config::YamlKind;
using config::YamlLeaf;

namespace {

const std::vector<std::string> kRootKeys = {"namespace", "discovery", "environment", "components"};
const std::vector<std::string> kComponentKeys = {"command",     "model", "replicas", "flags",
                                                 "environment", "needs", "settle",   "stop-grace"};
// What every component is told anyway.
const std::vector<std::string> kOwnFlags = {"discovery", "namespace", "port-file", "parent-pid"};

class GraphReader final : private config::YamlErrors {
 public:
  GraphReader(const std::string& file, const GraphRules& rules) : YamlErrors(file), rules_(rules) {}

  Result<Graph> Read(const std::string& text) {
    PX_TRY(const std::vector<YamlLeaf> leaves, config::ReadYamlTree(text, file()));
    for (const YamlLeaf& leaf : leaves) {
      PX_CHECK_OK(ReadLeaf(leaf));
    }
    if (graph_.components.empty()) {
      return Fail(Code::kInvalidArgument, fmt::format("{}: components: there are none", file()),
                  "components");
    }
    for (GraphComponent& component : graph_.components) {
      PX_CHECK_OK(CheckComponent(component));
    }
    PX_CHECK_OK(SortByNeeds());
    return std::move(graph_);
  }

 private:
  Result<std::string> Scalar(const YamlLeaf& leaf) const {
    if (leaf.kind != YamlKind::kScalar) {
      return Wrong(leaf.line, leaf.path, "must be one value");
    }
    return leaf.value;
  }

  // "environment.NAME" and the like: `keys` from there on.
  Result<void> ReadEnvironment(const YamlLeaf& leaf, std::span<const std::string> keys,
                               GraphValues& out) const {
    if (keys.empty() && leaf.kind != YamlKind::kScalar && leaf.kind != YamlKind::kList) {
      return {};  // nothing stands in it
    }
    if (keys.size() != 1) {
      return Wrong(leaf.line, leaf.path, "must be a mapping of names to values");
    }
    if (keys[0].empty() || keys[0].find('=') != std::string::npos) {
      return Wrong(leaf.line, leaf.path, "no variable has such a name");
    }
    PX_TRY(std::string value, Scalar(leaf));
    out.emplace_back(keys[0], std::move(value));
    return {};
  }

  Result<void> ReadLeaf(const YamlLeaf& leaf) {
    const std::vector<std::string> keys = config::KeysOf(leaf);
    const std::span<const std::string> rest = std::span(keys).subspan(1);
    if (keys[0] == "environment") {
      return ReadEnvironment(leaf, rest, graph_.environment);
    }
    if (keys[0] == "components") {
      return ReadComponent(leaf, rest);
    }
    if (std::ranges::find(kRootKeys, keys[0]) == kRootKeys.end()) {
      return Unknown(leaf, keys[0], kRootKeys);
    }
    if (!rest.empty()) {
      return Wrong(leaf.line, leaf.path, "must be one value");
    }
    PX_TRY(std::string value, Scalar(leaf));
    if (Result<void> fits = CheckRoot(keys[0], value); !fits) {
      return Wrong(leaf.line, leaf.path, fits.error().detail());
    }
    (keys[0] == "namespace" ? graph_.ns : graph_.discovery) = std::move(value);
    return {};
  }

  static Result<void> CheckRoot(const std::string& key, const std::string& value) {
    if (key == "namespace") {
      return CheckName(key, value);
    }
    if (value.empty() || value == "file:") {
      return {};
    }
    PX_TRY(const DiscoverySource source, ParseDiscoverySource(value));
    return source.kind == DiscoverySource::Kind::kMem
               ? Fail(Code::kInvalidArgument, "mem is of one process, and these are several")
               : Result<void>();
  }

  GraphComponent& Component(const std::string& name, std::uint32_t line) {
    const auto found = std::ranges::find(graph_.components, name, &GraphComponent::name);
    if (found != graph_.components.end()) {
      return *found;
    }
    graph_.components.push_back({.name = name, .line = line});
    return graph_.components.back();
  }

  Result<void> ReadComponent(const YamlLeaf& leaf, std::span<const std::string> keys) {
    if (keys.empty()) {
      return leaf.kind == YamlKind::kNull || leaf.kind == YamlKind::kMap
                 ? Result<void>()
                 : Wrong(leaf.line, leaf.path, "must be a mapping of names to components");
    }
    GraphComponent& component = Component(keys[0], leaf.line);
    if (keys.size() == 1) {
      return leaf.kind == YamlKind::kNull || leaf.kind == YamlKind::kMap
                 ? Result<void>()
                 : Wrong(leaf.line, leaf.path, "must be a mapping");
    }
    const std::string& key = keys[1];
    if (key == "flags") {
      return ReadFlag(leaf, keys.subspan(2), component);
    }
    if (key == "environment") {
      return ReadEnvironment(leaf, keys.subspan(2), component.environment);
    }
    if (std::ranges::find(kComponentKeys, key) == kComponentKeys.end()) {
      return Unknown(leaf, key, kComponentKeys);
    }
    if (keys.size() > 2) {
      return Wrong(leaf.line, leaf.path, "must be one value");
    }
    if (key == "needs") {
      return ReadNeeds(leaf, component);
    }
    PX_TRY(const std::string value, Scalar(leaf));
    return ReadValue(leaf, key, value, component);
  }

  Result<void> ReadValue(const YamlLeaf& leaf, const std::string& key, const std::string& value,
                         GraphComponent& component) {
    constexpr std::int64_t kDayNs = 86'400'000'000'000;
    if (key == "command") {
      if (std::ranges::find(rules_.commands, value) == rules_.commands.end()) {
        return Wrong(leaf.line, leaf.path,
                     fmt::format("\"{}\" is none of {}", value, fmt::join(rules_.commands, ", ")));
      }
      component.command = value;
      return {};
    }
    if (key == "model") {
      component.model = value;
      return {};
    }
    config::Option option;
    option.name = key;
    std::int64_t number = 0;
    if (key == "replicas") {
      option.field = config::IntegerField{&number, {0, kReplicasMax}};
    } else {
      option.field = config::DurationField{&number, {0, kDayNs}};
    }
    if (Result<void> read = config::Assign(option, value); !read) {
      return Wrong(leaf.line, leaf.path, read.error().detail());
    }
    if (key == "replicas") {
      component.replicas = number;
    } else {
      (key == "settle" ? component.settle : component.stop_grace) = rt::Duration(number);
    }
    return {};
  }

  Result<void> ReadNeeds(const YamlLeaf& leaf, GraphComponent& component) {
    if (leaf.kind == YamlKind::kScalar) {
      component.needs.push_back(leaf.value);
    } else if (leaf.kind == YamlKind::kList) {
      component.needs = leaf.items;
    } else if (leaf.kind == YamlKind::kMap) {
      return Wrong(leaf.line, leaf.path, "must be a list of components");
    }
    needs_lines_[component.name] = leaf.line;
    return {};
  }

  Result<void> ReadFlag(const YamlLeaf& leaf, std::span<const std::string> keys,
                        GraphComponent& component) {
    if (keys.empty()) {
      return leaf.kind == YamlKind::kNull || leaf.kind == YamlKind::kMap
                 ? Result<void>()
                 : Wrong(leaf.line, leaf.path, "must be a mapping of flags to values");
    }
    if (keys.size() > 1 || leaf.kind == YamlKind::kNull || leaf.kind == YamlKind::kMap) {
      return Wrong(leaf.line, leaf.path, "must be a value, or a list of values");
    }
    if (std::ranges::find(kOwnFlags, keys[0]) != kOwnFlags.end()) {
      return Wrong(leaf.line, leaf.path, "is set for every component by itself");
    }
    const std::vector<std::string> values =
        leaf.kind == YamlKind::kList ? leaf.items : std::vector<std::string>{leaf.value};
    for (const std::string& value : values) {
      component.flags.emplace_back(keys[0], value);
      flag_lines_[component.name].emplace_back(leaf.line, leaf.path);
    }
    return {};
  }

  // What can be told once all of it was read: its command may stand behind its flags.
  Result<void> CheckComponent(const GraphComponent& component) {
    const std::string at = "components." + component.name;
    if (!component.model.empty() && std::ranges::find(rules_.model_commands, component.command) ==
                                        rules_.model_commands.end()) {
      return Wrong(component.line, at + ".model",
                   fmt::format("pixii {} takes no model", component.command));
    }
    for (std::size_t i = 0; i < component.flags.size(); ++i) {
      const auto& [flag, value] = component.flags[i];
      if (Result<void> fits = rules_.check_flag(component.command, flag, value); !fits) {
        const auto& [line, path] = flag_lines_[component.name][i];
        return Wrong(line, path, fits.error().detail());
      }
      const bool again = std::ranges::count(component.flags, flag,
                                            &std::pair<std::string, std::string>::first) > 1;
      if (again && !rules_.takes_many(component.command, flag)) {
        const auto& [line, path] = flag_lines_[component.name][i];
        return Wrong(line, path, "takes one value");
      }
    }
    for (const std::string& needed : component.needs) {
      if (std::ranges::find(graph_.components, needed, &GraphComponent::name) ==
          graph_.components.end()) {
        return Wrong(needs_lines_[component.name], at + ".needs",
                     fmt::format("there is no component \"{}\"", needed));
      }
    }
    return {};
  }

  Result<void> SortByNeeds() {
    std::vector<GraphComponent> sorted;
    std::set<std::string> placed;
    while (sorted.size() < graph_.components.size()) {
      const auto next = std::ranges::find_if(graph_.components, [&](const GraphComponent& one) {
        return !placed.contains(one.name) &&
               std::ranges::all_of(one.needs,
                                   [&](const std::string& name) { return placed.contains(name); });
      });
      if (next == graph_.components.end()) {
        const auto stuck = std::ranges::find_if(graph_.components, [&](const GraphComponent& one) {
          return !placed.contains(one.name);
        });
        return Wrong(needs_lines_[stuck->name], "components." + stuck->name + ".needs",
                     "leads back to itself");
      }
      placed.insert(next->name);
      sorted.push_back(*next);
    }
    graph_.components = std::move(sorted);
    return {};
  }

  const GraphRules& rules_;
  Graph graph_;
  std::map<std::string, std::uint32_t> needs_lines_;  // by component
  std::map<std::string, std::vector<std::pair<std::uint32_t, std::string>>>
      flag_lines_;  // as `flags`: line and path
};

void WriteValues(std::string& out, const char* key, const GraphValues& values) {
  if (values.empty()) {
    return;
  }
  out += fmt::format("    {}:\n", key);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::string& name = values[i].first;
    if (std::find_if(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(i),
                     [&](const auto& one) { return one.first == name; }) !=
        values.begin() + static_cast<std::ptrdiff_t>(i)) {
      continue;  // written with the first of its name
    }
    std::vector<std::string> texts;
    for (const auto& [other, value] : values) {
      if (other == name) {
        texts.push_back(config::YamlQuoted(value));
      }
    }
    out += texts.size() == 1 ? fmt::format("      {}: {}\n", name, texts.front())
                             : fmt::format("      {}: [{}]\n", name, fmt::join(texts, ", "));
  }
}

}  // namespace

const std::string* GraphComponent::Flag(std::string_view flag) const {
  const auto found = std::ranges::find(flags, flag, &std::pair<std::string, std::string>::first);
  return found != flags.end() ? &found->second : nullptr;
}

Result<Graph> ReadGraph(const std::string& text, const std::string& file, const GraphRules& rules) {
  return GraphReader(file, rules).Read(text);
}

std::string GraphText(const Graph& graph) {
  std::string out = fmt::format("namespace: {}\n", config::YamlQuoted(graph.ns));
  if (!graph.discovery.empty()) {
    out += fmt::format("discovery: {}\n", config::YamlQuoted(graph.discovery));
  }
  out += "components:\n";
  for (const GraphComponent& component : graph.components) {
    out += fmt::format("  {}:\n    command: {}\n", component.name, component.command);
    if (!component.model.empty()) {
      out += fmt::format("    model: {}\n", config::YamlQuoted(component.model));
    }
    if (component.replicas != 1) {
      out += fmt::format("    replicas: {}\n", component.replicas);
    }
    WriteValues(out, "flags", component.flags);
    WriteValues(out, "environment", component.environment);
    if (!component.needs.empty()) {
      out += fmt::format("    needs: [{}]\n", fmt::join(component.needs, ", "));
    }
  }
  return out;
}

}  // namespace pixii::control
