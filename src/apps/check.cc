#include <fmt/format.h>

#include "apps/command.h"
#include "apps/model_host.h"
#include "apps/model_source.h"
#include "media/decode.h"
#include "model/check.h"
#include "model/diffusion/diffusion_check.h"
#include "rt/file.h"

namespace pixii::apps {
namespace {

Result<model::CheckReport> CheckAny(const std::string& folder, kernels::Operators& operators,
                                    const model::CheckOptions& options) {
  return model::IsDiffusionFolder(folder) ? model::CheckDiffusionFolder(folder, operators, options)
                                          : model::CheckFolder(folder, operators, options);
}

constexpr std::uint64_t kImageFileMax = std::uint64_t{64} << 20;  // bytes

/// Golden pictures are one's own, so they are decoded in this process.
Result<media::Image> ReadImage(const std::string& path) {
  PX_TRY(const std::string file, rt::ReadFile(path, kImageFileMax));
  return media::Decode({reinterpret_cast<const std::uint8_t*>(file.data()), file.size()}, {});
}

}  // namespace

int RunCheck(const Arguments& arguments) {
  EngineFlags flags;
  config::Command command;
  command.name = "check";
  command.summary =
      "Compares model folders with the golden files in them; exit status 1 if a tensor is past its "
      "tolerance.";
  command.positionals = {{.name = "DIR",
                          .help = "folder with a checkpoint and golden files",
                          .required = true,
                          .repeated = true}};
  for (config::Option& option : RowsOf(flags)) {
    if (option.name == "device" || option.name == "isa" || option.name == "threads" ||
        option.name == "tensor-parallel-size" || option.name == "pipeline-parallel-size") {
      command.options.push_back(std::move(option));
    }
  }
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  Result<std::unique_ptr<kernels::Operators>> operators = MakeOperators(flags);
  if (!operators) {
    return Complain(operators.error());
  }
  bool all_passed = true;
  for (const std::string& name : parsed.positionals) {
    Result<ModelSource> source = ResolveModel(name, true);
    Result<model::CheckReport> report =
        source ? CheckAny(source->folder, **operators,
                          {.ranks = RankOptionsOf(flags), .read_image = ReadImage})
               : Result<model::CheckReport>(Fail(source.error()));
    if (!report) {
      return Complain(report.error());
    }
    Say("{}\n", report->ToText());
    all_passed = all_passed && report->passed();
  }
  return all_passed ? kExitDone : kExitNotSo;
}

}  // namespace pixii::apps
