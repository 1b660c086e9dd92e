// Transfers between agents of one process: for simulated clusters, where the loops' virtual time
// says how long they take, and for tests.
//
// Thread: an exchange is used from any; the rest as transport/link.h.
#pragma once

#include <memory>

#include "rt/time.h"
#include "transport/link.h"

namespace pixii::transport {

struct MemoryTransportOptions {
  rt::Duration latency{0};  // of every transfer and notification
  std::uint64_t bytes_per_s_max =
      0;  // of one link, whose transfers follow one another; 0: no limit
};

/// Where agents of one process meet.
class MemoryExchange final {
 public:
  explicit MemoryExchange(MemoryTransportOptions options = {});
  ~MemoryExchange();
  MemoryExchange(const MemoryExchange&) = delete;
  MemoryExchange& operator=(const MemoryExchange&) = delete;

  /// For TransferAgent::Create; the exchange outlives the agent.
  TransportFactory factory();

 private:
  friend class MemoryTransport;
  friend class MemoryLink;
  struct Members;

  MemoryTransportOptions options_;
  std::unique_ptr<Members> members_;
};

}  // namespace pixii::transport
