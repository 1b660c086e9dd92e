#include "apps/engine_unit.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "apps/logits_processors.h"
#include "apps/mock_engine.h"
#include "apps/model_source.h"
#include "apps/version.h"
#include "rt/process.h"

namespace pixii::apps {

namespace {

constexpr rt::Duration kLoadingPeriod = std::chrono::seconds(1);

Result<std::string> WithRevision(const std::string& model, const std::string& revision) {
  if (revision.empty()) {
    return model;
  }
  if (model.find('@') != std::string::npos) {
    return Fail(Code::kInvalidArgument,
                fmt::format("revision: \"{}\" names one already, --revision {} is a second", model,
                            revision),
                "revision");
  }
  return fmt::format("{}@{}", model, revision);
}

}  // namespace

Result<std::unique_ptr<EngineUnit>> EngineUnit::Load(rt::Loop& loop, obs::Log& log,
                                                     EngineUnitOptions options,
                                                     const std::string& model) {
  std::unique_ptr<EngineUnit> unit(
      new EngineUnit(loop, log, std::move(options)));  // tidy: new the constructor is private
  PX_CHECK_OK(unit->LoadModel(model));
  return unit;
}

EngineUnit::~EngineUnit() {
  link_.reset();
  if (thread_) {
    engine_loop_->Stop();
    thread_->Join();
  }
  engine_.reset();
}

void EngineUnit::Start() {
  thread_.emplace("engine", [this] { engine_loop_->Run(); });
}

Result<void> EngineUnit::LoadModel(const std::string& model) {
  rt::Time began = loop_.Now();
  loading_said_ = began;
  PX_TRY(std::string asked, WithRevision(model, options_.model.revision));
  PX_TRY(ModelSource source, ResolveModel(asked, options_.offline));
  folder_ = source.folder;
  obs::Event(log_, obs::EventId::kServeStarting)
      .kv("model", source.folder)
      .kv("version", kVersion)
      .kv("commit", kCommit);
  PX_CHECK_OK(LoadHost());
  name_ = options_.model.served_model_name.empty() ? source.name : options_.model.served_model_name;
  PX_TRY(frontend::ServedModel served, LoadTexts());
  served.created = loop_.WallNow().unix_seconds;
  PX_CHECK_OK(AddTestProcessor(host_->spec().eos_token_ids, host_->processors(), served));
  host_->UseGrammars(served.grammars);
  served_ = std::move(served);
  PX_TRY(std::unique_ptr<engine::Engine> engine, host_->MakeEngine());
  PX_TRY(engine_loop_, rt::MakeLoop());
  engine_.emplace(*engine_loop_, std::move(engine));
  worker::LocalLinkOptions link_options;
  link_options.name = name_;
  link_options.eos_token_ids = host_->spec().eos_token_ids;
  link_options.on_state = [this](engine::EngineState state) { SaySleep(state); };
  link_options.bos_token_id = host_->spec().bos_token_id;
  link_options.adapters = host_->MakeAdapterLink();
  if (link_options.adapters.read) {
    link_options.adapters.read = Logged(std::move(link_options.adapters.read));
  }
  link_.emplace(loop_, *engine_, std::move(link_options));
  PX_CHECK_OK(CheckAdapterNames());
  const wire::ModelCard& card = link_->card();
  obs::Event(log_, obs::EventId::kModelLoaded)
      .kv("architecture", host_->spec().architecture)
      .kv("parameters", host_->spec().parameter_count)
      .kv("numerics_id", host_->numerics_id())
      .kv("context_tokens", card.context_tokens_max)
      .kv("kv_blocks", card.block_count)
      .kv("seconds", std::chrono::duration<double>(loop_.Now() - began).count());
  return {};
}

Result<void> EngineUnit::LoadHost() {
  PX_TRY(const std::optional<engine::MockOptions> mock,
         MockOptionsOf(options_.mock, options_.engine));
  if (mock) {
    obs::Event(log_, obs::EventId::kEngineMocked).kv("model", folder_);
    PX_TRY(host_, ModelHost::LoadMock(folder_, options_.engine, *mock));
    return {};
  }
  PX_TRY(host_,
         ModelHost::Load(folder_, options_.engine, [this](double done) { SayLoading(done); }));
  return {};
}

// At most once a second: small models are there before anybody could read it.
void EngineUnit::SayLoading(double done) {
  const rt::Time now = loop_.Now();
  if (now - loading_said_ < kLoadingPeriod) {
    return;
  }
  loading_said_ = now;
  obs::Event(log_, obs::EventId::kModelLoading).kv("percent", static_cast<int>(done * 100));
}

// Tokenizer and template of the model, or those that --tokenizer names.
Result<frontend::ServedModel> EngineUnit::LoadTexts() const {
  if (options_.model.tokenizer.empty()) {
    return LoadServedModel(folder_, host_->spec(), name_);
  }
  PX_TRY(ModelSource source, ResolveModel(options_.model.tokenizer, options_.offline));
  PX_TRY(frontend::ServedModel served, LoadServedModel(source.folder, host_->spec(), name_));
  if (!served.text) {
    return Fail(Code::kNotFound, fmt::format("tokenizer: {} has no tokenizer.json", source.folder),
                "tokenizer");
  }
  return served;
}

/// Said by whichever thread reads.
worker::AdapterLinkOptions::Reader EngineUnit::Logged(worker::AdapterLinkOptions::Reader read) {
  return [this, read = std::move(read)](const std::string& source) {
    auto weights = read(source);
    if (weights) {
      obs::Event(log_, obs::EventId::kAdapterRead)
          .kv("source", source)
          .kv("bytes", (*weights)->size_bytes());
    } else {
      obs::Event(log_, obs::EventId::kAdapterRefused)
          .kv("source", source)
          .kv("why", weights.error().ToString());
    }
    return weights;
  };
}

// Such an adapter could never be asked for.
Result<void> EngineUnit::CheckAdapterNames() const {
  const auto& adapters = link_->card().adapters;
  const auto found = std::ranges::find(adapters, name_, &wire::AdapterCard::name);
  if (found == adapters.end()) {
    return {};
  }
  const std::string flag = found->is_loaded() ? "lora" : "lora-dir";
  return Fail(Code::kInvalidArgument,
              fmt::format("{}: the adapter {} in {} has the model's own name; rename it, or give "
                          "the model another with --served-model-name",
                          flag, name_, found->source),
              flag);
}

// The engine's counters change on its own thread; the last step's figures come with its frames.
void EngineUnit::Export(obs::Registry& registry) const {
  using obs::MetricId;
  const engine::EngineLoad& load = link_->engine_load();
  auto total = [&](MetricId id, std::uint64_t value) {
    registry.GetCounter(id, {name_}).SetTotal(value);
  };
  auto now = [&](MetricId id, double value) { registry.GetGauge(id, {name_}).Set(value); };
  total(MetricId::kEngineStepsTotal, load.steps);
  total(MetricId::kEngineDecodeTokensTotal, load.engine.sampled_tokens);
  total(MetricId::kEnginePreemptionsTotal, load.scheduler.preemptions);
  total(MetricId::kEngineSwappedOutBlocksTotal, load.scheduler.swapped_out_blocks);
  total(MetricId::kEngineSwappedInBlocksTotal, load.scheduler.swapped_in_blocks);
  total(MetricId::kEngineSwapRefusalsTotal, load.scheduler.swap_refusals);
  total(MetricId::kEngineSwapFailuresTotal, load.scheduler.swap_failures);
  total(MetricId::kEnginePrefixWaitsTotal, load.scheduler.prefix_waits);
  total(MetricId::kEngineStepsAheadTotal, load.engine.steps_ahead);
  total(MetricId::kEngineRetriedChunksTotal, load.engine.retried_chunks);
  total(MetricId::kEngineExpiredRequestsTotal, load.engine.expired_requests);
  total(MetricId::kEnginePrefixHitTokensTotal, load.scheduler.cached_tokens);
  total(MetricId::kEngineDraftsTotal, load.engine.drafts);
  total(MetricId::kEngineDraftedTokensTotal, load.engine.drafted_tokens);
  total(MetricId::kEngineAcceptedTokensTotal, load.engine.accepted_tokens);
  now(MetricId::kEngineAsleep, load.state == engine::EngineState::kAsleep ? 1 : 0);
  total(MetricId::kEngineFaultsTotal, load.engine.failed_requests);
  total(MetricId::kAdapterEvictionsTotal, load.adapter_evictions);
  now(MetricId::kAdaptersLoaded, load.adapters_loaded);
  now(MetricId::kAdaptersResident, load.adapters_resident);
  total(MetricId::kKvEvictionsTotal, load.blocks.evictions);
  total(MetricId::kKvCollisionsTotal, load.blocks.collisions);
  now(MetricId::kEngineRunning, load.running);
  now(MetricId::kEngineWaiting, load.queued);
  now(MetricId::kEngineBlocksPinned, load.blocks_used);
  now(MetricId::kEngineBlocksCached, load.blocks_cached);
  now(MetricId::kEngineBlocksFree, load.blocks_total - load.blocks_used - load.blocks_cached);
  ExportProcessors(registry);
  registry.GetCounter(MetricId::kErrorEventsTotal).SetTotal(log_.error_count());
}

void EngineUnit::ExportProcessors(obs::Registry& registry) const {
  using obs::MetricId;
  const engine::ProcessorSet& processors = host_->processors();
  for (std::size_t i = 0; i < processors.size(); ++i) {
    const engine::ProcessorCounters& counters = processors.counters(i);
    auto total = [&](MetricId id, std::uint64_t value) {
      registry.GetCounter(id, {name_, processors.name(i)}).SetTotal(value);
    };
    total(MetricId::kLogitsProcessorRowsTotal, counters.rows.load(std::memory_order_relaxed));
    total(MetricId::kLogitsProcessorFailuresTotal,
          counters.failures.load(std::memory_order_relaxed));
    total(MetricId::kLogitsProcessorMicrosecondsTotal,
          counters.nanoseconds.load(std::memory_order_relaxed) / 1000);
  }
}

void EngineUnit::SaySleep(engine::EngineState state) {
  using engine::EngineState;
  Result<rt::ProcessUsage> usage = rt::ReadProcessUsage();
  obs::Event(log_, state == EngineState::kAwake    ? obs::EventId::kEngineAwake
                   : state == EngineState::kAsleep ? obs::EventId::kEngineAsleep
                                                   : obs::EventId::kEngineDraining)
      .kv("resident_bytes", usage ? usage->resident_bytes : 0);
}

void EngineUnit::DumpState(std::size_t requests, std::size_t connections) const {
  const engine::EngineLoad& load = link_->engine_load();
  obs::Event(log_, obs::EventId::kStateDump)
      .kv("requests", requests)
      .kv("connections", connections)
      .kv("running", load.running)
      .kv("waiting", load.queued)
      .kv("blocks_pinned", load.blocks_used)
      .kv("blocks_cached", load.blocks_cached)
      .kv("blocks_total", load.blocks_total)
      .kv("steps", load.steps)
      .kv("preemptions", load.scheduler.preemptions);
}

}  // namespace pixii::apps
