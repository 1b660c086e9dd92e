#include "sim/trace_sim.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <queue>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "engine/engine.h"
#include "engine/mock_executor.h"
#include "router/kv_index.h"
#include "router/router.h"
#include "wire/public_hash.h"
#include "worker/kv_changes.h"

namespace pixii::sim {

namespace {

using router::RankNumber;

constexpr std::uint32_t kVocabSize = 64;      // enough for blocks to differ, and rows cost little
constexpr std::uint32_t kKvEventsMax = 4096;  // of a worker's step; beyond, it tells everything
constexpr std::uint64_t kIndexBytesMax = std::uint64_t{64} << 30;
constexpr double kSecondsMax = 1e8;  // from the first arrival to the last one

double Seconds(rt::Duration duration) { return std::chrono::duration<double>(duration).count(); }

double Milliseconds(rt::Duration duration) { return Seconds(duration) * 1e3; }

Distribution Describe(std::vector<double> values) {
  Distribution out;
  if (values.empty()) {
    return out;
  }
  std::ranges::sort(values);
  double sum = 0;
  for (const double value : values) {
    sum += value;
  }
  const auto at = [&](double q) {
    return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1))];
  };
  out.mean = sum / static_cast<double>(values.size());
  out.p50 = at(0.5);
  out.p90 = at(0.9);
  out.p99 = at(0.99);
  out.max = at(1);
  return out;
}

double Share(double part, double whole) { return whole > 0 ? part / whole : 0; }

// How much of the time of arrivals passes with how many requests that wait for their first token.
class WaitingMeter final {
 public:
  explicit WaitingMeter(rt::Duration span) : span_(span), areas_(kTraceSlices) {}

  void Change(rt::Time now, int by) {
    Advance(now);
    count_ += by;
    most_ = std::max(most_, count_);
  }

  std::vector<double> Slices(rt::Time end) {
    Advance(end);
    std::vector<double> out;
    for (const double area : areas_) {
      out.push_back(Share(area, Seconds(span_) / kTraceSlices));
    }
    return out;
  }

  double most() const { return most_; }

 private:
  void Advance(rt::Time now) {
    const rt::Time until = std::min(now, rt::Time{} + span_);
    constexpr auto kSlices = static_cast<std::int64_t>(kTraceSlices);
    while (last_ < until) {
      const std::int64_t slice = last_.time_since_epoch().count() * kSlices / span_.count();
      const rt::Duration slice_end((span_.count() * (slice + 1) + kSlices - 1) / kSlices);
      const rt::Time end = std::min(until, rt::Time{} + slice_end);
      areas_[static_cast<std::size_t>(slice)] += count_ * Seconds(end - last_);
      last_ = end;
    }
  }

  rt::Duration span_;
  rt::Time last_{};
  std::vector<double> areas_;  // request seconds
  double count_ = 0;
  double most_ = 0;
};

class TraceSim final {
 public:
  TraceSim(const Trace& trace, const TraceSimOptions& options)
      : trace_(trace),
        options_(options),
        router_(options.router, options.seed),
        decode_router_(options.router, options.seed + 1),
        truth_(router::KvIndexOptions{kIndexBytesMax}) {
    MakeArrivals();
  }

  Result<TraceSimResult> Run() {
    PX_CHECK_OK(MakeWorkers());
    WaitingMeter waiting(arrivals_.back().at - rt::Time{});
    waiting_ = &waiting;
    std::size_t next = 0;
    while (next < arrivals_.size() || !events_.empty()) {
      if (events_.empty() || (next < arrivals_.size() && arrivals_[next].at < events_.top().at)) {
        now_ = arrivals_[next].at;
        Arrive(arrivals_[next], next);
        ++next;
      } else {
        const Event event = events_.top();
        events_.pop();
        now_ = event.at;
        OnEvent(event);
      }
      Dispatch(Stage::kPrompt);
      Dispatch(Stage::kAnswer);
      if (stalled_) {
        return Fail(*stalled_);
      }
    }
    return Take();
  }

 private:
  struct Arrival {
    rt::Time at{};
    std::uint32_t copy = 0;
    std::uint32_t index = 0;  // of the trace's request
  };

  /// What a worker does for a request. Without prefill workers all is the first.
  enum class Stage : std::uint8_t { kPrompt, kAnswer };

  enum class EventKind : std::uint8_t {
    kStepEnds,
    kRouterHears,  // of what changed in a cache
    kBlocksCome,   // an engine that waits for them looks
  };

