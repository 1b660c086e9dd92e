// What a fleet counts, under the names of Dynamo's routers.
//
// Thread: one loop. Label values are models, ranks of workers and words of this program.
// A rank that is gone takes its series with it, and so does a model of which nobody is left.
#pragma once

#include <set>
#include <string>

#include "obs/metrics.h"
#include "router/router.h"
#include "rt/time.h"

namespace pixii::frontend {

/// When the stages of a decision ended; a stage that it did not have ended with the one before.
struct RouteTimes {
  rt::Time begun{};
  rt::Time hashed{};
  rt::Time matched{};
  rt::Time decided{};
};

class FleetMetrics final {
 public:
  /// `registry` outlives it.
  FleetMetrics(obs::Registry& registry, std::string model);
  FleetMetrics(const FleetMetrics&) = delete;
  FleetMetrics& operator=(const FleetMetrics&) = delete;
  ~FleetMetrics();

  void OnRouted(const RouteTimes& times);

  /// `known_count`: workers that discovery tells of.
  void Export(const router::Router& router, std::size_t known_count);

 private:
  void ExportQueue(const router::RequestQueue& queue);
  void ExportLoads(const router::Router& router);
  void DropRank(const router::Target& target);
  void ExportIndex(const router::KvIndex& index, const router::KvEventCounts& counts);

  obs::Registry& registry_;
  std::string model_;
  obs::ModelHold hold_;
  obs::Histogram& hashing_;
  obs::Histogram& matching_;
  obs::Histogram& scheduling_;
  obs::Histogram& total_;
  std::set<router::Target> ranks_;  // whose load was told
};

}  // namespace pixii::frontend
