#include "frontend/cluster_view.h"

#include <fmt/format.h>

#include <utility>

#include "control/instance_codec.h"
#include "wire/json.h"

namespace pixii::frontend {

using wire::Json;

namespace {

std::string_view NameOf(wire::WorkerState state) {
  switch (state) {
    case wire::WorkerState::kAwake:
      return "awake";
    case wire::WorkerState::kDraining:
      return "draining";
    case wire::WorkerState::kAsleep:
      return "asleep";
    case wire::WorkerState::kDead:
      return "dead";
    case wire::WorkerState::kUnhealthy:
      return "unhealthy";
  }
  return "unhealthy";
}

Json LoadJson(const wire::WorkerLoad& load) {
  Json blocks{Json::Object{}};
  blocks.Set("used", std::int64_t{load.blocks_used});
  blocks.Set("cached", std::int64_t{load.blocks_cached});
  blocks.Set("total", std::int64_t{load.blocks_total});
  Json out{Json::Object{}};
  out.Set("state", NameOf(load.state));
  out.Set("running", std::int64_t{load.running});
  out.Set("queued", std::int64_t{load.queued});
  out.Set("blocks", std::move(blocks));
  out.Set("steps", load.steps);
  return out;
}

Json ModelJson(const ShownModel& model) {
  Json::Array names;
  for (const std::string& name : model.names) {
    names.emplace_back(name);
  }
  Json::Array adapters;
  for (const wire::AdapterCard& adapter : model.card.adapters) {
    adapters.emplace_back(adapter.name);
  }
  Json::Array ranks;
  for (const wire::WorkerLoad& rank : model.ranks) {
    ranks.push_back(LoadJson(rank));
  }
  Json out{Json::Object{}};
  out.Set("name", model.names.empty() ? model.card.name : model.names.front());
  out.Set("names", std::move(names));
  out.Set("task", model.task);
  out.Set("ready", model.ready);
  out.Set("message", model.message);
  out.Set("version", model.card.fingerprint);
  out.Set("numerics", model.card.numerics_id);
  out.Set("context_tokens", std::int64_t{model.card.context_tokens_max});
  out.Set("block_tokens", std::int64_t{model.card.block_tokens});
  out.Set("adapters", std::move(adapters));
  out.Set("routed", model.routed);
  out.Set("load", LoadJson(model.load));
  out.Set("ranks", std::move(ranks));
  return out;
}

Json WorkerJson(const ShownInstance& shown) {
  const control::Instance& from = shown.instance;
  Json ranks{Json::Object{}};
  ranks.Set("first", std::int64_t{from.rank_first});
  ranks.Set("count", std::int64_t{from.rank_count});
  Json out{Json::Object{}};
  out.Set("worker_id", static_cast<std::uint64_t>(from.id));
  out.Set("name", fmt::format("{:x}", static_cast<std::uint64_t>(from.id)));
  out.Set("namespace", from.ns);
  out.Set("component", from.component);
  out.Set("role", control::NameOf(from.role));
  out.Set("model", from.card.name);
  out.Set("version", from.card.fingerprint);
  out.Set("address", from.address);
  out.Set("ranks", std::move(ranks));
  out.Set("started_ms", from.started_ms);
  out.Set("draining", from.draining);
  out.Set("state", shown.state.empty() ? std::string_view("unknown") : shown.state);
  out.Set("reason", shown.reason);
  out.Set("message", shown.detail);
  out.Set("load", shown.load ? LoadJson(*shown.load) : Json());
  return out;
}

}  // namespace

std::string ClusterJson(const ClusterView& view) {
  Json::Array models;
  for (const ShownModel& model : view.models) {
    models.push_back(ModelJson(model));
  }
  Json::Array workers;
  for (const ShownInstance& worker : view.workers) {
    workers.push_back(WorkerJson(worker));
  }
  Json out{Json::Object{}};
  out.Set("object", "cluster");
  out.Set("ready", view.ready);
  out.Set("draining", view.draining);
  out.Set("message", view.message);
  out.Set("requests_in_flight", view.requests_in_flight);
  out.Set("connections", view.connections);
  out.Set("models", std::move(models));
  out.Set("workers", std::move(workers));
  out.Set("media_model", view.media_model ? Json(*view.media_model) : Json());
  return out.Dump();
}

}  // namespace pixii::frontend
