// Which worker gets a request, and when: a request goes in, and comes out with a worker now or
// later.
//
// Thread: a value; decides and does nothing. docs/subsystems/router.md
// Source: names, formulas and defaults of the spec's router pages (spec/dynamo-core.md B, 12.2,
// 12.3).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "control/instance.h"
#include "router/approximate_index.h"
#include "router/cost.h"
#include "router/kv_index.h"
#include "router/load_tracker.h"
#include "router/options.h"
#include "router/rank.h"
#include "router/request_queue.h"
#include "router/route_request.h"
#include "router/session_table.h"
#include "rt/random.h"
#include "rt/time.h"
#include "wire/messages/kv_event.h"
#include "wire/messages/worker.h"

namespace pixii::router {

/// Why a rank can or cannot get a request.
enum class Standing : std::uint8_t {
  kEligible,
  kDraining,    // or asleep
  kNotPinned,   // the request names another one
  kExcluded,    // the request failed there
  kTaint,       // it lacks a taint that the request needs
  kBusy,        // beyond a threshold, with all ranks of its worker
  kOverloaded,  // its worker said so lately
};

/// In words of one piece, for people and programs.
std::string_view StandingName(Standing standing);

/// One rank as a decision sees it.
struct Candidate {
  Target target;
  RankNumber number{};
  Standing standing = Standing::kEligible;
  CostInput input;
  CostTerms terms;  // kKv only
};

struct Dispatch {
  RequestId id{};
  Result<Target>
      target;  // kUnavailable: no worker; kResourceExhausted: all are busy or the queue is full
  std::uint32_t overlap_tokens = 0;     // of the prompt that the worker should have cached
  std::vector<Candidate> candidates{};  // with RouterOptions::tells_terms
};

/// What would be decided.
struct Preview {
  std::vector<Candidate> candidates;  // every rank
  Result<Target> target;              // errors as of Dispatch
  std::uint32_t overlap_tokens = 0;
  bool waits = false;  // for a rank that has less to do; then `target` is the one it would have now
};

/// Work of a decision whose end somebody may measure.
enum class RouteStage : std::uint8_t {
  kHashed,   // the prompt's blocks
  kMatched,  // what each rank has of them
};

struct KvEventCounts {
  std::uint64_t stored = 0;
  std::uint64_t removed = 0;
  std::uint64_t cleared = 0;
};

struct RankLoadRow {
  Target target;
  RankLoad load;
};

/// How much of a prompt a rank has cached.
struct TargetMatch {
  Target target;
  RankMatch match;
};

class Router final {
 public:
  /// Pre: CheckPolicyConfig(options.policy).
  Router(RouterOptions options, std::uint64_t seed);

  // Workers.
  void SetWorker(const control::Instance& instance);
  void RemoveWorker(InstanceId instance);
  void OnLoad(InstanceId instance, std::uint32_t rank, const wire::WorkerLoad& load, rt::Time now);
  void OnKvEvents(InstanceId instance, const std::vector<wire::KvEvent>& events, rt::Time now);
  /// It refused a request for want of room: nothing goes there for options.overloaded_hint.
  void OnOverloaded(InstanceId instance, rt::Time now);

  /// Replaces the options' thresholds.
  void SetBusyThresholds(std::optional<double> decode_blocks,
                         std::optional<std::uint64_t> prefill_tokens,
                         std::optional<double> prefill_tokens_frac);

  // Requests.
  /// Pre: no other of this id is here.
  void Submit(RouteRequest request, rt::Time now);
  /// It waits no more, or it is over: its load is taken back.
  void Withdraw(RequestId id, rt::Time now);
  void OnFirstToken(RequestId id, rt::Time now);
  void OnTokens(RequestId id, std::uint32_t count, rt::Time now);

  /// Whoever counts them himself, in place of OnTokens: one more block of its answer, as `weight`.
  void OnOutputBlock(RequestId id, double weight, rt::Time now) {
    tracker_.OnOutputBlock(id, weight, now);
  }

  /// It runs there already, whatever this router would have said. False, and nothing is counted: no
  /// such rank is here. Pre: no other of this id is here.
  bool Place(RequestId id, const Placement& placement, rt::Time now);

  /// Another router sent it: it counts here while its rank is here, and is told to nobody. Of its
  /// session, the first binding stays. Withdraw ends it.
  void PlaceElsewhere(RequestId id, Placement placement, rt::Time now);

  /// Moves out what happened since the last call, if options.tell_load_changes.
  std::vector<LoadChange> TakeLoadChanges();

  /// Moves out what is decided. Call after every other verb and at next_time().
  std::vector<Dispatch> TakeDispatches(rt::Time now);

  rt::Time next_time() const;

  /// Every rank with its terms, as if the request came now; nothing changes.
  std::vector<Candidate> Explain(const RouteRequest& request, rt::Time now);

  /// The same, with the choice that would be made, random draws included.
  Preview Foresee(const RouteRequest& request, rt::Time now);

  /// Called at the end of each stage of a decision, if it has that stage.
  void WatchStages(std::function<void(RouteStage stage)> on_stage) {
    on_stage_ = std::move(on_stage);
  }

  /// What runs at each rank.
  std::vector<RankLoadRow> Loads() const;

  /// Every rank, in the order of targets, and how much of a prompt it has by its events.
  std::vector<TargetMatch> Matches(const std::vector<std::uint64_t>& block_hashes);

  /// Events that tell another index what a rank holds; none without an index.
  std::vector<wire::KvEvent> DumpKv(const Target& target) const;

  /// Requests that wait, and the tokens of their prompts.
  std::size_t waiting_count() const { return queue_.size(); }

