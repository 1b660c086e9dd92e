// A process of Dynamo, by its command line and variables, as a component of a graph, and a report
// of what became of each.
//
// Thread: values.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/launch_script.h"
#include "control/dynamo_import.h"

namespace pixii::control {

/// A process as its deployment starts it.
struct ForeignProcess {
  std::string name = {};  // of its component; empty: as its role
  std::uint32_t line = 0;
  std::vector<config::LaunchVariable> environment = {};
  std::vector<config::LaunchWord> words = {};  // the whole command
  std::int64_t replicas = 1;
  bool is_frontend = false;  // its kind says so, and it need not say a command
};

/// Of every process that a deployment starts, in order; then Finish.
class ProcessTranslator final {
 public:
  /// Both outlive it. `path`: of the deployment, for the report.
  ProcessTranslator(const std::string& path, const GraphImportRules& rules)
      : path_(path), rules_(rules) {}

  const std::string& path() const { return path_; }

  /// Whether a namespace was said.
  bool named() const { return named_; }

  /// A file that the deployment has itself, by its name without folders.
  void AddFile(const std::string& name, std::string text) { files_[name] = std::move(text); }

  void Add(const ForeignProcess& process);
  /// `key`: what the report calls the place.
  void SetNamespace(const std::string& key, std::uint32_t line, const std::string& value);
  ImportedGraph Finish() &&;

  void Say(config::Imported outcome, std::string key, std::uint32_t line, std::string said);
  void Refuse(std::string key, std::uint32_t line, std::string_view why);
  /// It changes nothing here; `note` says why.
  void Nothing(std::string key, std::uint32_t line, std::string_view note);

  struct Rule;    // of a flag: dynamo_flags.def
  struct Module;  // that Python runs

 private:
  // A flag on its way.
  struct Argument {
    std::string flag;
    std::optional<std::string> value = {};
    std::uint32_t line = 0;
    std::string key = {};  // what the report calls it
  };

  void AddFlags(const ForeignProcess& process, std::size_t first, const Module& module,
                GraphComponent& component);
  void AddVariable(const config::LaunchVariable& variable, GraphComponent& component);
  void Translate(Argument argument, const Module& module, GraphComponent& component);
  void ByTable(const Argument& argument, const Rule& rule, GraphComponent& component);
  void ByNothing(const Argument& argument, const Rule& rule);
  bool ByOption(const Argument& argument, GraphComponent& component);
  bool ByEngineKey(const Argument& argument, GraphComponent& component);
  void SetOption(const Argument& argument, const std::string& option, const std::string& value,
                 GraphComponent& component);
  void SetEndpoint(const Argument& argument, GraphComponent& component);
  void SetReplicas(const Argument& argument, const std::string& value, GraphComponent& component);
  void ReadEngine(const Argument& argument, GraphComponent& component);
  std::string NameFor(const ForeignProcess& process, const GraphComponent& component) const;
  void TellFrontends();
  void SettlePorts(GraphComponent& component);

  // What the frontends shall have, by a flag of another process.
  struct ForFrontends {
    Argument argument;
    std::string option;
    std::string value;
  };

  const std::string& path_;
  const GraphImportRules& rules_;
  ImportedGraph out_;
  std::map<std::string, std::string> files_;
  std::vector<ForFrontends> for_frontends_;
  bool named_ = false;
};

/// Whether a variable means something to a process of Dynamo, or to libraries that both use.
bool IsForeignVariable(std::string_view name);

}  // namespace pixii::control
