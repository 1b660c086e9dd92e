#include "apps/transfer_agent_maker.h"

#include <fmt/format.h>

#include <memory>
#include <utility>
#include <vector>

#include "transport/agent_thread.h"
#include "transport/cluster_key.h"
#include "transport/tcp_transport.h"

namespace pixii::apps {

Result<void> CheckTransfer(const EngineFlags& flags) {
  const std::string& asked = flags.kv_transfer;
  if (asked == "default" || asked == "tcp") {
    return {};
  }
  const std::string below = asked == "nixl" ? " over " + flags.kv_transfer_nixl : "";
  return Fail(
      Code::kUnsupported,
      fmt::format(
          "kv-transfer: {}{} is not available in this build; it has tcp, which default takes",
          asked, below),
      "kv-transfer");
}

// Bytes move on a thread of the agent's own, beside the one that checks them.
kv::AgentMaker MakerOf(TransferParts parts) {
  return [parts = std::move(parts)](
             rt::Loop& /*loop*/,
             rt::Function<void()> wake) -> Result<std::shared_ptr<transport::Agent>> {
    PX_TRY(const transport::ClusterKey key, transport::ClusterKey::FromSecret(parts.key));
    transport::AgentOptions options;
    options.wake = std::move(wake);
    PX_TRY(std::shared_ptr<transport::AgentThread> thread,
           transport::AgentThread::Start(std::move(options), [&](rt::Loop& /*own*/, rt::Net& net) {
             std::vector<transport::TransportFactory> transports;
             transports.push_back(transport::MakeTcpTransport(
                 net, key, {.listen = {.host = parts.host, .port = 0}, .advertised_host = {}}));
             return transports;
           }));
    return std::shared_ptr<transport::Agent>(thread, &thread->agent());
  };
}

}  // namespace pixii::apps
