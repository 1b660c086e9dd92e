#include "config/parse.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "config/engine_args.h"
#include "config/yaml_adapter.h"

namespace pixii::config {

namespace {

std::string EnvironmentName(const Command& command, const Option& option) {
  std::string name = "PIXII_" + command.name + "_" + option.name;
  for (char& c : name) {
    c = c == '-' || c == ' ' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
  }
  return name;
}

constexpr const char* kDumpVariable = "DYN_DUMP_CONFIG_TO";

std::string WithDashes(std::string key) {
  std::ranges::replace(key, '_', '-');
  return key;
}

// One parse: where each option's value came from so far.
class Reader final {
 public:
  Reader(const Command& command, const ParseInput& input) : command_(command), input_(input) {
    for (const Option& option : command.options) {
      flags_[option.name] = &option;
      for (const std::string& alias : option.flag_aliases) {
        flags_[alias] = &option;
      }
      for (const std::string& old : option.old_names) {
        flags_[old] = &option;
      }
    }
  }

  Result<Parsed> Run() {
    PX_CHECK_OK(ReadArguments());
    if (parsed_.help) {
      return std::move(parsed_);
    }
    if (config_path_) {
      PX_CHECK_OK(ReadFile());
    }
    PX_CHECK_OK(ReadEnvironment());
    for (const auto& [option, given] : given_flags_) {
      PX_CHECK_OK(Take(*option, given.value, Source::kFlag, given.where));
    }
    if (command_.takes_engine_args) {
      PX_CHECK_OK(TakeEngineArgs());
    }
    PX_CHECK_OK(CheckPositionals());
    if (command_.settle) {
      PX_CHECK_OK(command_.settle(parsed_));
    }
    for (const Option& option : command_.options) {
      auto found = sources_.find(&option);
      Origin origin = found == sources_.end() ? Origin{Source::kDefault, ""} : found->second;
      parsed_.values.push_back({&option, ValueText(option), origin.source, origin.where});
    }
    return std::move(parsed_);
  }

 private:
  struct Origin {
    Source source;
    std::string where;
  };

  struct Given {
    std::string value;
    std::string where;
  };

  Result<void> Take(const Option& option, const std::string& text, Source source,
                    const std::string& where) {
    if (Result<void> stored = Assign(option, text); !stored) {
      return Fail(
          Code::kInvalidArgument,
          fmt::format("{} (from {} {})", stored.error().detail(), SourceName(source), where),
          option.name);
    }
    sources_[&option] = {source, where};
    return {};
  }

  Error Unknown(std::string_view what, const std::string& name) const {
    std::vector<std::string> known = {"config", "print-config", "check-config", "dump-config-to",
                                      "help"};
    for (const auto& [flag, option] : flags_) {
      known.push_back(flag);
    }
    std::optional<std::string> nearest = Nearest(name, known);
    bool flag = what == "flag";
    return Error(
        Code::kInvalidArgument,
        fmt::format("unknown {} {}{}{}", what, flag ? "--" : "", name,
                    nearest ? fmt::format("; did you mean {}{}?", flag ? "--" : "", *nearest)
                            : fmt::format("; see pixii {} --help", command_.name)),
        name);
  }

  Result<void> ReadArguments() {
    bool only_words = false;
    for (std::size_t i = 0; i < input_.arguments.size(); ++i) {
      const std::string& argument = input_.arguments[i];
      if (only_words || argument.size() < 2 || argument[0] != '-') {
        parsed_.positionals.push_back(argument);
      } else if (argument == "--") {
        only_words = true;
      } else if (argument == "--help" || argument == "-h") {
        parsed_.help = true;
        return {};
      } else {
        PX_CHECK_OK(ReadFlag(argument, i));
      }
    }
    return {};
  }

