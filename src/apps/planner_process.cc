// pixii planner: looks at a fleet, decides how many workers it has, and has that changed.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/cluster_unit.h"
#include "apps/command.h"
#include "apps/option_structs.h"
#include "apps/planner_profile.h"
#include "apps/process_unit.h"
#include "control/discovery.h"
#include "control/http_call.h"
#include "control/planner.h"
#include "control/planner_config.h"
#include "control/planner_feed.h"
#include "control/scale_connector.h"
#include "frontend/frontend.h"
#include "obs/metrics.h"
#include "rt/file.h"
#include "rt/sync.h"

namespace pixii::apps {

namespace {

using control::kPoolCount;
using control::PlannerDecision;
using control::Pool;
using obs::EventId;
using obs::MetricId;

constexpr std::uint64_t kConfigBytesMax = 1 << 20;
constexpr std::uint64_t kKeyBytesMax = 1 << 20;
constexpr rt::Duration kAskMin = std::chrono::seconds(1);  // for one answer of a frontend
constexpr rt::Duration kAskMax = std::chrono::seconds(5);
constexpr rt::Duration kScaleTime = std::chrono::seconds(10);  // for the connector
constexpr rt::Duration kCloseTime = std::chrono::seconds(1);
constexpr std::array kPools = {Pool::kPrefill, Pool::kDecode};
constexpr std::array<std::string_view, kPoolCount> kPoolNames = {"prefill", "decode"};

std::size_t IndexOf(Pool pool) { return static_cast<std::size_t>(pool); }

double SecondsOf(rt::Duration time) { return std::chrono::duration<double>(time).count(); }

rt::Duration Seconds(double count) {
  return std::chrono::duration_cast<rt::Duration>(std::chrono::duration<double>(count));
}

bool HasPool(const control::PlannerConfig& config, Pool pool) {
  return pool == Pool::kPrefill ? config.mode == "disagg" || config.mode == "prefill"
                                : config.mode != "prefill";
}

Result<control::PlannerConfig> ReadConfig(const std::string& said) {
  if (said.empty()) {
    return control::ReadPlannerConfig("{}", "planner-config");
  }
  if (said.find_first_not_of(" \t\r\n") != std::string::npos &&
      said[said.find_first_not_of(" \t\r\n")] == '{') {
    return control::ReadPlannerConfig(said, "planner-config");
  }
  PX_TRY(const std::string text, rt::ReadFile(said, kConfigBytesMax));
  return control::ReadPlannerConfig(text, said);
}

// With thresholds alone nothing is asked of an engine's times.
Result<control::EngineModel> EngineOf(const control::PlannerConfig& config) {
  if (config.optimization_target == "load" || config.optimization_target == "latency") {
    return control::EngineModel{.prefill_ms = [](double) { return 0.0; },
                                .decode_ms = [](double, double) { return 0.0; }};
  }
  Result<EngineProfile> profile = ReadEngineProfile(config.profile_results_dir);
  if (!profile) {
    return Fail(profile.error().code(), "profile_results_dir: " + profile.error().detail(),
                "profile_results_dir");
  }
  return PlannedEngine(*profile);
}

class PlannerProcess final {
 public:
  explicit PlannerProcess(PlannerFlags flags) : flags_(std::move(flags)) {}

