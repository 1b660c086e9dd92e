#include "sim/processes.h"

#include <fmt/format.h>

#include <utility>

#include "control/instance_codec.h"
#include "sim/mock_fleet.h"
#include "transport/transfer_agent.h"

namespace pixii::sim {

namespace {

constexpr rt::Duration kDrainPoll = std::chrono::milliseconds(5);
constexpr rt::Duration kFetchPause = std::chrono::seconds(1);  // as apps/fleet_host
constexpr std::size_t kStandingCalls = 2;  // of a connection: its reports and its KV events

// What moves blocks of an engine on this loop.
Result<std::unique_ptr<kv::HandoverConnector>> MakeHandover(rt::Loop& loop, const WorkerSetup& own,
                                                            const ClusterSetup& setup) {
  const engine::MockExecutor mock(own.mock.mock);
  kv::HandoverOptions options;
  options.key = own.mock.options.identity_key;
  options.geometry = {.block_count = own.mock.mock.limits.block_count,
                      .block_tokens = own.mock.mock.limits.block_tokens,
                      .slices = mock.block_slices(),
                      .layout = mock.block_layout(),
                      .model_fingerprint = own.mock.options.model_fingerprint,
                      .numerics_id = own.mock.options.numerics_id,
                      .kv_dtype = own.mock.options.kv_dtype};
  options.geometry.block_size_bytes = options.geometry.slices.front();
  options.timeout = own.lease;
  options.pipelined = own.pipelined;
  options.log = setup.log;
  options.loop = &loop;
  return kv::HandoverConnector::Create(
      std::move(options),
      [exchange = setup.exchange](
          rt::Loop& on, rt::Function<void()> wake) -> Result<std::unique_ptr<transport::Agent>> {
        transport::AgentOptions agent;
        agent.wake = std::move(wake);
        std::vector<transport::TransportFactory> transports;
        transports.push_back(exchange->factory());
        PX_TRY(auto made,
               transport::TransferAgent::Create(on, std::move(agent), std::move(transports)));
        return std::unique_ptr<transport::Agent>(std::move(made));
      });
}

}  // namespace

Result<std::unique_ptr<WorkerProcess>> WorkerProcess::Start(rt::SimWorld& world,
                                                            const std::string& host,
                                                            const WorkerSetup& own,
                                                            const ClusterSetup& setup) {
  rt::SimNode& node = world.AddNode(host);
  rt::SimNode& engine_node = world.AddNode(host + ".engine");
  std::unique_ptr<kv::HandoverConnector> handover;
  if (own.role != control::WorkerRole::kAggregated) {
    PX_TRY(handover, MakeHandover(engine_node.loop(), own, setup));
  }
  kv::HandoverConnector* const raw_handover = handover.get();
  PX_TRY(std::unique_ptr<engine::Engine> engine, MakeFleetEngine(own.mock, std::move(handover)));
  for (rt::SimNode* one : {&node, &engine_node}) {
    one->SetClock(own.clock.rate, own.clock.wall_offset);
  }
  auto worker = std::make_unique<WorkerProcess>(world, node, engine_node, std::move(engine),
                                                raw_handover, own, setup);
  PX_TRY(const rt::Address bound, worker->service_->Start({.host = "0.0.0.0", .port = kPort}));
  control::Instance instance;
  instance.id = worker->instance_;
  instance.address = rt::Address{.host = host, .port = bound.port}.ToString();
  instance.card = worker->link_.card();
  instance.role = own.role;
  PX_TRY(worker->registration_, worker->discovery_.Register(std::move(instance)));
  return worker;
}

WorkerProcess::WorkerProcess(rt::SimWorld& world, rt::SimNode& node, rt::SimNode& engine_node,
                             std::unique_ptr<engine::Engine> engine,
                             kv::HandoverConnector* handover, const WorkerSetup& own,
                             const ClusterSetup& setup)
    : node_(node),
      engine_node_(engine_node),
      raw_engine_(engine.get()),
      handover_(handover),
      role_(own.role),
      discovery_(node.loop(), std::make_unique<control::MemStore>(node.loop(), setup.hub),
                 setup.discovery),
      instance_(discovery_.NewInstanceId()),
      engine_(engine_node.loop(), std::move(engine)),
      link_(node.loop(), engine_, {.name = "sim", .eos_token_ids = setup.eos_token_ids}),
      watched_(link_, [&world] { return world.now(); }, setup.on_poison) {
  worker::WorkerServiceOptions options;
  options.mux = setup.mux;
  options.mux.name = control::InstanceName(instance_);
  options.files = [] { return Result<wire::ModelFiles>(wire::ModelFiles{}); };
  options.kv_log = own.kv_log;
  options.stream_bytes_max = own.stream_bytes_max;
  options.health = own.health;
  options.report_period = own.report_period;
  watched_.OnRequest([on_request = setup.on_request, id = instance_](const auto& request) {
    on_request(id, request);
  });
  if (Raw(instance_) % 2 == 0) {
    watched_.EndLate(node.loop());
  }
  control::WorkerLink* served = &watched_;
  if (handover_ != nullptr) {
    keeper_.emplace(node.loop(), *handover_);
    served = &handover_link_.emplace(node.loop(), watched_, *keeper_);
  }
  service_.emplace(node.loop(), node.net(), *served, std::move(options));
}

void WorkerProcess::Kill() {
  alive_ = false;
  node_.Kill();
  engine_node_.Kill();
}

void WorkerProcess::Vanish() {
  alive_ = false;
  node_.Vanish();
  engine_node_.Vanish();
}

void WorkerProcess::Sleep(rt::Duration patience, rt::Duration time) {
  const control::MemoryTags kv_cache{.kv_cache = true, .weights = false};
  node_.loop().Post([this, kv_cache, patience, time] {
    watched_.ReleaseMemory(kv_cache, patience, [](const Result<void>&) {});
    node_.loop().RunAt(node_.loop().Now() + time, [this, kv_cache] {
      watched_.ResumeMemory(kv_cache, [](const Result<void>&) {});
    });
  });
}

void WorkerProcess::Freeze(rt::Time until) {
  node_.Freeze(until);
  engine_node_.Freeze(until);
}

void WorkerProcess::Stall(rt::Time until) { engine_node_.Freeze(until); }

void WorkerProcess::Drain(rt::Duration patience) {
  draining_ = true;
  node_.loop().Spawn(DrainAndStop(patience));
}

rt::Task<void> WorkerProcess::DrainAndStop(rt::Duration patience) {
  registration_->Drain();
  service_->Drain();
  const rt::Time deadline = node_.loop().Now() + patience;
  while (service_->request_count() > 0 && node_.loop().Now() < deadline) {
    auto pause = node_.loop().SleepFor(kDrainPoll);
    co_await std::move(pause);
  }
  link_.Close(Error(Code::kShuttingDown, "the worker ends"));
  discovery_.Close([this] { node_.loop().Stop(); });
}

void WorkerProcess::End() {
  registration_.reset();
  service_.reset();
  Kill();
}

std::set<std::uint64_t> WorkerProcess::FindableBlocks() const {
  raw_engine_->ResyncKvEvents();
  kv::CacheChanges changes;
  raw_engine_->DrainKvEvents(changes);
  std::set<std::uint64_t> blocks;
  for (const kv::CacheEvent& event : changes.events) {
    if (event.kind == kv::CacheEvent::Kind::kStored) {
      blocks.insert(event.chain_hash);
    }
  }
  return blocks;
}

std::optional<std::string> WorkerProcess::Check() const {
  raw_engine_->CheckInvariants();
  const engine::EngineLoad now = load();
  if (now.running + now.queued > engine_.sequence_count_max()) {
    return fmt::format("{}: {} sequences run and {} wait, at most {} may", host(), now.running,
                       now.queued, engine_.sequence_count_max());
  }
  return std::nullopt;
}

std::optional<std::string> WorkerProcess::Held() const {
  const std::uint32_t pinned = raw_engine_->cache().pool().pinned_count();
  const std::size_t kept = handover_link_ ? handover_link_->outstanding_count() : 0;
  std::uint64_t moving = 0;
  if (handover_ != nullptr) {
    const kv::HandoverCounters& counters = handover_->counters();
    moving =
        counters.offers + counters.loads_running + counters.chunks_running + counters.staging_bytes;
  }
  if (service_->request_count() == 0 && link_.outstanding_count() == 0 &&
      raw_engine_->request_count() == 0 && pinned == 0 && kept + moving == 0 &&
      service_->call_count() <= kStandingCalls * service_->connection_count()) {
    return std::nullopt;
  }
  return fmt::format(
      "{}: {} requests served, {} in the link, {} in the engine, {} pinned blocks, {} prompts "
      "kept, "
      "{} offers, loads, credits and staging bytes, {} calls of {} connections",
      host(), service_->request_count(), link_.outstanding_count(), raw_engine_->request_count(),
      pinned, kept, moving, service_->call_count(), service_->connection_count());
}

void WorkerProcess::CountLeft(std::map<std::string, std::uint64_t>& counts) const {
  counts["requests of workers"] += service_->request_count() + raw_engine_->request_count();
  counts["pinned blocks"] += raw_engine_->cache().pool().pinned_count();
  if (handover_ != nullptr) {
    const kv::HandoverCounters& counters = handover_->counters();
    counts["prompts kept"] += handover_link_->outstanding_count();
    counts["leases"] += counters.offers;
    counts["loads"] += counters.loads_running;
    counts["credits"] += counters.chunks_running;
    counts["staging bytes"] += counters.staging_bytes;
  }
}

FrontendProcess::FrontendProcess(rt::SimNode& node, std::string name, const ClusterSetup& setup,
                                 frontend::FleetOptions fleet, frontend::PrefillOptions prefill,
                                 frontend::FrontendOptions options)
    : node_(node),
      fleet_options_(std::move(fleet)),
      prefill_options_(prefill),
      options_(std::move(options)),
      discovery_(node.loop(), std::make_unique<control::MemStore>(node.loop(), setup.hub),
                 setup.discovery) {
  fleet_options_.client.mux = setup.mux;
  fleet_options_.client.mux.name = std::move(name);
  fleet_options_.on_going_away = [this](control::InstanceId instance) {
    watch_->SetGoingAway(instance);
  };
  fleet_options_.on_workers = [this] { node_.loop().Post([this] { FetchTexts(); }); };
  fleet_options_.on_connection = [this](control::InstanceId instance, bool connected) {
    watch_->SetConnected(instance, connected);
  };
  watch_ = discovery_.Watch(
      "", [this](const std::vector<control::MembershipChange>& changes) { OnChanges(changes); });
}

void FrontendProcess::OnChanges(const std::vector<control::MembershipChange>& changes) {
  for (const control::MembershipChange& change : changes) {
    if (!fleet_) {
      MakeFleets(change.instance.card);
    }
    const bool prefills = change.instance.role == control::WorkerRole::kPrefill;
    frontend::FleetLink& fleet = prefills ? *prefill_ : *fleet_;
    if (change.kind == control::MembershipChange::Kind::kRemoved) {
      fleet_->RemoveInstance(change.instance.id);
      prefill_->RemoveInstance(change.instance.id);
    } else {
      (void)fleet.SetInstance(
          change.instance);  // all serve the same; a lack shows as a worker too few
    }
  }
}

// As apps/fleet_host.
void FrontendProcess::MakeFleets(const wire::ModelCard& card) {
  fleet_.emplace(node_.loop(), node_.net(), card, fleet_options_);
  frontend::FleetOptions prefill = fleet_options_;
  prefill.patience = rt::Duration::zero();
  prefill_.emplace(node_.loop(), node_.net(), card, std::move(prefill));
  whole_.emplace(node_.loop(), *prefill_, *fleet_, prefill_options_, nullptr);
}

// As the command: asked again until somebody gives them.
void FrontendProcess::FetchTexts() {
  if (frontend_ || fetching_ || fleet_->worker_count() == 0) {
    return;
  }
  fetching_ = true;
  fleet_->FetchFiles([this](const Result<wire::ModelFiles>& files) {
    if (files) {
      return Serve();
    }
    node_.loop().RunAt(node_.loop().Now() + kFetchPause, [this] {
      fetching_ = false;
      FetchTexts();
    });
  });
}

void FrontendProcess::Serve() {
  frontend::ServedModel model;
  model.names = {"sim"};
  frontend_ = std::make_unique<frontend::Frontend>(
      frontend::FrontendEnvironment{.loop = node_.loop(), .net = node_.net()}, options_,
      frontend::ApiKeys());
  frontend_->Serve(std::move(model), *whole_);
  (void)frontend_->Start({.host = "0.0.0.0", .port = kPort});  // failed: it never becomes ready
}

}  // namespace pixii::sim
