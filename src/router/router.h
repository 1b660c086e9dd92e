// Which worker gets a request, and when: a request goes in, and comes out with a worker now or
// later.
//
// Thread: a value; decides and does nothing. docs/subsystems/router.md
// Source: names, formulas and defaults of the spec's router pages (spec/dynamo-core.md B, 12.2,
// 12.3).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "control/instance.h"
#include "router/options.h"
#include "rt/random.h"
#include "rt/time.h"
#include "wire/messages/kv_event.h"
#include "wire/messages/worker.h"

namespace pixii::router {

using control::InstanceId;

/// A rank of a worker.
struct Target {
  InstanceId instance{};
  std::uint32_t rank = 0;

  friend auto operator<=>(const Target&, const Target&) = default;
};

struct RouteRequest {
  RequestId id{};               // of this attempt, unique among those that run
  std::vector<TokenId> tokens;  // prompt and what is generated already
  std::string adapter;
  std::string salt;                          // tenant's and client's own
  std::optional<InstanceId> pinned;          // this worker and no other
  std::optional<std::uint32_t> rank;         // and this rank of it
  std::vector<InstanceId> excluded;          // where it failed already
  std::string session;                       // empty: none
  std::string policy_class;                  // empty: the default one
  double priority_jump_s = 0;                // arrival is made earlier by so many seconds
  std::int32_t strict_priority = 0;          // higher first, whatever the arrival
  std::uint32_t expected_output_tokens = 0;  // 0: nobody knows
};

struct Dispatch {
  RequestId id{};
  Result<Target>
      target;  // kUnavailable: no worker; kResourceExhausted: all are busy or the queue is full
  std::uint32_t overlap_tokens = 0;  // of the prompt that the worker should have cached
};

class Router final {
 public:
  Router(RouterOptions options, std::uint64_t seed);

  // Workers.
  void SetWorker(const control::Instance& instance);
  void RemoveWorker(InstanceId instance);
  void OnLoad(InstanceId instance, std::uint32_t rank, const wire::WorkerLoad& load, rt::Time now);
  void OnKvEvents(InstanceId instance, const std::vector<wire::KvEvent>& events, rt::Time now);

  // Requests.
  void Submit(RouteRequest request, rt::Time now);
  /// It waits no more, or it is over: its load is taken back.
  void Withdraw(RequestId id, rt::Time now);
  void OnFirstToken(RequestId id, rt::Time now);
  void OnTokens(RequestId id, std::uint32_t count, rt::Time now);

  /// Moves out what is decided. Call after every other verb and at next_time().
  std::vector<Dispatch> TakeDispatches(rt::Time now);

  rt::Time next_time() const { return rt::kNever; }

 private:
  struct Candidate {
    Target target;
    std::uint32_t requests = 0;  // that run there
  };

  Result<Target> Choose(const RouteRequest& request);
  Result<std::vector<Candidate>> Eligible(const RouteRequest& request) const;
  Target NextInCycle(const std::vector<Candidate>& candidates);

  RouterOptions options_;
  rt::Random random_;
  std::map<InstanceId, control::Instance> workers_;
  std::unordered_map<RequestId, Target> running_;
  std::map<Target, std::uint32_t> requests_;  // that run, of each that has any
  std::optional<Target> last_;                // of the cycle
  std::vector<Dispatch> dispatches_;
};

}  // namespace pixii::router
