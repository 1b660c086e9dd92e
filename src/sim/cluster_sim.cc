#include "sim/cluster_sim.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <iterator>
#include <optional>
#include <string_view>
#include <utility>

#include "sim/cluster.h"
#include "sim/cluster_faults.h"
#include "sim/direct_call.h"
#include "sim/direct_judge.h"
#include "sim/mock_fleet.h"

namespace pixii::sim {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr rt::Duration kTimeLimit =
    std::chrono::minutes(30);  // of virtual time: what is not done then hangs
constexpr rt::Duration kCheckPeriod = milliseconds(20);
constexpr rt::Duration kQuietLimit = seconds(90);  // from the last client and fault to nothing held
constexpr rt::Duration kCalmQuietLimit = seconds(2);  // the same if there was no fault
constexpr rt::Duration kEventsLimit = seconds(6);  // until who listens to KV events is up to date
constexpr double kDirectShare = 0.4;               // of requests, that do not come over HTTP
constexpr std::uint64_t kDirectIds = std::uint64_t{1} << 60U;

class ClusterSimulation final {
 public:
  ClusterSimulation(std::uint64_t seed, const ClusterSimOptions& options)
      : random_(seed ^ 0xC105732),
        cluster_(seed, random_, ShapeOf(random_, seed, options),
                 [this](std::string text) { Violation(std::move(text)); }),
        faults_(cluster_, random_, result_.faults),
        reference_(cluster_.shape().mock) {
    cluster_.OnStory(options.on_story);
    on_hour_ = options.on_hour;
    result_.seed = seed;
    expect_ = MockExpectation(cluster_.shape().mock.mock.limits);
    if (options.expect) {
      expect_ = options.expect(std::move(expect_));
    }
  }

  SimResult Run() {
    CheckNow();
    if (world().RunUntil([&] { return all_used_; }, world().now() + kTimeLimit) !=
        rt::SimEnd::kDone) {
      Violation("the cluster never became ready");
      return Finish();
    }
    const rt::Time last = PlanClients();
    faults_.Plan(last);
    const auto over = [&] { return open_ == 0 && begun_ == result_.requests; };
    if (world().RunUntil(over, last + kTimeLimit) != rt::SimEnd::kDone) {
      Violation(fmt::format("{} requests neither ended nor failed", open_));
    }
    faults_.Stop();
    load_over_ = true;
    ExpectQuiet();
    return Finish();
  }

 private:
  struct Job {
    ClientPlan plan;
    ClientReport report;
    std::shared_ptr<DirectCall> direct;  // null: it comes over HTTP
    std::size_t frontend = 0;
    std::uint32_t frontend_starts = 0;
    rt::Time begun{};
    rt::Time ended = rt::kNever;
  };

  static ClusterShape ShapeOf(rt::Random& random, std::uint64_t seed,
                              const ClusterSimOptions& options) {
    ClusterShape shape = DrawClusterShape(random, seed, options.disaggregated);
    if (options.long_run) {
      StretchClusterShape(*options.long_run, shape);
    }
    return shape;
  }

  rt::SimWorld& world() { return cluster_.world(); }

  void Violation(std::string text) { AddViolation(result_, std::move(text)); }

  void CheckNow() {
    if (finished_) {
      return;
    }
    if (world().now() >= next_check_) {
      next_check_ = world().now() + cluster_.shape().check_period;
      cluster_.Check();
      faults_.Continue();
      Forget();
    }
    std::erase_if(open_direct_, [this](std::size_t index) { return IsOver(index); });
    all_used_ = all_used_ || cluster_.AllUsed();
    if (load_over_) {
      held_ = cluster_.Held();
    }
    world().RunAt(world().now() + kCheckPeriod, [this] { CheckNow(); });
  }

  // --- clients

  // All at once; of a long run each when it comes. Until when they come.
  rt::Time PlanClients() {
    const engine::ExecutorLimits& limits = cluster_.shape().mock.mock.limits;
    bounds_ = {.vocab_size = limits.vocab_size,
               .context_tokens_max = limits.context_tokens_max,
               .output_tokens_max = cluster_.shape().output_tokens_max,
               .eos_token_ids = cluster_.setup().eos_token_ids};
    shared_ = DrawSharedPrompt(random_, bounds_.vocab_size);
    result_.requests = cluster_.shape().requests;
    const rt::Time first = world().now();
    if (is_long()) {
      const std::chrono::duration<double> time(static_cast<double>(result_.requests) /
                                               cluster_.shape().requests_per_s);
      result_.load_seconds = time.count();
      world().RunAt(first, [this] { Come(); });
      return first + std::chrono::duration_cast<rt::Duration>(time);
    }
    rt::Time at = first;
    for (std::size_t i = 0; i < result_.requests; ++i) {
      DrawJob();
      at += DrawGap();
      world().RunAt(at, [this, i] { Begin(i); });
    }
    result_.load_seconds = std::chrono::duration<double>(at - first).count();
    return at;
  }

