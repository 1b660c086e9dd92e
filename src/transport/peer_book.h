// The peers of an agent by what they say of themselves, so many at a time.
//
// Thread: its user's.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <map>
#include <string>

#include "base/result.h"
#include "transport/agent.h"

namespace pixii::transport {

class PeerBook final {
 public:
  static constexpr std::size_t kPeersMax = 256;

  /// `agent` outlives it.
  explicit PeerBook(Agent& agent) : agent_(agent) {}

  /// The peer of this metadata, which is connected to if it is a new one. Where there are too many,
  /// one goes of which `in_use` says no. Errors: Agent::Connect's; kResourceExhausted.
  Result<PeerId> Find(const std::string& metadata, const std::function<bool(PeerId)>& in_use) {
    if (const auto known = peers_.find(metadata); known != peers_.end()) {
      return known->second;
    }
    if (peers_.size() >= kPeersMax) {
      const auto unused =
          std::ranges::find_if(peers_, [&](const auto& one) { return !in_use(one.second); });
      if (unused == peers_.end()) {
        return Fail(Code::kResourceExhausted, "bytes go to and come from too many workers at once");
      }
      agent_.Disconnect(unused->second);
      peers_.erase(unused);
    }
    PX_TRY(const PeerId peer, agent_.Connect(metadata));
    peers_.emplace(metadata, peer);
    return peer;
  }

 private:
  Agent& agent_;
  std::map<std::string, PeerId> peers_;
};

}  // namespace pixii::transport