  struct Event {
    rt::Time at{};
    std::uint64_t order = 0;
    std::uint32_t worker = 0;
    EventKind kind = EventKind::kStepEnds;

    friend bool operator>(const Event& a, const Event& b) {
      return a.at != b.at ? a.at > b.at : a.order > b.order;
    }
  };

  struct Worker {
    std::uint32_t number = 0;
    Stage stage = Stage::kPrompt;
    std::unique_ptr<engine::Engine> engine;
    bool computes = false;
    std::vector<wire::TokenFrame> frames;                 // of the step under way
    std::vector<wire::KvEvent> changes;                   // of the step under way
    std::deque<std::vector<wire::KvEvent>> on_their_way;  // to the router
    std::uint64_t next_kv_event = 0;
    rt::Duration busy{};
    std::uint64_t requests = 0;
  };

  struct Request {
    rt::Time arrived{};
    std::uint32_t output_tokens = 0;
    std::vector<TokenId> prompt;                // until it is dispatched for the last time
    std::vector<std::uint64_t> block_hashes{};  // likewise
    rt::Time first{};
    rt::Time last{};
    std::uint32_t tokens = 0;
    std::uint32_t last_stage_tokens = 0;
    TokenId first_token{};  // that another worker goes on behind
    Stage stage = Stage::kPrompt;
  };

  bool splits() const { return options_.prefill_workers > 0; }

  router::Router& RouterOf(Stage stage) {
    return stage == Stage::kPrompt ? router_ : decode_router_;
  }

  void OnEvent(const Event& event) {
    Worker& worker = workers_[event.worker];
    switch (event.kind) {
      case EventKind::kStepEnds:
        EndStep(worker);
        return;
      case EventKind::kRouterHears:
        TellRouter(worker);
        return;
      case EventKind::kBlocksCome:
        BeginStep(worker);
        return;
    }
  }

  void MakeArrivals() {
    rt::Random random(options_.seed);
    const rt::Duration tenth = trace_.requests.back().at / 10;
    for (std::uint32_t copy = 0; copy < options_.copies; ++copy) {
      const rt::Duration offset =
          copy == 0 ? rt::Duration{} : rt::Duration(random.Between(0, tenth.count()));
      for (std::uint32_t i = 0; i < trace_.requests.size(); ++i) {
        const double seconds = Seconds(trace_.requests[i].at + offset) / options_.speed;
        arrivals_.push_back({rt::Time{} + std::chrono::duration_cast<rt::Duration>(
                                              std::chrono::duration<double>(seconds)),
                             copy, i});
      }
    }
    std::ranges::sort(arrivals_, [](const Arrival& a, const Arrival& b) {
      return std::tie(a.at, a.copy, a.index) < std::tie(b.at, b.copy, b.index);
    });
  }

  Result<void> MakeWorkers() {
    engine::EngineOptions options = options_.engine;
    options.kv_event_count_max = kKvEventsMax;
    engine::MockOptions mock;
    mock.limits = {.vocab_size = kVocabSize,
                   .context_tokens_max = 2 * kTraceTokensMax,
                   .block_tokens = options_.block_tokens,
                   .block_count = options_.block_count,
                   .step_tokens_max = options.batch_tokens_max,
                   .step_logit_rows_max = options.batch_sequences_max + 1};
    mock.timing = options_.timing;
    mock.flat_rows = true;
    mock.keeps_context = false;
    workers_.resize(options_.workers);
    for (std::uint32_t i = 0; i < options_.workers; ++i) {
      workers_[i].number = i;
      workers_[i].stage =
          splits() && i >= options_.prefill_workers ? Stage::kAnswer : Stage::kPrompt;
      std::unique_ptr<kv::Connector> connector;
      if (workers_[i].stage == Stage::kAnswer) {
        connector = std::make_unique<TransferConnector>(options_.transfer, options_.block_tokens);
      }
      PX_TRY(workers_[i].engine,
             engine::Engine::Create(options, std::make_unique<engine::MockExecutor>(mock), nullptr,
                                    nullptr, std::move(connector)));
      workers_[i].engine->StartConnector([] {});
      control::Instance instance;
      instance.id = router::InstanceId{i + 1};
      instance.card = workers_[i].engine->card();
      RouterOf(workers_[i].stage).SetWorker(instance);
    }
    return {};
  }

