// The side of an shm connection that has the memory: gives descriptors of regions that the peer
// asks for, and takes its notifications out of a ring.
//
// Thread: one loop, but for what says "any". Private to the shm transport. docs/formats/transfer.md
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "rt/memory_file.h"
#include "rt/net.h"
#include "transport/link.h"
#include "transport/shm_block.h"
#include "transport/shm_socket.h"

namespace pixii::transport {

class ShmConnection final {
 public:
  /// `file`: of the block that both share. `polled`: nobody waits for wake. `number_in`: of the
  /// transport's connections, never used twice.
  ShmConnection(AgentContext& context, std::unique_ptr<rt::Stream> stream, AgentId peer,
                std::shared_ptr<const rt::MemoryFile> file, bool polled, std::uint64_t number_in);
  ~ShmConnection();

  ShmConnection(const ShmConnection&) = delete;
  ShmConnection& operator=(const ShmConnection&) = delete;

  /// `woken`: the ring has something. `ended`: the peer is gone, or spoke nonsense.
  void Run(rt::Function<void()> woken, rt::Function<void(ShmConnection&)> ended);

  /// Any thread, under the transport's lock. False: there is none now, or it spoke nonsense.
  bool Take(Notification& out);

  /// Under the transport's lock: takes what there is out of the ring, which is short.
  void Collect();

  void Forget(RegionKey region);

  bool broken() const { return broken_; }

  const std::uint64_t number;

 private:
  bool Pop(Notification& out);
  rt::Task<void> Serve();
  void Give(RegionKey key);

  AgentContext& context_;
  AgentId peer_;
  std::shared_ptr<const rt::MemoryFile> file_;
  ShmBlock& block_;
  RingReader reader_;
  std::deque<Notification> stash_;
  bool polled_;
  std::atomic<bool> broken_{false};
  std::vector<RegionKey> given_;
  ShmSocket socket_;
  rt::Function<void()> woken_;
  rt::Function<void(ShmConnection&)> ended_;
  rt::SpawnedTasks tasks_;
};

}  // namespace pixii::transport
