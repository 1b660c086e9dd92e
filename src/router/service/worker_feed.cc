#include "router/service/worker_feed.h"

#include <utility>

#include "control/instance_codec.h"

namespace pixii::router {

using control::RemoteLink;

WorkerFeed::WorkerFeed(rt::Loop& loop, rt::Net& net, PoolBook& pools, WorkerFeedOptions options)
    : loop_(loop), net_(net), pools_(pools), options_(std::move(options)) {}

WorkerFeed::~WorkerFeed() = default;

Result<void> WorkerFeed::SetInstance(const control::Instance& instance) {
  PX_TRY(rt::Address address, rt::ParseAddress(instance.address));
  PX_TRY(Pool * pool, pools_.Get({.model = instance.card.name,
                                  .group = options_.group,
                                  .block_tokens = instance.card.block_tokens}));
  Worker& worker = workers_[instance.id];
  const bool same = worker.link && worker.instance.address == instance.address;
  worker.instance = instance;
  worker.pool = pool;
  if (!same) {
    control::MuxClientOptions client = options_.client;
    client.address = std::move(address);
    client.expected_peer = control::InstanceName(instance.id);
    worker.link = std::make_unique<RemoteLink>(loop_, net_, std::move(client), instance.card,
                                               [this, id = instance.id] { OnChange(id); });
  }
  if (worker.connected) {
    pool->router().SetWorker(worker.instance);
    pool->Pump();
  }
  return {};
}

void WorkerFeed::RemoveInstance(InstanceId instance) {
  const auto found = workers_.find(instance);
  if (found != workers_.end()) {
    Pool& pool = *found->second.pool;
    workers_.erase(found);
    pool.router().RemoveWorker(instance);
    pool.Pump();
  }
}

void WorkerFeed::OnChange(InstanceId id) {
  const auto found = workers_.find(id);
  if (found == workers_.end() || !found->second.link) {  // the link is being made
    return;
  }
  Worker& worker = found->second;
  Router& router = worker.pool->router();
  const bool here = worker.link->state() == RemoteLink::State::kHere;
  if (worker.link->goes_away() && !std::exchange(worker.goes_away, true) &&
      options_.on_going_away) {
    options_.on_going_away(id);
  }
  if (std::exchange(worker.connected, here) != here) {
    if (options_.on_connection) {
      options_.on_connection(id, here);
    }
    if (here) {
      worker.instance.card = worker.link->card();
      router.SetWorker(worker.instance);
      Listen(worker);
    } else {
      router.RemoveWorker(id);
    }
  }
  if (here) {
    router.OnLoad(id, worker.instance.rank_first, worker.link->load(), loop_.Now());
  }
  worker.pool->Pump();
}

// Anew each time that the router gets the worker: it knows nothing of it then.
void WorkerFeed::Listen(const Worker& worker) {
  if (worker.pool->router().index() != nullptr) {
    // A remote link takes every handler; a worker without events never calls it.
    (void)worker.link->WatchKvEvents([this, id = worker.instance.id, pool = worker.pool](
                                         const std::vector<wire::KvEvent>& events) {
      pool->router().OnKvEvents(id, events, loop_.Now());
    });
  }
}

}  // namespace pixii::router