  Result<int> Run() {
    PX_TRY(control::PlannerConfig config, ReadConfig(flags_.planner_config));
    PX_TRY(control::EngineModel engine, EngineOf(config));
    PX_TRY(control::Planner planner, control::Planner::Create(config, engine, engine));
    planner_.emplace(std::move(planner));
    engine_ = std::move(engine);
    for (const std::string& url : SplitList(flags_.frontends)) {
      PX_TRY(rt::Address address, AddressOfUrl("frontends", url));
      frontends_.push_back(std::move(address));
    }
    if (frontends_.empty()) {
      return Fail(Code::kInvalidArgument, "frontends: a planner needs one at least", "frontends");
    }
    if (!flags_.frontend_key_file.empty()) {
      PX_TRY(key_, rt::ReadFile(flags_.frontend_key_file, kKeyBytesMax));
      key_.erase(key_.find_last_not_of(" \r\n\t") + 1);
    }
    feed_.emplace(
        control::PlannerFeedOptions{.goal = {.ttft_ms = config.ttft_ms, .itl_ms = config.itl_ms},
                                    .patience = rt::Duration(flags_.frontend_patience)},
        SplitList(flags_.frontends));
    PX_CHECK_OK(process_.Open(flags_, {.dump = [this] { DumpState(); },
                                       .reload = {},
                                       .drain =
                                           [this] {
                                             process_.loop().Spawn(Stop());
                                             return true;
                                           }}));
    PX_TRY(store_, OpenStore(process_, flags_));
    PX_CHECK_OK(OpenConnector());
    watch_ = std::make_unique<control::InstanceWatch>(
        process_.loop(), *store_, flags_.ns,
        control::DiscoveryOptions{.membership = {}, .log = &process_.log()},
        [](const std::vector<control::MembershipChange>&) {});
    PX_CHECK_OK(Listen());
    obs::Event(process_.log(), EventId::kPlannerReady)
        .kv("address", bound_.ToString())
        .kv("connector", flags_.dry_run ? "dry-run" : this->config().environment)
        .kv("mode", this->config().mode)
        .kv("target", this->config().optimization_target)
        .kv("tick_s", SecondsOf(planner_->tick()));
    begun_ = process_.loop().Now();
    turning_.Start(Turn());
    process_.loop().Run();
    turning_.Clear();
    frontend_.reset();
    watch_.reset();
    connector_.reset();
    store_.reset();
    obs::Event(process_.log(), EventId::kServeStopped).kv("cancelled", 0);
    return kExitDone;
  }

 private:
  const control::PlannerConfig& config() const { return planner_->config(); }

  Result<void> OpenConnector() {
    for (const Pool pool : kPools) {
      if (HasPool(config(), pool)) {
        components_[IndexOf(pool)] =
            pool == Pool::kPrefill ? flags_.prefill_component : flags_.decode_component;
      }
    }
    if (config().environment == "kubernetes") {
      if (flags_.dry_run && flags_.graph_deployment.empty() && DeploymentOfPod().empty()) {
        return {};  // nothing is changed, and what there is is in discovery
      }
      const std::string name =
          flags_.graph_deployment.empty() ? DeploymentOfPod() : flags_.graph_deployment;
      if (name.empty()) {
        return Fail(Code::kInvalidArgument,
                    "graph-deployment: which DynamoGraphDeployment is changed? Neither this nor "
                    "DYN_PARENT_DGD_K8S_NAME says",
                    "graph-deployment");
      }
      PX_TRY(control::KubeAccess access, KubeAccessOf("kubernetes", flags_.kubernetes));
      connector_ = control::MakeKubeConnector(process_.loop(), process_.net(), std::move(access),
                                              name, components_);
      return {};
    }
    connector_ = control::MakeStoreConnector(process_.loop(), *store_,
                                             {.ns = flags_.ns,
                                              .components = components_,
                                              .needs_report = config().environment == "local",
                                              .patience = rt::Duration(flags_.scale_patience)});
    return {};
  }

  static std::string DeploymentOfPod() {
    const char* name = std::getenv("DYN_PARENT_DGD_K8S_NAME");
    return name != nullptr ? name : "";
  }

  // Health and metrics.
  Result<void> Listen() {
    frontend::FrontendOptions options;
    options.canary_interval = rt::Duration::zero();
    for (const std::string_view name : frontend::Frontend::EndpointNames()) {
      options.disabled_endpoints.emplace_back(name);
    }
    frontend_.emplace(
        frontend::FrontendEnvironment{
            .loop = process_.loop(),
            .net = process_.net(),
            .system =
                frontend::SystemView{.health = [this] { return Health(); }, .registry = registry_}},
        options, frontend::ApiKeys());
    PX_TRY(bound_, frontend_->Start(
                       {.host = flags_.host, .port = static_cast<std::uint16_t>(flags_.port)}));
    MakeSeries();
    return flags_.port_file.empty()
               ? Result<void>()
               : rt::WriteFileAtomic(flags_.port_file, fmt::format("{}\n", bound_.port), 0644);
  }

  frontend::SystemHealth Health() {
    frontend::SystemHealth out;
    out.ready = stale_.empty();
    out.message = stale_.empty() ? "the planner decides" : stale_;
    out.endpoint = "planner";
    out.uptime = process_.loop().Now() - begun_;
    return out;
  }

  // ---- a look

