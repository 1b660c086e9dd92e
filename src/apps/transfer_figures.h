// What agents that move KV blocks did, as metrics: by transport, and which peer is reached by
// which.
//
// Thread: one.
#pragma once

#include <set>
#include <span>
#include <string>
#include <utility>

#include "kv/handover_connector.h"
#include "obs/metrics.h"

namespace pixii::apps {

class TransferFigures final {
 public:
  /// `connectors`: of a worker, one for each of its ranks.
  void Export(const std::string& model, std::span<kv::HandoverConnector* const> connectors,
              obs::Registry& registry);

 private:
  std::set<std::pair<std::string, std::string>> shown_;  // peer and transport, of the last call
};

}  // namespace pixii::apps