  void Arrive(const Arrival& arrival, std::size_t number) {
    const TraceRequest& traced = trace_.requests[arrival.index];
    const RequestId id{number + 1};
    Request& request = requests_[id];
    request.arrived = now_;
    request.output_tokens = traced.output_tokens;
    request.prompt =
        TracePrompt(traced, arrival.index, trace_.block_tokens, arrival.copy, kVocabSize);
    request.block_hashes =
        wire::PublicBlockHashes(request.prompt, options_.block_tokens, wire::kPublicHashSeed);
    prompt_tokens_ += request.prompt.size();
    LookBack(request);
    waiting_->Change(now_, 1);
    Route(id, request);
  }

  void Route(RequestId id, const Request& request) {
    router::RouteRequest routed;
    routed.id = id;
    routed.tokens = request.prompt;
    RouterOf(request.stage).Submit(std::move(routed), now_);
  }

  // Counts what stood in earlier prompts; later ones find this one.
  void LookBack(const Request& request) {
    std::uint64_t chain = 0;
    std::uint32_t blocks = 0;
    bool seen = true;
    for (const std::uint64_t block : request.block_hashes) {
      chain = router::ChainHashOf(chain, block);
      seen = !seen_.insert(chain).second && seen;
      blocks += seen ? 1 : 0;
    }
    seen_tokens_ += Usable(request, blocks);
  }

  // Tokens of so many cached blocks of the prompt that save work: the last token is computed
  // anyhow.
  std::uint64_t Usable(const Request& request, std::uint32_t blocks) const {
    const std::uint64_t most =
        (request.prompt.size() - 1) / options_.block_tokens * options_.block_tokens;
    return std::min<std::uint64_t>(std::uint64_t{blocks} * options_.block_tokens, most);
  }

  void Dispatch(Stage stage) {
    for (const router::Dispatch& dispatch : RouterOf(stage).TakeDispatches(now_)) {
      const auto found = requests_.find(dispatch.id);
      if (!dispatch.target) {
        Refuse(found->first);
        continue;
      }
      const auto number = static_cast<std::uint32_t>(Raw(dispatch.target->instance) - 1);
      Request& request = found->second;
      if (stage == Stage::kPrompt) {
        CountOracle(request, number);
        request.block_hashes = {};
      }
      Worker& worker = workers_[number];
      if (!worker.engine->Submit(GenerateFor(dispatch.id, request), now_)) {
        RouterOf(stage).Withdraw(dispatch.id, now_);
        Refuse(dispatch.id);
        continue;
      }
      ++worker.requests;
      if (!worker.computes) {
        BeginStep(worker);
      }
    }
  }

  wire::GenerateRequest GenerateFor(RequestId id, Request& request) const {
    const bool goes_on = splits() && request.stage == Stage::kPrompt && request.output_tokens > 1;
    wire::GenerateRequest generate;
    generate.id = id;
    generate.prompt = goes_on ? request.prompt : std::move(request.prompt);
    generate.sampling.temperature = 0;
    generate.stop = {.max_tokens = goes_on ? 1 : request.output_tokens,
                     .ignore_eos = true,
                     .eos_token_ids = {},
                     .stop_token_ids = {}};
    generate.prefill_only = goes_on;
    if (request.stage == Stage::kAnswer) {
      generate.generated = {{request.first_token}};
      generate.handover = "simulated";
    }
    return generate;
  }

  void Refuse(RequestId id) {
    ++refused_;
    if (requests_.at(id).tokens == 0) {
      waiting_->Change(now_, -1);
    }
    requests_.erase(id);
  }

  void CountOracle(const Request& request, std::uint32_t chosen) {
    truth_.Find(request.block_hashes, matches_);
    std::uint32_t best = 0;
    std::uint32_t here = 0;
    for (const router::RankMatch& match : matches_.ranks) {
      best = std::max(best, match.device);
      here = match.rank == RankNumber{chosen} ? match.device : here;
    }
    oracle_tokens_ += Usable(request, best);
    chosen_tokens_ += Usable(request, here);
  }