  rt::Task<void> Turn() {
    rt::Loop& loop = process_.loop();
    const rt::Duration tick = planner_->tick();
    for (rt::Time next = loop.Now();; next = std::max(next + tick, loop.Now())) {
      auto sleeping = loop.SleepUntil(next);
      co_await std::move(sleeping);
      for (std::size_t i = 0; i < frontends_.size(); ++i) {
        auto looking = LookAt(i);
        co_await std::move(looking);
      }
      // By the time that it was due: a planner counts in whole ticks.
      auto acting = Act(next);
      co_await std::move(acting);
    }
  }

  rt::Task<Result<std::string>> Get(rt::Address address, std::string target, rt::Time deadline) {
    control::HttpCall call;
    call.address = std::move(address);
    call.method = "GET";
    call.target = std::move(target);
    if (!key_.empty()) {
      call.fields.push_back({"Authorization", "Bearer " + key_});
    }
    auto calling = control::CallHttp(process_.net(), std::move(call), deadline);
    PX_CO_TRY(control::HttpAnswer answer, co_await std::move(calling));
    if (answer.status != 200) {
      co_return Fail(Code::kUnavailable, fmt::format("it answers {}", answer.status));
    }
    co_return std::move(answer.body);
  }

  struct Heard {
    control::FeedRequests requests;
    std::map<std::string, control::FeedWorker> workers;
  };

  rt::Task<Result<Heard>> Ask(std::size_t index) {
    const rt::Duration patience =
        std::clamp(planner_->tick() / static_cast<int>(2 * frontends_.size()), kAskMin, kAskMax);
    const rt::Time deadline = process_.loop().Now() + patience;
    Heard out;
    auto requests =
        Get(frontends_[index], fmt::format("/v1/requests?after={}", feed_->ended(index)), deadline);
    PX_CO_TRY(const std::string request_text, co_await std::move(requests));
    PX_CO_TRY(out.requests, control::ReadFeedRequests(request_text));
    auto cluster = Get(frontends_[index], "/v1/cluster", deadline);
    PX_CO_TRY(const std::string cluster_text, co_await std::move(cluster));
    PX_CO_TRY(out.workers, control::ReadFeedWorkers(cluster_text));
    co_return std::move(out);
  }

  rt::Task<void> LookAt(std::size_t index) {
    auto asking = Ask(index);
    const Result<Heard> heard = co_await std::move(asking);
    const rt::Time now = process_.loop().Now();
    const std::string& name = feed_->name(index);
    if (heard) {
      if (feed_->OnAnswer(index, heard->requests, heard->workers, now)) {
        obs::Event(process_.log(), EventId::kPlannerFrontendBack).kv("frontend", name);
      }
      co_return;
    }
    if (feed_->OnSilence(index, now)) {
      const bool given_up = feed_->state(index) == control::FeedState::kGivenUp;
      obs::Event(process_.log(),
                 given_up ? EventId::kPlannerFrontendGivenUp : EventId::kPlannerFrontendSilent)
          .kv("frontend", name)
          .kv("why", heard.error().ToString());
    }
  }

  // Workers that discovery has, as far as they take requests.
  std::array<control::PoolObserved, kPoolCount> Fleet(const control::ScaleView& view) const {
    std::array<control::PoolObserved, kPoolCount> out;
    for (const auto& [id, instance] : watch_->instances()) {
      const bool counts = control::IsWorker(instance) && !instance.draining &&
                          instance.role != control::WorkerRole::kEncode;
      if (counts) {
        const bool prefills = instance.role == control::WorkerRole::kPrefill;
        ++out[IndexOf(prefills ? Pool::kPrefill : Pool::kDecode)].ready;
      }
    }
    for (const Pool pool : kPools) {
      control::PoolObserved& observed = out[IndexOf(pool)];
      const std::uint32_t asked = view.asked[IndexOf(pool)].value_or(observed.ready);
      observed.starting = asked - std::min(asked, observed.ready);
      if (flags_.dry_run && decision_ && HasPool(config(), pool)) {
        // As if what was decided had been done.
        observed.ready = decision_->pools[IndexOf(pool)].workers;
        observed.starting = 0;
      }
    }
    return out;
  }

  rt::Task<void> Act(rt::Time now) {
    control::ScaleView view;
    std::string trouble = feed_->Trouble();
    if (connector_) {
      auto looking = connector_->Look(process_.loop().Now() + kScaleTime);
      Result<control::ScaleView> looked = co_await std::move(looking);
      if (looked) {
        view = std::move(*looked);
      } else if (trouble.empty()) {
        trouble = looked.error().ToString();
      }
    }
    if (trouble.empty() && !watch_->complete()) {
      trouble = "discovery has not said yet which workers there are";
    }
    if (trouble.empty() && watch_->trouble()) {
      trouble = watch_->trouble()->ToString();
    }
    SayStale(std::move(trouble));
    ExportFeed();
    if (!stale_.empty()) {
      co_return;
    }
    auto deciding = Decide(std::move(view), now);
    co_await std::move(deciding);
  }

