// A command that loads MODEL: pixii serve and pixii worker.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "apps/command.h"
#include "apps/option_structs.h"
#include "apps/trtllm_flags.h"
#include "base/result.h"
#include "config/option.h"

namespace pixii::apps {

struct ModelCommand {
  std::string name;
  std::string summary;
  std::vector<config::Option> options;  // of its own
  /// As config::Command::settle, with what was said in the words of Dynamo's worker.
  std::function<Result<void>(const TrtllmFlags& given)> settle = {};
};

/// Parses the options of `command`, those of an engine and the words of Dynamo's worker, and runs
/// it with the model that was named, else the bundled one. Returns the exit status.
int RunModelCommand(ModelCommand command, EngineFlags& engine, const Arguments& arguments,
                    const std::function<Result<int>(const std::string& model)>& run);

}  // namespace pixii::apps
