#include "apps/model_command.h"

#include <utility>

#include "apps/model_source.h"

namespace pixii::apps {

int RunModelCommand(ModelCommand model_command, EngineFlags& engine, const Arguments& arguments,
                    const std::function<Result<int>(const std::string& model)>& run) {
  TrtllmFlags given;
  config::Command command;
  command.name = std::move(model_command.name);
  command.summary = std::move(model_command.summary);
  command.positionals = {
      {.name = "MODEL",
       .help = "folder, bundled name or org/name[@revision]; tiny-chat if none is given",
       .required = false,
       .repeated = false}};
  command.options = std::move(model_command.options);
  for (config::Option& option : RowsOf(engine)) {
    command.options.push_back(std::move(option));
  }
  AddRows(given, command.options);
  command.takes_engine_args = true;
  command.settle = [&](config::Parsed& parsed) -> Result<void> {
    PX_CHECK_OK(Settle(given, parsed));
    return model_command.settle ? model_command.settle(given) : Result<void>();
  };
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  Result<int> done = run(parsed.positionals.empty() ? kBundledModel : parsed.positionals[0]);
  return done ? *done : Complain(done.error());
}

}  // namespace pixii::apps
