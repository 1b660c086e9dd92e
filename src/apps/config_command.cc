#include "apps/config_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/graph_flags.h"
#include "config/engine_import.h"
#include "control/dynamo_import.h"
#include "rt/file.h"

namespace pixii::apps {

namespace {

constexpr std::uint64_t kFileBytesMax = std::uint64_t{1} << 20;

struct ImportOptions {
  std::string path;                // what is read
  std::string target;              // what is written; empty: nothing
  std::string files;               // folder of files that it names
  std::vector<std::string> given;  // NAME=VALUE
};

// Says what became of each key. The exit status.
int Report(const std::string& path, const std::vector<config::ImportedKey>& keys) {
  config::ImportCounts counts = {};
  for (const config::ImportedKey& key : keys) {
    ++counts[static_cast<std::size_t>(key.outcome)];
    // What is refused names its place itself.
    const bool refused = key.outcome == config::Imported::kRefused;
    const std::string& file = key.file.empty() ? path : key.file;
    Say("{}{}{}{}\n", refused ? "" : fmt::format("{}:{}: {}: ", file, key.line, key.key),
        refused ? "refused: " : config::ImportedName(key.outcome),
        refused || key.said.empty() ? "" : ": ", key.said);
  }
  Say("{} keys: {} taken over, {} renamed, {} without effect, {} refused\n", keys.size(), counts[0],
      counts[1], counts[2], counts[3]);
  return counts[3] == 0 ? kExitDone : kExitNotSo;
}

std::string FolderOf(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, std::max<std::size_t>(slash, 1));
}

std::string NameOf(const std::string& path) {
  return path.substr(path.rfind('/') == std::string::npos ? 0 : path.rfind('/') + 1);
}

// As it is named, beside the deployment, or by its name in the folder of files.
Result<std::string> ReadNamed(const ImportOptions& options, const std::string& path) {
  std::vector<std::string> places = {path};
  if (!path.starts_with('/')) {
    places.push_back(FolderOf(options.path) + "/" + path);
  }
  if (!options.files.empty()) {
    places.push_back(options.files + "/" + path);
    places.push_back(options.files + "/" + NameOf(path));
  }
  for (const std::string& place : places) {
    PX_TRY(const std::optional<rt::FileInfo> found, rt::StatFile(place));
    if (found) {
      return rt::ReadFile(place, kFileBytesMax);
    }
  }
  return Fail(Code::kNotFound, fmt::format("{} is not here; --files names the folder that has {}",
                                           path, NameOf(path)));
}

Result<int> ImportGraph(const ImportOptions& options, const std::string& text, bool script) {
  std::map<std::string, std::string> given;
  for (const std::string& one : options.given) {
    const std::size_t equals = one.find('=');
    if (equals == std::string::npos || equals == 0) {
      return Fail(Code::kInvalidArgument, fmt::format("--set {}: must be NAME=VALUE", one), "set");
    }
    given[one.substr(0, equals)] = one.substr(equals + 1);
  }
  // Processes of a graph may start in another folder.
  std::string stem = options.target.substr(0, options.target.rfind(".yaml"));
  if (!stem.empty()) {
    PX_TRY(const std::string folder, rt::RealPath(FolderOf(stem)));
    stem = folder + "/" + NameOf(stem);
  }
  GraphFlags flags;
  const control::GraphImportRules rules = {
      .options = [&](const std::string& command) { return flags.Of(command); },
      .engine_file = [&](const std::string& path) { return ReadNamed(options, path); },
      .engine_path =
          [&](const std::string& component) {
            return fmt::format("{}.{}.engine.yaml", stem, component);
          }};
  PX_TRY(const control::ImportedGraph imported,
         script ? control::ImportDynamoScript(text, options.path, given, rules)
                : control::ImportDynamoDeployment(text, options.path, rules));
  if (!options.target.empty()) {
    for (const control::ImportedEngineFile& engine : imported.engines) {
      PX_CHECK_OK(rt::WriteFileAtomic(rules.engine_path(engine.component), engine.text, 0644));
    }
    PX_CHECK_OK(rt::WriteFileAtomic(options.target, imported.text, 0644));
  }
  return Report(options.path, imported.keys);
}

Result<int> Import(const ImportOptions& options) {
  PX_TRY(const std::string text, rt::ReadFile(options.path, kFileBytesMax));
  const bool deployment = control::IsDynamoDeployment(text);
  if (deployment || control::IsDynamoScript(text)) {
    return ImportGraph(options, text, !deployment);
  }
  PX_TRY(const config::ImportedEngineArgs imported, config::ImportEngineArgs(text, options.path));
  if (!options.target.empty()) {
    PX_CHECK_OK(rt::WriteFileAtomic(options.target, imported.text, 0644));
  }
  return Report(options.path, imported.keys);
}

config::Option OptionFor(const char* name, config::Field field, const char* help) {
  return {.name = name,
          .field = field,
          .unit = {},
          .visibility = config::Visibility::kUser,
          .help = help,
          .environment_aliases = {},
          .flag_aliases = {}};
}

int RunImport(const Arguments& arguments) {
  ImportOptions options;
  config::Command command;
  command.name = "config import";
  command.summary =
      "Says of each key of an engine YAML, a DynamoGraphDeployment or a script that launches "
      "Dynamo what it becomes here; exit status 1 if one is refused.";
  command.options = {
      OptionFor("out", config::TextField{&options.target, {}},
                "file that gets what is not refused: an engine YAML for --extra-engine-args, or a "
                "graph for pixii up, with an engine YAML beside it for each component that has "
                "one; none: only says"),
      OptionFor("files", config::TextField{&options.files, {}},
                "folder of the engine YAML files that a deployment names, by their paths or names"),
      OptionFor("set", config::ListField{&options.given, {}},
                "NAME=VALUE: a variable that a script is started with")};
  command.positionals = {
      {.name = "FILE", .help = "engine YAML, deployment or script", .required = true}};
  const auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  options.path = parsed.positionals.front();
  const Result<int> done = Import(options);
  return done ? *done : Complain(done.error());
}

}  // namespace

int RunConfig(const Arguments& arguments) {
  if (arguments.empty() || arguments.front() != "import") {
    return Complain(Error(Code::kInvalidArgument, "pixii config takes: import"));
  }
  return RunImport(Arguments(arguments.begin() + 1, arguments.end()));
}

}  // namespace pixii::apps
