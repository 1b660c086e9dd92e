// What a fleet counts, under the names of Dynamo's routers.
//
// Thread: one loop. Label values are models, ranks of workers and words of this program.
// A rank that is gone takes its series with it, and so does a model of which nobody is left.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
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
  /// `registry` outlives it. `by_cache`: the router knows what ranks have cached; without, what
  /// it does of requests stays at zero and there is nothing of how it decides.
  FleetMetrics(obs::Registry& registry, std::string model, bool by_cache);
  FleetMetrics(const FleetMetrics&) = delete;
  FleetMetrics& operator=(const FleetMetrics&) = delete;
  ~FleetMetrics();

  void OnRouted(const RouteTimes& times);

  // Of one request, in this order; it may be sent again, and end at any time.
  void OnStarted(std::uint64_t prompt_tokens);
  void OnSent(rt::Duration queued, rt::Duration sending, double hit_rate);
  void OnFirstToken(const router::Target& target, std::uint64_t prompt_tokens,
                    rt::Duration since_begun, rt::Duration since_sent);
  void OnTokens(const router::Target& target, rt::Duration gap, std::uint32_t count);
  void OnEnded(std::uint64_t output_tokens);

  /// `known_count`: workers that discovery tells of.
  void Export(const router::Router& router, std::size_t known_count);

 private:
  /// What a rank did last.
  struct Last {
    double first_token = 0;  // seconds
    double prompt_tokens = 0;
    double between_tokens = 0;  // seconds
  };

  /// How the router decides.
  struct Overhead {
    obs::Histogram& hashing;
    obs::Histogram& matching;
    obs::Histogram& scheduling;
    obs::Histogram& total;
  };

  /// What became of requests.
  struct Requests {
    obs::Counter& started;
    obs::Counter& ended;
    obs::Histogram& first_token;
    obs::Histogram& between_tokens;
    obs::Histogram& input;
    obs::Histogram& output;
    obs::Histogram& hit_rate;
  };

  void ExportQueue(const router::RequestQueue& queue);
  void ExportLoads(const router::Router& router);
  void DropRank(const router::Target& target);
  void ExportIndex(const router::KvIndex& index, const router::KvEventCounts& counts);

  obs::Registry& registry_;
  std::string model_;
  obs::ModelHold hold_;
  Requests requests_;
  std::optional<Overhead> overhead_;  // nothing: not by_cache
  obs::Histogram& route_;
  obs::Histogram& queue_;
  obs::Histogram& send_;
  obs::Histogram& roundtrip_;
  std::map<router::Target, Last> ranks_;  // whose load was told
};

}  // namespace pixii::frontend
