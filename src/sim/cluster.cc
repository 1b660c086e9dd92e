#include "sim/cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/assert.h"
#include "sim/mock_fleet.h"

namespace pixii::sim {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Promise: what a frontend that died had asked for costs nothing after so long.
constexpr rt::Duration kStopLimit = seconds(2);
// From a worker's report of what it found out of itself until its frontends have acted on it.
constexpr rt::Duration kReportGrace = milliseconds(200);
constexpr std::uint32_t kWindowBytesMin = 16 * 1024;
// A poisoned request kills so long after its first token at the latest, if it still runs.
constexpr rt::Duration kPoisonMax = milliseconds(5);
constexpr std::int64_t kSlowStepNs = 10'000'000;  // of whoever needs a large batch

router::RouterOptions DrawRouter(rt::Random& random) {
  router::RouterOptions options;
  options.mode = Pick(random, {router::RouterMode::kRoundRobin, router::RouterMode::kRandom,
                               router::RouterMode::kPowerOfTwo, router::RouterMode::kLeastLoaded,
                               router::RouterMode::kKv, router::RouterMode::kKv});
  options.use_kv_events = random.Chance(0.7);
  options.approximate_policy =
      Pick(random, {router::ApproximatePolicy::kTtl, router::ApproximatePolicy::kLru});
  options.temperature = Pick(random, {0.0, 0.0, 0.5});
  options.track_output_blocks = random.Chance(0.5);
  if (random.Chance(0.3)) {
    options.queue_threshold = Pick(random, {0.5, 2.0});
    options.queue_policy = Pick(random, {router::QueuePolicy::kFcfs, router::QueuePolicy::kLcfs,
                                         router::QueuePolicy::kWspt});
    options.queue_requests_max = Pick<std::uint32_t>(random, {2, 100'000});
  }
  if (random.Chance(0.2)) {
    options.active_decode_blocks_threshold = 0.8;
  }
  if (random.Chance(0.2)) {
    router::PolicyConfig& policy = options.policy;
    policy.default_family = "all";
    policy.buckets = {{.tokens_min = 0, .name = "short"}, {.tokens_min = 24, .name = "long"}};
    for (const router::CacheBucket& bucket : policy.buckets) {
      router::PolicyClass& one = policy.classes.emplace_back();
      one.name = bucket.name;
      one.family = policy.default_family;
      one.cache_bucket = bucket.name;
      one.quantum = Pick<std::uint64_t>(random, {16, 256});
      one.prefill_busy_tokens = Pick<std::uint64_t>(random, {64, 100'000});
      one.requests_per_worker = Pick<std::uint64_t>(random, {4, 100'000});
    }
  }
  return options;
}

// Drawn apart, so that all else of a seed is what it is without.
void DrawDisaggregation(std::uint64_t seed, ClusterShape& shape) {
  rt::Random random(seed ^ 0xD15A66);
  shape.prefill_workers = Pick<std::uint32_t>(random, {1, 1, 2, 3});
  shape.prefill.conditional = random.Chance(0.3);
  shape.prefill.policy = Pick(
      random, {frontend::LocalPrefillPolicy::kShort, frontend::LocalPrefillPolicy::kPrefillBusy,
               frontend::LocalPrefillPolicy::kEither});
  shape.prefill.short_tokens = Pick<std::uint32_t>(random, {8, 32});
  shape.prefill.prefill_busy_at = 0.5;
  shape.lease_of_blocks = Pick<rt::Duration>(random, {milliseconds(100), seconds(1), seconds(10)});
  shape.transfers.latency =
      Pick<rt::Duration>(random, {rt::Duration{}, milliseconds(1), milliseconds(50)});
  shape.transfers.bytes_per_s_max = Pick<std::uint64_t>(random, {0, 1'000'000, 10'000});
  shape.pipelined = random.Chance(0.5);
  shape.prefill.decode_first = random.Chance(0.3);
}

}  // namespace

ClusterShape DrawClusterShape(rt::Random& random, std::uint64_t seed, bool disaggregated) {
  ClusterShape shape;
  shape.workers = Pick<std::uint32_t>(random, {1, 2, 2, 3, 4});
  shape.frontends = Pick<std::uint32_t>(random, {1, 1, 2, 3});
  shape.moves_max = Pick<std::uint32_t>(random, {3, 3, 3, 1, 0});
  shape.generations_max = Pick<std::uint32_t>(random, {16, 1024, 1024});
  shape.patience = Pick<rt::Duration>(random, {seconds(10), seconds(2)});
  shape.dead_after = Pick<rt::Duration>(random, {milliseconds(200), seconds(1), seconds(3)});
  shape.health = {.canary_interval = Pick<rt::Duration>(random, {milliseconds(200), seconds(1)}),
                  .canary_timeout = milliseconds(300),
                  .stall_limit = Pick<rt::Duration>(random, {milliseconds(500), seconds(2)})};
  shape.mock = DrawMockSetup(seed);
  shape.mock.mock.limits.context_tokens_max = Pick<std::uint32_t>(random, {128, 256});
  AddGrammarsAndAdapters(shape.mock);
  // The slow ones show work that goes on for nobody.
  shape.step_ns_max = Pick<std::int64_t>(random, {5'000'000, 5'000'000, 5'000'000, 40'000'000});
  shape.lease.ttl = Pick<rt::Duration>(random, {seconds(1), seconds(10)});
  shape.discovery.membership.absence_grace =
      Pick<rt::Duration>(random, {milliseconds(200), seconds(5)});
  shape.window_bytes =
      Pick<std::uint32_t>(random, {wire::MuxHello::kWindowBytesMin, 16 * 1024, 256 * 1024});
  shape.router = DrawRouter(random);
  shape.clocks_drift = random.Chance(0.3);
  shape.faults = Pick<std::uint32_t>(random, {0, 1, 2, 4, 8, 16});
  shape.poison_share = shape.faults > 0 ? 0.005 : 0;
  shape.requests_per_s = Pick(random, {60.0, 120.0, 400.0, 2000.0});
  shape.requests = static_cast<std::uint32_t>(random.Between(20, 100));
  if (disaggregated) {
    DrawDisaggregation(seed, shape);
  }
  return shape;
}

void StretchClusterShape(const LongRun& run, ClusterShape& shape) {
  const double hours = std::chrono::duration<double>(run.time) / std::chrono::hours(1);
  if (shape.prefill_workers > 0) {
    shape.prefill_workers = std::max<std::uint32_t>(run.workers / 4, 1);
    shape.prefill.conditional = false;
    shape.lease_of_blocks = seconds(10);
    shape.transfers = {.latency = milliseconds(1), .bytes_per_s_max = 1'000'000'000};
  }
  shape.workers = std::max<std::uint32_t>(run.workers - shape.prefill_workers, 1);
  shape.frontends = 2;
  shape.moves_max = 3;
  shape.generations_max = 1024;
  shape.patience = seconds(10);
  shape.dead_after = seconds(10);
  shape.health = {
      .canary_interval = seconds(60), .canary_timeout = seconds(10), .stall_limit = seconds(30)};
  shape.lease.ttl = seconds(10);
  shape.discovery.membership.absence_grace = seconds(5);
  shape.window_bytes = 256 * 1024;
  shape.router = {};
  shape.router.mode = router::RouterMode::kKv;
  shape.router.use_kv_events = true;
  shape.faults = static_cast<std::uint32_t>(run.faults_per_hour * hours);
  shape.requests_per_s = run.requests_per_s;
  shape.requests = static_cast<std::uint32_t>(run.requests_per_s * 3600 * hours);
  shape.output_tokens_max = 8;
  shape.poison_share = shape.faults > 0 ? 0.00005 : 0;
  shape.check_period = seconds(2);
  shape.checks_of_all = 8;
  shape.report_period = seconds(2);
  shape.listened_every = 16;
  shape.kv_event_count_min = 64;
  shape.kv_log_blocks_min = 1024;
  shape.partial_max = 0.02;
  shape.memory = seconds(120);
}

Cluster::Cluster(std::uint64_t seed, rt::Random& random, ClusterShape shape,
                 ViolationSink on_violation)
    : random_(random),
      shape_(std::move(shape)),
      on_violation_(std::move(on_violation)),
      world_(DrawWorldOptions(seed)),
      calm_(world_.options()),
      store_node_(world_.AddNode("store")),
      clients_(world_.AddNode("clients")),
      observer_node_(world_.AddNode("observer")),
      log_(
          {.severity_min = obs::Severity::kError, .format = obs::LogFormat::kLogfmt},
          [this] { return store_node_.loop().WallNow(); },
          [this](obs::Severity, std::string_view line) {
            on_violation_("logged: " + std::string(line));
          }),
      blame_({.frontend_count = shape_.frontends,
              .moves_max = shape_.moves_max,
              .deaths_max = frontend::FlightOptions{}.deaths_max,
              .settle = 2 * shape_.dead_after + milliseconds(200)}),
      frontends_(shape_.frontends) {
  // Lines are slow by a fault alone: what they carry is more than one server's clients have.
  world_.options().window_size_bytes_max =
      std::max<std::uint32_t>(world_.options().window_size_bytes_max, kWindowBytesMin);
  for (double* partial :
       {&world_.options().partial_read_probability, &world_.options().partial_write_probability}) {
    *partial = std::min(*partial, shape_.partial_max);
  }
  calm_ = world_.options();
  setup_.hub = std::make_shared<control::MemHub>(store_node_.loop(), shape_.lease);
  setup_.mux.dead_after = shape_.dead_after;
  setup_.mux.ping_after = shape_.dead_after / 4;
  setup_.mux.window_bytes = shape_.window_bytes;
  setup_.discovery = shape_.discovery;
  setup_.discovery.log = &log_;
  setup_.eos_token_ids = {2};
  setup_.log = &log_;
  if (shape_.prefill_workers > 0) {
    setup_.exchange = std::make_shared<transport::MemoryExchange>(shape_.transfers);
  }
  setup_.on_poison = [this] {
    world_.RunAt(world_.now() + rt::Duration(random_.Between(0, kPoisonMax.count())), [this] {
      if (on_poison_) {
        on_poison_();
      }
    });
  };
  setup_.on_request = [this](control::InstanceId worker, const wire::GenerateRequest& request) {
    OnRequest(worker, request);
  };
  control::MuxOptions mux = setup_.mux;
  mux.name = "observer";
  observer_ =
      std::make_unique<KvObserver>(observer_node_.loop(), observer_node_.net(), std::move(mux),
                                   [this](std::string text) { on_violation_(std::move(text)); });
  for (std::uint32_t i = 0; i < shape_.workers; ++i) {
    StartWorker("",
                setup_.exchange ? control::WorkerRole::kDecode : control::WorkerRole::kAggregated);
  }
  for (std::uint32_t i = 0; i < shape_.prefill_workers; ++i) {
    StartWorker("", control::WorkerRole::kPrefill);
  }
  for (std::size_t i = 0; i < frontends_.size(); ++i) {
    StartFrontend(i);
  }
}

std::string Cluster::StoryTime() const {
  return fmt::format("{:10.6f} s: ",
                     std::chrono::duration<double>(world_.now().time_since_epoch()).count());
}

std::string Cluster::FrontendHost(std::size_t frontend) {
  return fmt::format("frontend{}", frontend + 1);
}

ClockDrift Cluster::DrawClock() {
  if (!shape_.clocks_drift) {
    return {};
  }
  return {.rate = 0.98 + 0.04 * random_.Unit(), .wall_offset = seconds(random_.Between(0, 7200))};
}

// Another machine of the same model.
WorkerSetup Cluster::DrawWorker(control::WorkerRole role) {
  const MockSetup& first = shape_.mock;
  WorkerSetup setup;
  MockSetup& own = setup.mock;
  own = DrawMockSetup(random_.Next());
  AddGrammarsAndAdapters(own);
  engine::ExecutorLimits& limits = own.mock.limits;
  limits.vocab_size = first.mock.limits.vocab_size;
  limits.context_tokens_max = first.mock.limits.context_tokens_max;
  limits.block_tokens = first.mock.limits.block_tokens;
  limits.block_count = (limits.context_tokens_max / limits.block_tokens + 1) *
                       Pick<std::uint32_t>(random_, {1, 2, 40});
  own.mock.timing.step_ns = Pick<std::int64_t>(random_, {100'000, 1'000'000, shape_.step_ns_max});
  if (own.mock.timing.step_ns > kSlowStepNs) {
    own.options.batch_sequences_max = 32;
    own.options.batch_tokens_max = 64;
  }
  own.options.identity_key = first.options.identity_key;
  own.options.grammars = first.options.grammars;
  own.options.kv_event_count_max =
      std::max(shape_.kv_event_count_min, Pick<std::uint32_t>(random_, {1, 8, 1024}));
  setup.kv_log.blocks_max =
      std::max(shape_.kv_log_blocks_min, Pick<std::size_t>(random_, {4, 32, 65536}));
  setup.stream_bytes_max = Pick<std::size_t>(random_, {64, 1024, 0});
  setup.clock = DrawClock();
  setup.health = shape_.health;
  setup.report_period = shape_.report_period;
  setup.role = role;
  setup.lease = shape_.lease_of_blocks;
  setup.pipelined = shape_.pipelined;
  return setup;
}

control::WorkerRole Cluster::RoleAt(const std::string& host) const {
  const auto last = std::find_if(known_.rbegin(), known_.rend(), [&](std::size_t worker) {
    return workers_[worker].process->host() == host;
  });
  PX_ASSERT(last != known_.rend());
  return workers_[*last].process->role();
}

void Cluster::StartWorker(const std::string& host, control::WorkerRole role) {
  const bool taken =
      host.empty() || std::ranges::any_of(known_, [&](std::size_t one) {
        return workers_[one].process->alive() && workers_[one].process->host() == host;
      });
  const std::string own = taken ? fmt::format("worker{}", ++hosts_) : host;
  auto process = WorkerProcess::Start(world_, own, DrawWorker(role), setup_);
  if (!process) {
    return on_violation_("a worker did not start: " + process.error().ToString());
  }
  if (workers_.size() % shape_.listened_every == 0) {
    observer_->Watch((*process)->instance(), fmt::format("{}:{}", own, WorkerProcess::kPort),
                     (*process)->card());
  }
  by_instance_.emplace((*process)->instance(), workers_.size());
  known_.push_back(workers_.size());
  workers_.push_back(
      {.process = std::move(*process),
       .number = blame_.AddWorker(world_.now(), role != control::WorkerRole::kPrefill)});
  Tell("worker {} begins at {}", workers_.size() - 1, own);
}

void Cluster::StartFrontend(std::size_t frontend) {
  frontend::FleetOptions fleet;
  fleet.flight.moves_max = shape_.moves_max;
  fleet.patience = shape_.patience;
  fleet.router = shape_.router;
  fleet.seed = random_.Next();
  frontend::FrontendOptions options;
  options.generations_max = shape_.generations_max;
  Tell("frontend {} begins", frontend);
  Frontend& slot = frontends_[frontend];
  rt::SimNode& node = world_.AddNode(FrontendHost(frontend));
  const ClockDrift clock = DrawClock();
  node.SetClock(clock.rate, clock.wall_offset);
  slot.process = std::make_unique<FrontendProcess>(
      node, fmt::format("{}.{}", FrontendHost(frontend), ++slot.starts), setup_, std::move(fleet),
      shape_.prefill, options);
  slot.down_since = std::min(slot.down_since, world_.now());
  slot.knew.clear();
  slot.forgot.clear();
  blame_.RestartFrontend(frontend, world_.now());
}

void Cluster::KillWorker(std::size_t worker, bool vanish) {
  WorkerProcess& process = *workers_[worker].process;
  if (vanish) {
    process.Vanish();
  } else {
    process.Kill();
  }
  blame_.RemoveWorker(worker, world_.now());
  observer_->Leave(process.instance());
}

void Cluster::DrainWorker(std::size_t worker, rt::Duration patience) {
  workers_[worker].process->Drain(patience);
  workers_[worker].withdrawn_at = world_.now();
  blame_.RemoveWorker(worker, world_.now());
}

void Cluster::StallWorker(std::size_t worker, rt::Duration time) {
  const rt::Time begin = world_.now();
  workers_[worker].process->Stall(begin + time);
  const control::ReadinessOptions& health = shape_.health;
  // Idle or at work; canaries are due at most a quarter of their interval late.
  const rt::Duration period =
      std::max(health.canary_interval * 5 / 4 + health.canary_timeout, health.stall_limit) +
      shape_.report_period + kReportGrace;
  if (time > period) {
    world_.RunAt(begin + period, [this, worker, begin] { CheckStalled(worker, begin); });
  }
}

void Cluster::CheckStalled(std::size_t worker, rt::Time begin) const {
  const WorkerProcess& process = *workers_[worker].process;
  if (!process.alive() || process.draining()) {
    return;
  }
  for (std::size_t i = 0; i < frontends_.size(); ++i) {
    const Frontend& slot = frontends_[i];
    if (slot.process && slot.frozen_until < begin && slot.process->uses(process.instance()) &&
        blame_.Hears(worker, i, begin, world_.now(), {"stall"})) {
      on_violation_(fmt::format("{} uses {}, whose engine has stood still for {} ms",
                                slot.process->name(), process.host(),
                                (world_.now() - begin).count() / 1'000'000));
    }
  }
}

void Cluster::KillFrontend(std::size_t frontend) {
  Tell("frontend {} dies", frontend);
  Frontend& slot = frontends_[frontend];
  for (const std::size_t worker : known_) {
    const WorkerProcess& process = *workers_[worker].process;
    if (process.alive()) {
      ExpectEnded(worker, process.RequestsOf(slot.process->name()), slot.process->name());
    }
  }
  slot.process->node().Kill();
  dead_frontends_.push_back({.died = world_.now(), .process = std::move(slot.process)});
  slot.down_since = std::min(slot.down_since, world_.now());
}

// Whoever sends it again must have somewhere better, or nowhere else, to send it.
void Cluster::OnRequest(control::InstanceId instance, const wire::GenerateRequest& request) {
  const auto asked = by_instance_.find(instance);
  if (request.attempt == 0 || asked == by_instance_.end()) {
    return;  // no frontend's
  }
  const std::size_t worker = asked->second;
  const std::string& host = workers_[worker].process->host();
  if (AttemptWatch::IsWhole(request)) {
    on_violation_(host + " is asked for an answer that its client has");
  }
  const std::optional<rt::Time> since = attempts_.OnRequest(worker, request, world_.now());
  if (since && AnotherServes(worker, *since)) {
    on_violation_(
        fmt::format("a request comes back to {}, which failed it, and another was there", host));
  }
}

// Whether any frontend could have sent to another worker, all the time since.
bool Cluster::AnotherServes(std::size_t worker, rt::Time since) const {
  const router::RouterOptions& router = shape_.router;
  if (router.queue_threshold || router.active_decode_blocks_threshold ||
      !router.policy.classes.empty()) {
    return false;  // the others may have been busy
  }
  return std::ranges::any_of(Usable(), [&](std::size_t other) {
    if (other == worker || workers_[other].process->role() != workers_[worker].process->role() ||
        workers_[other].process->watched().refused_since(since - router.overloaded_hint)) {
      return false;
    }
    for (std::size_t frontend = 0; frontend < frontends_.size(); ++frontend) {
      if (blame_.IsDisturbed(other, frontend, since, world_.now())) {
        return false;
      }
    }
    return true;
  });
}

void Cluster::ExpectEnded(std::size_t worker, std::vector<RequestId> requests,
                          const std::string& caller) {
  const rt::Time begin = world_.now();
  world_.RunAt(begin + kStopLimit, [this, worker, requests = std::move(requests), caller, begin] {
    const WorkerProcess& process = *workers_[worker].process;
    if (blame_.WasHit(worker, begin, world_.now())) {
      return;  // it may not have heard of it yet
    }
    const auto left =
        std::ranges::count_if(requests, [&](RequestId id) { return process.watched().runs(id); });
    if (process.alive() && left > 0) {
      on_violation_(fmt::format("{} runs {} requests of {}, which died 2 s ago", process.host(),
                                left, caller));
    }
  });
}

std::vector<std::size_t> Cluster::Usable() const {
  std::vector<std::size_t> out;
  for (const std::size_t i : known_) {
    if (workers_[i].process->alive() && !workers_[i].process->draining()) {
      out.push_back(i);
    }
  }
  return out;
}

bool Cluster::AllUsed() const {
  const std::vector<std::size_t> usable = Usable();
  return std::ranges::all_of(frontends_, [&](const Frontend& one) {
    return one.process && one.process->ready() && one.process->worker_count() == usable.size() &&
           std::ranges::all_of(usable, [&](std::size_t worker) {
             return one.process->uses(workers_[worker].process->instance());
           });
  });
}

bool Cluster::AllReady() const {
  return std::ranges::all_of(
      frontends_, [](const Frontend& one) { return one.process && one.process->ready(); });
}

void Cluster::Check() {
  ++checks_;
  for (const std::size_t i : known_) {
    CheckWorker(i);
  }
  for (std::size_t i = 0; i < frontends_.size(); ++i) {
    Frontend& slot = frontends_[i];
    if (slot.process && slot.process->ready() && slot.down_since != rt::kNever) {
      slot.down_since = rt::kNever;
      slot.last_down = world_.now();
    }
    if (slot.process) {
      CheckWithdrawn(i);
    }
    for (const std::size_t worker : known_) {
      if (!slot.process) {
        break;
      }
      std::string wrong = blame_.See(
          worker, i, slot.process->uses(workers_[worker].process->instance()), world_.now());
      if (!wrong.empty()) {
        on_violation_(std::move(wrong));
      }
    }
  }
  if (shape_.memory > rt::Duration::zero()) {
    Forget();
  }
}

void Cluster::CheckWorker(std::size_t worker) {
  WorkerProcess& process = *workers_[worker].process;
  if (process.alive() && (worker + checks_) % shape_.checks_of_all == 0) {
    if (std::optional<std::string> wrong = process.Check()) {
      on_violation_(std::move(*wrong));
    }
  }
  if (process.alive() && process.stopped()) {
    process.End();
    observer_->Leave(process.instance());
  }
  if (!process.alive()) {
    workers_[worker].gone_at = std::min(workers_[worker].gone_at, world_.now());
  }
}

// So that a day of it takes no more memory than an hour.
void Cluster::Forget() {
  const rt::Time before = world_.now() - shape_.memory;
  blame_.Forget(before);
  attempts_.Forget(before);
  std::erase_if(known_, [&](std::size_t i) {
    Worker& worker = workers_[i];
    if (worker.gone_at >= before) {
      return false;
    }
    CountDone(*worker.process, forgotten_);
    for (Frontend& slot : frontends_) {
      slot.knew.erase(i);
      slot.forgot.erase(i);
    }
    by_instance_.erase(worker.process->instance());
    worker.process.reset();
    return true;
  });
  std::erase_if(dead_frontends_, [&](const DeadFrontend& one) {
    if (one.died >= before) {
      return false;
    }
    CountDone(*one.process, forgotten_);
    return true;
  });
}

// Whatever the store says later: who withdrew does not come back to whom it could tell. A frontend
// that began since knows only the store.
void Cluster::CheckWithdrawn(std::size_t frontend) {
  Frontend& slot = frontends_[frontend];
  for (const std::size_t worker : known_) {
    const rt::Time withdrawn_at = workers_[worker].withdrawn_at;
    if (withdrawn_at == rt::kNever) {
      continue;
    }
    const bool knows = slot.process->instances().contains(workers_[worker].process->instance());
    if (knows && slot.forgot.erase(worker) > 0) {
      on_violation_(fmt::format("{} believes again in {}, which withdrew", slot.process->name(),
                                workers_[worker].process->host()));
    }
    if (knows) {
      slot.knew.insert(worker);
    } else if (slot.knew.contains(worker) && !WasDownSince(frontend, withdrawn_at) &&
               blame_.Hears(worker, frontend, withdrawn_at, world_.now(),
                            {"drain", "rolling_update"})) {
      slot.forgot.insert(worker);
    }
  }
}

bool Cluster::WasDownSince(std::size_t frontend, rt::Time begin) const {
  const Frontend& slot = frontends_[frontend];
  return slot.down_since != rt::kNever || slot.last_down >= begin;
}

std::uint32_t Cluster::RefusalsOf(std::uint64_t seed) const {
  std::uint32_t count = 0;
  for (const std::size_t worker : known_) {
    count += workers_[worker].process->watched().refused_count(seed);
  }
  return count;
}

void Cluster::CountDone(const WorkerProcess& worker, SimResult& result) {
  const engine::EngineLoad load = worker.load();
  result.preemptions += load.scheduler.preemptions;
  result.prefix_hit_tokens += load.scheduler.cached_tokens;
  const kv::HandoverCounters* const counters = worker.handovers();
  for (std::size_t i = 0; counters != nullptr && i < kv::kHandoverStateCount; ++i) {
    const auto state = static_cast<kv::HandoverState>(i);
    if (kv::IsEnd(state)) {
      result.handovers[fmt::format("offers {}", kv::NameOf(state))] += counters->offer_ends[i];
      result.handovers[fmt::format("loads {}", kv::NameOf(state))] += counters->load_ends[i];
    }
  }
  if (counters != nullptr) {
    result.handovers["early offers"] += counters->early_offers;
    result.handovers["early blocks"] += counters->early_blocks;
  }
}

void Cluster::CountDone(FrontendProcess& frontend, SimResult& result) {
  if (!frontend.has_fleet()) {
    return;
  }
  for (frontend::FleetLink* fleet : {&frontend.fleet(), &frontend.prefill()}) {
    const frontend::FleetCounters& moves = fleet->counters();
    result.moves += moves.moves_new_request + moves.moves_ongoing;
  }
}

void Cluster::CountDone(SimResult& result) const {
  result.preemptions += forgotten_.preemptions;
  result.prefix_hit_tokens += forgotten_.prefix_hit_tokens;
  result.moves += forgotten_.moves;
  for (const auto& [end, count] : forgotten_.handovers) {
    result.handovers[end] += count;
  }
  for (const std::size_t worker : known_) {
    CountDone(*workers_[worker].process, result);
  }
  for (const Frontend& slot : frontends_) {
    if (slot.process) {
      CountDone(*slot.process, result);
    }
  }
  for (const DeadFrontend& dead : dead_frontends_) {
    CountDone(*dead.process, result);
  }
}

void Cluster::CountLeft(std::map<std::string, std::uint64_t>& counts) const {
  for (const std::size_t worker : Usable()) {
    workers_[worker].process->CountLeft(counts);
  }
  for (const Frontend& slot : frontends_) {
    if (slot.process && slot.process->ready()) {
      counts["requests of frontends"] +=
          slot.process->frontend().generation_count() + slot.process->link().outstanding_count();
      for (frontend::FleetLink* fleet : {&slot.process->fleet(), &slot.process->prefill()}) {
        counts["attempts of frontends"] += fleet->attempt_count();
        for (const router::RankLoadRow& row : fleet->router().Loads()) {
          counts["requests that routers count"] += row.load.requests;
        }
      }
    }
  }
}

std::optional<std::string> Cluster::Held() const {
  const std::vector<std::size_t> usable = Usable();
  for (const Frontend& slot : frontends_) {
    if (!slot.process || !slot.process->ready()) {
      return "a frontend does not come back";
    }
    const std::size_t generations = slot.process->frontend().generation_count();
    const std::size_t in_two_legs = slot.process->link().outstanding_count();
    for (frontend::FleetLink* fleet : {&slot.process->fleet(), &slot.process->prefill()}) {
      if (generations + in_two_legs + fleet->outstanding_count() + fleet->attempt_count() > 0) {
        return fmt::format(
            "{}: {} generations, {} in two legs, {} requests of a fleet, {} attempts",
            slot.process->name(), generations, in_two_legs, fleet->outstanding_count(),
            fleet->attempt_count());
      }
      for (const router::RankLoadRow& row : fleet->router().Loads()) {
        if (row.load.requests > 0) {
          return fmt::format("{}: the router counts {} requests", slot.process->name(),
                             row.load.requests);
        }
      }
    }
    if (slot.process->instances().size() != usable.size()) {
      return fmt::format("{} knows {} instances of {}", slot.process->name(),
                         slot.process->instances().size(), usable.size());
    }
  }
  for (const std::size_t worker : known_) {
    const WorkerProcess& process = *workers_[worker].process;
    if (process.alive() && process.draining()) {
      return process.host() + " drains for ever";
    }
    if (process.alive()) {
      if (std::optional<std::string> held = process.Held()) {
        return held;
      }
    }
  }
  return AllUsed() ? std::nullopt : std::optional<std::string>("not every worker is used");
}

void Cluster::CheckKvTruth() {
  const auto compare = [&](const std::string& who, const WorkerProcess& worker,
                           const std::set<std::uint64_t>& believed,
                           const std::set<std::uint64_t>& truth) {
    if (believed != truth) {
      on_violation_(fmt::format(
          "{} has {} blocks that can be found; {} believes {}, of which it has {}", worker.host(),
          truth.size(), who, believed.size(),
          std::ranges::count_if(believed, [&](auto hash) { return truth.contains(hash); })));
    }
  };
  for (const std::size_t i : Usable()) {
    const WorkerProcess& worker = *workers_[i].process;
    const std::set<std::uint64_t> truth = worker.FindableBlocks();
    if (i % shape_.listened_every == 0) {
      compare("the listener", worker, observer_->blocks(worker.instance()), truth);
    }
    for (const Frontend& slot : frontends_) {
      const router::Router& router = worker.role() == control::WorkerRole::kPrefill
                                         ? slot.process->prefill().router()
                                         : slot.process->fleet().router();
      if (router.index() == nullptr) {
        continue;
      }
      std::set<std::uint64_t> believed;
      for (const wire::KvEvent& event : router.DumpKv({.instance = worker.instance(), .rank = 0})) {
        for (const wire::KvBlock& block : event.blocks) {
          believed.insert(block.block_hash);
        }
      }
      compare(slot.process->name(), worker, believed, truth);
    }
  }
}

void Cluster::Destroy() {
  // Whatever still waits dies with its node before what it refers to.
  clients_.Kill();
  observer_node_.Kill();
  for (Frontend& slot : frontends_) {
    if (slot.process) {
      slot.process->node().Kill();
    }
  }
  for (const std::size_t worker : known_) {
    workers_[worker].process->Kill();
  }
  store_node_.Kill();
  frontends_.clear();
  dead_frontends_.clear();
  observer_.reset();
  workers_.clear();
}

}  // namespace pixii::sim
