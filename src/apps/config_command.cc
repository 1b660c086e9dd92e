#include "apps/config_command.h"

#include <fmt/format.h>

#include <array>
#include <string>
#include <utility>

#include "config/engine_import.h"
#include "rt/file.h"

namespace pixii::apps {

namespace {

constexpr std::uint64_t kFileBytesMax = std::uint64_t{1} << 20;

Result<int> Import(const std::string& path, const std::string& target) {
  PX_TRY(const std::string text, rt::ReadFile(path, kFileBytesMax));
  PX_TRY(const config::ImportedEngineArgs imported, config::ImportEngineArgs(text, path));
  std::array<std::size_t, 4> counts = {};
  for (const config::ImportedKey& key : imported.keys) {
    ++counts[static_cast<std::size_t>(key.outcome)];
    // What is refused names its place itself.
    const bool refused = key.outcome == config::Imported::kRefused;
    Say("{}{}{}{}\n", refused ? "" : fmt::format("{}:{}: {}: ", path, key.line, key.key),
        refused ? "refused: " : config::ImportedName(key.outcome),
        refused || key.said.empty() ? "" : ": ", key.said);
  }
  Say("{} keys: {} taken over, {} renamed, {} without effect, {} refused\n", imported.keys.size(),
      counts[0], counts[1], counts[2], counts[3]);
  if (!target.empty()) {
    PX_CHECK_OK(rt::WriteFileAtomic(target, imported.text, 0644));
  }
  return counts[3] == 0 ? kExitDone : kExitNotSo;
}

int RunImport(const Arguments& arguments) {
  std::string target;
  config::Command command;
  command.name = "config import";
  command.summary =
      "Says of each key of an engine YAML what it becomes here; exit status 1 if one is refused.";
  command.options = {{.name = "out",
                      .field = config::TextField{&target, {}},
                      .unit = {},
                      .visibility = config::Visibility::kUser,
                      .help = "file that gets the keys that are not refused, for "
                              "--extra-engine-args; none: only says",
                      .environment_aliases = {},
                      .flag_aliases = {}}};
  command.positionals = {{.name = "FILE", .help = "engine YAML of TensorRT-LLM", .required = true}};
  const auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  const Result<int> done = Import(parsed.positionals.front(), target);
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
