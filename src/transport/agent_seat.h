// What one of an agent's transports has of it, and what is counted of that transport.
//
// Thread: as AgentContext. Private to the agent.
#pragma once

#include <fmt/format.h>

#include <utility>

#include "transport/transfer_agent.h"

namespace pixii::transport {

class TransferAgent::Seat final : public AgentContext {
 public:
  explicit Seat(TransferAgent& agent)
      : AgentContext(agent.loop_, agent.id_, agent.regions_), agent_(agent) {}

  bool Notified(AgentId from, std::string_view bytes) override {
    const bool kept = agent_.Notified(from, bytes);
    counters.notifications_received.fetch_add(kept ? 1 : 0, std::memory_order_relaxed);
    return kept;
  }

  void Wake() override { agent_.Wake(); }

  void Ended(const TransferPtr& transfer, Result<void> result) override {
    agent_.Ended(transfer, std::move(result));
  }

  void LinkChanged(AgentId peer, std::string_view transport, const Error* error) override {
    agent_.LinkChanged(peer, transport, error);
  }

 private:
  TransferAgent& agent_;
};

inline tl::unexpected<Error> NoPeer(PeerId peer) {
  return Fail(Code::kNotFound,
              fmt::format("there is no peer {}", static_cast<std::uint32_t>(peer)));
}

}  // namespace pixii::transport