  rt::Task<void> Decide(control::ScaleView view, rt::Time now) {
    const rt::Duration interval =
        std::max(planner_->tick(),
                 rt::Duration(std::chrono::seconds(
                     ForecastsOnly() ? config().throughput_adjustment_interval_seconds : 0)));
    // A whole interval is seen before the first decision on it.
    if (counted_from_ && !decided_from_ && now - *counted_from_ < interval) {
      co_return;
    }
    const std::array<control::PoolObserved, kPoolCount> fleet = Fleet(view);
    std::optional<control::PlannerObservation> seen =
        feed_->Take(fleet, {&*engine_, &*engine_}, now);
    if (!seen) {
      counted_from_ = now;
      co_return;
    }
    // After a gap in what is known its mean stands for one interval: the planner counts in these.
    const double expected = SecondsOf(decided_from_ ? planner_->tick() : interval);
    if (seen->seconds > 1.5 * expected) {
      seen->arrivals = static_cast<std::uint64_t>(
          static_cast<double>(seen->arrivals) * expected / seen->seconds + 0.5);
      seen->seconds = expected;
    }
    decided_from_ = decided_from_.value_or(now);
    const std::optional<PlannerDecision> before = decision_;
    decision_ = planner_->Decide(*seen, now);
    Export(*seen, view);
    SayDecision(before, fleet);
    auto scaling = Scale(std::move(view), fleet, now);
    co_await std::move(scaling);
  }

  bool ForecastsOnly() const {
    return config().optimization_target == "throughput" ||
           (config().optimization_target == "sla" && config().enable_throughput_scaling);
  }

  // What a pool shall have from now on. Who has just begun has no memory of what was wanted within
  // the window, so nothing goes before that has passed.
  std::uint32_t TargetOf(Pool pool, std::uint32_t asked, rt::Time now) const {
    const std::uint32_t decided = decision_->pools[IndexOf(pool)].workers;
    const bool young = now - *decided_from_ < Seconds(config().scale_down_window_seconds);
    return young ? std::max(decided, asked) : decided;
  }

  rt::Task<void> Scale(control::ScaleView view, std::array<control::PoolObserved, kPoolCount> fleet,
                       rt::Time now) {
    control::ScaleOrder order;
    bool differs = false;
    for (const Pool pool : kPools) {
      if (!HasPool(config(), pool)) {
        continue;
      }
      const std::uint32_t asked = view.asked[IndexOf(pool)].value_or(fleet[IndexOf(pool)].ready);
      const std::uint32_t target = TargetOf(pool, asked, now);
      order.counts.push_back({.component = components_[IndexOf(pool)], .replicas = target});
      differs = differs || target != asked;
      if (target != asked) {
        order.reason +=
            fmt::format("{}{}: {}", order.reason.empty() ? "" : "; ", kPoolNames[IndexOf(pool)],
                        decision_->pools[IndexOf(pool)].reason);
      }
    }
    if (!view.error.empty() && view.error != scale_error_) {
      Failed(view.error);
    }
    scale_error_ = view.error;
    if (!differs || view.pending) {
      co_return;
    }
    if (flags_.dry_run || !connector_) {
      CountScale("dry_run");
      co_return;
    }
    order.decision = std::max(last_decision_ + 1, process_.loop().WallNow().unix_seconds * 1000);
    const std::int64_t id = order.decision;
    const std::string reason = order.reason;
    auto scaling = connector_->Scale(std::move(order), process_.loop().Now() + kScaleTime);
    const Result<void> scaled = co_await std::move(scaling);
    if (!scaled) {
      Failed(scaled.error().ToString());
      co_return;
    }
    last_decision_ = id;
    CountScale("done");
    obs::Event(process_.log(), EventId::kPlannerScaled).kv("decision", id).kv("reason", reason);
  }

  // ---- what is said of it

  void CountScale(std::string_view outcome) {
    registry_.GetCounter(MetricId::kPlannerScaleTotal, {outcome}).Add();
  }

  void Failed(std::string_view why) {
    CountScale("failed");
    obs::Event(process_.log(), EventId::kPlannerScaleFailed).kv("why", why);
  }

