#include "apps/worker_arguments.h"

#include <fmt/format.h>

#include "apps/supervisor.h"
#include "rt/child_process.h"

namespace pixii::apps {

namespace {

void AddDifferent(const std::vector<config::Option>& options,
                  const std::vector<config::Option>& defaults, std::vector<std::string>& out) {
  for (std::size_t i = 0; i < options.size(); ++i) {
    const std::string value = config::ValueText(options[i]);
    if (value != config::ValueText(defaults[i])) {
      out.push_back(fmt::format("--{}={}", options[i].name, value));
    }
  }
}

}  // namespace

std::vector<std::string> WorkerArguments(const ServeFlags& serve, const EngineFlags& engine,
                                         const ClusterFlags& cluster, const std::string& model) {
  WorkerFlags flags;
  static_cast<ProcessFlags&>(flags) = serve;
  static_cast<ModelFlags&>(flags) = serve;
  static_cast<MockFlags&>(flags) = serve;
  static_cast<KvZmqFlags&>(flags) = serve;
  static_cast<ClusterFlags&>(flags) = cluster;
  flags.port_file.clear();
  flags.extra_engine_args.clear();  // what they said stands in `engine`
  flags.override_engine_args.clear();
  flags.parent_pid = rt::OwnPid();
  if (serve.canary_interval == 0) {
    flags.canary_interval = 0;
  }
  EngineFlags own = engine;
  WorkerFlags defaults;
  EngineFlags default_engine;
  std::vector<std::string> out = {kOwnProgram, "worker", model};
  AddDifferent(RowsOf(flags), RowsOf(defaults), out);
  AddDifferent(RowsOf(own), RowsOf(default_engine), out);
  // Whatever the environment says: they would all want the same. Who may ask the server may ask
  // them.
  out.emplace_back("--system-port=0");
  out.emplace_back("--dump-config-to=");
  out.push_back("--endpoint=" + flags.endpoint);
  out.push_back(fmt::format("--system-host={}", kChildHost));
  if (!serve.api_key_file.empty()) {
    out.push_back("--system-api-key-file=" + serve.api_key_file);
  }
  return out;
}

}  // namespace pixii::apps
