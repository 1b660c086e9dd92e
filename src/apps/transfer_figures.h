// What agents that move KV blocks and features did, as metrics: by transport, and which peer is
// reached by which.
//
// Thread: one.
#pragma once

#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "obs/metrics.h"
#include "transport/agent.h"

namespace pixii::apps {

/// Of one agent.
struct AgentFigures {
  transport::AgentCounters counters;
  std::vector<transport::PeerInfo> peers;
};

class TransferFigures final {
 public:
  /// `agents`: all of the worker's.
  void Export(const std::string& model, std::span<const AgentFigures> agents,
              obs::Registry& registry);

 private:
  std::set<std::pair<std::string, std::string>> shown_;  // peer and transport, of the last call
};

}  // namespace pixii::apps