  void BeginStep(Worker& worker) {
    engine::Engine& engine = *worker.engine;
    while (engine.has_work() && !worker.computes) {
      const engine::StepReport report = engine.Step(now_, worker.frames);
      changes_.clear();
      if (engine.DrainKvEvents(changes_)) {
        std::ranges::move(worker::JoinChanges(changes_.events, worker.next_kv_event),
                          std::back_inserter(worker.changes));
      }
      if (!report.ran && worker.frames.empty() && engine.stalled() &&
          engine.next_poll() != rt::kNever) {
        events_.push({std::max(engine.next_poll(), now_), next_order_++, worker.number,
                      EventKind::kBlocksCome});
        return;
      }
      if (!report.ran && worker.frames.empty()) {
        stalled_ =
            Error(Code::kInternal, fmt::format("worker {} has work and does none", worker.number));
        return;
      }
      worker.computes = true;
      const rt::Time end = now_ + rt::Duration(report.virtual_time_ns);
      const rt::Time last = arrivals_.back().at;
      worker.busy += std::max(std::min(end, last) - std::min(now_, last), rt::Duration{});
      events_.push({end, next_order_++, worker.number, EventKind::kStepEnds});
    }
  }

  void EndStep(Worker& worker) {
    worker.computes = false;
    for (const wire::TokenFrame& frame : std::exchange(worker.frames, {})) {
      Deliver(frame, worker.stage);
    }
    if (!worker.changes.empty()) {
      for (const wire::KvEvent& change : worker.changes) {
        if (worker.stage == Stage::kPrompt) {
          truth_.Apply(RankNumber{worker.number}, change);
        }
      }
      worker.on_their_way.push_back(std::exchange(worker.changes, {}));
      events_.push(
          {now_ + options_.event_delay, next_order_++, worker.number, EventKind::kRouterHears});
    }
    BeginStep(worker);
  }

  void TellRouter(Worker& worker) {
    RouterOf(worker.stage)
        .OnKvEvents(router::InstanceId{worker.number + 1}, worker.on_their_way.front(), now_);
    worker.on_their_way.pop_front();
  }

  void Deliver(const wire::TokenFrame& frame, Stage stage) {
    const auto found = requests_.find(frame.id);
    Request& request = found->second;
    router::Router& router = RouterOf(stage);
    if (!frame.tokens.empty()) {
      if (request.tokens == 0) {
        request.first = now_;
        request.first_token = frame.tokens[0];
        hit_tokens_ += frame.cached_tokens;
        waiting_->Change(now_, -1);
      }
      if (request.last_stage_tokens == 0) {
        router.OnFirstToken(frame.id, now_);
      }
      request.last = now_;
      const auto count = static_cast<std::uint32_t>(frame.tokens.size());
      request.tokens += count;
      request.last_stage_tokens += count;
      router.OnTokens(frame.id, count, now_);
    }
    if (!frame.finish) {
      return;
    }
    router.Withdraw(frame.id, now_);
    if (splits() && stage == Stage::kPrompt && request.tokens > 0 &&
        request.tokens < request.output_tokens) {
      request.stage = Stage::kAnswer;
      request.last_stage_tokens = 0;
      Route(frame.id, request);
      return;
    }
    if (request.tokens == 0) {
      Refuse(frame.id);
      return;
    }
    const double ttft_ms = Milliseconds(request.first - request.arrived);
    const double itl_ms =
        request.tokens > 1 ? Milliseconds(request.last - request.first) / (request.tokens - 1) : 0;
    good_ += (options_.ttft_goal_ms <= 0 || ttft_ms <= options_.ttft_goal_ms) &&
                     (options_.itl_goal_ms <= 0 || itl_ms <= options_.itl_goal_ms)
                 ? 1
                 : 0;
    ttft_ms_.push_back(ttft_ms);
    e2e_ms_.push_back(Milliseconds(request.last - request.arrived));
    if (request.tokens > 1) {
      itl_ms_.push_back(itl_ms);
    }
    output_tokens_ += request.tokens;
    requests_.erase(found);
  }

  TraceSimResult Take() {
    TraceSimResult out;
    const rt::Duration span = arrivals_.back().at - rt::Time{};
    const auto tokens = static_cast<double>(prompt_tokens_);
    out.requests = arrivals_.size();
    out.finished = ttft_ms_.size();
    out.refused = refused_;
    out.prompt_tokens = prompt_tokens_;
    out.output_tokens = output_tokens_;
    out.ttft_ms = Describe(std::move(ttft_ms_));
    out.e2e_ms = Describe(std::move(e2e_ms_));
    out.itl_ms = Describe(std::move(itl_ms_));
    out.good_share = Share(static_cast<double>(good_), static_cast<double>(arrivals_.size()));
    out.goodput = Share(static_cast<double>(good_), Seconds(span));
    out.virtual_seconds = Seconds(now_ - rt::Time{});
    out.requests_per_second = Share(static_cast<double>(arrivals_.size()), Seconds(span));
    out.output_tokens_per_second = Share(static_cast<double>(output_tokens_), out.virtual_seconds);
    out.hit_rate = Share(static_cast<double>(hit_tokens_), tokens);
    out.oracle_hit_rate = Share(static_cast<double>(oracle_tokens_), tokens);
    out.chosen_hit_rate = Share(static_cast<double>(chosen_tokens_), tokens);
    out.seen_rate = Share(static_cast<double>(seen_tokens_), tokens);
    out.waiting_by_slice = waiting_->Slices(now_);
    out.waiting_max = waiting_->most();
    Balance(span, out);
    return out;
  }

