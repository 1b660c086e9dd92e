// An agent with a loop and a thread of its own: the transfer thread of a process.
//
// Thread: made and destroyed by one; the agent as transport/agent.h.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/result.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "rt/thread.h"
#include "transport/link.h"
#include "transport/transfer_agent.h"

namespace pixii::transport {

class AgentThread final {
 public:
  /// What the agent's transports are, given the loop's net; best first.
  using Choose = std::function<std::vector<TransportFactory>(rt::Loop& loop, rt::Net& net)>;

  static Result<std::unique_ptr<AgentThread>> Start(AgentOptions options, const Choose& choose);
  /// Ends the thread, then the agent.
  ~AgentThread();
  AgentThread(const AgentThread&) = delete;
  AgentThread& operator=(const AgentThread&) = delete;

  Agent& agent() { return *agent_; }

 private:
  AgentThread() = default;

  std::unique_ptr<rt::Loop> loop_;
  std::unique_ptr<rt::Net> net_;
  std::unique_ptr<TransferAgent> agent_;
  rt::Thread thread_;
};

}  // namespace pixii::transport