  bool is_long() const { return cluster_.shape().memory > rt::Duration::zero(); }

  rt::Duration DrawGap() {
    const double gap_s = (0.75 + 0.5 * random_.Unit()) / cluster_.shape().requests_per_s;
    return rt::Duration(static_cast<std::int64_t>(gap_s * 1e9));
  }

  void DrawJob() {
    const std::size_t index = forgotten_jobs_ + jobs_.size();
    Job& job = jobs_.emplace_back();
    if (random_.Chance(kDirectShare)) {
      job.direct = std::make_shared<DirectCall>(DrawDirectPlan(
          random_, shared_, bounds_, RequestId{kDirectIds + index}, cluster_.shape().poison_share));
    } else {
      job.plan = DrawPlan(random_, shared_, bounds_);
      job.plan.hang_up_after *= 20;
    }
    job.frontend = random_.Below(cluster_.frontends().size());
    ++open_;
  }

  void Come() {
    const std::size_t index = forgotten_jobs_ + jobs_.size();
    DrawJob();
    Begin(index);
    if (on_hour_ && index % HourlyRequests() == HourlyRequests() - 1) {
      on_hour_(static_cast<int>((index + 1) / HourlyRequests()), index + 1);
    }
    if (index + 1 < result_.requests) {
      world().RunAt(world().now() + DrawGap(), [this] { Come(); });
    }
  }

  std::size_t HourlyRequests() const {
    return static_cast<std::size_t>(cluster_.shape().requests_per_s * 3600);
  }

  void Forget() {
    if (!is_long()) {
      return;
    }
    const rt::Time before = world().now() - cluster_.shape().memory;
    faults_.Forget(before);
    for (; !jobs_.empty() && jobs_.front().ended < before; ++forgotten_jobs_) {
      jobs_.pop_front();
    }
  }

  Job& JobAt(std::size_t index) { return jobs_[index - forgotten_jobs_]; }

  void Begin(std::size_t index) {
    Job& job = JobAt(index);
    job.begun = world().now();
    ++begun_;
    Cluster::Frontend& slot = cluster_.frontends()[job.frontend];
    job.frontend_starts = slot.starts;
    if (!job.direct) {
      cluster_.clients().loop().Spawn(RunJob(index));
      return;
    }
    if (!slot.process || !slot.process->ready()) {
      End(index);
      ++result_.refused;
      return;
    }
    rt::Loop& loop = slot.process->node().loop();
    loop.Post(
        [call = job.direct, &loop, link = &slot.process->link()] { call->Start(loop, *link); });
    open_direct_.push_back(index);
  }

  rt::Task<void> RunJob(std::size_t index) {
    Job& job = JobAt(index);
    auto run =
        RunClient(cluster_.clients().loop(), cluster_.clients().net(),
                  {.host = Cluster::FrontendHost(job.frontend), .port = FrontendProcess::kPort},
                  job.plan, job.report);
    co_await std::move(run);
    End(index);
    JudgeClient(index);
  }

  void End(std::size_t index) {
    JobAt(index).ended = world().now();
    --open_;
  }

  // Of a direct call.
  bool IsOver(std::size_t index) {
    const Job& job = JobAt(index);
    const Cluster::Frontend& slot = cluster_.frontends()[job.frontend];
    const bool lost = !slot.process || slot.starts != job.frontend_starts;
    if (!job.direct->report().ended && !lost) {
      return false;
    }
    End(index);
    JudgeDirect(index);
    return true;
  }

  // --- oracles

  bool RouterMayRefuse() const {
    const router::RouterOptions& router = cluster_.shape().router;
    return router.active_decode_blocks_threshold || !router.policy.classes.empty() ||
           (router.queue_threshold && router.queue_requests_max < cluster_.shape().requests);
  }