  // --name value, --name=value, --flag, --no-flag.
  Result<void> ReadFlag(const std::string& argument, std::size_t& i) {
    if (!argument.starts_with("--")) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("unknown flag {}; flags begin with --", argument), argument);
    }
    std::size_t equals = argument.find('=');
    std::string name =
        argument.substr(2, equals == std::string::npos ? std::string::npos : equals - 2);
    std::optional<std::string> value;
    if (equals != std::string::npos) {
      value = argument.substr(equals + 1);
    }
    if (name == "print-config" || name == "check-config") {
      (name == "print-config" ? parsed_.print_config : parsed_.check_config) = true;
      return {};
    }
    constexpr std::string_view kDotted = "trtllm.";
    if (command_.takes_engine_args && name.starts_with(kDotted)) {
      if (!value && i + 1 >= input_.arguments.size()) {
        return Fail(Code::kInvalidArgument, fmt::format("--{} needs a value", name), name);
      }
      dotted_.emplace_back(name.substr(kDotted.size()), value ? *value : input_.arguments[++i]);
      return {};
    }
    auto found = flags_.find(name);
    bool negated = found == flags_.end() && name.starts_with("no-");
    if (negated) {
      found = flags_.find(name.substr(3));
      negated = found != flags_.end() && std::holds_alternative<BoolField>(found->second->field);
    }
    const bool is_file = name == "config" || name == "dump-config-to";
    if (!is_file && (found == flags_.end() ||
                     (name.starts_with("no-") && !negated && !flags_.contains(name)))) {
      return Fail(Unknown("flag", name));
    }
    bool is_bool = !is_file && std::holds_alternative<BoolField>(found->second->field);
    if (is_bool && !value) {
      value = negated ? "false" : "true";
    }
    if (!value) {
      if (i + 1 >= input_.arguments.size()) {
        return Fail(Code::kInvalidArgument, fmt::format("--{} needs a value", name), name);
      }
      value = input_.arguments[++i];
    }
    if (is_file) {
      (name == "config" ? config_path_ : parsed_.dump_config_to) = *value;
      return {};
    }
    SayIfOld(*found->second, name);
    auto given = given_flags_.find(found->second);
    if (given != given_flags_.end() && std::holds_alternative<ListField>(found->second->field)) {
      value = given->second.value + "\n" + *value;
    }
    given_flags_[found->second] = {*value, "--" + name};
    return {};
  }

  void SayIfOld(const Option& option, const std::string& name) {
    if (std::ranges::find(option.old_names, name) == option.old_names.end()) {
      return;
    }
    std::string notice = fmt::format("--{} is an old name of --{}", name, option.name);
    if (std::ranges::find(parsed_.notices, notice) == parsed_.notices.end()) {
      parsed_.notices.push_back(std::move(notice));
    }
  }

  Result<void> ReadFile() {
    PX_TRY(std::string text, input_.read_file(*config_path_));
    PX_TRY(std::vector<YamlEntry> entries,
           ReadYaml(text, *config_path_, command_.name, input_.known_sections));
    for (const YamlEntry& entry : entries) {
      auto found = flags_.find(WithDashes(entry.key));
      if (found == flags_.end()) {
        Error unknown = Unknown("key", entry.key);
        return Fail(Code::kInvalidArgument,
                    fmt::format("{}:{}: {}", *config_path_, entry.line, unknown.detail()),
                    entry.key);
      }
      PX_CHECK_OK(Take(*found->second, entry.value, Source::kFile,
                       fmt::format("{}:{}", *config_path_, entry.line)));
    }
    return {};
  }

  const std::string& TextOf(const std::string& name) const {
    return *std::get<TextField>(flags_.at(name)->field).target;
  }

