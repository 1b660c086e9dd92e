// Fills a command's options from flags, environment, a YAML file and defaults, in that order of
// precedence.
//
// Thread: once, at start. Unknown names and values out of range are errors that name the nearest
// known one.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "config/option.h"

namespace pixii::config {

enum class Source : std::uint8_t { kDefault, kFile, kEnvironment, kFlag, kEngineArgs };

std::string_view SourceName(Source source);

/// A positional word of a command, MODEL for example.
struct Positional {
  std::string name;
  std::string help;
  bool required = false;
  bool repeated = false;  // takes all that are left; only the last one may
};

struct Parsed;

/// A command with everything it reads.
struct Command {
  std::string name;     // "serve"; PIXII_SERVE_… is its environment
  std::string summary;  // one line
  std::vector<Option> options;
  std::vector<Positional> positionals;
  /// It has the text options extra-engine-args and override-engine-args, and takes --trtllm.KEY
  /// VALUE: these rank above everything else.
  bool takes_engine_args = false;
  /// Once all values are read: what they mean together. May change targets and words, and say so.
  /// Errors: of values that contradict one another. None: nothing is to be settled.
  std::function<Result<void>(Parsed& parsed)> settle = {};
};

struct Resolved {
  const Option* option;
  std::string value;
  Source source;
  std::string where;  // "--max-batch", "PIXII_SERVE_MAX_BATCH", "pixii.yaml:3"
};

struct Parsed {
  std::vector<std::string> positionals;
  std::vector<Resolved> values;  // one for each option, in table order
  bool help = false;             // --help was given; nothing else was checked
  bool print_config = false;
  bool check_config = false;                       // nothing is to be started
  std::optional<std::string> dump_config_to = {};  // file that gets what --print-config prints
  std::vector<std::string> notices;                // what took another's place; for the user to see
};

struct ParseInput {
  std::vector<std::string> arguments;  // after the command's name
  std::function<std::optional<std::string>(const std::string& name)> environment;
  /// Names of all variables, so that a misspelt PIXII_SERVE_… stops the start. May be empty.
  std::vector<std::string> environment_names;
  /// Sections that a file may have for other commands; any other one is refused. Empty: all are
  /// let through.
  std::vector<std::string> known_sections;
  /// Whole content of the file that --config names. Errors are returned as they are.
  std::function<Result<std::string>(const std::string& path)> read_file;
  /// Whether a text is JSON and nothing else; none: everything is let through.
  std::function<Result<void>(const std::string& text)> check_json = {};
};

/// Writes into the options' targets. Every command also takes --help, --config FILE,
/// --print-config, --check-config and --dump-config-to FILE. Errors: kInvalidArgument naming the
/// flag, variable or key, its value, what is allowed, and the nearest known name.
Result<Parsed> Parse(const Command& command, const ParseInput& input);

/// What --help prints.
std::string HelpText(const Command& command);
/// What --print-config prints: name, value, source.
std::string ConfigText(const Parsed& parsed);
/// A section of docs/reference/config.md. Pre: the targets hold the defaults.
std::string ReferencePage(const Command& command);

/// The known name with the smallest edit distance to `name`, if it is near enough to be meant.
std::optional<std::string> Nearest(std::string_view name, const std::vector<std::string>& known);

}  // namespace pixii::config