  // Requests of this frontend that were under way with this one.
  std::size_t ConcurrentCount(const Job& job) const {
    return static_cast<std::size_t>(std::ranges::count_if(jobs_, [&](const Job& other) {
      return other.frontend == job.frontend && other.begun > rt::Time{} &&
             other.begun <= job.ended && other.ended >= job.begun - kCalmQuietLimit;
    }));
  }

  static std::uint64_t SeedOf(const Job& job) {
    return job.direct ? job.direct->plan().request.sampling.seed : job.plan.request.sampling.seed;
  }

  // What a worker said from then on may count: so long it is believed, by a clock of its own, from
  // when it was heard.
  rt::Time FullSince(const Job& job) {
    const rt::Duration hint = router::RouterOptions{}.overloaded_hint * 102 / 100 +
                              cluster_.shape().dead_after / 10 + milliseconds(50);
    const Cluster::Frontend& slot = cluster_.frontends()[job.frontend];
    const rt::Time heard =
        slot.frozen_until + hint >= job.begun ? std::min(slot.frozen_from, job.begun) : job.begun;
    return heard - hint;
  }

  // Each worker said that it is full, or was not there to be asked; or it may not ask any further.
  bool WorkersWereFull(const Job& job) {
    const rt::Time since = FullSince(job);
    const Blame& blame = cluster_.blame();
    bool any_full = false;
    bool all_asked = true;
    for (const std::size_t number : cluster_.known()) {
      const Cluster::Worker& worker = cluster_.workers()[number];
      const bool full = worker.process->watched().refused_since(since);
      any_full |= full;
      all_asked &= full || !blame.Serves(worker.number, job.begun, job.ended) ||
                   blame.IsDisturbed(worker.number, job.frontend, job.begun, job.ended);
    }
    const std::uint64_t moves = cluster_.RefusalsOf(SeedOf(job)) +
                                blame.DisruptionCount(job.frontend, job.begun, job.ended);
    return any_full && (all_asked || moves > cluster_.shape().moves_max);
  }

  static bool GotTokens(const std::vector<DirectChoice>& choices) {
    return std::ranges::any_of(choices, [](const auto& one) { return !one.tokens.empty(); });
  }

  // Each prompt of a body goes its own way.
  static bool EachPromptGot(const Job& job) {
    const auto& tokens = job.report.tokens;
    const std::size_t choices = job.plan.request.choice_count;
    for (std::size_t i = 0; i < tokens.size(); i += choices) {
      if (std::ranges::all_of(tokens.begin() + static_cast<std::ptrdiff_t>(i),
                              tokens.begin() + static_cast<std::ptrdiff_t>(i + choices),
                              [](const auto& one) { return one.empty(); })) {
        return false;
      }
    }
    return true;
  }

  // A request that was at a worker already waits for another one before it gives up.
  bool WaitedEnough(const Job& job) {
    const bool moved = job.direct ? GotTokens(job.direct->report().choices) : EachPromptGot(job);
    return !moved || job.ended - job.begun >= cluster_.shape().patience * 95 / 100 ||
           cluster_.blame().DisruptionCount(job.frontend, job.begun, job.ended) >
               cluster_.shape().moves_max;
  }

  // Which faults explain that it ended with this code; empty: none.
  std::string Reason(const Job& job, const std::string& code) {
    if (code == "overloaded") {
      return RouterMayRefuse()                                          ? "router"
             : ConcurrentCount(job) >= cluster_.shape().generations_max ? "frontend"
             : WorkersWereFull(job)                                     ? "workers"
                                                                        : "";
    }
    if (cluster_.WasDownSince(job.frontend, job.begun) && code == "unavailable") {
      return "frontend_kill";
    }
    if (code == "unavailable" && !WaitedEnough(job)) {
      return {};
    }
    // Whom it waited for may have been there, and full all the time.
    if (code == "unavailable" && job.ended - job.begun >= cluster_.shape().patience * 95 / 100 &&
        cluster_.blame().DisruptionCount(job.frontend, job.begun, job.ended) > 0 &&
        (RouterMayRefuse() || WorkersWereFull(job))) {
      return "full workers";
    }
    return cluster_.blame().Explain(code, job.frontend, job.begun, job.ended,
                                    cluster_.RefusalsOf(SeedOf(job)));
  }

