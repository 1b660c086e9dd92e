#include "apps/print_figures.h"

#include <utility>

#include "apps/command.h"
#include "apps/version.h"
#include "bench/machine.h"

namespace pixii::apps {

namespace {

wire::Json FlagsJson(const config::Parsed& parsed) {
  wire::Json out(wire::Json::Object{});
  for (const config::Resolved& value : parsed.values) {
    if (value.option->name != "json" && value.option->name != "api-key") {
      out.Set(value.option->name, value.value);
    }
  }
  return out;
}

}  // namespace

int PrintFigures(const config::Parsed& parsed, bool json, std::vector<bench::Figure> figures) {
  bench::Report report;
  report.commit = kCommit;
  report.machine = bench::MachineJson();
  report.flags = FlagsJson(parsed);
  report.figures = std::move(figures);
  Say("{}\n", json ? report.ToJson().Dump() : report.ToText());
  return kExitDone;
}

}  // namespace pixii::apps