  void Balance(rt::Duration span, TraceSimResult& out) const {
    double requests_most = 0;
    double computed_most = 0;
    double computed = 0;
    for (const Worker& worker : workers_) {
      const engine::SchedulerCounters& counters = worker.engine->scheduler().counters();
      const double busy = Share(Seconds(worker.busy), Seconds(span));
      out.busy_mean += busy / static_cast<double>(workers_.size());
      out.busy_max = std::max(out.busy_max, busy);
      out.preemptions += counters.preemptions;
      requests_most = std::max(requests_most, static_cast<double>(worker.requests));
      computed_most = std::max(computed_most, static_cast<double>(counters.computed_tokens));
      computed += static_cast<double>(counters.computed_tokens);
    }
    const auto workers = static_cast<double>(workers_.size());
    out.requests_max_of_mean =
        Share(requests_most * workers, static_cast<double>(arrivals_.size() - refused_));
    out.computed_max_of_mean = Share(computed_most * workers, computed);
  }

  const Trace& trace_;
  TraceSimOptions options_;
  std::vector<Arrival> arrivals_;  // in the order of time
  std::vector<Worker> workers_;
  router::Router router_;
  router::Router decode_router_;  // among those that go on with what others have computed
  router::KvIndex truth_;         // what all caches hold, without any delay
  router::KvMatches matches_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  std::uint64_t next_order_ = 0;
  rt::Time now_{};
  std::unordered_map<RequestId, Request> requests_;  // that have not ended
  std::unordered_set<std::uint64_t> seen_;           // chains of all prompts so far
  kv::CacheChanges changes_;
  std::optional<Error> stalled_;
  WaitingMeter* waiting_ = nullptr;
  std::uint64_t refused_ = 0;
  std::uint64_t good_ = 0;
  std::uint64_t prompt_tokens_ = 0;
  std::uint64_t output_tokens_ = 0;
  std::uint64_t hit_tokens_ = 0;
  std::uint64_t oracle_tokens_ = 0;
  std::uint64_t chosen_tokens_ = 0;
  std::uint64_t seen_tokens_ = 0;
  std::vector<double> ttft_ms_;
  std::vector<double> e2e_ms_;
  std::vector<double> itl_ms_;
};

Result<void> CheckOptions(const Trace& trace, const TraceSimOptions& options) {
  const auto wrong = [](const char* name, const char* what) {
    return Fail(Code::kInvalidArgument, fmt::format("{}: {}", name, what), name);
  };
  if (trace.requests.empty() || trace.block_tokens == 0) {
    return wrong("trace", "has no requests, or blocks of no tokens");
  }
  if (options.workers == 0 || options.workers > kTraceWorkersMax) {
    return wrong("workers", "must be 1 to 16384");
  }
  if (options.prefill_workers >= options.workers && options.prefill_workers > 0) {
    return wrong("prefill-workers", "must be fewer than all workers: somebody has to answer");
  }
  if (!(options.transfer.bytes_per_second > 0) || options.transfer.latency < rt::Duration{}) {
    return wrong("transfer", "its speed must be above 0 and its latency not below 0");
  }
  if (options.copies == 0 || !(options.speed > 0)) {
    return wrong("speed", "speed and copies must be above 0");
  }
  if (Seconds(trace.requests.back().at) / options.speed > kSecondsMax) {
    return wrong("speed", "at this speed the trace takes years");
  }
  if (options.router.mode == router::RouterMode::kDirect) {
    return wrong("router-mode", "a trace's requests name no worker, so none can go direct");
  }
  return router::CheckPolicyConfig(options.router.policy);
}

}  // namespace

Result<TraceSimResult> RunTraceSim(const Trace& trace, const TraceSimOptions& options) {
  PX_CHECK_OK(CheckOptions(trace, options));
  TraceSim sim(trace, options);
  return sim.Run();
}

}  // namespace pixii::sim