  void Explain(std::size_t index, const std::string& code, std::string reason,
               std::string_view detail) {
    cluster_.Tell("request {} of frontend {}, begun {} ms ago: {} by {}", index,
                  JobAt(index).frontend, (world().now() - JobAt(index).begun).count() / 1'000'000,
                  code, reason.empty() ? "nothing" : reason);
    if (reason.empty()) {
      ++result_.unexplained;
      Violation(fmt::format("request {}: no fault explains {}: {}", index, code, detail));
    } else {
      ++result_.errors[code + " by " + std::move(reason)];
    }
  }

  void JudgeClient(std::size_t index) {
    const Job& job = JobAt(index);
    const ClientReport& report = job.report;
    for (const std::vector<TokenId>& tokens : report.tokens) {
      result_.tokens += tokens.size();
    }
    const bool was_down = cluster_.WasDownSince(job.frontend, job.begun);
    switch (report.outcome) {
      case Outcome::kWhole:
        ++result_.finished;
        break;
      case Outcome::kGaveUp:
        ++result_.cancelled;
        break;
      case Outcome::kRefused:
        ++result_.refused;
        if (report.status == 0) {
          Explain(index, "no connection",
                  was_down                                ? "frontend_kill"
                  : faults_.Refused(job.begun, job.ended) ? "refuse"
                  : faults_.Reset(job.begun, job.ended)   ? "reset"
                                                          : "",
                  report.detail);
        } else {
          Explain(index, report.error_code, Reason(job, report.error_code), report.detail);
        }
        break;
      case Outcome::kFailed:
        ++result_.failed;
        Explain(index, report.error_code, Reason(job, report.error_code), report.detail);
        break;
      case Outcome::kBroken:
      case Outcome::kPending:
        ++result_.failed;
        Explain(index, "broken",
                !report.transport_broke               ? ""
                : was_down                            ? "frontend_kill"
                : faults_.Reset(job.begun, job.ended) ? "reset"
                                                      : "",
                report.detail);
        break;
    }
    JudgeTokens(index, job.plan, report, expect_, report.outcome == Outcome::kWhole, result_);
  }

  void JudgeDirect(std::size_t index) {
    const Job& job = JobAt(index);
    const DirectReport& report = job.direct->report();
    const DirectReport expected = reference_.Run(job.direct->plan().request);
    DirectVerdict verdict = JudgeDirectCall(job.direct->plan(), report, expected);
    if (BelievedAStranger(job)) {
      verdict.wrong.push_back("blocks of another salt were used");
    }
    for (const std::string& wrong : verdict.wrong) {
      Violation(fmt::format("request {}: {}", index, wrong));
    }
    for (const DirectChoice& choice : report.choices) {
      result_.tokens += choice.tokens.size();
    }
    if (!report.ended) {
      ++result_.failed;
      ++result_.errors["lost by frontend_kill"];
      return;
    }
    JudgeTimes(index);
    if (verdict.error) {
      ++result_.failed;
      const std::string code(NameOf(verdict.error->code()));
      const bool late = verdict.error->code() == Code::kDeadlineExceeded;
      Explain(index, code, late ? LateReason(job) : Reason(job, code), verdict.error->ToString());
    } else if (verdict.cancelled) {
      ++result_.cancelled;
    } else {
      ++result_.finished;
    }
  }

  // Without a preemption or a move its own blocks cannot have been there before it, either.
  bool BelievedAStranger(const Job& job) {
    const wire::GenerateRequest& request = job.direct->plan().request;
    if (request.cache_salt.empty() || request.choice_count > 1 ||
        job.direct->report().cached_tokens == 0 ||
        cluster_.blame().DisruptionCount(job.frontend, job.begun, job.ended) > 0) {
      return false;
    }
    return std::ranges::all_of(cluster_.known(), [&](std::size_t worker) {
      return cluster_.LoadOf(worker).scheduler.preemptions == 0;
    });
  }

  std::string LateReason(const Job& job) const {
    const rt::Duration deadline(job.direct->plan().request.deadline_left_ns);
    return deadline > rt::Duration::zero() && job.ended - job.begun >= deadline * 95 / 100
               ? "deadline"
               : "";
  }

