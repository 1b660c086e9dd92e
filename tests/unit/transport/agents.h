// Two agents over any back end, and memory of theirs, for tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rt/memory_file.h"
#include "rt/thread.h"
#include "rt/time.h"
#include "transport/agent.h"
#include "transport/agent_thread.h"
#include "transport/cluster_key.h"
#include "transport/faulty_transport.h"
#include "transport/memory_transport.h"

namespace pixii::transport {

/// What an agent's wake wakes.
class Bell final {
 public:
  void Ring();
  /// False: `holds` did not become true within 20 s.
  bool WaitFor(const std::function<bool()>& holds);

 private:
  rt::Mutex mutex_;
  rt::CondVar changed_;
  std::uint64_t rings_ PX_GUARDED_BY(mutex_) = 0;
};

ClusterKey TestKey();

rt::Time Now();

inline rt::Time In(rt::Duration duration) { return Now() + duration; }

/// A registered piece of memory.
struct Memory {
  std::shared_ptr<const rt::MemoryFile> file;  // null: of the heap
  std::vector<std::byte> heap;
  std::span<std::byte> bytes;
  RegionKey key{};

  /// Opens everything.
  void Open(Agent& agent, std::uint64_t generation, Access access) const;
  Descriptor At(std::uint64_t offset, std::uint64_t size_bytes, std::uint64_t generation = 1) const;
};

class Agents final {
 public:
  explicit Agents(std::string_view backend, AgentOptions options = {},
                  std::optional<FaultOptions> faults = std::nullopt);
  ~Agents();

  Agent& client() { return client_->agent(); }

  Agent& server() { return server_->agent(); }

  PeerId peer() const { return peer_; }

  void StopServer() { server_.reset(); }

  /// Memory of `agent`, filled with numbers of `seed`.
  Memory MakeMemory(Agent& agent, std::size_t size_bytes, std::uint64_t seed,
                    std::uint64_t window_bytes = 0);

  /// Waits for the end and releases it.
  TransferStatus Await(TransferId id);
  /// Posts from the client and waits.
  TransferStatus Run(Operation operation, std::vector<Descriptor> local,
                     std::vector<Descriptor> remote,
                     std::optional<std::string_view> notification = std::nullopt);
  std::optional<Notification> AwaitNotification(Agent& agent);

  Bell& bell() { return *bell_; }

 private:
  std::unique_ptr<Bell> bell_ = std::make_unique<Bell>();
  std::unique_ptr<MemoryExchange> exchange_ = std::make_unique<MemoryExchange>();
  std::string backend_;
  std::unique_ptr<AgentThread> server_;
  std::unique_ptr<AgentThread> client_;
  PeerId peer_{};
};

}  // namespace pixii::transport
