#include "apps/command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "apps/version.h"
#include "obs/histogram_bounds.h"
#include "rt/file.h"
#include "wire/json.h"

namespace pixii::apps {

namespace {

constexpr std::uint64_t kConfigFileSizeMax = 1 << 20;  // bytes

}  // namespace

int Complain(const Error& error) {
  SayError("pixii: {}\n", error.detail());
  return kExitFailed;
}

std::pair<config::Parsed, int> ParseOrExit(const config::Command& command,
                                           const Arguments& arguments) {
  config::ParseInput input;
  input.arguments = arguments;
  input.environment = [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    return value != nullptr ? std::optional<std::string>(value) : std::nullopt;
  };
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text(*variable);
    input.environment_names.emplace_back(text.substr(0, text.find('=')));
  }
  input.known_sections = {"serve",          "chat",        "bench engine",
                          "bench frontend", "bench serve", "simulate"};
  input.read_file = [](const std::string& path) { return rt::ReadFile(path, kConfigFileSizeMax); };
  input.check_json = [](const std::string& text) -> Result<void> {
    Result<wire::Json> json = wire::ParseJson(text);
    if (!json) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("override-engine-args: this is no JSON: {}", json.error().detail()),
                  "override-engine-args");
    }
    return {};
  };
  if (arguments == Arguments{"--version"}) {
    Say("pixii {} ({})\n", kVersion, kCommit);
    return {config::Parsed{}, kExitDone};
  }
  std::string help = config::HelpText(command);  // before the targets change
  Result<config::Parsed> parsed = config::Parse(command, input);
  if (!parsed) {
    const int failed = Complain(parsed.error());
    const bool asked = std::ranges::find(arguments, "--check-config") != arguments.end();
    return {config::Parsed{}, asked ? kExitNotSo : failed};
  }
  if (parsed->help) {
    Say("{}", help);
    return {config::Parsed{}, kExitDone};
  }
  if (Result<void> set = obs::SetHistogramBounds(input.environment); !set) {
    return {config::Parsed{}, Complain(set.error())};
  }
  for (const std::string& notice : parsed->notices) {
    SayError("pixii: {}\n", notice);
  }
  if (parsed->dump_config_to && !parsed->dump_config_to->empty()) {
    const Result<void> written =
        rt::WriteFileAtomic(*parsed->dump_config_to, config::ConfigText(*parsed), 0644);
    if (!written) {
      return {config::Parsed{},
              Complain(Error(written.error().code(), "dump-config-to: " + written.error().detail(),
                             "dump-config-to"))};
    }
  }
  if (parsed->print_config) {
    Say("{}", config::ConfigText(*parsed));
    return {config::Parsed{}, kExitDone};
  }
  if (parsed->check_config) {
    Say("pixii {}: the values are right\n", command.name);
    return {config::Parsed{}, kExitDone};
  }
  return {std::move(*parsed), kGoOn};
}

}  // namespace pixii::apps