  // A deadline is kept whatever the workers do; a cancel takes effect in time if they are there.
  void JudgeTimes(std::size_t index) {
    const Job& job = JobAt(index);
    if (cluster_.frontends()[job.frontend].frozen_until >= job.begun) {
      return;
    }
    JudgeCancel(index);
    const rt::Duration took = job.ended - job.begun;
    const rt::Duration deadline(job.direct->plan().request.deadline_left_ns);
    if (deadline > rt::Duration::zero() && took > deadline * 105 / 100 + kDeadlineGrace) {
      Violation(fmt::format("request {} ended {} ms after its deadline", index,
                            (took - deadline).count() / 1'000'000));
    }
    const bool calm = cluster_.blame().DisruptionCount(job.frontend, job.begun, job.ended) == 0;
    if (calm && job.direct->report().cancelled != rt::kNever &&
        *job.direct->plan().cancel_after * 105 / 100 + kCancelGrace < took) {
      Violation(fmt::format("request {} ended {} ms after it began, cancelled after {} ms", index,
                            took.count() / 1'000'000,
                            job.direct->plan().cancel_after->count() / 1'000'000));
    }
  }

  // Whom nobody waits for goes nowhere else.
  void JudgeCancel(std::size_t index) {
    const Job& job = JobAt(index);
    const DirectPlan& plan = job.direct->plan();
    const AttemptWatch::Attempt last = cluster_.attempts().last(plan.request);
    if (job.direct->report().cancelled != rt::kNever && last.number > 1 &&
        last.at > job.begun + *plan.cancel_after * 105 / 100 + kMoveGrace &&
        !cluster_.blame().IsDisturbed(last.worker, job.frontend, job.begun, last.at)) {
      Violation(
          fmt::format("request {} was sent to another worker long after it was cancelled", index));
    }
  }

  static constexpr rt::Duration kMoveGrace = milliseconds(500);  // on its way already
  static constexpr rt::Duration kDeadlineGrace = milliseconds(500);
  static constexpr rt::Duration kCancelGrace = seconds(2);

  // --- the end

  // The last client is gone and nothing fails any more: nothing may be held, and all be well again.
  void ExpectQuiet() {
    const bool calm = cluster_.shape().faults == 0;
    const rt::Time faults_end = std::max(world().now(), faults_.last_until());
    held_ = "not looked at";
    if (world().RunUntil([&] { return !held_; },
                         calm ? world().now() + kCalmQuietLimit : faults_end + kQuietLimit) !=
        rt::SimEnd::kDone) {
      Violation("still held long after the last client: " + held_.value_or(""));
      return;
    }
    for (Cluster::Frontend& slot : cluster_.frontends()) {
      slot.process->node().loop().Spawn(slot.process->frontend().Drain(rt::kNever));
    }
    auto closed = [&] {
      return cluster_.clients().loop().spawned_count() == 0 &&
             std::ranges::all_of(cluster_.frontends(), [](const auto& slot) {
               return slot.process->frontend().connection_count() == 0;
             });
    };
    if (world().RunUntil(closed, world().now() + kTimeLimit) != rt::SimEnd::kDone) {
      Violation("the drain left connections");
    }
    // Who listens may be frozen longer than anything is held.
    world().RunTo(std::max(world().now(), faults_end) + kEventsLimit);
    cluster_.CheckKvTruth();
  }

  SimResult Finish() {
    finished_ = true;
    cluster_.CountDone(result_);
    cluster_.CountLeft(result_.left);
    result_.state_hash = world().state_hash();
    result_.events = world().event_count();
    result_.virtual_seconds =
        std::chrono::duration<double>(world().now().time_since_epoch()).count();
    cluster_.Destroy();
    return std::move(result_);
  }

  rt::Random random_;
  SimResult result_;
  Cluster cluster_;
  ClusterFaults faults_;
  ReferenceEngine reference_;
  Expectation expect_;
  std::function<void(int hours, std::uint64_t requests)> on_hour_;
  RequestBounds bounds_;
  std::vector<TokenId> shared_;  // the beginning of many prompts
  std::deque<Job> jobs_;         // that are not forgotten; they are referred to
  std::size_t forgotten_jobs_ = 0;
  std::size_t begun_ = 0;
  rt::Time next_check_{};
  std::vector<std::size_t> open_direct_;
  std::size_t open_ = 0;
  std::optional<std::string> held_;
  bool all_used_ = false;
  bool load_over_ = false;
  bool finished_ = false;
};

}  // namespace

SimResult RunClusterSim(std::uint64_t seed, const ClusterSimOptions& options) {
  return ClusterSimulation(seed, options).Run();
}

}  // namespace pixii::sim