  void SayStale(std::string trouble) {
    const rt::Time now = process_.loop().Now();
    const bool stale = !trouble.empty();
    registry_.GetCounter(MetricId::kPlannerLooksTotal, {stale ? "stale" : "used"}).Add();
    if (stale && stale_ != trouble) {
      obs::Event(process_.log(), EventId::kPlannerStale).kv("why", trouble);
    }
    if (stale && stale_since_ == rt::kNever) {
      stale_since_ = now;
      SetStatus("stale");
    }
    if (!stale && stale_since_ != rt::kNever) {
      obs::Event(process_.log(), EventId::kPlannerFresh)
          .kv("after_s", SecondsOf(now - stale_since_));
      stale_since_ = rt::kNever;
      status_.clear();
    }
    stale_ = std::move(trouble);
  }

  void SayDecision(const std::optional<PlannerDecision>& before,
                   const std::array<control::PoolObserved, kPoolCount>& fleet) {
    for (const Pool pool : kPools) {
      if (!HasPool(config(), pool)) {
        continue;
      }
      const control::PoolDecision& now = decision_->pools[IndexOf(pool)];
      const control::PoolObserved& had = fleet[IndexOf(pool)];
      const std::uint32_t was =
          before ? before->pools[IndexOf(pool)].workers : had.ready + had.starting;
      const int step = now.workers > was ? 1 : now.workers < was ? -1 : 0;
      registry_
          .GetCounter(MetricId::kPlannerDecisionsTotal,
                      {kPoolNames[IndexOf(pool)], step > 0   ? "up"
                                                  : step < 0 ? "down"
                                                             : "none"})
          .Add();
      registry_.GetGauge(MetricId::kPlannerScalingDecision, {kPoolNames[IndexOf(pool)]}).Set(step);
      if (step != 0) {
        obs::Event(process_.log(), EventId::kPlannerDecided)
            .kv("pool", kPoolNames[IndexOf(pool)])
            .kv("from", was)
            .kv("to", now.workers)
            .kv("reason", now.reason)
            .kv("expected_below", now.below)
            .kv("expected_at", now.at)
            .kv("expected_above", now.above)
            .kv("rate", decision_->rate.mean)
            .kv("dry_run", flags_.dry_run);
      }
    }
    const std::string_view status = control::StatusName(decision_->status);
    if (status != status_) {
      obs::Event(process_.log(), EventId::kPlannerStatus)
          .kv("status", status)
          .kv("best_alone", decision_->best_attainment)
          .kv("why", decision_
                         ->pools[IndexOf(HasPool(config(), Pool::kDecode) ? Pool::kDecode
                                                                          : Pool::kPrefill)]
                         .reason);
      SetStatus(status);
    }
  }

  void SetStatus(std::string_view status) {
    status_ = status;
    for (const std::string_view one : {"met", "budget", "infeasible", "no_room", "stale"}) {
      registry_.GetGauge(MetricId::kPlannerStatus, {one}).Set(one == status ? 1 : 0);
    }
  }

  void ExportFeed() {
    std::array<double, 3> states{};
    for (std::size_t i = 0; i < feed_->size(); ++i) {
      states[static_cast<std::size_t>(feed_->state(i))] += 1;
    }
    registry_.GetGauge(MetricId::kPlannerFrontends, {"heard"}).Set(states[0]);
    registry_.GetGauge(MetricId::kPlannerFrontends, {"silent"}).Set(states[1]);
    registry_.GetGauge(MetricId::kPlannerFrontends, {"given_up"}).Set(states[2]);
  }

