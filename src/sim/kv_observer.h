// Somebody who listens to the KV events of workers, as a router would, and keeps what they amount
// to.
//
// Thread: its loop; what it knows may be read between two steps of the world.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "control/instance.h"
#include "control/remote_link.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "wire/messages/kv_event.h"

namespace pixii::sim {

class KvObserver final {
 public:
  /// All outlive it.
  KvObserver(rt::Loop& loop, rt::Net& net, control::MuxOptions mux,
             std::function<void(std::string)> on_violation)
      : loop_(loop), net_(net), mux_(std::move(mux)), on_violation_(std::move(on_violation)) {}

  void Watch(control::InstanceId instance, const std::string& address, const wire::ModelCard& card);

  void Leave(control::InstanceId instance) { watched_.erase(instance); }

  /// Of a worker that is watched: hashes of the blocks that it said it has and not that it has not.
  const std::set<std::uint64_t>& blocks(control::InstanceId instance) const {
    return watched_.at(instance)->blocks;
  }

 private:
  struct Watched {
    std::set<std::uint64_t> blocks;
    std::unique_ptr<control::RemoteLink> link;
  };

  void CheckLine(const Watched& watched);
  static void Apply(const wire::KvEvent& event, std::set<std::uint64_t>& blocks);

  rt::Loop& loop_;
  rt::Net& net_;
  control::MuxOptions mux_;
  std::function<void(std::string)> on_violation_;
  std::map<control::InstanceId, std::unique_ptr<Watched>> watched_;
};

}  // namespace pixii::sim
