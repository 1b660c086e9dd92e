// The flags of the commands that a graph may run, as a place to check values in.
//
// Thread: values.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/option_structs.h"

namespace pixii::apps {

/// Whether an option goes by this flag, or one that stands for it.
inline bool Goes(const config::Option& option, std::string_view flag) {
  return option.name == flag ||
         std::ranges::find(option.flag_aliases, flag) != option.flag_aliases.end();
}

/// Outlives the options that it gives.
class GraphFlags final {
 public:
  /// Of frontend, planner, router, serve and worker.
  std::vector<config::Option> Of(std::string_view command) {
    std::vector<config::Option> out = command == "frontend"  ? RowsOf(frontend_)
                                      : command == "router"  ? RowsOf(router_)
                                      : command == "planner" ? RowsOf(planner_)
                                      : command == "serve"   ? RowsOf(serve_)
                                                             : RowsOf(worker_);
    if (command == "serve" || command == "worker") {
      for (config::Option& option : RowsOf(engine_)) {
        out.push_back(std::move(option));
      }
    }
    return out;
  }

 private:
  FrontendFlags frontend_;
  WorkerFlags worker_;
  RouterProcessFlags router_;
  PlannerFlags planner_;
  ServeFlags serve_;
  EngineFlags engine_;
};

}  // namespace pixii::apps
