// The KV connector plug-in of an engine's ranks, as --kv-connector asks for it.
//
// Thread: made while the engine is; Export on any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "apps/option_structs.h"
#include "base/result.h"
#include "kv/connector.h"
#include "kv/plugin_connector.h"
#include "obs/log.h"
#include "obs/metrics.h"

namespace pixii::apps {

class KvConnector final {
 public:
  /// `log` outlives it.
  KvConnector(const EngineFlags& flags, obs::Log& log) : flags_(flags), log_(log) {}

  /// Of one rank; null: none is asked for. Errors name the flag and what is wrong with the plug-in.
  Result<std::unique_ptr<kv::Connector>> Make(const kv::BlockGeometry& geometry,
                                              std::uint32_t rank);

  /// Of all ranks together. No effect without a plug-in.
  void Export(obs::Registry& registry, const std::string& model) const;

 private:
  EngineFlags flags_;
  obs::Log& log_;
  std::vector<std::shared_ptr<kv::PluginCounters>> counters_;  // [rank]
};

}  // namespace pixii::apps
