// The command line of a worker that does what a server in this process would do.
#pragma once

#include <string>
#include <vector>

#include "apps/option_structs.h"

namespace pixii::apps {

/// Where such a worker answers for its health and metrics.
inline constexpr const char* kChildHost = "127.0.0.1";

/// [0]: this program. `engine`: with what engine YAML said.
std::vector<std::string> WorkerArguments(const ServeFlags& serve, const EngineFlags& engine,
                                         const ClusterFlags& cluster, const std::string& model);

}  // namespace pixii::apps
