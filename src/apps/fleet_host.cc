#include "apps/fleet_host.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "apps/cluster_unit.h"
#include "apps/router_flags.h"
#include "control/instance_codec.h"

namespace pixii::apps {

namespace {

constexpr std::uint32_t kModelsRead = 256;  // whose texts wait to be read
constexpr rt::Duration kSweepPause = std::chrono::seconds(1);
// A model whose texts were not given is asked again so late.
constexpr rt::Duration kFetchPause = std::chrono::seconds(1);

void Add(frontend::FleetCounters& sum, const frontend::FleetCounters& one) {
  sum.moves_new_request += one.moves_new_request;
  sum.moves_ongoing += one.moves_ongoing;
  sum.moves_too_long += one.moves_too_long;
}

frontend::PrefillOptions PrefillOptionsOf(const FleetFlags& flags, const RouterFlags& router) {
  using frontend::LocalPrefillPolicy;
  const auto at = [](double share) { return share < 0 ? std::nullopt : std::optional(share); };
  return {
      .conditional = flags.conditional_disagg,
      .policy = flags.conditional_policy == "prefill_load"  ? LocalPrefillPolicy::kPrefillBusy
                : flags.conditional_policy == "isl_or_load" ? LocalPrefillPolicy::kEither
                                                            : LocalPrefillPolicy::kShort,
      .short_tokens = static_cast<std::uint32_t>(flags.conditional_isl),
      .short_ratio = flags.conditional_ratio,
      .prefill_busy_at = at(flags.conditional_prefill_busy < 0 ? router.queue_threshold
                                                               : flags.conditional_prefill_busy),
      .decode_busy_at = at(flags.conditional_decode_busy),
      .decode_first = flags.disaggregation_strategy == "decode_first",
      .fallback = flags.decode_fallback};
}

}  // namespace

control::MuxClientOptions FleetClientOptions(const FleetFlags& flags) {
  control::MuxClientOptions client;
  client.mux.name = "frontend";
  client.mux.dead_after = rt::Duration(flags.worker_dead_after);
  client.mux.ping_after = rt::Duration(flags.worker_dead_after) / 4;
  return client;
}

void FleetHost::Count::Add(const Fleet& fleet) {
  apps::Add(moves, fleet.link->counters());
  apps::Add(moves, fleet.prefill->counters());
  apps::Add(moves, fleet.encode->counters());
  for (std::size_t i = 0; i < paths.size(); ++i) {
    paths[i] += fleet.text->paths()[i];
  }
  const frontend::EncodeCounters& seen = fleet.whole->counters();
  pictures.encoded += seen.encoded;
  pictures.no_worker += seen.no_worker;
  pictures.missed += seen.missed;
}

FleetHost::FleetHost(ProcessUnit& process, rt::Net& net, HttpUnit& http, obs::Registry& registry,
                     Options options)
    : process_(process),
      net_(net),
      http_(http),
      registry_(registry),
      options_(std::move(options)),
      texts_pool_(process.loop(), "models", 1, kModelsRead) {
  registry_.OnExpose([this] { Export(); });
}

FleetHost::~FleetHost() {
  *alive_ = false;
  process_.loop().CancelTimer(sweep_);
  fleets_.clear();
}

void FleetHost::Watch(control::Discovery& discovery, std::string_view ns) {
  watch_ = discovery.Watch(
      ns, [this](const std::vector<control::MembershipChange>& changes) { OnChanges(changes); });
}

std::vector<frontend::ShownInstance> FleetHost::instances() const {
  std::vector<frontend::ShownInstance> out;
  for (const auto& [id, instance] : watch_->instances()) {
    out.push_back(Show(instance));
  }
  return out;
}

frontend::Placer* FleetHost::PlacerOf(frontend::ServiceId service) const {
  const auto found =
      std::ranges::find_if(fleets_, [&](const auto& one) { return one.second.service == service; });
  return found == fleets_.end() ? nullptr : found->second.link.get();
}

// A worker that serves others may do so for several versions: those that serve clients count.
const FleetHost::Fleet* FleetHost::FleetOf(const control::Instance& instance) const {
  const frontend::VersionKey own = frontend::VersionOf(instance);
  const Fleet* out = nullptr;
  for (const auto& [key, fleet] : fleets_) {
    const bool of =
        frontend::ServesClients(instance.role) ? key == own : frontend::Helps(instance, key);
    if (of && (out == nullptr || fleet.service)) {
      out = &fleet;
    }
  }
  return out;
}

frontend::ShownInstance FleetHost::Show(const control::Instance& instance) const {
  frontend::ShownInstance out{.instance = instance};
  if (!control::IsWorker(instance)) {
    return out;
  }
  const auto conflict = conflicts_.find(instance.id);
  const Fleet* const fleet = FleetOf(instance);
  if (fleet != nullptr) {
    for (const auto& [id, load] : fleet->of(instance.role).loads()) {
      if (id == instance.id) {
        out.load = load;
      }
    }
  }
  if (conflict != conflicts_.end()) {
    out.state = "excluded";
    out.reason = "config_conflict";
    out.detail = conflict->second;
  } else if (!options_.model.empty() && instance.card.name != options_.model) {
    out.state = "excluded";
    out.reason = "other_model";
  } else if (fleet == nullptr) {
    out.state = "excluded";
    out.reason = frontend::ServesClients(instance.role) ? "refused" : "no_client_requests";
  } else if (const std::string_view why = fleet->of(instance.role).WhyNot(instance.id);
             !why.empty()) {
    out.state = "unavailable";
    out.reason = why;
  } else if (!fleet->service) {
    out.state = "excluded";
    out.reason = "other_version";
  } else {
    out.state = "available";
  }
  return out;
}

void FleetHost::SayConflicts(std::map<control::InstanceId, std::string> conflicts) {
  for (const auto& [id, why] : conflicts) {
    const auto known = conflicts_.find(id);
    if (known == conflicts_.end() || known->second != why) {
      obs::Event(process_.log(), obs::EventId::kWorkerConflict)
          .kv("worker", fmt::format("{:x}", static_cast<std::uint64_t>(id)))
          .kv("reason", "config_conflict")
          .kv("why", why);
    }
  }
  for (const auto& [id, why] : conflicts_) {
    if (!conflicts.contains(id) && watch_->instances().contains(id)) {
      obs::Event(process_.log(), obs::EventId::kWorkerAgrees)
          .kv("worker", fmt::format("{:x}", static_cast<std::uint64_t>(id)));
    }
  }
  conflicts_ = std::move(conflicts);
}

// A state that nobody has any more stays, with nothing in it.
void FleetHost::ExportStates() {
  if (!watch_) {
    return;
  }
  std::map<std::tuple<std::string, std::string_view, std::string_view>, double> counts;
  for (const auto& [id, instance] : watch_->instances()) {
    if (control::IsWorker(instance)) {
      const frontend::ShownInstance shown = Show(instance);
      ++counts[{instance.card.name, shown.state, shown.reason}];
    }
  }
  std::erase_if(states_told_, [&](const auto& told) {
    const auto& [model, state, reason] = told;
    const bool is_gone = !counts.contains(told);
    if (is_gone) {
      registry_.Drop(obs::MetricId::kRouterWorkerState, {model, state, reason});
    }
    return is_gone;
  });
  for (const auto& [told, count] : counts) {
    const auto& [model, state, reason] = told;
    registry_.GetGauge(obs::MetricId::kRouterWorkerState, {model, state, reason}).Set(count);
    states_told_.insert(told);
  }
}

std::size_t FleetHost::worker_count() const {
  std::size_t out = 0;
  for (const auto& [key, fleet] : fleets_) {
    out += fleet.worker_count();
  }
  return out;
}

std::size_t FleetHost::outstanding_count() const {
  std::size_t out = 0;
  for (const auto& [key, fleet] : fleets_) {
    out += fleet.outstanding_count();
  }
  return out;
}

void FleetHost::OnChanges(const std::vector<control::MembershipChange>& changes) {
  for (const control::MembershipChange& change : changes) {
    if (!control::IsWorker(change.instance)) {
      if (options_.routing != nullptr) {
        options_.routing->OnChange(change);
      }
      continue;
    }
    if (change.kind != control::MembershipChange::Kind::kRemoved) {
      SetInstance(change.instance);
      continue;
    }
    versions_.RemoveInstance(change.instance.id);
    helpers_.erase(change.instance.id);
    for (auto& [key, fleet] : fleets_) {
      fleet.link->RemoveInstance(change.instance.id);
      fleet.prefill->RemoveInstance(change.instance.id);
      fleet.encode->RemoveInstance(change.instance.id);
    }
  }
  Settle();
}

void FleetHost::SetInstance(const control::Instance& instance) {
  if (!options_.model.empty() && instance.card.name != options_.model) {
    return;
  }
  const frontend::VersionKey key = frontend::VersionOf(instance);
  versions_.SetInstance(instance);
  if (!frontend::ServesClients(instance.role)) {
    helpers_.insert_or_assign(instance.id, instance);
    for (auto& [other, fleet] : fleets_) {
      if (frontend::Helps(instance, other)) {
        Take(fleet, instance);
      } else {
        fleet.of(instance.role).RemoveInstance(instance.id);
      }
    }
    return;
  }
  Fleet& fleet = fleets_[key];
  if (!fleet.link) {
    MakeFleet(instance.card, fleet);
    for (const auto& [id, helper] : helpers_) {
      if (frontend::Helps(helper, key)) {
        Take(fleet, helper);
      }
    }
  }
  if (!Take(fleet, instance)) {
    versions_.RemoveInstance(instance.id);
  }
}

bool FleetHost::Take(Fleet& fleet, const control::Instance& instance) {
  const Result<void> taken = fleet.of(instance.role).SetInstance(instance);
  if (!taken) {
    obs::Event(process_.log(), obs::EventId::kWorkerRefused)
        .kv("address", instance.address)
        .kv("why", taken.error().ToString());
  }
  return taken.has_value();
}

// Requests are handed to prefill workers by what those have cached, as by all that a router knows;
// who helps to choose helps with the others.
void FleetHost::MakeFleet(const wire::ModelCard& card, Fleet& fleet) {
  frontend::FleetOptions options = MakeFleetOptions(card.name);
  frontend::FleetOptions prefill = MakeFleetOptions(card.name);
  prefill.registry = nullptr;               // those series are of the workers that answer
  prefill.patience = rt::Duration::zero();  // who decodes can compute the prompt, too
  prefill.adopts_block_size = true;
  if (options_.routing != nullptr) {
    options_.routing->Prepare(card, options);
  }
  fleet.link =
      std::make_shared<frontend::FleetLink>(process_.loop(), net_, card, std::move(options));
  fleet.prefill =
      std::make_shared<frontend::FleetLink>(process_.loop(), net_, card, std::move(prefill));
  fleet.text = std::make_shared<frontend::PrefillLink>(
      process_.loop(), *fleet.prefill, *fleet.link,
      PrefillOptionsOf(options_.fleet, options_.router), &process_.log());
  fleet.encode = std::make_shared<frontend::FleetLink>(process_.loop(), net_, card,
                                                       MakeEncodeOptions(card.name));
  fleet.whole = std::make_shared<frontend::EncodeLink>(process_.loop(), *fleet.encode, *fleet.text,
                                                       &process_.log());
  if (options_.routing != nullptr) {
    options_.routing->Begin(*fleet.link);
  }
}

// A picture's first worker is chosen by what it is; routers know nothing of towers.
frontend::FleetOptions FleetHost::MakeEncodeOptions(std::string_view model) {
  frontend::FleetOptions options = MakeFleetOptions(model);
  options.router = {};
  options.registry = nullptr;               // those series are of the workers that answer
  options.patience = rt::Duration::zero();  // who computes the prompt can look at it, too
  options.flight.moves_max = std::min(options.flight.moves_max, 1U);
  options.adopts_block_size = true;
  return options;
}

void FleetHost::OnConnection(control::InstanceId instance, bool connected) {
  watch_->SetConnected(instance, connected);
  SettleLater();
}

// Not inside a call of a fleet, which is about to know more.
void FleetHost::SettleLater() {
  if (std::exchange(settling_, true)) {
    return;
  }
  process_.loop().Post([this, alive = std::weak_ptr<bool>(alive_)] {
    if (const auto here = alive.lock(); here && *here) {
      settling_ = false;
      Settle();
    }
  });
}

// Brings what is served in line with what there is.
void FleetHost::Settle() {
  const frontend::VersionChoice choice = versions_.Choose([this](const frontend::VersionKey& key) {
    const auto found = fleets_.find(key);
    return found == fleets_.end()
               ? frontend::VersionState{}
               : frontend::VersionState{.ready = found->second.texts.has_value(),
                                        .trouble = found->second.trouble,
                                        .workers = found->second.link->worker_count()};
  });
  for (auto& [key, fleet] : fleets_) {
    const auto chosen = choice.serving.find(key.name);
    if (fleet.service && (chosen == choice.serving.end() || chosen->second != key)) {
      http_.frontend().Retire(*std::exchange(fleet.service, std::nullopt));
      if (chosen == choice.serving.end()) {
        const auto pending = choice.pending.find(key.name);
        obs::Event(process_.log(), obs::EventId::kModelGone)
            .kv("model", key.name)
            .kv("fingerprint", key.fingerprint)
            .kv("why", pending == choice.pending.end() ? "no worker of it is left"
                                                       : std::string_view(pending->second));
      }
    }
  }
  for (auto& [key, fleet] : fleets_) {
    const auto chosen = choice.serving.find(key.name);
    if (!fleet.service && chosen != choice.serving.end() && chosen->second == key) {
      Serve(key, fleet);
    }
    if (!fleet.texts && !fleet.fetching && fleet.link->worker_count() > 0) {
      Fetch(key, fleet);
    }
  }
  http_.frontend().SetPending(choice.pending);
  SayConflicts(choice.conflicts);
  SweepLater();
}

void FleetHost::Serve(const frontend::VersionKey& key, Fleet& fleet) {
  frontend::ServedModel served = *fleet.texts;
  served.media_bytes_max = frontend::kMediaBytesMax;
  Result<frontend::ServiceId> service = http_.Serve(std::move(served), fleet.whole);
  if (!service) {
    fleet.texts.reset();
    fleet.trouble = service.error().detail();
    fleet.fetching = true;  // it would be the same again
  } else {
    fleet.service = *service;
  }
  obs::Event(process_.log(), service ? obs::EventId::kModelServed : obs::EventId::kModelRefused)
      .kv("model", key.name)
      .kv("fingerprint", key.fingerprint)
      .kv("why", service ? "" : service.error().ToString());
}

void FleetHost::Fetch(const frontend::VersionKey& key, Fleet& fleet) {
  fleet.fetching = true;
  fleet.link->FetchFiles([this, key,
                          alive = std::weak_ptr<bool>(alive_)](Result<wire::ModelFiles> files) {
    const auto here = alive.lock();
    if (!here || !*here) {
      return;
    }
    if (!files) {
      TakeTexts(key, Fail(files.error()));
      return;
    }
    auto read = std::make_shared<Result<frontend::ServedModel>>(Fail(Code::kInternal, "not read"));
    const bool taken = texts_pool_.Submit(
        [read, files = std::move(*files), name = key.name] { *read = ServedModelOf(files, name); },
        [this, read, key] { TakeTexts(key, std::move(*read)); });
    if (!taken) {
      TakeTexts(key, Fail(Code::kResourceExhausted, "too many models came at once"));
    }
  });
}

void FleetHost::TakeTexts(const frontend::VersionKey& key, Result<frontend::ServedModel> texts) {
  const auto found = fleets_.find(key);
  if (found == fleets_.end()) {
    return;
  }
  Fleet& fleet = found->second;
  if (texts) {
    fleet.fetching = false;
    fleet.texts = std::move(*texts);
    fleet.texts->created = process_.loop().WallNow().unix_seconds;
    SettleLater();
    return;
  }
  if (texts.error().code() != Code::kDisconnected) {
    fleet.trouble = texts.error().detail();
    obs::Event(process_.log(), obs::EventId::kModelRefused)
        .kv("model", key.name)
        .kv("fingerprint", key.fingerprint)
        .kv("why", texts.error().ToString());
  }
  process_.loop().RunAt(process_.loop().Now() + kFetchPause,
                        [this, key, alive = std::weak_ptr<bool>(alive_)] {
                          const auto here = alive.lock();
                          const auto again = here && *here ? fleets_.find(key) : fleets_.end();
                          if (again != fleets_.end()) {
                            again->second.fetching = false;
                            Settle();
                          }
                        });
}

void FleetHost::SweepLater() {
  const bool any =
      std::ranges::any_of(fleets_, [this](const auto& one) { return !versions_.Knows(one.first); });
  if (any && sweep_ == rt::TimerId::kNone) {
    sweep_ = process_.loop().RunAt(process_.loop().Now() + kSweepPause, [this] {
      sweep_ = rt::TimerId::kNone;
      Sweep();
    });
  }
}

// Fleets without workers whose last request has ended.
void FleetHost::Sweep() {
  std::erase_if(fleets_, [this](const auto& one) {
    const auto& [key, fleet] = one;
    const bool over = !versions_.Knows(key) && fleet.outstanding_count() == 0;
    if (over) {
      gone_[key.name].Add(fleet);
    }
    return over;
  });
  std::erase_if(gone_, [this](const auto& sum) {  // whose series are gone, too
    return std::ranges::none_of(fleets_,
                                [&](const auto& one) { return one.first.name == sum.first; });
  });
  SweepLater();
}

frontend::FleetOptions FleetHost::MakeFleetOptions(std::string_view model) {
  const FleetFlags& flags = options_.fleet;
  frontend::FleetOptions options;
  options.flight.moves_max = static_cast<std::uint32_t>(flags.migration_limit);
  options.flight.tokens_max = static_cast<std::uint32_t>(flags.migration_max_seq_len);
  options.patience = rt::Duration(flags.migration_patience);
  options.client = FleetClientOptions(flags);
  options.router = RouterOptionsOf(options_.router);
  options.plane = options_.plane == nullptr ? nullptr : &options_.plane->plane();
  options.router.policy = options_.policies.For(model);
  options.log = &process_.log();
  options.registry = &registry_;
  options.seed = process_.loop().random().Next();
  options.on_connection = [this](control::InstanceId instance, bool connected) {
    OnConnection(instance, connected);
  };
  options.on_going_away = [this](control::InstanceId instance) { watch_->SetGoingAway(instance); };
  options.on_workers = [this] { SettleLater(); };  // one that was away, or not healthy yet
  return options;
}

void FleetHost::Export() {
  using obs::MetricId;
  Counters counters = gone_;
  std::map<std::string, std::size_t> workers;
  std::size_t in_flight = 0;
  std::size_t queued = 0;
  for (const auto& [key, fleet] : fleets_) {
    fleet.link->ExportMetrics();
    in_flight += fleet.link->outstanding_count();
    const router::RequestQueue& queue = fleet.link->router().queue();
    for (std::size_t i = 0; i < queue.class_count(); ++i) {
      queued += queue.counts(i).requests;
    }
    counters[key.name].Add(fleet);
    workers[key.name] += fleet.link->worker_count();
  }
  for (const auto& [model, sum] : counters) {
    registry_.GetCounter(MetricId::kModelMigrationTotal, {model, "new_request"})
        .SetTotal(sum.moves.moves_new_request);
    registry_.GetCounter(MetricId::kModelMigrationTotal, {model, "ongoing_request"})
        .SetTotal(sum.moves.moves_ongoing);
    registry_.GetCounter(MetricId::kModelMigrationMaxSeqLenExceededTotal, {model})
        .SetTotal(sum.moves.moves_too_long);
    for (std::size_t i = 0; i < sum.paths.size(); ++i) {
      registry_
          .GetCounter(MetricId::kDisaggregationTotal,
                      {model, frontend::NameOf(static_cast<frontend::PrefillPath>(i))})
          .SetTotal(sum.paths[i]);
    }
    const auto pictures = [&, &name = model](const char* path, std::uint64_t value) {
      registry_.GetCounter(MetricId::kEncodeTotal, {name, path}).SetTotal(value);
    };
    pictures("encode", sum.pictures.encoded);
    pictures("local_no_worker", sum.pictures.no_worker);
    pictures("fallback", sum.pictures.missed);
    registry_.GetGauge(MetricId::kModelMigrationLimit, {model})
        .Set(static_cast<double>(options_.fleet.migration_limit));
    registry_.GetGauge(MetricId::kModelWorkers, {model}).Set(static_cast<double>(workers[model]));
  }
  registry_.GetGauge(MetricId::kRequestPlaneInflight).Set(static_cast<double>(in_flight));
  registry_.GetGauge(MetricId::kStageRequests, {"route", ""}).Set(static_cast<double>(queued));
  if (options_.plane != nullptr) {
    options_.plane->Export(registry_);
  }
  ExportStates();
  http_.Export(registry_);
  registry_.GetCounter(MetricId::kErrorEventsTotal).SetTotal(process_.log().error_count());
}

}  // namespace pixii::apps
