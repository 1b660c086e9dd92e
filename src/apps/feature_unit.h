// A worker's way to features that others' towers made: what fetches them, and its figures.
//
// Thread: one loop.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/engine_unit.h"
#include "apps/transfer_figures.h"
#include "base/result.h"
#include "control/worker_link.h"
#include "obs/log.h"
#include "obs/metrics.h"
#include "rt/loop.h"
#include "worker/feature_fetcher.h"
#include "worker/feature_link.h"

namespace pixii::apps {

class FeatureUnit final {
 public:
  /// Before `link`, which leads to `engine`, features are fetched for it from now on. Null: nobody
  /// encodes for this engine, because it sees nothing or has no key that peers would know it by.
  /// `host`: that peers reach this worker at. All outlive it.
  static Result<std::unique_ptr<FeatureUnit>> Open(rt::Loop& loop, obs::Log& log,
                                                   EngineUnit& engine, control::WorkerLink& link,
                                                   const std::string& host,
                                                   const std::string& cluster_key,
                                                   const EngineFlags& flags);

  worker::FeatureLink& link() { return *link_; }

  void Export(const std::string& model, obs::Registry& registry) const;

  void AddFigures(std::vector<AgentFigures>& out) const;

 private:
  FeatureUnit() = default;

  std::unique_ptr<worker::FeatureFetcher> fetcher_;
  std::optional<worker::FeatureLink> link_;
};

}  // namespace pixii::apps