  // Above flags, as deployments with an engine YAML expect; said where a flag gives way.
  Result<void> TakeEngineArgs() {
    EngineArgsInput input;
    input.dotted = dotted_;
    if (const std::string& path = TextOf("extra-engine-args"); !path.empty()) {
      PX_TRY(std::string text, input_.read_file(path));
      input.file = EngineArgsFile{std::move(text), path};
    }
    if (const std::string& json = TextOf("override-engine-args"); !json.empty()) {
      if (input_.check_json) {
        PX_CHECK_OK(input_.check_json(json));
      }
      input.json = json;
    }
    PX_TRY(EngineSettings read, ReadEngineArgs(input));
    parsed_.notices.insert(parsed_.notices.end(), read.notices.begin(), read.notices.end());
    for (const EngineSetting& setting : read.settings) {
      PX_CHECK_OK(setting.option == "MODEL" ? TakeModel(setting) : TakeSetting(setting));
    }
    return {};
  }

  Result<void> TakeSetting(const EngineSetting& setting) {
    const Option& option = *flags_.at(setting.option);
    auto before = sources_.find(&option);
    const bool by_flag = before != sources_.end() && before->second.source == Source::kFlag;
    const std::string old = ValueText(option);
    PX_CHECK_OK(Take(option, setting.value, Source::kEngineArgs,
                     fmt::format("{} {}", setting.where, setting.key)));
    if (by_flag && ValueText(option) != old) {
      parsed_.notices.push_back(fmt::format("{}: {} {} takes the place of --{} {}", setting.where,
                                            setting.key, setting.value, option.name, old));
    }
    return {};
  }

  Result<void> TakeModel(const EngineSetting& setting) {
    if (parsed_.positionals.empty()) {
      parsed_.positionals.push_back(setting.value);
    } else if (parsed_.positionals[0] != setting.value) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("{}: model is \"{}\", pixii {} was asked for \"{}\"", setting.where,
                              setting.value, command_.name, parsed_.positionals[0]),
                  "model");
    }
    return {};
  }

  // A variable with this command's prefix that no option reads is a typing error.
  Result<void> CheckEnvironmentNames() const {
    const std::string prefix = EnvironmentName(command_, Option{});
    std::vector<std::string> known;
    for (const Option& option : command_.options) {
      known.push_back(EnvironmentName(command_, option));
      known.insert(known.end(), option.environment_aliases.begin(),
                   option.environment_aliases.end());
    }
    for (const std::string& name : input_.environment_names) {
      if (!name.starts_with(prefix) || std::ranges::find(known, name) != known.end()) {
        continue;
      }
      std::optional<std::string> nearest = Nearest(name, known);
      return Fail(Code::kInvalidArgument,
                  fmt::format("unknown environment variable {}{}", name,
                              nearest ? fmt::format("; did you mean {}?", *nearest)
                                      : fmt::format("; see pixii {} --help", command_.name)),
                  name);
    }
    return {};
  }

  Result<void> ReadEnvironment() {
    PX_CHECK_OK(CheckEnvironmentNames());
    if (const std::optional<std::string> dump = input_.environment(kDumpVariable);
        dump && !dump->empty() && !parsed_.dump_config_to) {
      parsed_.dump_config_to = *dump;
    }
    for (const Option& option : command_.options) {
      std::vector<std::string> names = option.environment_aliases;
      names.push_back(EnvironmentName(command_, option));  // last: our own name wins
      for (const std::string& name : names) {
        std::optional<std::string> value = input_.environment(name);
        if (value && !value->empty()) {
          PX_CHECK_OK(Take(option, *value, Source::kEnvironment, name));
        }
      }
    }
    return {};
  }

  Result<void> CheckPositionals() const {
    std::size_t required = 0;
    bool open = false;
    for (const Positional& positional : command_.positionals) {
      required += positional.required ? 1 : 0;
      open = open || positional.repeated;
    }
    if (parsed_.positionals.size() < required) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("pixii {} needs {}", command_.name,
                              command_.positionals[parsed_.positionals.size()].name));
    }
    if (!open && parsed_.positionals.size() > command_.positionals.size()) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("pixii {} does not know what to do with \"{}\"", command_.name,
                              parsed_.positionals[command_.positionals.size()]));
    }
    return {};
  }

  const Command& command_;
  const ParseInput& input_;
  std::map<std::string, const Option*> flags_;
  std::map<const Option*, Given> given_flags_;
  std::map<const Option*, Origin> sources_;
  std::optional<std::string> config_path_;
  std::vector<std::pair<std::string, std::string>> dotted_;  // --trtllm.KEY VALUE
  Parsed parsed_;
};

