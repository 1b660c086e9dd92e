#include "control/dynamo_import.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <utility>

#include "config/launch_script.h"
#include "config/yaml_adapter.h"
#include "control/dynamo_processes.h"

namespace pixii::control {

using config::LaunchVariable;
using config::LaunchWord;
using config::YamlKind;
using config::YamlMember;
using config::YamlNode;

namespace {

struct Note {
  std::string_view key;  // what begins so, at the end of a path of keys
  bool refused;
  std::string_view note;
};

// Keys of a deployment and its components that are no commands, flags or variables.
constexpr Note kNotes[] = {
    {"apiVersion", false, ""},
    {"kind", false, ""},
    {"metadata", false, "a graph has no more than its namespace"},
    {"status", false, "what a cluster said"},
    {"backendFramework", false, "workers run Pixii"},
    {"annotations", false, "of objects in a cluster"},
    {"labels", false, "of objects in a cluster"},
    {"priorityClassName", false, "of pods in a cluster"},
    {"topologyConstraint", false, "a graph is of one host"},
    {"restart", false, "a component is replaced when it changes, one replica at a time"},
    {"experimental", true, "there is nothing like it for a graph"},
    {"componentType", false, "the command says it"},
    {"subComponentType", false, "the role of its worker says it"},
    {"type", false, "the command says it"},
    {"name", false, ""},
    {"image", false, "processes of a graph run the program that pixii up is"},
    {"workingDir", false, "paths are those of this host"},
    {"resources", false, "processes of a graph share what the host has; pin them with taskset"},
    {"livenessProbe", false, "a process that ends is started again; stalls: --stall-limit"},
    {"readinessProbe", false, "a component is ready once its port file is there"},
    {"startupProbe", false, "a component may take as long as it needs to start"},
    {"terminationGracePeriodSeconds", false, "stop-grace of the component says it"},
    {"lifecycle", false, "SIGTERM drains"},
    {"ports", false, "ports are flags"},
    {"sharedMemory", false, "processes of a host have its shared memory"},
    {"securityContext", false, "processes run as who started them"},
    {"serviceAccountName", false, "of pods in a cluster"},
    {"tolerations", false, "a graph is of one host"},
    {"affinity", false, "a graph is of one host"},
    {"nodeSelector", false, "a graph is of one host"},
    {"imagePullSecrets", false, "processes of a graph run the program that pixii up is"},
    {"volume", false, "paths are those of this host"},
    {"pvc", false, "paths are those of this host"},
    {"envFrom", true, "secrets are a cluster's: set their variables where pixii up is started"},
    {"ingress", true, "put a proxy before the frontend's port"},
    {"autoscaling", true, "replicas are fixed; pixii planner scales"},
    {"scalingAdapter", true, "replicas are fixed; pixii planner scales"},
    {"multinode", true, "a graph is of one host; start pixii on each by itself"},
    {"initContainers", true, "do what they do before pixii up"},
    {"", true, "there is nothing like it for a graph"},
};

// The objects of a deployment as processes.
class DeploymentReader final {
 public:
  explicit DeploymentReader(ProcessTranslator& to) : to_(to) {}

  Result<void> Read(const std::string& text);

 private:
  void ReadSpec(const YamlNode& spec, const std::string& at);
  void ReadService(const std::string& name, const YamlNode& node, const std::string& at);
  void ReadServiceKey(const std::string& key, const YamlNode& node, const std::string& at,
                      ForeignProcess& process);
  void ReadContainer(const YamlNode& node, const std::string& at, ForeignProcess& process);
  void ReadPod(const YamlNode& node, const std::string& at, ForeignProcess& process);
  void ReadEnvironment(const YamlNode& node, const std::string& at,
                       std::vector<LaunchVariable>& out);
  void Remark(const std::string& key, const YamlNode& node, const std::string& at);
  void SplitShell(ForeignProcess& process);

