#include "flags.h"

#include <cstdlib>
#include <optional>
#include <utility>

#include "config/parse.h"
#include "rt/file.h"

namespace pixii::python {

namespace {

constexpr std::uint64_t kConfigFileSizeMax = 1 << 20;

}  // namespace

Result<void> ParseFlags(const char* name, std::vector<config::Option> options,
                        const std::vector<std::string>& arguments, bool takes_engine_args) {
  config::Command command;
  command.name = name;
  command.options = std::move(options);
  command.takes_engine_args = takes_engine_args;
  config::ParseInput input;
  input.arguments = arguments;
  input.environment = [](const std::string& variable) -> std::optional<std::string> {
    const char* value = std::getenv(variable.c_str());
    return value != nullptr ? std::optional<std::string>(value) : std::nullopt;
  };
  input.read_file = [](const std::string& path) { return rt::ReadFile(path, kConfigFileSizeMax); };
  PX_TRY(const config::Parsed parsed, config::Parse(command, input));
  if (parsed.help || parsed.print_config || parsed.check_config) {
    return Fail(Code::kInvalidArgument,
                "help, print-config and check-config are of the command line");
  }
  return {};
}

}  // namespace pixii::python
