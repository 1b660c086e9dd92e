#include "router/service/worker_feed.h"

#include <utility>

namespace pixii::router {

WorkerFeed::WorkerFeed(rt::Loop& loop, rt::Net& net, PoolBook& pools, WorkerFeedOptions options)
    : loop_(loop), net_(net), pools_(pools), options_(std::move(options)) {}

WorkerFeed::~WorkerFeed() = default;

Result<void> WorkerFeed::SetInstance(const control::Instance& instance) {
  PX_TRY(Pool* const pool, pools_.Get({.model = instance.card.name,
                                       .group = options_.group,
                                       .block_tokens = instance.card.block_tokens}));
  auto found = workers_.find(instance.id);
  if (found != workers_.end() && found->second.pool != pool) {
    RemoveInstance(instance.id);
    found = workers_.end();
  }
  if (found == workers_.end()) {
    auto linked = std::make_unique<LinkedWorker>(
        LinkedWorkerParts{.loop = loop_,
                          .net = net_,
                          .router = pool->router(),
                          .client = options_.client,
                          .on_change = [this](InstanceId id) { OnChange(id); },
                          .on_connection = options_.on_connection,
                          .on_going_away = options_.on_going_away,
                          .plane = options_.plane,
                          .log = options_.log});
    PX_CHECK_OK(linked->SetInstance(instance));
    pool->Hold();
    workers_[instance.id] = {.pool = pool, .linked = std::move(linked)};
  } else {
    PX_CHECK_OK(found->second.linked->SetInstance(instance));
  }
  OnChange(instance.id);
  return {};
}

void WorkerFeed::RemoveInstance(InstanceId instance) {
  if (const auto worker = workers_.extract(instance)) {
    worker.mapped().linked->Update(false);
    worker.mapped().pool->Pump();
    worker.mapped().pool->Release();
  }
}

void WorkerFeed::OnChange(InstanceId id) {
  const auto found = workers_.find(id);
  if (found != workers_.end()) {  // else it is being made
    found->second.linked->Update(true);
    found->second.pool->Pump();
  }
}

}  // namespace pixii::router