  ProcessTranslator& to_;
  std::vector<LaunchVariable> shared_;  // of all components
};

void DeploymentReader::Remark(const std::string& key, const YamlNode& node, const std::string& at) {
  for (const Note& note : kNotes) {
    if (!key.starts_with(note.key)) {
      continue;
    }
    if (note.refused) {
      to_.Refuse(at, node.line, note.note);
    } else {
      to_.Nothing(at, node.line, note.note);
    }
    return;
  }
}

void DeploymentReader::ReadEnvironment(const YamlNode& node, const std::string& at,
                                       std::vector<LaunchVariable>& out) {
  for (const YamlNode& one : node.items) {
    const YamlNode* const name = one.Find("name");
    const YamlNode* const value = one.Find("value");
    if (name == nullptr || value == nullptr || value->kind != YamlKind::kScalar) {
      to_.Refuse(fmt::format("{}.{}", at, name != nullptr ? name->value : "?"), one.line,
                 "a value that only a cluster knows: set it where pixii up is started");
      continue;
    }
    out.push_back(
        {.name = name->value, .value = {.text = value->value, .unknown = {}, .line = one.line}});
  }
}

void DeploymentReader::ReadContainer(const YamlNode& node, const std::string& at,
                                     ForeignProcess& process) {
  std::vector<LaunchWord> arguments;
  for (const YamlMember& member : node.members) {
    const std::string key = at + "." + member.key;
    if (member.key == "env") {
      ReadEnvironment(member.node, key, process.environment);
    } else if (member.key == "command" || member.key == "args") {
      std::vector<LaunchWord>& words = member.key == "command" ? process.words : arguments;
      for (const YamlNode& item : member.node.items) {
        words.push_back({.text = item.value, .unknown = {}, .line = item.line});
      }
      if (member.node.kind == YamlKind::kScalar) {
        words.push_back({.text = member.node.value, .unknown = {}, .line = member.node.line});
      }
    } else {
      Remark(member.key, member.node, key);
    }
  }
  process.words.insert(process.words.end(), arguments.begin(), arguments.end());
}

void DeploymentReader::ReadPod(const YamlNode& node, const std::string& at,
                               ForeignProcess& process) {
  for (const YamlMember& member : node.members) {
    const std::string key = at + "." + member.key;
    if (member.key == "mainContainer") {
      ReadContainer(member.node, key, process);
    } else if (member.key == "spec") {
      ReadPod(member.node, key, process);
    } else if (member.key == "containers") {
      for (const YamlNode& container : member.node.items) {
        const YamlNode* const name = container.Find("name");
        const std::string called = name != nullptr ? name->value : "?";
        if (called == "main") {
          ReadContainer(container, key + ".main", process);
        } else {
          to_.Refuse(key + "." + called, container.line, "a component is one process");
        }
      }
    } else {
      Remark(member.key, member.node, key);
    }
  }
}

void DeploymentReader::ReadServiceKey(const std::string& key, const YamlNode& node,
                                      const std::string& at, ForeignProcess& process) {
  if (key == "replicas") {
    const std::optional<std::int64_t> count = ReplicasOf(node.value);
    if (!count) {
      return to_.Refuse(at, node.line,
                        fmt::format("\"{}\" is no number up to {}", node.value, kReplicasMax));
    }
    process.replicas = *count;
    return to_.Say(config::Imported::kTaken, at, node.line, fmt::format("replicas: {}", *count));
  }
  if (key == "envs" || key == "env") {
    return ReadEnvironment(node, at, process.environment);
  }
  if (key == "extraPodSpec" || key == "podTemplate") {
    return ReadPod(node, at, process);
  }
  if (key == "dynamoNamespace") {
    return to_.SetNamespace(at, node.line, node.value);
  }
  if (key == "componentType" || key == "type") {
    process.is_frontend = node.value == "frontend";
  }
  if (key == "multinode") {
    const YamlNode* const count = node.Find("nodeCount");
    if (count != nullptr && count->value == "1") {
      return to_.Nothing(at, node.line, "one host it is");
    }
  }
  Remark(key, node, at);
}

// `sh -c "python3 -m ..."`: the words of its last command.
void DeploymentReader::SplitShell(ForeignProcess& process) {
  const std::vector<LaunchWord>& words = process.words;
  if (words.size() < 3 || !words[0].text.ends_with("sh") || !words[1].text.starts_with('-') ||
      !words[1].text.ends_with('c')) {
    return;
  }
  const LaunchWord script = words[2];
  Result<std::vector<config::LaunchCommand>> read =
      config::ReadLaunchScript(script.text, to_.path(), {});
  if (!read) {
    return to_.Refuse(process.name, script.line, read.error().detail());
  }
  for (config::LaunchCommand& command : *read) {
    for (LaunchWord& word : command.words) {
      word.line = script.line + word.line - 1;
    }
    for (LaunchVariable& variable : command.environment) {
      variable.value.line = script.line + variable.value.line - 1;
    }
    const bool starts = std::ranges::any_of(
        command.words, [](const LaunchWord& word) { return word.text.starts_with("dynamo."); });
    if (starts && command.within.empty()) {
      process.words = std::move(command.words);
      process.environment.insert(process.environment.end(), command.environment.begin(),
                                 command.environment.end());
      return;
    }
  }
}

void DeploymentReader::ReadService(const std::string& name, const YamlNode& node,
                                   const std::string& at) {
  ForeignProcess process{.name = name, .line = node.line, .environment = shared_};
  for (const YamlMember& member : node.members) {
    ReadServiceKey(member.key, member.node, at + "." + member.key, process);
  }
  SplitShell(process);
  to_.Add(process);
}

void DeploymentReader::ReadSpec(const YamlNode& spec, const std::string& at) {
  for (const YamlMember& member : spec.members) {
    if (member.key == "envs" || member.key == "env") {
      ReadEnvironment(member.node, at + "." + member.key, shared_);
    }
  }
  for (const YamlMember& member : spec.members) {
    const std::string key = at + "." + member.key;
    if (member.key == "services") {  // v1alpha1
      for (const YamlMember& service : member.node.members) {
        ReadService(service.key, service.node, key + "." + service.key);
      }
    } else if (member.key == "components") {  // v1beta1
      for (const YamlNode& component : member.node.items) {
        const YamlNode* const name = component.Find("name");
        const std::string called = name != nullptr ? name->value : "component";
        ReadService(called, component, key + "." + called);
      }
    } else if (member.key != "envs" && member.key != "env") {
      Remark(member.key, member.node, key);
    }
  }
}

bool IsDeployment(const YamlNode& document) {
  const YamlNode* const kind = document.Find("kind");
  return kind != nullptr && kind->value == "DynamoGraphDeployment";
}

Result<void> DeploymentReader::Read(const std::string& text) {
  PX_TRY(const std::vector<YamlNode> documents, config::ReadYamlDocuments(text, to_.path()));
  for (const YamlNode& document : documents) {
    const YamlNode* const kind = document.Find("kind");
    const YamlNode* const data = document.Find("data");
    if (kind != nullptr && kind->value == "ConfigMap" && data != nullptr) {
      for (const YamlMember& file : data->members) {
        to_.AddFile(file.key, file.node.value);
      }
    }
  }
  for (const YamlNode& document : documents) {
    const YamlNode* const kind = document.Find("kind");
    if (!IsDeployment(document)) {
      if (kind != nullptr && kind->value != "ConfigMap") {
        to_.Refuse(kind->value, document.line, "is no object that Pixii has");
      }
      continue;
    }
    const YamlNode* const version = document.Find("apiVersion");
    if (version == nullptr ||
        (version->value != "nvidia.com/v1alpha1" && version->value != "nvidia.com/v1beta1")) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("{}:{}: apiVersion: \"{}\" is neither nvidia.com/v1alpha1 nor "
                              "nvidia.com/v1beta1",
                              to_.path(), version != nullptr ? version->line : document.line,
                              version != nullptr ? version->value : ""),
                  "apiVersion");
    }
    const YamlNode* const spec = document.Find("spec");
    if (spec != nullptr) {
      ReadSpec(*spec, "spec");
    }
    const YamlNode* const metadata = document.Find("metadata");
    const YamlNode* const name = metadata != nullptr ? metadata->Find("name") : nullptr;
    if (name != nullptr && !to_.named()) {
      to_.SetNamespace("metadata.name", name->line, name->value);
    }
  }
  return {};
}

