// Workers that discovery tells of, as the routers of this process hear them: what they are, how
// busy they are, what they have cached.
//
// Thread: one loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/result.h"
#include "control/event_plane.h"
#include "control/instance.h"
#include "obs/log.h"
#include "router/service/linked_worker.h"
#include "router/service/pool.h"
#include "rt/loop.h"
#include "rt/net.h"

namespace pixii::router {

struct WorkerFeedOptions {
  control::MuxClientOptions client = {};  // but for the address
  std::string group = "default";          // of their pools
  control::EventPlane* plane = nullptr;   // where workers publish, too; null: nowhere
  /// Hears whether there is a connection to a worker. May not destroy the feed.
  std::function<void(InstanceId instance, bool connected)> on_connection = {};
  /// Hears that a worker said on its connection that it ends. Likewise.
  std::function<void(InstanceId instance)> on_going_away = {};
  obs::Log* log = nullptr;  // hears of workers that come and go; null: nobody does
};

class WorkerFeed final {
 public:
  struct Worker {
    Pool* pool = nullptr;
    std::unique_ptr<LinkedWorker> linked;
  };

  /// All outlive it.
  WorkerFeed(rt::Loop& loop, rt::Net& net, PoolBook& pools, WorkerFeedOptions options);

  WorkerFeed(const WorkerFeed&) = delete;
  WorkerFeed& operator=(const WorkerFeed&) = delete;
  ~WorkerFeed();

  /// Errors: kInvalidArgument for an address that is none, or blocks without tokens;
  /// kResourceExhausted for one model too many.
  Result<void> SetInstance(const control::Instance& instance);
  void RemoveInstance(InstanceId instance);

  const std::map<InstanceId, Worker>& workers() const { return workers_; }

 private:
  void OnChange(InstanceId instance);

  rt::Loop& loop_;
  rt::Net& net_;
  PoolBook& pools_;
  WorkerFeedOptions options_;
  std::map<InstanceId, Worker> workers_;
};

}  // namespace pixii::router