std::size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) {
    row[j] = j;
  }
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string Usage(const Command& command) {
  std::string out = "pixii " + command.name;
  for (const Positional& positional : command.positionals) {
    std::string word = positional.name + (positional.repeated ? "..." : "");
    out += positional.required ? " " + word : " [" + word + "]";
  }
  return out + " [--flag value]...";
}

}  // namespace

std::string_view SourceName(Source source) {
  switch (source) {
    case Source::kDefault:
      return "default";
    case Source::kFile:
      return "file";
    case Source::kEnvironment:
      return "environment";
    case Source::kFlag:
      return "flag";
    case Source::kEngineArgs:
      return "engine args";
  }
  return "";
}

Result<Parsed> Parse(const Command& command, const ParseInput& input) {
  return Reader(command, input).Run();
}

std::string HelpText(const Command& command) {
  std::string out = command.summary + "\n\n  " + Usage(command) + "\n\n";
  for (const Positional& positional : command.positionals) {
    out += fmt::format("  {:<26} {}\n", positional.name, positional.help);
  }
  for (const Option& option : command.options) {
    std::string value = ValueText(option);
    out += fmt::format("  --{:<24} {} [{}]\n", option.name, option.help,
                       value.empty() ? "none" : value);
  }
  out += fmt::format("  --{:<24} {}\n", "config FILE", "reads options from a YAML file");
  out +=
      fmt::format("  --{:<24} {}\n", "print-config", "prints every value with its source and ends");
  out += fmt::format("  --{:<24} {}\n", "check-config",
                     "says whether the values are right and ends: exit status 0 or 1");
  out += fmt::format("  --{:<24} {}\n", "dump-config-to FILE",
                     "writes what --print-config prints to a file");
  return out;
}

std::string ConfigText(const Parsed& parsed) {
  std::string out;
  for (const Resolved& value : parsed.values) {
    out += fmt::format("{:<28} {:<24} {}{}{}\n", value.option->name,
                       value.value.empty() ? "\"\"" : value.value, SourceName(value.source),
                       value.where.empty() ? "" : " ", value.where);
  }
  return out;
}

std::string ReferencePage(const Command& command) {
  std::string out =
      fmt::format("## pixii {}\n\n{}\n\n`{}`\n\n", command.name, command.summary, Usage(command));
  if (command.options.empty()) {
    return out;
  }
  out += "| flag | environment | default | allowed | meaning |\n|---|---|---|---|---|\n";
  for (const Option& option : command.options) {
    std::vector<std::string> names = {EnvironmentName(command, option)};
    names.insert(names.end(), option.environment_aliases.begin(), option.environment_aliases.end());
    std::vector<std::string> flags = {option.name};
    flags.insert(flags.end(), option.flag_aliases.begin(), option.flag_aliases.end());
    flags.insert(flags.end(), option.old_names.begin(), option.old_names.end());
    std::string value = ValueText(option);
    out += fmt::format("| `--{}` | `{}` | {} | {} | {} |\n", fmt::join(flags, "`, `--"),
                       fmt::join(names, "`, `"), value.empty() ? "none" : "`" + value + "`",
                       AllowedText(option), option.help);
  }
  return out + "\n";
}

std::optional<std::string> Nearest(std::string_view name, const std::vector<std::string>& known) {
  std::optional<std::string> best;
  std::size_t best_distance = std::max<std::size_t>(2, name.size() / 3) + 1;
  for (const std::string& candidate : known) {
    std::size_t distance = EditDistance(name, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace pixii::config