Result<void> ReadScript(const std::string& text, const std::map<std::string, std::string>& given,
                        ProcessTranslator& to) {
  PX_TRY(const std::vector<config::LaunchCommand> commands,
         config::ReadLaunchScript(text, to.path(), given));
  for (const config::LaunchCommand& command : commands) {
    const bool runs = std::ranges::any_of(command.words, [&](const LaunchWord& word) {
      const std::size_t i = static_cast<std::size_t>(&word - command.words.data());
      return word.text == "-m" && i > 0 && i + 1 < command.words.size() &&
             command.words[i - 1].text.find("python") != std::string::npos &&
             (command.words[i + 1].text.starts_with("dynamo.") ||
              !command.words[i + 1].unknown.empty());
    });
    if (!runs) {
      continue;
    }
    if (!command.within.empty()) {
      to.Refuse("a command", command.line,
                fmt::format("stands in {} {}: whether it runs is not known from here",
                            command.within == "if" ? "an" : "", command.within));
      continue;
    }
    ForeignProcess process{.line = command.line, .words = command.words};
    // Of what a script exports, what means something to a process.
    for (const LaunchVariable& variable : command.environment) {
      if (IsForeignVariable(variable.name)) {
        process.environment.push_back(variable);
      }
    }
    to.Add(process);
  }
  return {};
}

}  // namespace

bool IsDynamoDeployment(const std::string& text) {
  const Result<std::vector<YamlNode>> documents = config::ReadYamlDocuments(text, "");
  return documents && std::ranges::any_of(*documents, IsDeployment);
}

bool IsDynamoScript(const std::string& text) {
  return text.starts_with("#!") || text.find("-m dynamo.") != std::string::npos;
}

std::optional<std::int64_t> ReplicasOf(const std::string& text) {
  std::int64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  return whole && count >= 0 && count <= kReplicasMax ? std::optional(count) : std::nullopt;
}

Result<ImportedGraph> ImportDynamoDeployment(const std::string& text, const std::string& path,
                                             const GraphImportRules& rules) {
  ProcessTranslator to(path, rules);
  PX_CHECK_OK(DeploymentReader(to).Read(text));
  return std::move(to).Finish();
}

Result<ImportedGraph> ImportDynamoScript(const std::string& text, const std::string& path,
                                         const std::map<std::string, std::string>& given,
                                         const GraphImportRules& rules) {
  ProcessTranslator to(path, rules);
  PX_CHECK_OK(ReadScript(text, given, to));
  return std::move(to).Finish();
}

}  // namespace pixii::control
