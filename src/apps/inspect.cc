#include <fmt/format.h>

#include "apps/command.h"
#include "apps/model_source.h"
#include "apps/watermark.h"
#include "model/inspect.h"
#include "rt/process.h"

namespace pixii::apps {

int RunInspect(const Arguments& arguments) {
  std::int64_t memory = 0;
  bool offline = false;
  bool json = false;
  std::string watermark;
  bool ids = false;
  config::Command command;
  command.name = "inspect";
  command.summary =
      "Says what a checkpoint is, its parameters, its KV bytes per token and what fits in memory; "
      "or whether a text on standard input carries a watermark.";
  command.positionals = {{.name = "DIR",
                          .help = "folder, bundled name or org/name[@revision]",
                          .required = false,
                          .repeated = false}};
  command.options.resize(5);
  command.options[0].name = "memory";
  command.options[0].field = config::SizeField{&memory, {0, std::int64_t{1} << 44}};
  command.options[0].help = "memory for model and KV cache; 0: what is free now";
  command.options[1].name = "offline";
  command.options[1].field = config::BoolField{&offline};
  command.options[1].help = "never ask a hub; use what is cached";
  command.options[2].name = "json";
  command.options[2].field = config::BoolField{&json};
  command.options[2].help = "prints JSON";
  command.options[3].name = "watermark";
  command.options[3].field = config::TextField{&watermark, {}};
  command.options[3].help = "looks for this watermark, the JSON of --logits-processor watermark=";
  command.options[4].name = "ids";
  command.options[4].field = config::BoolField{&ids};
  command.options[4].help = "with --watermark: standard input holds token ids";
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  std::string model = parsed.positionals.empty() ? kBundledModel : parsed.positionals[0];
  if (!watermark.empty()) {
    return RunWatermark({.config = watermark, .model = model, .ids = ids, .json = json});
  }
  Result<ModelSource> source = ResolveModel(model, offline);
  if (!source) {
    return Complain(source.error());
  }
  Result<rt::MachineLimits> machine = rt::ReadMachineLimits();
  model::InspectOptions options;
  options.memory_bytes = memory > 0 ? static_cast<std::uint64_t>(memory)
                                    : (machine ? machine->memory_available_bytes : 0);
  Result<model::InspectReport> report = model::InspectFolder(source->folder, options);
  if (!report) {
    return Complain(report.error());
  }
  Say("{}\n", json ? report->ToJson().Dump() : report->ToText());
  return kExitDone;
}

}  // namespace pixii::apps
