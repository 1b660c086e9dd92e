// Somebody's deployment of Dynamo, a DynamoGraphDeployment or a script that launches processes, as
// a graph for `pixii up`: each key, flag and variable by itself, with what becomes of it.
//
// Thread: values.
// Source: DynamoGraphDeployment nvidia.com/v1alpha1 and v1beta1, command lines of Dynamo's
// processes (docs/migration_from_dynamo.md).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "config/engine_import.h"
#include "config/option.h"
#include "control/graph.h"

namespace pixii::control {

struct GraphImportRules {
  /// The options of a command; their targets take what is tried.
  std::function<std::vector<config::Option>(const std::string& command)> options;
  /// The text of an engine YAML that a process names, where the deployment does not have it itself.
  std::function<Result<std::string>(const std::string& path)> engine_file;
  /// Where that of a component will lie.
  std::function<std::string(const std::string& component)> engine_path;
};

struct ImportedEngineFile {
  std::string component;
  std::string text;
};

struct ImportedGraph {
  std::vector<config::ImportedKey> keys;
  Graph graph;
  std::vector<ImportedEngineFile> engines;
  std::string text;  // the graph as a file
};

/// A count of replicas; nothing if the text is none, or it is out of range.
std::optional<std::int64_t> ReplicasOf(const std::string& text);

/// Whether it is one: a YAML document whose kind is DynamoGraphDeployment.
bool IsDynamoDeployment(const std::string& text);

/// Whether it is one: a line starts `-m dynamo.…`.
bool IsDynamoScript(const std::string& text);

/// Errors: kInvalidArgument with the line for what is no such file, or has nothing that Pixii runs;
/// kTooLarge. What is known and cannot be had is a refused key.
Result<ImportedGraph> ImportDynamoDeployment(const std::string& text, const std::string& path,
                                             const GraphImportRules& rules);

/// `given`: variables that the script is started with. Errors: likewise.
Result<ImportedGraph> ImportDynamoScript(const std::string& text, const std::string& path,
                                         const std::map<std::string, std::string>& given,
                                         const GraphImportRules& rules);

}  // namespace pixii::control
