// A fleet on one host as a file says it: components, how many of each, what they need.
//
// Thread: values. docs/reference of the format: docs/formats/graph.md
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "rt/time.h"

namespace pixii::control {

/// Name and value, in file order; a list's name stands there for each of its items.
using GraphValues = std::vector<std::pair<std::string, std::string>>;

struct GraphComponent {
  std::string name;
  std::string command = "worker";  // of this program
  std::string model = {};          // what it is given as MODEL; empty: nothing
  std::int64_t replicas = 1;
  GraphValues flags = {};
  GraphValues environment = {};
  std::vector<std::string> needs = {};  // components
  rt::Duration settle = std::chrono::seconds(1);
  rt::Duration stop_grace = std::chrono::seconds(35);
  std::uint32_t line = 0;  // of the file, where it begins

  /// The value of a flag; null: it has none.
  const std::string* Flag(std::string_view flag) const;
};

struct Graph {
  std::string ns = "dynamo";
  std::string discovery = {};              // empty: a folder of this graph alone
  GraphValues environment = {};            // of all
  std::vector<GraphComponent> components;  // those that are needed before those that need them
};

struct GraphRules {
  std::vector<std::string> commands;        // that a component may run
  std::vector<std::string> model_commands;  // of these, those that take a model
  /// Whether a command has such a flag, and takes the value. The error's detail is said as it is.
  std::function<Result<void>(const std::string& command, const std::string& flag,
                             const std::string& value)>
      check_flag;
  /// Whether a flag may be given more than once.
  std::function<bool(const std::string& command, const std::string& flag)> takes_many;
};

inline constexpr std::int64_t kReplicasMax = 1024;

/// Errors: kInvalidArgument with "FILE:LINE: key: what is wrong".
Result<Graph> ReadGraph(const std::string& text, const std::string& file, const GraphRules& rules);

/// A file that ReadGraph reads as `graph`; settle, stop-grace and variables of all are left out.
std::string GraphText(const Graph& graph);

}  // namespace pixii::control
