// What a planner is told of a fleet, out of what its frontends answer, look after look. Pure.
//
// Thread: a value. docs/planner.md
// A frontend that does not answer is no frontend without requests: what it had before counts as
// going on until it is given up. When none answers there is nothing to decide by.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "control/planner.h"
#include "control/planner_model.h"
#include "rt/time.h"

namespace pixii::control {

struct PlannerFeedOptions {
  LatencyGoal goal;
  rt::Duration patience = std::chrono::minutes(2);  // then a silent frontend is given up
};

/// A worker's load as a frontend shows it.
struct FeedWorker {
  Pool pool = Pool::kDecode;
  std::uint32_t running = 0;
  std::uint32_t queued = 0;
  double kv_used_tokens = 0;
  double kv_tokens = 0;  // that its cache holds
};

/// One answer of GET /v1/requests.
struct FeedRequests {
  std::string process;      // another one counts from 0
  std::uint64_t begun = 0;  // since its start
  std::uint64_t ended = 0;

  struct Ended {
    std::uint64_t sequence = 0;
    RequestSize size = {};  // input without what was cached
    double ttft_ms = 0;
    double itl_ms = 0;
    bool refused = false;  // by fault of the client: it is no load
    bool failed = false;   // by fault of ours: it is load, and not kept
  };

  std::vector<Ended> list;
};

/// Errors: kDataCorrupt naming what is missing.
Result<FeedRequests> ReadFeedRequests(std::string_view body);
/// Of GET /v1/cluster, by worker's name. Errors: likewise.
Result<std::map<std::string, FeedWorker>> ReadFeedWorkers(std::string_view body);

/// TTFT of a prompt behind what waits there, and ITL with it, by the engine's times; `mean`: of
/// the requests that come.
EngineEstimate EstimateOf(const EngineModel& engine, const FeedWorker& worker,
                          const RequestSize& mean);

enum class FeedState : std::uint8_t { kHeard, kSilent, kGivenUp };

class PlannerFeed final {
 public:
  PlannerFeed(PlannerFeedOptions options, std::vector<std::string> frontends);

  /// How many requests had ended at the frontend when it was heard last: for the next look.
  std::uint64_t ended(std::size_t frontend) const { return frontends_[frontend].ended; }

  /// A look at a frontend. True: it was silent, and is back.
  bool OnAnswer(std::size_t frontend, const FeedRequests& requests,
                const std::map<std::string, FeedWorker>& workers, rt::Time now);
  /// It did not answer. True: it was heard at the look before, or it is given up now.
  bool OnSilence(std::size_t frontend, rt::Time now);

  FeedState state(std::size_t frontend) const { return frontends_[frontend].state; }

  const std::string& name(std::size_t frontend) const { return frontends_[frontend].name; }

  std::size_t size() const { return frontends_.size(); }

  /// Why there is nothing to decide by; empty: there is. At the start every frontend has to be
  /// heard once, or given up: nobody knows what the others have.
  std::string Trouble() const;

  /// After a look at all: what came since the last one that was taken. Nothing: there is Trouble(),
  /// or this is the first look, which others are counted from. `pools`: what is known of the
  /// workers but their loads.
  std::optional<PlannerObservation> Take(const std::array<PoolObserved, kPoolCount>& pools,
                                         const std::array<const EngineModel*, kPoolCount>& engines,
                                         rt::Time now);

 private:
  struct FrontendSeen {
    std::string name;
    FeedState state = FeedState::kSilent;
    std::string process = {};  // empty: it was never heard
    std::uint64_t begun = 0;
    std::uint64_t ended = 0;
    rt::Time heard{};
    double arrivals = 0;  // since the last Take
    double assumed = 0;   // that were counted while it was silent
    double rate = 0;      // per second, when it was heard
    std::vector<FeedRequests::Ended> list = {};
    std::map<std::string, FeedWorker> workers = {};
  };

  PlannerFeedOptions options_;
  std::vector<FrontendSeen> frontends_;
  std::optional<rt::Time> taken_at_;
  std::optional<rt::Time> first_look_;
  RequestSize mean_{.input = 512, .output = 128};  // of what ended last
};

}  // namespace pixii::control
