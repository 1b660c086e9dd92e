#include "apps/engine_unit.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "apps/logits_processors.h"
#include "apps/mock_engine.h"
#include "apps/model_source.h"
#include "apps/progress_bar.h"
#include "apps/transfer_agent_maker.h"
#include "apps/version.h"
#include "rt/process.h"

namespace pixii::apps {

namespace {

constexpr rt::Duration kLoadingPeriod = std::chrono::seconds(1);

}  // namespace

Result<std::unique_ptr<EngineUnit>> EngineUnit::Load(rt::Loop& loop, obs::Log& log,
                                                     EngineUnitOptions options,
                                                     const std::string& model) {
  std::unique_ptr<EngineUnit> unit = Make(loop, log, std::move(options));
  PX_CHECK_OK(unit->Prepare(model));
  PX_CHECK_OK(unit->Connect());
  return unit;
}

std::unique_ptr<EngineUnit> EngineUnit::Make(rt::Loop& loop, obs::Log& log,
                                             EngineUnitOptions options) {
  return std::unique_ptr<EngineUnit>(
      new EngineUnit(loop, log, std::move(options)));  // tidy: new the constructor is private
}

EngineUnit::~EngineUnit() {
  link_.reset();
  for (std::size_t rank = 0; rank < threads_.size(); ++rank) {
    engine_loops_[rank]->Stop();
  }
  threads_.clear();
  engines_.clear();
}

void EngineUnit::Start() {
  for (const std::unique_ptr<rt::Loop>& loop : engine_loops_) {
    threads_.emplace_back("engine", [&loop = *loop] { loop.Run(); });
  }
}

Result<void> EngineUnit::Prepare(const std::string& model) {
  PX_CHECK_OK(CheckTransfer(options_.engine));
  began_ = loop_.Now();
  loading_said_ = began_;
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
  for (std::uint32_t rank = 0; rank < host_->rank_count(); ++rank) {
    PX_CHECK_OK(AddTestProcessor(host_->spec().eos_token_ids, host_->processors(rank), served));
    if (options_.processor) {
      PX_CHECK_OK(host_->processors(rank).Add(options_.processor(), {}));
    }
  }
  pooling_ = served.pooling;
  host_->UseGrammars(served.grammars);
  served_ = std::move(served);
  PX_CHECK_OK(CheckRemoteStore(options_.engine, options_.cluster_key));
  host_->UseClusterKey(options_.cluster_key);
  if (options_.shared_blocks) {
    host_->ShareBlocks();
  }
  for (const ModelHost::ConnectorMaker& maker : options_.connectors) {
    host_->UseConnector(maker);
  }
  tiers_ = std::make_unique<KvTiers>(
      options_.engine,
      kv::TierJournalOptions{.event_count_max = options_.kv_event_count_max,
                             .has_tokens = options_.kv_event_tokens},
      loop_, log_);
  host_->UseConnector([this](const kv::BlockGeometry& geometry, std::uint32_t rank) {
    return tiers_->Make(geometry, rank);
  });
  kv_connector_ = std::make_unique<KvConnector>(options_.engine, log_);
  host_->UseConnector([this](const kv::BlockGeometry& geometry, std::uint32_t rank) {
    return kv_connector_->Make(geometry, rank);
  });
  PX_TRY(prepared_, host_->MakeRankEngines(options_.kv_event_count_max, options_.kv_event_tokens));
  return {};
}

Result<void> EngineUnit::Connect() {
  PX_CHECK_OK(MakeLink());
  PX_CHECK_OK(CheckAdapterNames());
  const wire::ModelCard& card = link_->card();
  obs::Event(log_, obs::EventId::kModelLoaded)
      .kv("architecture", host_->spec().architecture)
      .kv("parameters", host_->spec().parameter_count)
      .kv("numerics_id", host_->numerics_id())
      .kv("context_tokens", card.context_tokens_max)
      .kv("kv_blocks", card.block_count)
      .kv("ranks", host_->rank_count())
      .kv("seconds", std::chrono::duration<double>(loop_.Now() - began_).count());
  return {};
}

// One engine is reached as it is: nothing stands between it and the frontend.
Result<void> EngineUnit::MakeLink() {
  std::vector<std::unique_ptr<worker::LocalLink>> links;
  for (std::unique_ptr<engine::Engine>& engine : prepared_) {
    PX_TRY(engine_loops_.emplace_back(), rt::MakeLoop());
    engines_.push_back(std::make_unique<engine::EngineLoop>(*engine_loops_.back(),
                                                            std::move(engine), LoopOptions()));
    worker::LocalLinkOptions options = LinkOptions();
    if (links.empty()) {  // all ranks sleep and wake together
      options.on_state = [this](engine::EngineState state) { SaySleep(state); };
    }
    links.push_back(
        std::make_unique<worker::LocalLink>(loop_, *engines_.back(), std::move(options)));
  }
  prepared_.clear();
  if (links.size() == 1) {
    link_ = std::move(links.front());
  } else {
    link_ = std::make_unique<worker::RankedLink>(loop_, std::move(links), RankOptions());
  }
  return {};
}

engine::EngineLoopOptions EngineUnit::LoopOptions() {
  return {.audit_rate = static_cast<std::uint32_t>(options_.engine.audit_rate),
          .on_mismatch =
              [this](const engine::AuditMismatch& mismatch) {
                obs::Event(log_, obs::EventId::kAnswerMismatch)
                    .kv("request", Raw(mismatch.request))
                    .kv("choice", mismatch.choice)
                    .kv("position", mismatch.position)
                    .kv("given", mismatch.given)
                    .kv("recomputed", mismatch.recomputed);
              },
          .turns = options_.turns};
}

worker::LocalLinkOptions EngineUnit::LinkOptions() {
  worker::LocalLinkOptions options;
  options.name = name_;
  options.eos_token_ids = host_->spec().eos_token_ids;
  options.bos_token_id = host_->spec().bos_token_id;
  options.consolidates_kv_events = options_.kv_events_consolidated;
  options.adapters =
      host_->MakeAdapterLink([this](const worker::CatalogueEntry& entry, const Error& why) {
        obs::Event(log_, obs::EventId::kAdapterRefused)
            .kv("source", entry.source)
            .kv("why", why.ToString());
      });
  if (options.adapters.read) {
    options.adapters.read = Logged(std::move(options.adapters.read));
  }
  return options;
}

worker::RankedLinkOptions EngineUnit::RankOptions() {
  const EngineFlags& flags = options_.engine;
  worker::RankedLinkOptions options;
  options.mode = flags.dp_rank_mode == "relaxed" ? worker::RankMode::kRelaxed
                 : flags.dp_rank_mode == "none"  ? worker::RankMode::kNone
                                                 : worker::RankMode::kStrict;
  options.max_wait = rt::Duration(flags.dp_rank_max_wait);
  options.placement.session_affinity = flags.conversation_affinity;
  options.placement.session_first = flags.conversation_rank_source == "engine";
  options.placement.sessions_max = static_cast<std::uint32_t>(flags.conversation_sessions);
  options.on_unknown_rank = [this](std::uint32_t rank) {
    obs::Event(log_, obs::EventId::kRankUnknown).kv("rank", rank);
  };
  options.on_dead_rank = [this](std::uint32_t rank, const Error& why) {
    obs::Event(log_, obs::EventId::kRankDead).kv("rank", rank).kv("why", why.ToString());
  };
  return options;
}

Result<void> EngineUnit::LoadHost() {
  PX_TRY(const std::optional<engine::MockOptions> mock,
         MockOptionsOf(options_.mock, options_.engine));
  if (mock) {
    obs::Event(log_, obs::EventId::kEngineMocked).kv("model", folder_);
    PX_TRY(host_, ModelHost::LoadMock(folder_, options_.engine, *mock));
    return {};
  }
  ProgressBar bar("loading " + name_);
  PX_TRY(host_, ModelHost::Load(folder_, options_.engine, [&](double done) {
           SayLoading(done);
           bar.Show(done);
         }));
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
Result<frontend::ServedModel> EngineUnit::LoadTexts() {
  text_folder_ = folder_;
  if (options_.model.tokenizer.empty()) {
    return LoadServedModel(folder_, host_->spec(), name_);
  }
  PX_TRY(ModelSource source, ResolveModel(options_.model.tokenizer, options_.offline));
  text_folder_ = source.folder;
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
  const engine::EngineLoad load = link_->engine_load();
  auto total = [&](MetricId id, std::uint64_t value) {
    registry.GetCounter(id, {name_}).SetTotal(value);
  };
  auto now = [&](MetricId id, double value) { registry.GetGauge(id, {name_}).Set(value); };
  total(MetricId::kEngineStepsTotal, load.engine.steps);
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
  total(MetricId::kEngineCancelledRequestsTotal, load.engine.cancelled_requests);
  total(MetricId::kEnginePrefixHitTokensTotal, load.scheduler.cached_tokens);
  if (link_->card().vision) {
    total(MetricId::kMediaEncodedTotal, load.engine.media_encoded);
    total(MetricId::kMediaCacheHitsTotal, load.engine.media_cache_hits);
    total(MetricId::kMediaOfferedHitsTotal, load.engine.media_offered_hits);
  }
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
  now(MetricId::kSessionLive, load.sessions.live);
  now(MetricId::kSessionBlocks, load.sessions.blocks);
  total(MetricId::kSessionBegunTotal, load.sessions.begun);
  for (const auto& [how, count] :
       {std::pair("final", load.sessions.ended), std::pair("expired", load.sessions.expired),
        std::pair("displaced", load.sessions.displaced)}) {
    registry.GetCounter(MetricId::kSessionEndsTotal, {name_, how}).SetTotal(count);
  }
  now(MetricId::kEngineBlocksFree, load.blocks_total - load.blocks_used - load.blocks_cached);
  auto audits = [&](const char* result, std::uint64_t value) {
    registry.GetCounter(MetricId::kAnswerAuditsTotal, {name_, result}).SetTotal(value);
  };
  audits("equal", load.audits.equal);
  audits("mismatch", load.audits.mismatches);
  audits("given_up", load.audits.given_up);
  total(MetricId::kAnswerMismatchTotal, load.audits.mismatches);
  ExportTrtllm(registry, load);
  ExportRanks(registry);
  ExportProcessors(registry);
  tiers_->Export(registry, name_);
  kv_connector_->Export(registry, name_);
  registry.GetCounter(MetricId::kErrorEventsTotal).SetTotal(log_.error_count());
}

// The same under the names of TensorRT-LLM's engine, for dashboards that know those.
void EngineUnit::ExportTrtllm(obs::Registry& registry, const engine::EngineLoad& load) const {
  using obs::MetricId;
  constexpr std::string_view kEngine = "trtllm";
  const wire::ModelCard& card = link_->card();
  const auto total = [&](MetricId id, std::uint64_t value) {
    registry.GetCounter(id, {name_, kEngine}).SetTotal(value);
  };
  const auto now = [&](MetricId id, double value) {
    registry.GetGauge(id, {name_, kEngine}).Set(value);
  };
  const auto share = [](std::uint64_t part, std::uint64_t whole) {
    return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
  };
  const auto block_tokens = std::max<std::uint64_t>(card.block_tokens, 1);
  const std::uint64_t cached = load.scheduler.cached_tokens;
  const std::uint64_t looked_at =
      cached + load.scheduler.computed_tokens -
      std::min(load.scheduler.computed_tokens, load.engine.sampled_tokens);
  total(MetricId::kTrtReusedBlocks, cached / block_tokens);
  total(MetricId::kTrtMissedBlocks, (looked_at - cached) / block_tokens);
  total(MetricId::kTrtDraftTokens, load.engine.drafted_tokens);
  total(MetricId::kTrtAcceptedTokens, load.engine.accepted_tokens);
  now(MetricId::kTrtHitRate, share(cached, looked_at));
  now(MetricId::kTrtUtilization, share(load.blocks_used, load.blocks_total));
  now(MetricId::kTrtMaxBlocks, load.blocks_total);
  now(MetricId::kTrtFreeBlocks, load.blocks_total - load.blocks_used);
  now(MetricId::kTrtUsedBlocks, load.blocks_used);
  now(MetricId::kTrtTokensPerBlock, card.block_tokens);
  now(MetricId::kTrtRunning, load.running);
  now(MetricId::kTrtWaiting, load.queued);
  now(MetricId::kTrtScheduled, load.running);
  now(MetricId::kTrtMaxActive, card.batch_sequences_max);
  now(MetricId::kTrtBatchStatic, card.batch_sequences_max);
  now(MetricId::kTrtBatchRuntime, card.batch_sequences_max);
  now(MetricId::kTrtTokensRuntime, card.batch_tokens_max);
  now(MetricId::kTrtAcceptanceLength, share(load.engine.accepted_tokens, load.engine.drafts));
  const auto number = [](std::uint64_t value) { return std::to_string(value); };
  registry
      .GetGauge(MetricId::kTrtModelConfig,
                {name_, kEngine, card.numerics_id, number(card.vocab_size),
                 number(card.context_tokens_max)})
      .Set(1);
  registry.GetGauge(MetricId::kTrtParallelConfig, {name_, kEngine, number(host_->rank_count())})
      .Set(1);
  registry
      .GetGauge(MetricId::kTrtKvConfig,
                {name_, kEngine, number(card.block_tokens), number(card.block_count)})
      .Set(1);
}

void EngineUnit::ExportRanks(obs::Registry& registry) const {
  using obs::MetricId;
  const std::vector<control::WorkerLoad> loads = link_->rank_loads();
  for (std::size_t rank = 0; loads.size() > 1 && rank < loads.size(); ++rank) {
    auto now = [&](MetricId id, double value) {
      registry.GetGauge(id, {name_, std::to_string(rank)}).Set(value);
    };
    now(MetricId::kRankRunning, loads[rank].running);
    now(MetricId::kRankWaiting, loads[rank].queued);
    now(MetricId::kRankBlocksPinned, loads[rank].blocks_used);
    now(MetricId::kRankDead, loads[rank].state == control::WorkerState::kDead ? 1 : 0);
  }
}

void EngineUnit::ExportProcessors(obs::Registry& registry) const {
  using obs::MetricId;
  for (std::size_t i = 0; i < host_->processors().size(); ++i) {
    auto total = [&](MetricId id, std::atomic<std::uint64_t> engine::ProcessorCounters::* counter,
                     std::uint64_t unit) {
      std::uint64_t sum = 0;
      for (std::uint32_t rank = 0; rank < host_->rank_count(); ++rank) {
        sum += (host_->processors(rank).counters(i).*counter).load(std::memory_order_relaxed);
      }
      registry.GetCounter(id, {name_, host_->processors().name(i)}).SetTotal(sum / unit);
    };
    total(MetricId::kLogitsProcessorRowsTotal, &engine::ProcessorCounters::rows, 1);
    total(MetricId::kLogitsProcessorFailuresTotal, &engine::ProcessorCounters::failures, 1);
    total(MetricId::kLogitsProcessorMicrosecondsTotal, &engine::ProcessorCounters::nanoseconds,
          1000);
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
  const engine::EngineLoad load = link_->engine_load();
  obs::Event(log_, obs::EventId::kStateDump)
      .kv("requests", requests)
      .kv("connections", connections)
      .kv("running", load.running)
      .kv("waiting", load.queued)
      .kv("blocks_pinned", load.blocks_used)
      .kv("blocks_cached", load.blocks_cached)
      .kv("blocks_total", load.blocks_total)
      .kv("steps", load.steps)
      .kv("computed_tokens", load.scheduler.computed_tokens)
      .kv("sampled_tokens", load.engine.sampled_tokens)
      .kv("cancelled", load.engine.cancelled_requests)
      .kv("preemptions", load.scheduler.preemptions);
}

}  // namespace pixii::apps
