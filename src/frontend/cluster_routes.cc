// GET /v1/cluster: what this frontend knows of models, workers and what they do.
#include <utility>

#include "frontend/cluster_view.h"
#include "frontend/frontend.h"
#include "frontend/media_service.h"

namespace pixii::frontend {

void Frontend::HandleCluster(Call& call) {
  ClusterView view{.draining = draining_,
                   .ready = ready(),
                   .message = draining_ ? "draining" : readiness(),
                   .requests_in_flight = generation_count(),
                   .connections = connection_count()};
  for (const auto& service : models_.serving()) {
    control::WorkerLink& link = service->link();
    const bool elsewhere = static_cast<bool>(environment_.instances);
    view.models.push_back(
        {.names = service->model().names,
         .task = TaskName(service->card(), service->model()),
         .ready = service->ready(),
         .message = service->Describe(),
         .routed = link.routes(),
         .card = service->card(),
         .load = link.load(),
         .ranks = elsewhere ? std::vector<wire::WorkerLoad>() : link.rank_loads()});
  }
  if (environment_.instances) {
    view.workers = environment_.instances();
  }
  if (media_) {
    view.media_model = media_->model().name;
  }
  Answer(call, ClusterJson(view));
}

}  // namespace pixii::frontend