  std::uint64_t waiting_tokens() const { return queue_.prompt_tokens(); }

  /// The same by class, and what was refused.
  const RequestQueue& queue() const { return queue_; }

  /// nullptr: the mode or the options need none.
  const KvIndex* index() const { return index_ ? &*index_ : nullptr; }

  /// Events that reached the index.
  const KvEventCounts& kv_event_counts() const { return kv_event_counts_; }

  const RouterOptions& options() const { return options_; }

  /// Of all workers that are here.
  std::size_t rank_count() const { return rank_count_ - free_numbers_.size(); }

  /// 0: no worker has come yet.
  std::uint32_t block_tokens() const { return block_tokens_; }

  /// That wait or run: submitted and not withdrawn.
  std::size_t outstanding_count() const { return queue_.size() + tracker_.request_count(); }

 private:
  struct Worker {
    control::Instance instance;
    std::vector<RankNumber> numbers;
    std::vector<wire::WorkerLoad> loads;  // of each rank
    rt::Time overloaded_until{};
    bool busy = false;  // in the decision in progress
  };

  // A rank, in the order of targets: each decision walks over all, and most need no more.
  struct Row {
    Target target;
    RankNumber number{};
    Worker* worker = nullptr;
    bool plain = false;  // awake, not draining, never overloaded
  };

  struct Overlap {
    RankMatch match;
    std::uint32_t active = 0;  // blocks of the prompt that running requests use
  };

  // What is the same for all ranks of a decision.
  struct Question {
    const Waiting& waiting;
    CostOptions costs;
    std::uint32_t block_tokens = 1;
    std::uint32_t blocks = 0;  // of the prompt, the last one perhaps in part
  };

  bool kv_mode() const { return options_.mode == RouterMode::kKv; }

  void SetRanks(Worker& worker, const control::Instance& instance);
  void RemoveRank(RankNumber number);
  std::optional<RankNumber> Find(const Target& target) const;
  bool Count(RequestId id, const Placement& placement, rt::Time now);
  void CountElsewhere(rt::Time now);
  void Tell(LoadChange change);
  std::unique_ptr<Waiting> Prepare(RouteRequest request, rt::Time now) const;
  CostOptions CostsFor(const RouteRequest& request) const;
  void FindOverlaps(const Waiting& waiting, rt::Time now);
  void SetPrices(const Waiting& waiting);
  double PriceOf(std::size_t blocks) const;
  Question QuestionOf(const Waiting& waiting) const;
  CostInput InputOf(const Row& row, const Question& question) const;
  void Evaluate(const Waiting& waiting, rt::Time now);
  bool IsPlain(const RouteRequest& request);
  Candidate ChoosePlain(const Waiting& waiting, rt::Time now);
  Standing StandingOf(const Worker& worker, std::uint32_t rank, const Waiting& waiting,
                      rt::Time now) const;
  void MakeRows();
  bool limits_load() const;
  bool IsBusy(const Worker& worker) const;
  bool OverThreshold(const Candidate& candidate, const PolicyClass& policy_class) const;
  Result<void> SomebodyEligible(const RouteRequest& request) const;
  bool CanGo(const Waiting& waiting, const PolicyClass& policy_class, rt::Time now);
  void Bind(RouteRequest& request, rt::Time now);
  void EndStage(RouteStage stage) const;
  Result<void> NamesItsWorker(const RouteRequest& request) const;
  void Decide(std::unique_ptr<Waiting> waiting, rt::Time now);
  void Refuse(RequestId id, const Error& error);
  void Send(const Waiting& waiting, const Candidate& chosen, rt::Time now);
  const Candidate& Choose(const Waiting& waiting);
  const Candidate& NextInCycle(const std::vector<const Candidate*>& candidates);
  bool queues() const;

  RouterOptions options_;
  rt::Random random_;
  std::map<InstanceId, Worker> workers_;
  std::vector<Row> rows_;
  bool rows_stale_ = false;
  bool rows_plain_ = false;                   // all of them
  std::vector<std::uint32_t> row_of_number_;  // [rank_count_]
  std::vector<RankNumber> free_numbers_;
  std::uint32_t rank_count_ = 0;  // numbers that were ever given
  std::uint32_t block_tokens_ = 0;
  std::optional<KvIndex> index_;
  std::optional<ApproximateIndex> approximate_;
  std::optional<ApproximateIndex> predicted_;
  LoadTracker tracker_;
  RequestQueue queue_;
  std::optional<SessionTable> sessions_;
  std::unordered_map<RequestId, std::string> session_of_;  // of requests that run
  std::unordered_map<RequestId, Placement> elsewhere_;     // what other routers sent
  bool ranks_came_ = false;                                // that such requests may run at
  std::vector<LoadChange> load_changes_;
  std::optional<Target> last_;  // of the cycle
  std::vector<Dispatch> dispatches_;
  rt::Time recheck_at_ = rt::kNever;  // when a worker's word that it is full ends
  bool changed_ = true;               // somebody who waits may go now
  KvEventCounts kv_event_counts_;
  std::function<void(RouteStage)> on_stage_;
  // Of the decision in progress.
  KvMatches matches_;
  std::uint32_t shared_ = 0;
  std::vector<std::uint32_t> uses_;      // of the prompt's blocks, as far as anybody uses them
  std::vector<double> prices_;           // of the prompt's first so many blocks, as far
  std::vector<Overlap> overlaps_;        // by rank number
  std::vector<RankNumber> overlapping_;  // those with any, some of them more than once
  std::vector<Candidate> candidates_;
  std::vector<const Candidate*> eligible_;
  std::vector<double> costs_;
};

}  // namespace pixii::router