  void Export(const control::PlannerObservation& seen, const control::ScaleView& view) {
    const PlannerDecision& made = *decision_;
    const auto set = [&](MetricId id, std::initializer_list<std::string_view> labels,
                         double value) { registry_.GetGauge(id, labels).Set(value); };
    for (const Pool pool : kPools) {
      if (!HasPool(config(), pool)) {
        continue;
      }
      const std::string_view name = kPoolNames[IndexOf(pool)];
      const control::PoolDecision& decision = made.pools[IndexOf(pool)];
      const control::PoolObserved& observed = seen.pools[IndexOf(pool)];
      set(MetricId::kPlannerWorkers, {name, "wanted"}, decision.wanted);
      set(MetricId::kPlannerWorkers, {name, "decided"}, decision.workers);
      set(MetricId::kPlannerWorkers, {name, "asked"},
          view.asked[IndexOf(pool)].value_or(observed.ready));
      set(MetricId::kPlannerWorkers, {name, "ready"}, observed.ready);
      set(MetricId::kPlannerAttainment, {name, "fewer"}, decision.below);
      set(MetricId::kPlannerAttainment, {name, "decided"}, decision.at);
      set(MetricId::kPlannerAttainment, {name, "more"}, decision.above);
      set(MetricId::kPlannerEstimatedTtft, {name}, decision.ttft_ms);
      set(MetricId::kPlannerEstimatedItl, {name}, decision.itl_ms);
    }
    if (seen.ended > 0) {
      set(MetricId::kPlannerKept, {}, seen.kept_share);
      set(MetricId::kPlannerSeen, {"ttft"}, seen.ttft_ms);
      set(MetricId::kPlannerSeen, {"itl"}, seen.itl_ms);
    }
    set(MetricId::kPlannerRate, {"seen"},
        seen.seconds > 0 ? static_cast<double>(seen.arrivals) / seen.seconds : 0);
    set(MetricId::kPlannerRate, {"forecast"}, made.rate.mean);
    set(MetricId::kPlannerTokens, {"input"}, made.mean_input);
    set(MetricId::kPlannerTokens, {"output"}, made.mean_output);
    set(MetricId::kPlannerWaiting, {}, seen.waiting);
    set(MetricId::kPlannerCorrection, {}, made.correction);
    set(MetricId::kPlannerPending, {}, view.pending ? 1 : 0);
  }

  // Series of few values stand from the start.
  void MakeSeries() {
    for (const std::string_view outcome : {"done", "failed", "dry_run"}) {
      registry_.GetCounter(MetricId::kPlannerScaleTotal, {outcome});
    }
    for (const std::string_view outcome : {"used", "stale"}) {
      registry_.GetCounter(MetricId::kPlannerLooksTotal, {outcome});
    }
    for (const Pool pool : kPools) {
      for (const std::string_view direction : {"up", "down", "none"}) {
        if (HasPool(config(), pool)) {
          registry_.GetCounter(MetricId::kPlannerDecisionsTotal,
                               {kPoolNames[IndexOf(pool)], direction});
        }
      }
    }
    SetStatus("stale");
    ExportFeed();
  }

  void DumpState() {
    obs::Event(process_.log(), EventId::kStateDump)
        .kv("stale", stale_)
        .kv("status", status_)
        .kv("decision", last_decision_);
  }

  rt::Task<void> Stop() {
    turning_.Clear();
    auto closing = frontend_->Drain(process_.loop().Now() + kCloseTime);
    co_await std::move(closing);
    store_->Close([this] { process_.loop().Stop(); });
  }

  PlannerFlags flags_;
  obs::Registry registry_;
  ProcessUnit process_;
  std::optional<control::Planner> planner_;
  std::optional<control::EngineModel> engine_;
  std::vector<rt::Address> frontends_;
  std::string key_;  // of the frontends; empty: they want none
  control::PoolComponents components_;
  std::optional<control::PlannerFeed> feed_;
  std::unique_ptr<control::LeaseStore> store_;
  std::unique_ptr<control::ScaleConnector> connector_;  // null: nothing is changed
  std::unique_ptr<control::InstanceWatch> watch_;
  std::optional<frontend::Frontend> frontend_;
  rt::Address bound_;
  rt::Time begun_{};
  std::string stale_ = "the planner begins";  // why nothing is decided; empty: it is
  rt::Time stale_since_ = rt::kNever;
  std::string status_;
  std::string scale_error_;  // that was said last
  std::optional<rt::Time> counted_from_;
  std::optional<rt::Time> decided_from_;
  std::optional<PlannerDecision> decision_;
  std::int64_t last_decision_ = 0;
  rt::SpawnedTasks turning_;  // last: its frames use what stands above
};

}  // namespace

int RunPlanner(const Arguments& arguments) {
  // Dynamo's planner is given its keys as --config; --config-file would be of flags here.
  Arguments words = arguments;
  for (std::string& word : words) {
    if (word == "--config" || word.starts_with("--config=")) {
      word.replace(0, std::string_view("--config").size(), "--planner-config");
    }
  }
  return RunCommand({"planner", "Decides how many workers a fleet has, and has that changed."},
                    PlannerFlags{}, words,
                    [](PlannerFlags flags, const config::Parsed& /*parsed*/) {
                      return PlannerProcess(std::move(flags)).Run();
                    });
}

}  // namespace pixii::apps
